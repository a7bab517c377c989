"""Trees: formats of one file an INR, whatever their paths say; layouts.py has those that peers use."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.format import Contents, ExportRow, ForeignRow, Hints, ListedFiles, file_inside
from inr_factory.interop.split_files import apply_splits, find_splits, splits_json
from inr_factory.interop.state_dicts import Layers, layers_of, state_dicts
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.torch_files import LOAD_ERRORS, load_plain

MAX_INR_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FilePerInr:
    """One file an INR. A layout says what a path means (`parse_path`, None for other files) and where an INR goes (`path_of`)."""

    name: ClassVar[str]
    convention: ClassVar[str] = "dwsnets"
    lacks: ClassVar[str]
    one_view: ClassVar[bool] = False
    suffix: ClassVar[str] = ".pth"
    path_parts: ClassVar[int]  # parts of a path that tell a file from all others
    names: ClassVar[str] = "seq"
    has_statistics: ClassVar[bool] = False
    flat_splits: ClassVar[bool] = False
    label_inside: ClassVar[bool] = False

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        raise NotImplementedError

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        raise NotImplementedError

    def complete_rows(self, root: Path, members: list[ForeignRow]) -> list[ForeignRow]:
        """What no path says by itself."""
        return members

    def find(self, root: Path, hints: Hints) -> ListedFiles:
        if not root.is_dir():
            raise UsageError(f"{root} is no folder; --from {self.name} takes the folder of the corpus")
        paths = sorted(path.relative_to(root) for path in root.rglob(f"*{self.suffix}"))
        members = [member for path in paths if (member := self.parse_path(path.parts)) is not None]
        if not members:
            raise UsageError(f"{root} has no file of the layout {self.name} ({self.example})")
        members = self.complete_rows(root, members)
        splits = find_splits(root, hints)
        if splits is None:
            return ListedFiles(members, [])
        return apply_splits(members, splits, self.path_parts, hints.allow_missing)

    @property
    def example(self) -> str:
        """The path of an INR in this layout."""
        row = ExportRow("train/00012", "train", 0, 7, "train", 12, 12)
        return self.path_of(row, SirenSpec(2, 1))

    def read(self, root: Path, members: Sequence[ForeignRow], hints: Hints) -> Contents:
        pairs = [self.read_one(root, member, hints) for member in members]
        return Contents([layers for layers, _ in pairs], [label for _, label in pairs])

    def read_one(self, root: Path, member: ForeignRow, hints: Hints) -> tuple[Layers, int | None]:
        path = file_inside(root, member.path, MAX_INR_BYTES)
        try:
            return self.unpack(load_plain(path), member)
        except LOAD_ERRORS as error:
            raise IntegrityError(f"{member.path} is not an INR of {self.name}: {one_line(error)}") from None

    def unpack(self, saved: Any, member: ForeignRow) -> tuple[Layers, int | None]:
        """Layers and label of what a file holds; ValueError where it is something else."""
        label = saved.get("label") if isinstance(saved, Mapping) else None
        number = int(label.item()) if isinstance(label, Tensor) and label.numel() == 1 else label
        if number is not None and (not isinstance(number, int) or number < 0):
            raise ValueError(f"its label is {number!r}")
        state = (
            {name: value for name, value in saved.items() if name != "label"} if isinstance(saved, Mapping) else saved
        )
        return layers_of(state), number

    def pack(self, state: dict[str, Tensor], row: ExportRow) -> bytes:
        buffer = io.BytesIO()
        torch.save({**state, "label": row.label} if self.label_inside else state, buffer)
        return buffer.getvalue()

    def write(
        self,
        folder: Path,
        rows: Sequence[ExportRow],
        inrs: INRBatch,
        columns: Mapping[str, NDArray[Any]],
        head: Mapping[str, Any],
    ) -> list[tuple[str, int]]:
        places = []
        for row, state in zip(rows, state_dicts(inrs, self.names), strict=True):
            place = self.path_of(row, inrs.spec)
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:
                file.write(self.pack(state, row))
            places.append((place, 0))
        return places

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        prefix = f"{name}/" if self.flat_splits else ""
        listed = [(row.split, path, row.label) for row, path in rows]
        (folder / "splits.json").write_bytes(splits_json(listed, self.flat_splits, prefix))
        if self.has_statistics and statistics.count:
            (folder / "statistics.pth").write_bytes(statistics.to_bytes())
