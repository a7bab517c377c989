"""Small runs for tests: a valid run on a valid set, and readers that say whether an altered file was read or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from inr_factory.errors import FactoryError
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shards
from inr_factory.learning.models.checkpoint import load_classifier
from inr_factory.learning.training.run_config import BEST, LAST
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.trained_run import predict
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from support.small_sets import make_set

OPTIONS: dict[str, Any] = {"model": "parity:hidden_dim=4", "batch_size": 4, "schedule": "constant", "device": "cpu"}
Refusal = str | None


def make_run(folder: Path, epochs: int = 2, **options: Any) -> Path:
    """A set in folder/set with the splits train, val and test, and a run of two epochs on it in folder/run."""
    make_set(folder / "set", objects={"train": 14, "val": 5, "test": 6})
    train(folder / "set", out=folder / "run", epochs=epochs, **OPTIONS, **options)
    return folder


def copy_run(source: Path, folder: Path) -> Path:
    """A copy of what `make_run` made, whose files may be altered."""
    shutil.copytree(source, folder)
    return folder


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Load a checkpoint, change its sections and save it again, with right CRCs."""
    saved = torch.load(path, weights_only=True)
    change(saved)
    torch.save(saved, path)


def refusal(read: Callable[[], object]) -> Refusal:
    """None where it was read, the one line of the refusal otherwise. Anything but a FactoryError is raised."""
    try:
        read()
    except FactoryError as error:
        line = str(error)
        assert line
        assert "\n" not in line, f"not one line: {line!r}"
        assert len(line) < 1000, line
        return line
    return None


def read_best(folder: Path) -> tuple[Refusal, dict[str, torch.Tensor]]:
    """What `evaluate` and `predict` do with run/best.pt: a refusal, or the numbers of the model that was read."""
    state: dict[str, torch.Tensor] = {}
    return refusal(lambda: state.update(load_classifier(folder / "run" / BEST).state_dict())), state


def read_last(folder: Path, **options: Any) -> Refusal:
    """What `train` does with run/last.pt: it resumes for a third epoch, or refuses."""
    return refusal(lambda: train(folder / "set", out=folder / "run", epochs=3, **OPTIONS, **options))


def read_predictions(folder: Path) -> Refusal:
    """What `predict` does with the run's folder."""
    return refusal(lambda: predict(folder / "run", folder / "set").to_csv())


def read_set(folder: Path) -> Refusal:
    """What `verify` says of the set in folder/set: its first fault, None where it is whole."""

    def read() -> None:
        manifest = load_manifest(folder / "set")
        for fault in [*check_manifest(folder / "set", manifest), *check_shards(folder / "set", manifest)]:
            raise FactoryError(fault.reason)

    return refusal(read)


FILES = {"best": f"run/{BEST}", "last": f"run/{LAST}", "manifest": f"set/{MANIFEST}"}
