"""Format: how INRs of other projects' sets are named, and what every format can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import Layers
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.weight_statistics import Statistics

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ForeignRow:
    """One INR of a foreign set: its object, split and view, and where its weights are: a file below the root and a row.

    `label` is None where only the file itself has it.
    """

    object_id: str
    split: str
    view: int
    label: int | None
    path: str
    row: int = 0


@dataclass(frozen=True)
class ExportRow:
    """One INR to be exported. `part` (train, test) and `number` are the official image number where the object has one;
    otherwise train and val are counted together in order, and test separately. `position` counts within its split."""

    object_id: str
    split: str
    view: int
    label: int
    part: str
    number: int
    position: int


@dataclass(frozen=True)
class Contents:
    """What files hold of some rows: layers, labels where files have them, and any further columns."""

    layers: Sequence[Layers]
    labels: Sequence[int | None]
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True)
class Hints:
    """What a user knows of a foreign set: its splits.json, objects of a view (fit-a-nef), dims of its INRs (inr2vec), and
    whether files that its splits name may be missing."""

    splits: Path | None = None
    num_signals: int | None = None
    dims: tuple[int, ...] | None = None
    allow_missing: bool = False


class ListedFiles(NamedTuple):
    """The rows of a foreign set, remarks for the user, and the description of the set where its files have one."""

    rows: list[ForeignRow]
    remarks: list[str]
    head: Mapping[str, Any] | None = None


class Format(ABC):
    """A layout on disk. Rows are written shard by shard, and listed from the names of files.

    `convention` is the one its files follow by default, `lacks` says in words what they cannot hold. Hubs show the rows of
    a format `for_viewers`: it can hold previews, and a card goes with it.
    """

    name: str
    convention: str
    lacks: str
    one_view: bool = False
    for_viewers: bool = False

    @abstractmethod
    def list_files(self, root: Path, hints: Hints) -> ListedFiles:
        """Every INR below root. UsageError where there is none, IntegrityError for damaged or foreign files."""

    @abstractmethod
    def read(self, root: Path, rows: Sequence[ForeignRow], hints: Hints) -> Contents:
        """The rows, in their order. IntegrityError names a file that is damaged or holds another kind of INR."""

    @abstractmethod
    def write(
        self, folder: Path, rows: Sequence[ExportRow], inrs: INRBatch, columns: Columns, head: Mapping[str, Any]
    ) -> list[tuple[str, int]]:
        """Write the rows of one shard into the folder; returns the file of each and its row in that file."""

    def refusal(self, spec: SirenSpec) -> str:
        """What INRs the format holds, if those of the spec are none of them; by default it holds all."""
        return ""

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:  # noqa: B027
        """Write the files that accompany the INRs; by default none. `name` is the folder's final name; the statistics
        are of the training split, in the convention in which the weights were written."""


def natural_sort_key(object_id: str) -> tuple[Any, ...]:
    """A sort key that puts train/00009 before train/00010, and 9 before 10."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in object_id.replace("-", "/").split("/")
    )
