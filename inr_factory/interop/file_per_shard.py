"""File per shard: safetensors and parquet, one file for each shard of a set. Files describe themselves."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import Layers
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.foreign_files import file_inside, whole_number
from inr_factory.interop.format import Columns, Contents, ExportRow, ForeignRow, Format, Hints, ListedFiles
from inr_factory.interop.table_files import Table, parquet_bytes, read_parquet, read_safetensors, safetensors_bytes
from inr_factory.storage.manifest import SPLITS

MAX_FILE_BYTES = 16 * 2**30


@dataclass(frozen=True)
class FilePerShard(Format):
    """Tables of INRs with a head that describes them, so that an import needs no options."""

    name: str
    suffix: str
    to_bytes: Callable[[Table], bytes]
    from_file: Callable[..., Table]
    convention: str = "inr-factory"
    lacks: str = "the recipe"
    for_viewers: bool = False

    def list_files(self, root: Path, hints: Hints) -> ListedFiles:
        rows: list[ForeignRow] = []
        head: dict[str, Any] | None = None
        for path in files_by_suffix(root, self.suffix, self.name):
            table = self.from_file(file_inside(root, path, MAX_FILE_BYTES), weights=False)
            if head not in (None, table.head):
                raise IntegrityError(f"{path} is of another set than the files before it; take them apart")
            head = table.head
            rows += self._rows(path, table)
        return ListedFiles(rows, [], head)

    def _rows(self, path: str, table: Table) -> list[ForeignRow]:
        try:
            columns = [table.columns[name].tolist() for name in ("object_id", "split", "view", "label")]
            values = [(str(o), str(s), whole_number(v), whole_number(y)) for o, s, v, y in zip(*columns, strict=True)]
            if any(split not in SPLITS or view < 0 or label < 0 for _, split, view, label in values):
                raise ValueError("it has a split, view or label that cannot be")
        except (KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path} lacks a column, or has a wrong one: {one_line(error)}") from None
        return [ForeignRow(*row, path, index) for index, row in enumerate(values)]

    def read(self, root: Path, rows: Sequence[ForeignRow], hints: Hints) -> Contents:
        tables = {path: self.from_file(root / path) for path in dict.fromkeys(row.path for row in rows)}
        layers: list[Layers] = []
        for row in rows:
            table = tables[row.path]
            spec = SirenSpec.from_dict(table.head["spec"])
            one = INRBatch.from_flat(spec, torch.from_numpy(table.weights[row.row : row.row + 1]))
            layers.append(Layers(tuple(W[0] for W in one.weights), tuple(b[0] for b in one.biases)))
        names = set.intersection(*(set(table.columns) for table in tables.values())) if tables else set()
        names -= {"object_id", "split", "view", "label"}
        columns = {name: np.array([tables[row.path].columns[name][row.row] for row in rows]) for name in sorted(names)}
        return Contents(layers, [row.label for row in rows], columns)

    def write(
        self, folder: Path, rows: Sequence[ExportRow], inrs: INRBatch, columns: Columns, head: Mapping[str, Any]
    ) -> list[tuple[str, int]]:
        if not rows:
            return []
        name = f"{rows[0].split}-view{rows[0].view:03d}-{rows[0].position:07d}{self.suffix}"
        kept = {key: column for key, column in columns.items() if key not in ("weights", "checksum")}
        kept |= {
            "object_id": np.array([row.object_id for row in rows], dtype=object),
            "split": np.array([row.split for row in rows], dtype=object),
        }
        table = Table({**head, "spec": inrs.spec.to_dict()}, inrs.flatten().numpy(), kept)
        with open(folder / name, "xb") as file:
            file.write(self.to_bytes(table))
        return [(name, index) for index in range(len(rows))]


SELF_DESCRIBING_FORMATS = (
    FilePerShard("safetensors", ".safetensors", safetensors_bytes, read_safetensors),
    FilePerShard("parquet", ".parquet", parquet_bytes, read_parquet, for_viewers=True),
)


def files_by_suffix(root: Path, suffix: str, name: str) -> list[str]:
    """Files of a suffix below root, in natural order. UsageError where there is none."""
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; --from {name} takes the folder of the files")
    paths = [path.relative_to(root).as_posix() for path in root.rglob(f"*{suffix}")]
    if not paths:
        raise UsageError(f"{root} has no file *{suffix}")
    return sorted(paths, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)])
