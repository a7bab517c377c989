"""Remarks: constant and faint signals are counted and named; a record without them is that of older versions."""

import numpy as np
import pytest

from inr_factory.storage.manifest import Remark, ShardEntry
from inr_factory.storage.remarks import FAINT, TEXTS, remarks_of, summarize_remarks


def columns(**changes):
    names = np.array([b"a", b"b", b"c", b"d", b"e"], dtype="S1")
    return {"object_id": names, "explained": np.full(5, 0.9)} | {
        key: np.array(value, float) for key, value in changes.items()
    }


@pytest.mark.parametrize(
    ("changes", "kind", "objects"),
    [
        ({"explained": [np.nan, 1, 0.9, np.nan, 0.6]}, "constant", ("a", "d")),
        ({"explained": [np.nan, 1, 1, 1, 1], "transparent": [0.5, 0.5, 0, 0, 0]}, "hidden", ("a",)),
        ({"explained": [1, 0.49, -1e9, 0.51, 1]}, "faint", ("b", "c")),
        ({"inside": [0, 0.5, 1, 1e-6, 0.9]}, "one_sided", ("a", "c")),
        ({"more_frames": [0, 0, 1, 0, 1]}, "more_frames", ("c", "e")),
        ({"clipped": [0, 0.01, 0, 0, 0]}, "clipped", ("b",)),
        ({"explained": [np.nan] * 5}, "constant", ("a", "b", "c")),
    ],
)
def test_rows_that_a_user_should_know_about_are_counted_and_named(changes, kind, objects):
    (remark,) = remarks_of(columns(**changes))

    assert (remark.kind, remark.objects) == (kind, objects)
    assert remark.count == (5 if len(objects) == 3 else len(objects))
    (line,) = map(str, summarize_remarks([remark]))
    assert line.startswith(TEXTS[kind][0])
    assert all(name in line for name in objects)


def test_ordinary_rows_and_shards_of_older_recipes_have_no_remark():
    assert remarks_of(columns()) == ()
    assert remarks_of({"object_id": np.array([b"a"])}) == ()
    assert FAINT < 0.69, "an image of CIFAR-10 at 35 dB is named"


def test_a_record_without_remarks_is_that_of_older_versions():
    plain = ShardEntry(
        path="data/x.h5", split="train", view=0, block=0, rows=1, bytes=1, sha256="0" * 64, psnr=None, mean_steps=None
    )
    odd = plain.model_copy(update={"remarks": (Remark(kind="later", count=2, objects=("a",)),)})

    assert "remarks" not in plain.model_dump(mode="json")
    assert ShardEntry.model_validate(odd.model_dump(mode="json")) == odd
    assert list(map(str, summarize_remarks([*odd.remarks, *odd.remarks]))) == ["later: 4 INRs (a, ...)"]
