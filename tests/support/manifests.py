"""Manifests and entries of small sets, made without shards."""

from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Manifest, PSNRSummary, ShardEntry, SourceRecord, SplitRecord, shard_path


def entry(split="train", view=0, block=0, **changes):
    fields = {
        "path": shard_path(split, view, block), "split": split, "view": view, "block": block, "rows": 3, "bytes": 10,
        "sha256": "0" * 64, "psnr": PSNRSummary(mean=40.5, median=40, min=39.125), "mean_steps": 7.5,
    }  # fmt: skip
    return ShardEntry(**{**fields, **changes})


def manifest(**changes):
    fields = {
        "name": "tiny", "spec": SirenSpec(2, 1, hidden_dim=4).to_dict(), "recipe": {"views": 2}, "fingerprint": "ab",
        "source": SourceRecord(name="digits", version="1", licence="BSD", fingerprint="cd"), "classes": ("a", "ü"),
        "splits": {"train": SplitRecord(objects=60, blocks=2), "test": SplitRecord(objects=1, blocks=1)},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})
