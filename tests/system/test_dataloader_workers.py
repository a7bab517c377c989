"""Worker processes of data sets and loaders: the same rows and the same stream as without them, and light imports."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_sets import OBJECTS, SPEC, make_set, weights_of
from torch.utils.data import DataLoader

from inr_factory.errors import PartialError
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.training.classification import ClassifierTrainer, evaluate_model
from inr_factory.learning.training.run_config import TrainConfig
from inr_factory.learning.transforms.compose import parse_transform

AUGMENT: dict[str, Any] = {"transform": parse_transform("permute+noise:scale=0.3"), "mixup": MixUp()}
HEAVY = {"ray", "trimesh", "matplotlib", "torchvision", "inr_factory.generation.fitting"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> INRDataset:
    root = tmp_path_factory.mktemp("sets")
    make_set(root)
    return INRDataset(root)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_plain_dataloader_reads_with_workers(start: str, dataset: INRDataset) -> None:
    dataset.gather([0])  # a process that has already read must still be able to fork
    loader = DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context=start)

    rows = torch.cat([weights for weights, _ in loader])

    names = zip(dataset.object_ids.tolist(), dataset.views.tolist(), strict=True)
    assert torch.equal(rows, torch.stack([weights_of(SPEC, name, view) for name, view in names]))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_the_stream_is_the_same_for_any_number_of_workers(workers: int, start: int, dataset: INRDataset) -> None:
    streams = []
    for count in (0, workers):
        loader = INRLoader(dataset, 8, num_workers=count, **AUGMENT)
        loader.load_state_dict({"epoch": 1, "position": start})
        streams.append([(inrs.flatten(), targets) for inrs, targets in loader])
    assert len(streams[0]) == len(streams[1]) == 5 - start
    for (weights, targets), (other_weights, other_targets) in zip(*streams, strict=True):
        assert torch.equal(weights, other_weights)
        assert torch.equal(targets, other_targets)


def test_workers_draw_nothing_from_the_global_generators(dataset: INRDataset) -> None:
    state = torch.get_rng_state()

    list(INRLoader(dataset, 8, num_workers=2, **AUGMENT))

    assert torch.equal(torch.get_rng_state(), state)


def test_a_stopped_run_resumes_with_workers(dataset: INRDataset, tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, warmup_steps=2, device="cpu", tensorboard=False)
    validation = INRLoader(INRDataset(dataset.root, "val"), 8, shuffle=False)

    def run(out: Path, num_workers: int, stop: Callable[[], bool] | None = None) -> Classifier:
        torch.manual_seed(0)
        model = build_classifier("mlp", SPEC, dataset.num_classes, hidden_dim=8, dropout=0.3)
        loader = INRLoader(dataset, 8, num_workers=num_workers, **AUGMENT)
        meta = {"dataset": dataset.describe()}
        ClassifierTrainer(model, loader, validation, config, out, meta).fit(stop=stop)
        return model

    steps = iter(range(1, 10**6))
    whole = run(tmp_path / "whole", 0)
    with pytest.raises(PartialError):
        run(tmp_path / "parts", 2, lambda: next(steps) >= 3)
    resumed = run(tmp_path / "parts", 2)

    for expected, got in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(got, expected)
    assert evaluate_model(whole, validation).count == 3 * OBJECTS["val"]


def loaded_by(command: str) -> set[str]:
    show = f"import sys; {command}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_data_set_loads_nothing_heavy() -> None:
    loaded = loaded_by("import inr_factory.learning.data.dataset, inr_factory.learning.data.loader")

    assert "inr_factory.learning.data.dataset" in loaded
    assert not HEAVY & loaded


def test_the_check_of_imports_can_fail() -> None:
    assert "matplotlib" in HEAVY & loaded_by("import inr_factory.learning.data.dataset, matplotlib")
