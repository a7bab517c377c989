"""Members: one INR of somebody else's set, one of ours that is on its way out, and what every format can do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from inr_factory.errors import IntegrityError
from inr_factory.inr.batch import INRBatch
from inr_factory.interop.state_dicts import Layers
from inr_factory.interop.weight_statistics import Statistics


@dataclass(frozen=True)
class ForeignRow:
    """One INR of a foreign set: what it is of, and where its weights lie: a file below the root, and the row in it.

    `label` is None where only the file itself says it.
    """

    object_id: str
    split: str
    view: int
    label: int | None
    path: str
    row: int = 0


@dataclass(frozen=True)
class ExportRow:
    """One INR of ours on its way out. `part` (train, test) and `number` are the official image number where the object
    has one, else train and val, or test, counted in order; `position` counts the objects of its split."""

    object_id: str
    split: str
    view: int
    label: int
    part: str
    number: int
    position: int


@dataclass(frozen=True)
class Contents:
    """What was read of some members: their layers, the labels that the files give, and further columns if they have any."""

    layers: Sequence[Layers]
    labels: Sequence[int | None]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hints:
    """What a user may say of a foreign set: its splits.json, how many objects a view has (fit-a-nef), dims of its INRs
    (inr2vec), and whether files that its splits name may be missing."""

    splits: Path | None = None
    num_signals: int | None = None
    dims: tuple[int, ...] | None = None
    allow_missing: bool = False


class ListedFiles(NamedTuple):
    """The members of a foreign set, remarks for the user, and what the files themselves say of the set, if they do."""

    members: list[ForeignRow]
    remarks: list[str]
    head: Mapping[str, Any] | None = None


class Format(Protocol):
    """A layout on disk. Rows are written shard by shard, and found by listing."""

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> str:
        """The name of the convention that its files follow where nothing else is known."""
        ...

    @property
    def lacks(self) -> str:
        """What its files cannot say, in words."""
        ...

    @property
    def one_view(self) -> bool: ...

    def find(self, root: Path, hints: Hints) -> ListedFiles:
        """Every member below root. UsageError where there is none, IntegrityError for what is damaged or foreign."""
        ...

    def read(self, root: Path, members: Sequence[ForeignRow], hints: Hints) -> Contents:
        """The members, in their order. IntegrityError names the file that is damaged or another kind of INR."""
        ...

    def write(
        self,
        folder: Path,
        rows: Sequence[ExportRow],
        inrs: INRBatch,
        columns: Mapping[str, NDArray[Any]],
        head: Mapping[str, Any],
    ) -> list[tuple[str, int]]:
        """Write the rows of one shard into the folder; the file of each, and the row in it."""
        ...

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        """Write what stands beside the INRs. `name` is what the folder will be called; the statistics are of its
        training split, in the terms in which the weights were written."""
        ...


def file_inside(root: Path, path: str, most: int) -> Path:
    """A file of a foreign set. IntegrityError for one that leads out of root, is none, or has more than `most` bytes."""
    whole = root / path
    if ".." in Path(path).parts or Path(path).is_absolute() or not whole.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(f"{path} leads out of {root}; put the file itself there")
    if not whole.is_file():
        raise IntegrityError(f"{path} is not there, or is no file; is the download of {root} complete?")
    size = whole.stat().st_size
    if size > most:
        raise IntegrityError(f"{path} has {size:,} bytes, at most {most:,} are read; is it the right file?")
    return whole


def natural_sort_key(object_id: str) -> tuple[Any, ...]:
    """A key by which train/00009 comes before train/00010, and 9 before 10."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in object_id.replace("-", "/").split("/")
    )
