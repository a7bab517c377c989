"""Certificate: readers are found invariant to what they are invariant to, and to nothing else."""

import json
from pathlib import Path

import pytest
import torch
from support.command_line import failure, outcome
from support.small_runs import OPTIONS
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import Activation, SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.training import certificate
from inr_factory.learning.training.certificate import CERTIFICATE, CertificateReport, certify_model, spread_rows
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.trained_run import certify, evaluate, open_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set and a run on it."""
    folder = tmp_path_factory.mktemp("certificate")
    make_set(folder / "set", objects={"train": 14, "val": 5, "test": 6})
    train(folder / "set", out=folder / "run", epochs=1, **OPTIONS)
    return folder


def measured(model: Classifier, data: INRDataset) -> CertificateReport:
    flat, labels = data.gather(range(len(data)))
    return certify_model(model, INRBatch.from_flat(data.spec, flat), labels)


def invariances(report: CertificateReport) -> dict[str, bool]:
    return {one.symmetry: one.invariant for one in report.symmetries}


PARITY, DWS, MLP = "parity:hidden_dim=4", "dws:hidden_dim=4", "mlp:hidden_dim=8"
KNOWN = [
    (PARITY, False, (True, True, True)), (DWS, True, (True, True, True)), (DWS, False, (True, False, False)),
    (MLP, False, (False, False, False)), (MLP, True, (False, True, True)), ("probes:hidden_dim=8", False, (True,) * 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "canonical", "expected"), KNOWN, ids=[f"{name}-{form}" for name, form, _ in KNOWN])
def test_a_reader_is_invariant_to_what_it_should_be_and_to_nothing_else(
    name: str, canonical: bool, expected: tuple[bool, ...], root: Path
) -> None:
    data, (encoder, _, option) = INRDataset(root / "set"), name.partition(":")
    options = {option.partition("=")[0]: int(option.partition("=")[2])}
    model = build_classifier(encoder, data.spec, 3, canonical=canonical, **options)

    report = measured(model, data)

    assert tuple(invariances(report).values()) == expected
    assert list(invariances(report)) == ["permutations", "signs", "phases"]
    for one in report.symmetries:
        assert one.median <= one.largest
        assert (one.largest < 1e-3) == one.invariant
    assert next(model.parameters()).dtype == torch.float32
    assert model.training, "the model is in evaluation mode now"


@pytest.mark.parametrize(
    ("activation", "names"), [("relu", ["permutations", "scales"]), ("tanh", ["permutations", "signs"])]
)
def test_only_symmetries_of_the_activation_are_measured(
    activation: Activation, names: list[str], tmp_path: Path
) -> None:
    make_set(tmp_path / "set", spec=SirenSpec(2, 1, hidden_dim=4, activation=activation))
    data = INRDataset(tmp_path / "set")
    plain = measured(build_classifier("mlp", data.spec, 3, hidden_dim=8), data)
    assert invariances(plain) == dict.fromkeys(names, False)
    canonical = measured(build_classifier("mlp", data.spec, 3, canonical=True, hidden_dim=8), data)
    assert invariances(canonical) == dict.fromkeys(names, True)


def test_augmentations_are_those_that_suit_the_inrs_and_move_predictions(root: Path, tmp_path: Path) -> None:
    images = measured(build_classifier("parity", INRDataset(root / "set").spec, 3), INRDataset(root / "set"))
    names = {one.transform.partition(":")[0] for one in images.augmentations}
    assert {"rotate2d", "noise", "contrast"} <= names
    assert not names & {"rotate3d", "mix_channels", "permute", "flip", "phase", "scale_relu", "canonical"}
    assert all(one.moved > 0 and one.flipped is not None and 0 <= one.score <= 1 for one in images.augmentations)
    make_set(tmp_path / "shapes", spec=SirenSpec(3, 1, hidden_dim=4))
    shapes = INRDataset(tmp_path / "shapes")
    moved = {
        one.transform.partition(":")[0]
        for one in measured(build_classifier("mlp", shapes.spec, 3), shapes).augmentations
    }
    assert "rotate3d" in moved
    assert "rotate2d" not in moved


def test_a_reader_that_ignores_weights_is_moved_by_nothing(root: Path) -> None:
    data = INRDataset(root / "set")
    model = build_classifier("mlp", data.spec, 3, hidden_dim=8)
    with torch.no_grad():
        model.head.weight.zero_()
    report = measured(model, data)
    assert all(one.moved == one.flipped == 0 and one.score == report.score for one in report.augmentations)
    assert set(invariances(report).values()) == {True}


def test_the_run_keeps_its_certificate_and_the_command_prints_the_same(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = certify(root / "run", device="cpu")
    saved = json.loads((root / "run" / CERTIFICATE).read_text())
    assert saved == json.loads(json.dumps(report.to_fields()))
    assert (report.dataset, report.split, report.count) == ("small", "test", 6)
    assert (report.figure, report.score) == ("accuracy", evaluate(root / "run", device="cpu").score)
    assert open_run(root / "run").certify(device="cpu") == report

    call = ["evaluate", root / "run", "--certify", "--device", "cpu"]
    code, out, _ = outcome(capsys, *call)
    assert code == 0
    assert "permutations" in out and "rotate2d:degrees=30.0" in out  # noqa: PT018
    assert "not invariant" not in out
    assert json.loads(outcome(capsys, *call, "--json")[1]) == {"run": str(root / "run"), **saved}


def test_large_splits_are_measured_on_rows_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spread_rows(4).tolist() == [0, 1, 2, 3]
    monkeypatch.setattr(certificate, "MOST", 3)
    assert spread_rows(9).tolist() == [0, 4, 8]


def test_several_runs_and_other_inrs_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = failure(capsys, "evaluate", root / "run", root / "run", "--certify")
    assert (code, "takes one run, got 2" in line) == (2, True)
    make_set(tmp_path / "other", spec=SirenSpec(3, 1, hidden_dim=4), objects={"test": 4})
    with pytest.raises(UsageError, match="was made for INRs of in_dim 2"):
        certify(root / "run", tmp_path / "other", device="cpu")


def test_a_run_of_numbers_is_certified_by_its_r2(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(root / "set", target="psnr", out=tmp_path / "run", epochs=1, **OPTIONS)
    report = certify(run, device="cpu")
    assert (report.figure, report.score) == ("r2", pytest.approx(run.evaluate(device="cpu").score, abs=1e-5))
    assert set(invariances(report).values()) == {True}
    assert all(one.flipped is None and one.moved > 0 for one in report.augmentations)
    code, out, _ = outcome(capsys, "evaluate", run.folder, "--certify", "--device", "cpu")
    assert code == 0
    assert "R² without them" in out
    assert "flipped" not in out
