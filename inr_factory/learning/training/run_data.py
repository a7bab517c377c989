"""Run data: the batches that a run is evaluated on, whether they suit it, and the record of what it was trained on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.run_config import RUN
from inr_factory.learning.transforms.canonical import canonicalize
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest

EVALUATION_BATCH = 512


def evaluation_loader(dataset: INRDataset, device: str) -> INRLoader:
    """All rows in order, once."""
    return INRLoader(dataset, EVALUATION_BATCH, shuffle=False, drop_last=False, device=choose_device(device))


def plain_batches(dataset: INRDataset, canonical: bool) -> Iterator[INRBatch]:
    """All INRs in order, once, without augmentation: what a normalizer is fitted to."""
    for inrs, _ in evaluation_loader(dataset, "cpu"):
        yield canonicalize(inrs) if canonical else inrs


def class_names(dataset: INRDataset) -> tuple[str, ...]:
    """The class of each row, "" where it has none."""
    return tuple(dataset.classes[label] if 0 <= label < dataset.num_classes else "" for label in dataset.labels)


def has_split(manifest: Manifest, split: str) -> bool:
    """Whether a data set has fitted INRs in this split."""
    return any(entry.split == split and entry.rows for entry in manifest.shards)


def write_run_file(
    folder: Path, dataset: INRDataset, meta: Mapping[str, Any], target: INRDataset | None = None
) -> None:
    """Record in run.json where the data set of a run is, and that of its targets if there is one, and the run's meta."""
    places = {name: data.location for name, data in (("dataset", dataset), ("target", target)) if data is not None}
    texts = {name: str(place.absolute() if isinstance(place, Path) else place) for name, place in places.items()}
    write_atomically(folder / RUN, json.dumps({**texts, "meta": meta}, indent=2).encode())


def open_split(
    dataset: str | Location | INRDataset, split: str, views: int | None, target: str | None = None
) -> INRDataset:
    """The data set, opened where it is not: only then do split, views and target count."""
    return dataset if isinstance(dataset, INRDataset) else INRDataset(dataset, split, views=views, target=target)


def check_count(checkpoint: Path, model: Classifier, classes: Sequence[str], data: INRDataset) -> None:
    """Raise UsageError where a classifier knows another number of classes than a data set has."""
    if len(classes) != model.num_classes:
        raise UsageError(
            f"{checkpoint} predicts {model.num_classes} classes, {data.manifest.name} has {len(classes)}; "
            "name the data set that it was trained on"
        )


def check_values(checkpoint: Path, model: Predictor, data: INRDataset) -> None:
    """Raise UsageError for a data set that was not opened with the target of a predictor."""
    name = model.target["name"]
    if data.target is None or data.target.name != name:
        raise UsageError(f"{checkpoint} predicts {name}; open the data set with target={name!r}")
