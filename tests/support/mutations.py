"""Mutations: random damage to the bytes of shards, manifests and caches, and what becomes of those who read them."""

import json
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inr_factory.errors import FactoryError, IntegrityError
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shard, check_shards
from inr_factory.generation.sources.sample_cache import MAGIC, SampleCache
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader
from support.faults import Tally

SECONDS = 10


def mutate(content: bytes, chance: random.Random) -> bytes:
    """The content with one random damage; never the same content."""
    while True:
        changed = bytearray(content)
        at, size = chance.randrange(len(content)), chance.randint(1, 64)
        kind = chance.choice(["bit", "byte", "zeros", "noise", "cut", "drop", "repeat", "number", "grow"])
        if kind == "bit":
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            changed[at] = chance.randrange(256)
        elif kind == "zeros":
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        elif kind == "noise":
            changed[at : at + size] = chance.randbytes(len(changed[at : at + size]))
        elif kind == "cut":
            del changed[at:]
        elif kind == "drop":
            del changed[at : at + size]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + size]
        elif kind == "number":  # a digit for a digit: what stays well formed
            digits = [place for place in range(at, min(at + 400, len(changed))) if 48 <= changed[place] <= 57]
            if digits:
                changed[digits[0]] = 48 + chance.randrange(10)
        else:
            changed += chance.randbytes(size)
        if bytes(changed) != content:
            return bytes(changed)


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """TimeoutError for what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate_shards(tally: Tally, whole: Path, folder: Path, count: int, seed: int = 0) -> None:
    """Damage one shard after the other: `verify` must name it with a reason, a reader refuse it, and a run that finds
    it unrecorded records it only if every row is right."""
    chance = random.Random(seed)
    out = shutil.copytree(whole, folder / "shards")
    manifest = load_manifest(out)
    for number in range(count):
        entry = chance.choice(manifest.shards)
        path, content = out / entry.path, (whole / entry.path).read_bytes()
        path.unlink()
        path.write_bytes(mutate(content, chance))
        try:
            with within(SECONDS):
                try:
                    check_shard(out, manifest, entry)
                    tally.wrong.append(f"shard {number}: its damage was not seen")
                except IntegrityError as error:
                    named = path.name in str(error) and "\n" not in str(error)
                    tally.expect(named, f"shard {number}: {error}")
                try:
                    adopted = ShardReader.unrecorded(path)
                    same = _columns(adopted) == _columns(ShardReader(whole, entry))
                    tally.expect(same, f"shard {number}: adopted with other rows")
                except IntegrityError:
                    pass
        except Exception as error:
            tally.wrong.append(f"shard {number}: {type(error).__name__}: {error}")
        path.unlink()
        path.write_bytes(content)
        tally.counts["mutated shards named"] += 1
    tally.expect(not check_shards(out, manifest), "the shards were not put back: this shows nothing")


def _columns(shard: ShardReader) -> dict[str, bytes]:
    return {name: shard.column(name).tobytes() for name in shard.column_names}


def mutate_manifests(tally: Tally, whole: Path, folder: Path, count: int, seed: int = 0) -> None:
    """Damage the manifest: `verify` must name it, and who reads rows by it get right ones or none."""
    chance = random.Random(seed)
    out = shutil.copytree(whole, folder / "manifests")
    content, good = (whole / MANIFEST).read_bytes(), load_manifest(whole)
    rows = _rows(whole)
    while tally.counts["mutated manifests named"] < count:
        (out / MANIFEST).write_bytes(mutate(content, chance))
        number = tally.counts["mutated manifests named"]
        try:
            with within(SECONDS):
                try:
                    bad = load_manifest(out)
                    if bad == good:  # a blank more or less
                        tally.counts["manifests that still say the same"] += 1
                        continue
                    reasons = [fault.reason for fault in [*check_manifest(out, bad), *check_shards(out, bad)]]
                except FactoryError as error:
                    reasons = [str(error)]
                # A shard that an altered manifest has lost is named as unrecorded.
                tally.expect(
                    bool(reasons) and all(".json" in r or ".h5" in r for r in reasons), f"manifest {number}: {reasons}"
                )
                try:
                    wrong = [key for key, row in _rows(out).items() if rows.get(key) != row]
                    tally.expect(not wrong, f"manifest {number}: wrong rows {wrong[:3]}")
                except FactoryError:
                    tally.counts["altered manifests that readers refused"] += 1
        except Exception as error:
            tally.wrong.append(f"manifest {number}: {type(error).__name__}: {error}")
        tally.counts["mutated manifests named"] += 1


def _rows(root: Path) -> dict[tuple[str, int, str], tuple[int, bytes]]:
    """(object, view, split) -> label and weights, of all that can be read of a set."""
    found = {}
    manifest = load_manifest(root)
    for split in manifest.splits:
        data = INRDataset(root, split=split)
        weights, labels = data.gather(np.arange(len(data)))
        for row, name in enumerate(data.object_ids):
            found[name, int(data.views[row]), split] = (int(labels[row]), weights[row].numpy().tobytes())
    return found


def mutate_caches(tally: Tally, folder: Path, count: int, seed: int = 0) -> None:
    """Damage entries of the sample cache: each must be given whole or not at all."""
    chance, cache = random.Random(seed), SampleCache(folder / "cache")
    key = "ab" * 32
    arrays = {"coords": np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)}
    cache.save(key, arrays, {"scale": 2.0})
    path = next((folder / "cache").rglob("*.samples"))
    content = path.read_bytes()
    for number in range(count):
        path.write_bytes(mutate(content, chance))
        try:
            with within(SECONDS):
                tally.expect(cache.load(key) is None, f"cache {number}: read although it was damaged")
        except Exception as error:
            tally.wrong.append(f"cache {number}: {type(error).__name__}: {error}")
        tally.counts["mutated cache entries passed over"] += 1
    assert content.startswith(MAGIC)
    assert json.loads(content[len(MAGIC) + 32 :].partition(b"\n")[0])["key"] == key
