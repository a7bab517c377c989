"""Fixtures: the sets and INRs of benchmarks, created for a run and removed afterwards.

Shape letters: D parameters of one INR.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inr_factory.errors import ResourceError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.sources.image_collections import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Manifest, ShardEntry, SourceRecord, SplitRecord, ViewKey
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import write_shard

SPEC = SirenSpec(2, 1, hidden_dim=32, num_hidden=2, output_bias=0.5)
CLASSES = tuple("0123456789")
SHARD_ROWS = 500
FIT_STEPS = 1_000


@contextmanager
def scratch_folder(need: int) -> Iterator[Path]:
    """A new temporary folder with space for `need` bytes, removed at the end in any case.

    Raises ResourceError where the disk has less.
    """
    parent = Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < need:
        raise ResourceError(
            f"the benchmark needs {need / 1e6:,.0f} MB of disk in {parent}, {free / 1e6:,.0f} MB are free; "
            "make room, set TMPDIR to another disk, or ask for fewer --rows"
        )
    with tempfile.TemporaryDirectory(prefix="inr-factory-benchmark-") as folder:
        yield Path(folder)


def set_bytes(rows: int, spec: SirenSpec = SPEC) -> int:
    """Approximate bytes of disk of a set with `rows` INRs."""
    return rows * (4 * spec.num_parameters + 100) + (rows // SHARD_ROWS + 1) * 20_000


def write_random_set(root: Path, rows: int, on_step: Callable[[str], None], spec: SirenSpec = SPEC) -> Manifest:
    """Write a set with random weights into the folder root: one view, in shards of 500 rows."""
    blocks = -(-rows // SHARD_ROWS)
    on_step(
        f"writing {rows:,} random INRs ({spec}) in {blocks} shards, {set_bytes(rows, spec) / 1e6:,.0f} MB, to {root}"
    )
    (root / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = [
        _write_block(root, spec, rng, block, min(SHARD_ROWS, rows - block * SHARD_ROWS)) for block in range(blocks)
    ]
    manifest = Manifest(
        name="random",
        spec=spec.to_dict(),
        recipe={"views": 1},
        fingerprint="0" * 16,
        source=SourceRecord(name="random numbers", version="1", licence="CC0-1.0", fingerprint="0"),
        classes=CLASSES,
        splits={"train": SplitRecord(objects=rows, blocks=blocks)},
    )
    return update_manifest(root, manifest, entries)


def _write_block(root: Path, spec: SirenSpec, rng: np.random.Generator, block: int, count: int) -> ShardEntry:
    columns = {
        "weights": 0.1 * rng.standard_normal((count, spec.num_parameters), dtype=np.float32),
        "label": rng.integers(0, len(CLASSES), count),
        "object_id": np.array([f"{block}-{row}" for row in range(count)]),
        "view": np.zeros(count),
        "seed": np.arange(count),
        "psnr": np.full(count, 40.0),
        "loss": np.full(count, 1e-4),
        "steps": np.full(count, 100),
        "status": np.zeros(count),
    }
    return write_shard(root, ("train", 0, block), spec, columns, (), {"fingerprint": "0" * 16})


def fit_digits(count: int, on_step: Callable[[str], None], spec: SirenSpec = SPEC) -> INRBatch:
    """INRs fitted to scikit-learn's scans of digits, each to a different scan while they last.

    Assignments between fitted INRs differ from those between random ones.
    """
    source = open_source(ImageSource(collection="digits"))
    order = np.random.default_rng(0).permutation(len(source.items))
    keys, signals = [], []
    for number in range(count):
        view, at = divmod(number, len(order))
        keys.append(ViewKey(source.items[order[at]].object_id, view))
        signals.append(source.signal(int(order[at]), view))
    on_step(f"fitting {count:,} digits ({spec})")
    return fit_views(spec, keys, signals, FitConfig(steps=FIT_STEPS, floor_psnr=-100), run_seed=0).inrs
