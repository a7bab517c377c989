"""Remarks: what is odd about rows of a shard, by their columns: constant signals, frames that are not used, and so on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.storage.manifest import Remark

FAINT = 0.5  # share of the variance; of 64,297 images of three collections none is at its target below 0.69
MOST_NAMED = 3

# Columns that remarks depend on; sets of older recipes have none of them.
COLUMNS = ("explained", "inside", "transparent", "more_frames", "clipped")

# In the order in which they are printed.
TEXTS = {
    "hidden": ("constant on source.background", "--set source.background=0.5, or black, shows what is drawn in that colour, unless all is transparent"),
    "constant": ("constant signal", "an INR of it shows nothing"),
    "faint": (
        "less than half of the signal's variance explained",
        "raise fit.target_psnr, or fit.steps where it is not reached, or spread the values over [0, 1]; "
        "fit.floor_explained refuses such fits",
    ),
    "one_sided": ("no point inside, or none outside", "their INRs have no surface; is the sign of the distances right?"),
    "more_frames": ("only the first frame or page of the file used", "split the file to use the others"),
    "clipped": ("values outside of source.value_range clipped", "widen it unless that is meant"),
}  # fmt: skip


def remarks_of(columns: Mapping[str, NDArray[Any]]) -> tuple[Remark, ...]:
    """The remarks on the rows of a shard; none where the columns that they depend on are absent."""
    count = len(columns["object_id"])
    explained, inside, transparent, frames, clipped = (
        np.asarray(columns.get(name, np.full(count, neutral)))
        for name, neutral in zip(COLUMNS, (1, 0.5, 0, 0, 0), strict=True)
    )
    constant = np.isnan(explained)
    rows = {
        "hidden": constant & (transparent > 0),
        "constant": constant & ~(transparent > 0),
        "faint": explained < FAINT,
        "one_sided": ~constant & ((inside <= 0) | (inside >= 1)),
        "more_frames": frames > 0,
        "clipped": clipped > 0,
    }
    names = {kind: columns["object_id"][where][:MOST_NAMED].tolist() for kind, where in rows.items()}
    return tuple(
        Remark(kind=kind, count=int(rows[kind].sum()), objects=tuple(map(_text, names[kind])))
        for kind in TEXTS
        if rows[kind].any()
    )


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name


@dataclass(frozen=True)
class RemarkSummary:
    """A kind of remark on a set: the number of INRs, and the first objects."""

    kind: str
    count: int
    objects: tuple[str, ...]

    def __str__(self) -> str:
        return self.text("INRs")

    def text(self, noun: str) -> str:
        """One line: what, how many of them, which, and what to do."""
        what, remedy = TEXTS.get(self.kind, (self.kind, ""))
        named = ", ".join(self.objects) + (", ..." if self.count > len(self.objects) else "")
        noun = "INR" if (self.count, noun) == (1, "INRs") else noun
        return f"{what}: {self.count:,} {noun} ({named}){'; ' if remedy else ''}{remedy}"


def summarize_remarks(remarks: Iterable[Remark]) -> list[RemarkSummary]:
    """One summary for each kind, in the order of TEXTS; kinds of later versions come last."""
    listed = list(remarks)
    kinds = dict.fromkeys([*TEXTS, *(remark.kind for remark in listed)])
    of_kind = {kind: [remark for remark in listed if remark.kind == kind] for kind in kinds}
    return [
        RemarkSummary(
            kind,
            sum(remark.count for remark in remarks),
            tuple(dict.fromkeys(name for remark in remarks for name in remark.objects))[:MOST_NAMED],
        )
        for kind, remarks in of_kind.items()
        if remarks
    ]
