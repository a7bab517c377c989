"""The loader: a batch depends on its epoch and position alone, whoever reads it and wherever a run was resumed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_sets import OBJECTS, SPEC, make_set, weights_of
from torch import Generator, Tensor

from inr_factory.errors import PartialError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader, prefetch
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.training.classification import ClassifierTrainer, evaluate_model
from inr_factory.learning.training.run_config import TrainConfig
from inr_factory.learning.transforms.compose import Compose, OneOf
from inr_factory.learning.transforms.coordinate import Rotate2D, Scale
from inr_factory.learning.transforms.noise import GaussianNoise
from inr_factory.learning.transforms.symmetries import PermuteNeurons

AUGMENT: dict[str, Any] = {"transform": Compose((PermuteNeurons(), GaussianNoise(scale=0.3))), "mixup": MixUp()}

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> INRDataset:
    root = tmp_path_factory.mktemp("sets")
    make_set(root)
    return INRDataset(root)


def stream(loader: INRLoader) -> list[Batch]:
    return [(inrs.flatten(), targets) for inrs, targets in loader]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)
    )


def test_batches_are_the_rows_of_the_plan_with_their_targets(dataset: INRDataset) -> None:
    loader = INRLoader(dataset, 8, seed=3)

    batches = list(loader)

    assert len(batches) == len(loader) == 42 // 8
    for (inrs, targets), rows in zip(batches, loader.sampler.batches(0), strict=True):
        assert inrs.spec == SPEC
        assert targets.dtype == torch.float32
        for flat, target, row in zip(inrs.flatten(), targets, rows.tolist(), strict=True):
            assert torch.equal(flat, weights_of(SPEC, dataset.object_ids[row], dataset.views[row]))
            assert target.tolist() == [float(number == dataset.labels[row]) for number in range(3)]


def test_evaluation_goes_through_all_rows_in_order_every_time(dataset: INRDataset) -> None:
    loader = INRLoader(dataset, 8, shuffle=False)

    first, second = stream(loader), stream(loader)

    assert len(loader) == 6
    assert torch.equal(torch.cat([flat for flat, _ in first]), dataset.gather(range(42))[0])
    assert same(first, second)


def test_augmentation_repeats_for_seed_epoch_and_position_and_differs_otherwise(dataset: INRDataset) -> None:
    def augmented(epoch: int, **settings: Any) -> list[Batch]:
        loader = INRLoader(dataset, 42, **AUGMENT, **settings)
        loader.set_epoch(epoch)
        return stream(loader)

    assert same(augmented(0), augmented(0))
    others = [augmented(0), augmented(1), augmented(0, seed=1), stream(INRLoader(dataset, 42))]
    assert len({round(float(flat.double().sum()), 6) for batches in others for flat, _ in batches}) == 4


def test_no_two_batches_are_augmented_with_the_same_draws(dataset: INRDataset) -> None:
    drawn: list[float] = []

    def draw(inrs: INRBatch, generator: Generator) -> INRBatch:
        drawn.append(float(torch.rand((), generator=generator, dtype=torch.float64)))
        return inrs

    for rank in range(2):
        loader = INRLoader(dataset, 4, transform=draw, rank=rank, world_size=2)
        for _ in range(2):
            list(loader)
    assert len(set(drawn)) == len(drawn) == 20


@pytest.mark.parametrize("position", [0, 1, 4, 5])
@pytest.mark.parametrize("order", [{}, {"views_per_object": 2, "grouped": True}, {"views_per_object": 2}], ids=str)
def test_a_resumed_stream_is_the_rest_of_an_uninterrupted_one(
    position: int, order: dict[str, Any], dataset: INRDataset
) -> None:
    def fresh() -> INRLoader:
        return INRLoader(dataset, 4, **AUGMENT, **order)

    uninterrupted = fresh()
    expected = [*stream(uninterrupted), *stream(uninterrupted)]
    stopped = fresh()
    taken = [(inrs.flatten(), targets) for _, (inrs, targets) in zip(range(position), stopped, strict=False)]
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())

    assert stopped.state_dict() == {"epoch": 0, "position": position}
    assert same([*taken, *stream(resumed), *stream(resumed)], expected)


def test_iterations_begin_at_the_first_batch_and_epochs_follow_each_other(dataset: INRDataset) -> None:
    loader = INRLoader(dataset, 8, **AUGMENT)
    epochs = [stream(loader) for _ in range(3)]
    assert loader.state_dict() == {"epoch": 3, "position": 0}

    for epoch in (2, 0, 1):
        loader.set_epoch(epoch)
        assert same(stream(loader), epochs[epoch])
    loader.set_epoch(1)
    next(iter(loader))
    assert same(stream(loader), epochs[1]), "an iteration that was left early must not shorten the next"
    assert not same(epochs[0], epochs[1])
    loader.load_state_dict({"epoch": 0, "position": 3})
    loader.set_epoch(1)
    assert loader.state_dict() == {"epoch": 1, "position": 0}
    assert same(stream(loader), epochs[1]), "all of an epoch that was set must come"
    with pytest.raises(UsageError, match="no batch 6 to resume from; an epoch of this loader has 5"):
        loader.load_state_dict({"epoch": 0, "position": 6})


def test_it_draws_nothing_from_the_global_generators(dataset: INRDataset) -> None:
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002

    list(INRLoader(dataset, 8, **AUGMENT))

    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@dataclass(frozen=True)
class Remember:
    """A MixUp that writes down what it was given."""

    seen: list[Batch]

    def __call__(self, inrs: INRBatch, targets: Tensor, generator: Generator) -> tuple[INRBatch, Tensor]:
        self.seen.append((inrs.flatten(), targets))
        return MixUp()(inrs, targets, generator)


def test_partners_come_from_the_active_subset_alone(dataset: INRDataset) -> None:
    subset = INRDataset(dataset.root, views=[1], classes=["low", "high"])
    active = {weights_of(SPEC, name, 1).numpy().tobytes() for name in subset.object_ids}
    seen: list[Batch] = []
    loader = INRLoader(subset, 4, mixup=Remember(seen), seed=1)

    targets = torch.cat([targets for _ in range(3) for _, targets in stream(loader)])

    assert not targets[:, 1].any(), "a class that was left out was mixed in"
    assert ((targets > 0).sum(1) == 2).any(), "nothing was mixed"
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    assert {row.numpy().tobytes() for flat, _ in seen for row in flat} <= active
    all_classes = torch.cat([targets for _, targets in stream(INRLoader(dataset, 8, mixup=MixUp()))])
    assert all_classes[:, 1].any(), "this test could not fail"


def test_targets_are_smoothed_after_mixing(dataset: INRDataset) -> None:
    plain = stream(INRLoader(dataset, 8, mixup=MixUp()))
    smooth = stream(INRLoader(dataset, 8, mixup=MixUp(), label_smoothing=0.3))

    for (flat, targets), (same_flat, smoothed) in zip(plain, smooth, strict=True):
        assert torch.equal(flat, same_flat)
        torch.testing.assert_close(smoothed, 0.7 * targets + 0.1)


def test_ranks_together_go_through_the_whole_epoch(dataset: INRDataset) -> None:
    ranks = [stream(INRLoader(dataset, 7, rank=rank, world_size=3)) for rank in range(3)]
    together = stream(INRLoader(dataset, 21))

    assert [len(batches) for batches in ranks] == [2, 2, 2]
    for step in range(2):
        assert torch.equal(torch.cat([batches[step][0] for batches in ranks]), together[step][0])


def test_grouped_batches_reshape_to_views_of_one_object(dataset: INRDataset) -> None:
    loader = INRLoader(dataset, 6, views_per_object=3, grouped=True)

    objects = 0
    for (inrs, targets), rows in zip(loader, loader.sampler.batches(0), strict=True):
        names = dataset.object_ids[rows].reshape(-1, 3)
        views = dataset.views[rows].reshape(-1, 3)
        assert (names == names[:, :1]).all()
        assert (np.sort(views) == [0, 1, 2]).all()
        assert (targets.view(-1, 3, 3) == targets.view(-1, 3, 3)[:, :1]).all()
        assert torch.equal(inrs.flatten(), dataset.gather(rows)[0])
        objects += len(names)
    assert objects == OBJECTS["train"]


def test_objects_without_enough_views_are_counted(tmp_path: Path) -> None:
    make_set(tmp_path, quarantine=[("train-3", 1), ("train-6", 2)])
    dataset = INRDataset(tmp_path)

    grouped = INRLoader(dataset, 3, views_per_object=3, grouped=True)
    apart = INRLoader(dataset, 1, views_per_object=3)

    assert (len(grouped), grouped.sampler.num_left_out) == (12, 2)
    assert (len(apart), apart.sampler.num_left_out) == (40, 0)
    with pytest.raises(UsageError, match="views_per_object must be 1 to 3"):
        INRLoader(dataset, 4, views_per_object=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": -1}, "num_workers must be a whole number from 0 to 1,024"),
        ({"label_smoothing": 1.5}, "label_smoothing must be"),
        ({"transform": "rotat2d"}, "unknown transform 'rotat2d'; did you mean 'rotate2d'"),
        ({"transform": "flip|rotate3d@0.5"}, "rotate3d turns INRs of 3 coordinates, got 2-4-4-1"),
        ({"transform": 3}, "transform must be text or an object that can be called, got 3"),
        ({"mixup": "mixup:match=sign"}, "match must be one of"),
        ({"mixup": 0.5}, "mixup must be text or an object that can be called"),
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"batch_size": 2.5}, "batch_size must be a whole number from 1 to 2,147,483,647, got 2.5"),
        ({"dataset": "inrs/digits"}, "INRLoader needs an INRDataset, got 'inrs/digits'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str, dataset: INRDataset) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        INRLoader(**({"dataset": dataset, "batch_size": 8} | settings))
    assert "\n" not in str(caught.value)


def test_transform_and_mixup_may_be_text(dataset: INRDataset) -> None:
    from_text = INRLoader(dataset, 8, transform="rotate2d|scale", mixup="mixup:match=phase")
    from_objects = INRLoader(dataset, 8, transform=OneOf((Rotate2D(), Scale())), mixup=MixUp(match="phase"))

    for (inrs, targets), (expected, expected_targets) in zip(from_text, from_objects, strict=True):
        assert torch.equal(inrs.flatten(), expected.flatten())
        assert torch.equal(targets, expected_targets)


def test_prefetching_changes_nothing_and_passes_errors_on(dataset: INRDataset) -> None:
    def batches(count: int) -> Any:
        for number in range(count):
            yield dataset.gather([number])
        if count < 5:
            raise KeyError("a disk is gone")

    assert same(list(prefetch(batches(5))), list(batches(5)))
    early = prefetch(batches(5))
    next(early)
    early.close()
    with pytest.raises(KeyError, match="a disk is gone"):
        list(prefetch(batches(3)))


def stop_after(steps: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= steps


def test_a_training_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    dataset: INRDataset, tmp_path: Path
) -> None:
    config = TrainConfig(epochs=2, warmup_steps=2, device="cpu", tensorboard=False)
    validation = INRLoader(INRDataset(dataset.root, "val"), 8, shuffle=False)
    meta = {"dataset": dataset.describe()}

    def run(out: Path, stop: Callable[[], bool] | None = None) -> Classifier:
        torch.manual_seed(0)
        model = build_classifier("mlp", SPEC, dataset.num_classes, hidden_dim=8, dropout=0.3)
        loader = INRLoader(dataset, 8, **AUGMENT)
        ClassifierTrainer(model, loader, validation, config, out, meta).fit(stop=stop)
        return model

    uninterrupted = run(tmp_path / "uninterrupted")
    with pytest.raises(PartialError):
        run(tmp_path / "parts", stop_after(3))
    resumed = run(tmp_path / "parts")

    for expected, got in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(got, expected)
    assert evaluate_model(uninterrupted, validation).count == 3 * OBJECTS["val"]
