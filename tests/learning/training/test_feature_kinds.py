"""Feature kinds: weights as they are, aligned to one INR whatever their symmetry, values of the signal, or an encoder's."""

from pathlib import Path

import pytest
import torch
from support.small_sets import SPEC, make_set
from torch import Generator

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.embed import embed
from inr_factory.learning.training.feature_kinds import UNTRAINED, feature_kind
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ShiftPhases


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> INRDataset:
    root = tmp_path_factory.mktemp("kinds") / "set"
    make_set(root, objects={"train": 6, "val": 5, "test": 6})
    return INRDataset(root, "test", views=2)


@pytest.fixture(scope="module")
def inrs(data: INRDataset) -> INRBatch:
    return INRBatch.from_flat(data.spec, data.gather(range(len(data)))[0])


def hidden(inrs: INRBatch) -> INRBatch:
    """The same functions with the neurons of each INR permuted, negated and shifted."""
    generator = Generator().manual_seed(1)
    for transform in (PermuteNeurons(), FlipSigns(), ShiftPhases()):
        inrs = transform(inrs, generator)
    return inrs


def test_weights_are_as_fitted(data: INRDataset, inrs: INRBatch) -> None:
    kind = feature_kind("weights", data)
    assert torch.equal(kind.features(data, "cpu"), inrs.flatten())
    assert kind.scaled


def test_aligned_weights_are_nearer_to_the_first_training_inr_and_renders_do_not_change(
    data: INRDataset, inrs: INRBatch
) -> None:
    template = INRDataset(data.root, "train").gather([0])[0]
    aligned = feature_kind("aligned", data)
    assert "aligned to train-0@0 by phase" in aligned.about
    features, renders = aligned.read(inrs), feature_kind("renders", data)
    assert (features - template).norm() < (inrs.flatten() - template).norm()
    assert INRBatch.from_flat(data.spec, features)(torch.rand(9, 2)).shape == (12, 9, 1)
    coords = 2 * torch.rand(9, 2) - 1
    torch.testing.assert_close(INRBatch.from_flat(data.spec, features)(coords), inrs(coords), atol=1e-5, rtol=0)
    torch.testing.assert_close(renders.read(hidden(inrs)), renders.read(inrs), atol=1e-4, rtol=0)
    assert not renders.scaled


def test_the_template_itself_comes_back_from_any_symmetry(data: INRDataset) -> None:
    template = INRBatch.from_flat(data.spec, INRDataset(data.root, "train").gather([0])[0])
    aligned, weights = (feature_kind(name, data).read for name in ("aligned", "weights"))
    torch.testing.assert_close(aligned(hidden(template)), aligned(template), atol=1e-5, rtol=0)
    assert not torch.allclose(weights(hidden(template)), weights(template), atol=1e-2)


def test_relu_inrs_are_aligned_by_order_after_their_canonical_form(tmp_path: Path) -> None:
    make_set(tmp_path / "set", spec=SirenSpec(2, 1, hidden_dim=4, activation="relu"), objects={"train": 4, "test": 3})
    assert "by permutation" in feature_kind("aligned", INRDataset(tmp_path / "set", "test")).about


def test_renders_have_a_grid_for_every_number_of_inputs_up_to_three(tmp_path: Path) -> None:
    for inputs, points in ((1, 256), (2, 28 * 28), (3, 16**3)):
        make_set(tmp_path / f"{inputs}", spec=SirenSpec(inputs, 1, hidden_dim=4), objects={"test": 2}, views=1)
        data = INRDataset(tmp_path / f"{inputs}", "test")
        assert feature_kind("renders", data).features(data, "cpu").shape == (2, points)
    make_set(tmp_path / "4", spec=SirenSpec(4, 1, hidden_dim=4), objects={"test": 2})
    with pytest.raises(UsageError, match="1 to 3 inputs, got"):
        feature_kind("renders", INRDataset(tmp_path / "4", "test"))


def test_a_set_without_a_training_split_has_no_template(tmp_path: Path) -> None:
    make_set(tmp_path / "set", objects={"test": 2})
    with pytest.raises(UsageError, match="no INR of train to align to"):
        feature_kind("aligned", INRDataset(tmp_path / "set", "test"))


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_word_is_embedded_and_a_path_of_that_name_is_a_folder(name: str, data: INRDataset) -> None:
    report = embed(name, data, device="cpu")
    assert report.features.shape == (12, {"renders": 784}.get(name, SPEC.num_parameters))
    with pytest.raises(UsageError, match=f"no checkpoint {name}"):
        embed(Path(name), data, device="cpu")
