"""Pre-training: the loss is the published one, views of one object never repel each other, runs go on exactly, and
what was learned is what `train` starts from."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_sets import SPEC, make_set
from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import PartialError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import initialize_from, load_checkpoint, load_classifier
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.contrastive import Contrastive, build_contrastive, nt_xent
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.training.classification import ClassifierTrainer
from inr_factory.learning.training.contrastive import ContrastiveTrainer, positives_of
from inr_factory.learning.training.probes import features_of, linear_accuracy, neighbour_accuracy, project_to_plane
from inr_factory.learning.training.run_config import BEST, LAST, METRICS, PretrainConfig, TrainConfig
from inr_factory.learning.transforms.compose import Compose
from inr_factory.learning.transforms.noise import GaussianNoise
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons

CONFIG = PretrainConfig(epochs=2, warmup_steps=2, positives="both", device="cpu", tensorboard=False)
NOISE = GaussianNoise(scale=0.2)
META = {"classes": ["low", "mid", "high"]}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrain") / "set"
    make_set(root, objects={"train": 14, "val": 5, "test": 6})
    return root


def loader(root: Path, positives: str = "both") -> INRLoader:
    views = 1 if positives == "augment" else 2
    return INRLoader(INRDataset(root), 4 * views, views_per_object=views, grouped=views > 1)


def in_order(root: Path, split: str) -> INRLoader:
    return INRLoader(INRDataset(root, split, views=1), 16, shuffle=False)


def encoder(name: str = "dws", canonical: bool = False, **options: Any) -> Contrastive:
    own = {"hidden_dim": 4, "set_layer": "deepsets", "dropout": 0.1} | options if name == "dws" else options
    normalizer = Normalizer.fit(SPEC, [initialize(SPEC, range(20))])
    return build_contrastive(name, SPEC, normalizer, canonical=canonical, projection_dim=8, **own)


def classifier(name: str = "dws", canonical: bool = False, **options: Any) -> Classifier:
    own = {"hidden_dim": 4, "set_layer": "deepsets", "dropout": 0.1} | options if name == "dws" else options
    return build_classifier(name, SPEC, 3, seed=5, canonical=canonical, **own)


def go(model: Contrastive, root: Path, out: Path, config: PretrainConfig = CONFIG, **more: Any) -> Any:
    known, validation = in_order(root, "train"), in_order(root, "val")
    transform = more.pop("transform", NOISE)
    return ContrastiveTrainer(
        model, loader(root, config.positives), known, validation, transform, config, out, META
    ).fit(**more)


def pretrain(*arguments: Any) -> Any:
    return ContrastiveTrainer(*arguments).fit()


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= steps


def by_loops(projections: Tensor, objects: list[int], temperature: float) -> float:
    """The loss, term by term."""
    unit = projections.double() / projections.double().norm(dim=1, keepdim=True)
    terms = []
    for i, mine in enumerate(objects):
        strangers = sum(math.exp(unit[i] @ unit[k] / temperature) for k, other in enumerate(objects) if other != mine)
        for j, other in enumerate(objects):
            if j != i and other == mine:
                positive = math.exp(unit[i] @ unit[j] / temperature)
                terms.append(-math.log(positive / (positive + strangers)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("objects", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1, 2, 2]], ids=str)
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_loss_is_that_of_the_formula(objects: list[int], temperature: float, generator: torch.Generator) -> None:
    projections = torch.randn(len(objects), 5, generator=generator)

    loss = nt_xent(projections, torch.tensor(objects), temperature)

    assert float(loss) == pytest.approx(by_loops(projections, objects, temperature), rel=1e-4)
    assert float(loss) == pytest.approx(float(nt_xent(3 * projections, torch.tensor(objects), temperature)), rel=1e-4)
    wrong = by_loops(projections, [objects[1], objects[-1], *objects[2:-1], objects[0]], temperature)
    assert float(loss) != pytest.approx(wrong, rel=1e-2), "any grouping gives the same: this test shows nothing"


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_views_of_one_object_are_no_negatives_of_each_other(rows: int) -> None:
    """All rows of an object the same, objects at right angles: only other objects are in the denominator."""
    objects = torch.arange(5).repeat_interleave(rows)
    projections = torch.eye(5)[objects]

    loss = nt_xent(projections, objects, 0.5)

    assert float(loss) == pytest.approx(math.log(1 + 4 * rows * math.exp(-1 / 0.5)), rel=1e-5)


def test_published_code_of_the_loss_says_the_same(generator: torch.Generator) -> None:
    """Cross-entropy over 2n - 1 candidates, as SimCLR has it."""
    projections = torch.randn(12, 7, generator=generator)
    unit = F.normalize(projections, dim=1)
    logits = (unit @ unit.T / 0.3).fill_diagonal_(-torch.inf)
    partner = torch.arange(12) ^ 1

    assert float(nt_xent(projections, torch.arange(12) // 2, 0.3)) == pytest.approx(
        float(F.cross_entropy(logits, partner)), rel=1e-5
    )


def test_batches_without_positives_or_negatives_are_refused() -> None:
    with pytest.raises(UsageError, match="at least two rows"):
        nt_xent(torch.randn(3, 4), torch.tensor([0, 1, 1]), 0.5)
    with pytest.raises(UsageError, match="at least two objects"):
        nt_xent(torch.randn(3, 4), torch.tensor([1, 1, 1]), 0.5)


@pytest.mark.parametrize("positives", ["augment", "views", "both"])
def test_two_rows_of_an_object_are_what_was_asked_for(positives: str, small: Path) -> None:
    config = PretrainConfig(positives=positives, seed=3)
    data = INRDataset(small)
    batches = loader(small, positives)
    rows = next(batches.sampler.batches(0))
    inrs, _ = next(iter(batches))
    transform = None if positives == "views" else NOISE

    positives_, objects = positives_of(inrs, config, transform, step=7)

    assert objects.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    expected = np.repeat(rows, 2) if positives == "augment" else rows
    assert len(set(data.objects[expected])) == 4, "an object stands in a batch twice"
    assert (data.objects[expected][::2] == data.objects[expected][1::2]).all()
    assert (data.views[expected][::2] != data.views[expected][1::2]).all() == (positives != "augment")
    plain = data.gather(expected)[0]
    assert torch.equal(positives_.flatten(), plain) == (positives == "views")
    nearest = torch.cdist(positives_.flatten(), plain).argmin(1)
    assert torch.equal(nearest // 2, objects), "rows are not those of the objects that they are said to show"
    assert not torch.equal(positives_.flatten()[0], positives_.flatten()[1]), "both rows are augmented alike"
    again = positives_of(inrs, config, transform, step=7)[0]
    assert torch.equal(again.flatten(), positives_.flatten())
    later = positives_of(inrs, config, transform, step=8)[0]
    assert torch.equal(later.flatten(), positives_.flatten()) == (positives == "views")


@pytest.mark.parametrize(("steps", "positives"), [(2, "augment"), (3, "both"), (5, "both")])
def test_a_stopped_run_resumes_as_if_it_had_never_stopped(
    steps: int, positives: str, small: Path, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"positives": positives})
    whole = encoder()
    go(whole, small, tmp_path / "whole", config)

    with pytest.raises(PartialError, match="run the same command again"):
        go(encoder(), small, tmp_path / "parts", config, stop=stop_after(steps))
    resumed = encoder()
    torch.manual_seed(99)
    result = go(resumed, small, tmp_path / "parts", config)

    for (name, expected), got in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(got, expected), name
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert [record["epoch"] for record in result.history] == [0, 1]
    assert not torch.equal(encoder().projection[0].weight, resumed.projection[0].weight), "nothing was learned"


class Objects:
    """Twelve objects in two views, which differ in the means of their middle weights; three classes of them."""

    def __init__(self) -> None:
        self.means = torch.linspace(-0.5, 0.5, 12)

    def rows(self, first_seed: int, views: int) -> tuple[INRBatch, Tensor]:
        numbers = torch.arange(12).repeat_interleave(views)
        inrs = initialize(SPEC, range(first_seed, first_seed + len(numbers)))
        middle = inrs.weights[1] + self.means[numbers][:, None, None]
        return replace(inrs, weights=(inrs.weights[0], middle, inrs.weights[2])), torch.eye(3)[numbers // 4]

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        return iter([self.rows(100 * batch, 2) for batch in range(4)])

    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_an_encoder_learns_from_views_alone_what_its_neighbours_then_tell(tmp_path: Path) -> None:
    toys = Objects()
    config = PretrainConfig(
        epochs=12, learning_rate=1e-2, warmup_steps=2, positives="views", neighbours=3, device="cpu", tensorboard=False
    )
    model = encoder("mlp", hidden_dim=16)
    known, asked = [toys.rows(5000, 4)], [toys.rows(9000, 4)]

    result = pretrain(model, toys, known, asked, None, config, tmp_path, META)

    assert result.history[-1]["train_loss"] < 0.8 * result.history[0]["train_loss"]
    assert result.best["val_accuracy"] > 0.8
    initialize_from(model, tmp_path / BEST)
    found = neighbour_accuracy(*features_of(model, known), *features_of(model, asked), 3)
    assert found == result.best["val_accuracy"]


def test_targets_are_not_looked_at_while_learning(tmp_path: Path) -> None:
    class Wrong(Objects):
        def __iter__(self) -> Any:
            return iter([(inrs, torch.full_like(targets, torch.nan)) for inrs, targets in super().__iter__()])

    ends = []
    for number, toys in enumerate((Objects(), Wrong())):
        model, known = encoder(), [Objects().rows(0, 1)]
        pretrain(model, toys, known, known, NOISE, CONFIG, tmp_path / str(number), META)
        ends.append(model.projection[2].weight)
    assert torch.equal(*ends)


def test_neighbours_are_asked_every_so_many_epochs_and_after_the_last(small: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 5, "probe_epochs": 2})

    result = go(encoder(), small, tmp_path, config)

    assert ["val_accuracy" in record for record in result.history] == [False, True, False, True, True]
    assert result.best in result.history
    assert load_checkpoint(tmp_path / BEST)["progress"]["history"][-1]["epoch"] == result.best["epoch"]


@pytest.mark.parametrize("augmentation", [PermuteNeurons(), Compose((PermuteNeurons(), FlipSigns()))], ids=str)
def test_symmetries_that_the_encoder_does_not_see_are_refused_as_augmentation(
    augmentation: Any, small: Path, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"positives": "augment"})

    with pytest.raises(UsageError, match="nothing to learn"):
        go(encoder(canonical=True, dropout=0.0), small, tmp_path, config, transform=augmentation)

    noisy = Compose((augmentation, GaussianNoise(scale=0.01)))
    go(encoder(canonical=True, dropout=0.0), small, tmp_path, config, transform=noisy)
    go(encoder("mlp"), small, tmp_path / "mlp", config, transform=augmentation)


def test_what_cannot_be_learned_from_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="positives=both needs an augmentation"):
        go(encoder(), small, tmp_path, transform=None)
    data = INRDataset(small)
    one = INRLoader(data, 2, views_per_object=2, grouped=True)
    with pytest.raises(UsageError, match="at least 2 objects with 2 rows each, got one of 2 rows"):
        pretrain(encoder(), one, [], [], NOISE, CONFIG, tmp_path, META)

    class Broken:
        def __call__(self, inrs: INRBatch, generator: torch.Generator) -> INRBatch:
            return INRBatch.from_flat(SPEC, inrs.flatten() * torch.nan)

    broken = INRLoader(data, 8, views_per_object=2, grouped=True, transform=Broken())
    with pytest.raises(UsageError, match="8 of 8 INRs of a batch have NaN"):
        pretrain(encoder(), broken, [], [], NOISE, CONFIG, tmp_path, META)


def test_a_classifier_starts_from_the_encoder_and_the_normalizer(small: Path, tmp_path: Path) -> None:
    learned = encoder()
    go(learned, small, tmp_path)
    fresh, model = classifier(), classifier()

    observed = initialize_from(model, tmp_path / LAST)

    for name, value in learned.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value), name
    assert torch.equal(model.normalizer.weight_std, learned.normalizer.weight_std)
    assert not torch.equal(fresh.normalizer.weight_std, model.normalizer.weight_std)
    assert torch.equal(fresh.head.weight, model.head.weight)
    assert initialize_from(fresh, tmp_path / LAST) == observed
    inrs = initialize(SPEC, range(4))
    assert torch.equal(model.eval().features(inrs), learned.eval().features(inrs))
    assert torch.equal(model(inrs), fresh.eval()(inrs))


def test_another_encoder_is_refused_in_one_line(small: Path, tmp_path: Path) -> None:
    go(encoder(), small, tmp_path)
    wide = build_classifier("dws", replace(SPEC, hidden_dim=5), 3, hidden_dim=4, set_layer="deepsets", dropout=0.1)
    others = [
        (classifier("mlp"), r"another encoder \(dws there, mlp here\)"),
        (classifier(hidden_dim=8), r"another options.hidden_dim \(4 there, 8 here\)"),
        (
            classifier(canonical=True),
            r"another canonical \(False there, True here\); give --no-canonical, or start from another run",
        ),
        (wide, r"another spec.hidden_dim \(4 there, 5 here\)"),
    ]
    for model, message in others:
        before = [value.clone() for value in model.state_dict().values()]
        with pytest.raises(UsageError, match=message) as caught:
            initialize_from(model, tmp_path / BEST)
        assert "\n" not in str(caught.value)
        assert all(map(torch.equal, before, model.state_dict().values()))


def test_a_run_of_pretraining_is_no_classifier_and_its_folder_takes_none(small: Path, tmp_path: Path) -> None:
    go(encoder(), small, tmp_path)
    with pytest.raises(UsageError, match=r"no classifier yet; train one with --init"):
        load_classifier(tmp_path / BEST)
    config = TrainConfig(epochs=1, device="cpu", tensorboard=False)
    with pytest.raises(UsageError, match="a run of another kind than classifier"):
        ClassifierTrainer(classifier(), in_order(small, "train"), in_order(small, "val"), config, tmp_path, META).fit()
    with pytest.raises(UsageError, match=r"another temperature \(0.2 there, 0.3 here\)"):
        go(encoder(), small, tmp_path, CONFIG.model_copy(update={"temperature": 0.3}))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stays_as_it_is_to_the_last_bit(frozen: bool, small: Path, tmp_path: Path) -> None:
    model = classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if frozen:
        model.freeze()
    config = TrainConfig(epochs=2, device="cpu", tensorboard=False)

    ClassifierTrainer(model, in_order(small, "train"), in_order(small, "val"), config, tmp_path, META).fit()

    same = {name: torch.equal(value, before[name]) for name, value in model.state_dict().items()}
    assert not same["head.weight"]
    kept = [name for name in same if name.startswith("encoder.")]
    assert all(same[name] for name in kept) == frozen
    assert any(name.endswith("running_mean") for name in kept)


def test_neighbours_vote_as_brute_force_says(generator: torch.Generator) -> None:
    known, asked = torch.randn(40, 6, generator=generator), torch.randn(15, 6, generator=generator) + 3
    labels, truth = torch.arange(40) % 4, torch.arange(15) % 4
    middle = known.mean(0)
    right = 0
    for row, true in zip(asked - middle, truth, strict=True):
        near = sorted(range(40), key=lambda at: -float(F.cosine_similarity(row, known[at] - middle, dim=0)))[:5]
        votes = [0.0] * 4
        for at in near:
            votes[int(labels[at])] += math.exp(float(F.cosine_similarity(row, known[at] - middle, dim=0)) / 0.07)
        right += votes.index(max(votes)) == int(true)

    assert neighbour_accuracy(known, labels, asked, truth, neighbours=5) == pytest.approx(right / 15)
    assert neighbour_accuracy(known, labels, known, labels, neighbours=1) == 1.0


def test_a_linear_probe_finds_what_a_line_divides_and_nothing_in_noise(generator: torch.Generator) -> None:
    labels = torch.arange(120) % 3
    noise = torch.randn(120, 4, generator=generator)
    apart = noise + 1000 * torch.eye(4)[labels]

    assert linear_accuracy(apart[:60], labels[:60], apart[60:], labels[60:]) == 1.0
    assert linear_accuracy(noise[:60], labels[:60], noise[60:], labels[60:]) < 0.6
    with pytest.raises(UsageError, match="at least two classes"):
        linear_accuracy(noise[::3], labels[::3], noise[::3], labels[::3])
    spread = project_to_plane(apart).std(axis=0)
    assert project_to_plane(apart).shape == (120, 2)
    assert spread[0] >= spread[1] > 0


def test_few_labels_are_balanced_whole_objects_and_drawn_by_the_seed(small: Path) -> None:
    whole = INRDataset(small)
    few = INRDataset(small, labels_per_class=2)

    assert np.bincount(few.labels).tolist() == [2 * 3] * 3
    assert {int((few.object_ids == name).sum()) for name in few.object_ids} == {3}, "an object lost a view"
    assert few.fingerprint == INRDataset(small, labels_per_class=2).fingerprint != whole.fingerprint
    assert set(few.object_ids) < set(INRDataset(small, labels_per_class=3).object_ids)
    assert set(few.object_ids) == set(INRDataset(small, views=1, labels_per_class=2).object_ids)
    others = [set(INRDataset(small, labels_per_class=2, label_seed=seed).object_ids) for seed in range(1, 6)]
    assert any(names != set(few.object_ids) for names in others)
    assert few.describe()["labels_per_class"] == 2
    assert "labels_per_class" not in whole.describe()
    with pytest.raises(UsageError, match="has 4 objects of class high, 5 were requested"):
        INRDataset(small, labels_per_class=5)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        INRDataset(small, labels_per_class=0)
