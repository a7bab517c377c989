"""Small data sets for tests: real shards whose every number is known beforehand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Manifest, Quarantined, ShardEntry, SourceRecord, SplitRecord, ViewKey
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import write_shard

SPEC = SirenSpec(2, 1, hidden_dim=4, num_hidden=2, omega_0=7.0, output_bias=0.5)
CLASSES = ("low", "mid", "high")
OBJECTS = {"train": 14, "val": 5}


def weights_of(spec: SirenSpec, object_id: str, view: int) -> torch.Tensor:
    """(D,): what every small set holds for this view of this object."""
    return initialize(spec, [ViewKey(object_id, view).seed(0)]).flatten()[0]


def psnr_of(object_id: str, view: int) -> float:
    """From 30 dB on, half a dB more for each object and 10 for each view."""
    return 30.0 + 0.5 * int(object_id.partition("-")[2]) + 10 * view


def label_of(object_id: str, classes: Sequence[str] = CLASSES) -> int:
    return int(object_id.partition("-")[2]) % len(classes)


def make_set(
    root: Path,
    spec: SirenSpec = SPEC,
    views: int = 3,
    classes: Sequence[str] = CLASSES,
    objects: Mapping[str, int] = OBJECTS,
    shard_objects: int = 4,
    quarantine: Iterable[tuple[str, int]] = (),
    unfitted: Iterable[tuple[str, int, int]] = (),
) -> Manifest:
    """Write a set of objects `train-0`, `train-1`, ... into the folder root; their classes take turns.

    `quarantine` lists (object_id, view) without a row, `unfitted` (split, view, block) of shards that are left out.
    """
    quarantine, unfitted = set(quarantine), set(unfitted)
    (root / "data").mkdir(parents=True, exist_ok=True)
    blocks = {split: -(-count // shard_objects) for split, count in objects.items()}
    keys = [(split, view, block) for view in range(views) for split in objects for block in range(blocks[split])]
    entries = []
    for split, view, block in keys:
        if (split, view, block) in unfitted:
            continue
        numbers = range(block * shard_objects, min((block + 1) * shard_objects, objects[split]))
        names = [f"{split}-{number}" for number in numbers]
        entries.append(_write(root, spec, (split, view, block), names, classes, quarantine))
    manifest = Manifest(
        name="small",
        spec=spec.to_dict(),
        recipe={"views": views},
        fingerprint="0123456789abcdef",
        source=SourceRecord(name="numbers", version="1", licence="CC0-1.0", fingerprint="0"),
        classes=tuple(classes),
        splits={split: SplitRecord(objects=count, blocks=blocks[split]) for split, count in objects.items()},
        software={"inr-factory": "0"},
    )
    return update_manifest(root, manifest, entries)


def _write(
    root: Path,
    spec: SirenSpec,
    key: tuple[str, int, int],
    names: Sequence[str],
    classes: Sequence[str],
    quarantine: set[tuple[str, int]],
) -> ShardEntry:
    _, view, _ = key
    left_out = [Quarantined(object_id=name, view=view, reason="test") for name in names if (name, view) in quarantine]
    names = [name for name in names if (name, view) not in quarantine]
    seeds = [ViewKey(name, view).seed(0) for name in names]
    columns = {
        "weights": initialize(spec, seeds).flatten().numpy(),
        "label": np.array([label_of(name, classes) for name in names]),
        "object_id": np.array(names, dtype=np.str_),
        "view": np.full(len(names), view),
        "seed": np.array(seeds, dtype=np.int64),
        "psnr": np.array([psnr_of(name, view) for name in names]),
        "loss": np.full(len(names), 1e-3),
        "steps": np.full(len(names), 100),
        "status": np.zeros(len(names)),
    }
    return write_shard(root, key, spec, columns, left_out, {"fingerprint": "0123456789abcdef"})
