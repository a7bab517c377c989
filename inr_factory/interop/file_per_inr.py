"""File per INR: what all formats with one file an INR share; peer_layouts.py has the formats."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import Layers, layers_of
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.foreign_files import file_inside, left_out, whole_number
from inr_factory.interop.format import Columns, Contents, ExportRow, ForeignRow, Format, Hints, ListedFiles
from inr_factory.interop.split_files import apply_splits, find_splits, splits_json
from inr_factory.interop.state_dicts import state_dicts
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.torch_files import DAMAGE, load_plain

MAX_INR_BYTES = 64 * 2**20
STATISTICS = "statistics.pth"  # ends the names of files that go with INRs


class FilePerInr(Format):
    """One file an INR. A layout parses paths (`parse_path`, None for other files) and makes them (`path_of`)."""

    convention: str = "dwsnets"
    suffix: ClassVar[str] = ".pth"
    path_parts: ClassVar[int]  # last parts of a path that identify a file
    module_names: ClassVar[str] = "seq"
    has_statistics: ClassVar[bool] = False
    has_plain_splits: ClassVar[bool] = False
    has_label: ClassVar[bool] = False

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        raise NotImplementedError

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        raise NotImplementedError

    def complete_rows(self, root: Path, rows: list[ForeignRow]) -> list[ForeignRow]:
        """The rows with what a single path does not hold."""
        return rows

    def list_files(self, root: Path, hints: Hints) -> ListedFiles:
        if not root.is_dir():
            raise UsageError(f"{root} is no folder; --from {self.name} takes the folder of the corpus")
        paths = sorted(path.relative_to(root) for path in root.rglob(f"*{self.suffix}"))
        parsed = {path: self.parse_path(path.parts) for path in paths if not path.name.endswith(STATISTICS)}
        rows = [row for row in parsed.values() if row is not None]
        if not rows:
            raise UsageError(f"{root} has no file of the layout {self.name} ({self.example})")
        rows = self.complete_rows(root, rows)
        splits = find_splits(root, hints)
        remarks = left_out([path for path, row in parsed.items() if row is None], self.example)
        if splits is None:
            return ListedFiles(rows, remarks)
        listed = apply_splits(rows, splits, self.path_parts, hints.allow_missing)
        return listed._replace(remarks=[*remarks, *listed.remarks])

    @property
    def example(self) -> str:
        """The path of an INR in this layout."""
        row = ExportRow("train/00012", "train", 0, 7, "train", 12, 12)
        return self.path_of(row, SirenSpec(2, 1))

    def read(self, root: Path, rows: Sequence[ForeignRow], hints: Hints) -> Contents:
        pairs = [self.read_one(root, row, hints) for row in rows]
        return Contents([layers for layers, _ in pairs], [label for _, label in pairs])

    def read_one(self, root: Path, row: ForeignRow, hints: Hints) -> tuple[Layers, int | None]:
        path = file_inside(root, row.path, MAX_INR_BYTES)
        try:
            return self.unpack(load_plain(path), row)
        except DAMAGE as error:
            raise IntegrityError(f"{row.path} is not an INR of {self.name}: {one_line(error)}") from None

    def unpack(self, saved: Any, row: ForeignRow) -> tuple[Layers, int | None]:
        """Layers and label of a file's content; ValueError where it is something else."""
        label = saved.get("label") if isinstance(saved, Mapping) else None
        number = None if label is None else whole_number(label)
        if number is not None and number < 0:
            raise ValueError(f"its label is {number}")
        state = (
            {name: value for name, value in saved.items() if name != "label"} if isinstance(saved, Mapping) else saved
        )
        return layers_of(state), number

    def pack(self, state: dict[str, Tensor], row: ExportRow) -> bytes:
        buffer = io.BytesIO()
        torch.save({**state, "label": row.label} if self.has_label else state, buffer)
        return buffer.getvalue()

    def write(
        self, folder: Path, rows: Sequence[ExportRow], inrs: INRBatch, columns: Columns, head: Mapping[str, Any]
    ) -> list[tuple[str, int]]:
        paths = [self.path_of(row, inrs.spec) for row in rows]
        for row, relative, state in zip(rows, paths, state_dicts(inrs, self.module_names), strict=True):
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as file:
                file.write(self.pack(state, row))
        return [(path, 0) for path in paths]

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        prefix = f"{name}/" if self.has_plain_splits else ""
        paths = [(row.split, path, row.label) for row, path in rows]
        (folder / "splits.json").write_bytes(splits_json(paths, self.has_plain_splits, prefix))
        if self.has_statistics and statistics.count:
            (folder / STATISTICS).write_bytes(statistics.to_bytes())
