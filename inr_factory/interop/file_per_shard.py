"""Tables: formats of many INRs a file: fit-a-nef's HDF5, safetensors and parquet. A shard of ours is one file.

Shape letters: N INRs, D parameters of one INR, I inputs and O outputs of a layer.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.format import Contents, ExportRow, ForeignRow, Hints, ListedFiles, file_inside
from inr_factory.interop.hdf5_files import hdf5_bytes, parse_param_config, read_hdf5
from inr_factory.interop.split_files import load_splits
from inr_factory.interop.state_dicts import Layers, check_layers
from inr_factory.interop.table_files import Table, parquet_bytes, read_parquet, read_safetensors, safetensors_bytes
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.manifest import SPLITS

MAX_TABLE_BYTES = 16 * 2**30
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FilePerShard:
    """Files of ours for others: each says by itself what it holds, so that nothing has to be asked."""

    name: str
    suffix: str
    to_bytes: Callable[[Table], bytes]
    from_file: Callable[..., Table]
    convention: str = "inr-factory"
    lacks: str = "the recipe"
    one_view: bool = False

    def find(self, root: Path, hints: Hints) -> ListedFiles:
        members: list[ForeignRow] = []
        head: dict[str, Any] | None = None
        for path in files_by_suffix(root, self.suffix, self.name):
            table = self.from_file(file_inside(root, path, MAX_TABLE_BYTES), weights=False)
            if head not in (None, table.head):
                raise IntegrityError(f"{path} is of another set than the files before it; take them apart")
            head = table.head
            members += self._members(path, table)
        return ListedFiles(members, [], head)

    def _members(self, path: str, table: Table) -> list[ForeignRow]:
        try:
            columns = [table.columns[name].tolist() for name in ("object_id", "split", "view", "label")]
            rows = [(str(o), str(s), int(v), int(y)) for o, s, v, y in zip(*columns, strict=True)]
            if any(split not in SPLITS or view < 0 or label < 0 for _, split, view, label in rows):
                raise ValueError("it has a split, view or label that cannot be")
        except (KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{path} lacks a column, or has a wrong one: {one_line(error)}") from None
        return [ForeignRow(*row, path, at) for at, row in enumerate(rows)]

    def read(self, root: Path, members: Sequence[ForeignRow], hints: Hints) -> Contents:
        tables = {path: self.from_file(root / path) for path in dict.fromkeys(member.path for member in members)}
        layers: list[Layers] = []
        for member in members:
            table = tables[member.path]
            spec = SirenSpec.from_dict(table.head["spec"])
            one = INRBatch.from_flat(spec, torch.from_numpy(table.weights[member.row : member.row + 1]))
            layers.append(Layers(tuple(W[0] for W in one.weights), tuple(b[0] for b in one.biases)))
        names = set.intersection(*(set(table.columns) for table in tables.values())) if tables else set()
        names -= {"object_id", "split", "view", "label"}
        columns = {name: np.array([tables[m.path].columns[name][m.row] for m in members]) for name in sorted(names)}
        return Contents(layers, [member.label for member in members], columns)

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
        return [(name, at) for at in range(len(rows))]

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        """Nothing stands beside them."""


@dataclass(frozen=True)
class FitANef:
    """fit-a-nef: `params` (N, D), the bias of a layer before its kernel (I, O), and their names in `param_config`.

    Rows a to b of all, views one after the other, stand in nefs_{a}-{b}.hdf5; nef.json beside says omega_0. Files of
    ours have further data sets, which their code passes over: object_id, split, view, labels.
    """

    name: str = "fit-a-nef"
    convention: str = "fit-a-nef"
    lacks: str = "target range, PSNR; of foreign files also splits, views and object names"
    one_view: bool = False

    def find(self, root: Path, hints: Hints) -> ListedFiles:
        members: list[ForeignRow] = []
        for path in files_by_suffix(root, ".hdf5", self.name):
            found = re.fullmatch(r"nefs_(\d{1,12})-(\d{1,12})\.hdf5", Path(path).name)
            if found is None:
                continue
            members += self._members(root, path, int(found[1]), hints)
        if not members:
            raise UsageError(f"{root} has no file nefs_BEGIN-END.hdf5")
        members = self._placed(members, hints) if hints.splits is not None else members
        return ListedFiles(members, [], self._config(root))

    def _members(self, root: Path, path: str, begin: int, hints: Hints) -> list[ForeignRow]:
        content = self._open(root, path)
        rows = len(content["params"])
        try:
            labels = content["labels"].reshape(rows).tolist() if "labels" in content else [None] * rows
            if "object_id" in content:
                names = [text.decode() for text in content["object_id"].tolist()]
                splits = [text.decode() for text in content["split"].tolist()]
                rows_of = zip(names, splits, content["view"].tolist(), labels, strict=True)
                members = [ForeignRow(*row, path, at) for at, row in enumerate(rows_of)]
                if any(member.split not in SPLITS or member.view < 0 for member in members):
                    raise ValueError("it has a split or view that cannot be")
                return members
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{path} has columns that do not pair up: {one_line(error)}") from None
        signals = hints.num_signals or 10**12
        places = [divmod(begin + at, signals) for at in range(rows)]
        named = zip(places, labels, strict=True)
        return [ForeignRow(f"{n:06d}", "train", view, y, path, at) for at, ((view, n), y) in enumerate(named)]

    def _placed(self, members: list[ForeignRow], hints: Hints) -> list[ForeignRow]:
        """With a splits.json: {"train": ["000000", ...], ...}, names of objects."""
        assert hints.splits is not None
        split_of = {name: split for split, rows in load_splits(hints.splits).items() for name, _ in rows}
        return [replace(m, split=split_of[m.object_id]) for m in members if m.object_id in split_of]

    def _config(self, root: Path) -> dict[str, Any] | None:
        """What nef.json says, if it is there: omega_0."""
        path = root / "nef.json"
        if not path.is_file():
            return None
        try:
            fields = json.loads(file_inside(root, "nef.json", 1_000_000).read_text(encoding="utf-8"))
            if fields["name"] != "SIREN":
                raise ValueError(f"it describes a {fields['name']}, not a SIREN")
            return {"omega_0": float(fields["params"]["omega_0"])}
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise IntegrityError(f"{path.name} does not say what the INRs are: {one_line(error)}") from None

    def _open(self, root: Path, path: str) -> dict[str, Any]:
        content = read_hdf5(file_inside(root, path, MAX_TABLE_BYTES), text=("param_config",))
        params = content.get("params")
        if not isinstance(params, np.ndarray) or params.ndim != 2 or "param_config" not in content:
            raise IntegrityError(f"{path} has no params (INRs, numbers) with a param_config")
        return content

    def read(self, root: Path, members: Sequence[ForeignRow], hints: Hints) -> Contents:
        layers: list[Layers] = []
        contents = {path: self._open(root, path) for path in dict.fromkeys(member.path for member in members)}
        slots = {path: self._slots(path, content) for path, content in contents.items()}
        for member in members:
            row = torch.from_numpy(contents[member.path]["params"][member.row])
            try:
                pairs = [
                    (row[slice(*kernel[0])].view(kernel[1]).T, row[slice(*bias)]) for bias, kernel in slots[member.path]
                ]
                layers.append(check_layers([W for W, _ in pairs], [b for _, b in pairs]))
            except (ValueError, RuntimeError) as error:
                raise IntegrityError(f"{member.path}, row {member.row}: {one_line(error)}") from None
        return Contents(layers, [member.label for member in members])

    def _slots(
        self, path: str, content: dict[str, Any]
    ) -> list[tuple[tuple[int, int], tuple[tuple[int, int], tuple[int, ...]]]]:
        """For each layer where its bias lies, and where its kernel and of what shape."""
        found: dict[str, dict[str, tuple[tuple[int, int], tuple[int, ...]]]] = {}
        at = 0
        for name, shape in parse_param_config(Path(path), content["param_config"]):
            stem, _, kind = name.rpartition(".")
            size = int(np.prod(shape, dtype=object))
            found.setdefault(stem, {})[kind] = ((at, at + size), shape)
            at += size
        if at != content["params"].shape[1]:
            raise IntegrityError(f"{path}: param_config lists {at} numbers, params has {content['params'].shape[1]}")
        if any(set(kinds) != {"bias", "kernel"} for kinds in found.values()):
            raise IntegrityError(
                f"{path}: param_config has a layer without bias or kernel; only MLPs and SIRENs are read"
            )
        ordered = sorted(found, key=lambda stem: (stem.startswith("output"), *map(int, re.findall(r"\d+", stem)[:1])))
        return [(found[stem]["bias"][0], found[stem]["kernel"]) for stem in ordered]

    def write(
        self, folder: Path, rows: Sequence[ExportRow], inrs: INRBatch, columns: Columns, head: Mapping[str, Any]
    ) -> list[tuple[str, int]]:
        if not rows:
            return []
        begins = [int(path.stem.partition("-")[2]) for path in folder.glob("nefs_*.hdf5")]
        begin = max(begins, default=0)
        name = f"nefs_{begin}-{begin + len(rows)}.hdf5"
        last = inrs.spec.num_hidden
        config, parts = [], []
        for layer, (W, b) in enumerate(zip(inrs.weights, inrs.biases, strict=True)):
            stem = "output_linear" if layer == last else f"kernel_net_{layer}.linear"
            config += [[f"{stem}.bias", [b.shape[1]]], [f"{stem}.kernel", [W.shape[2], W.shape[1]]]]
            parts += [b, W.mT.flatten(1)]
        content = {
            "params": torch.cat(parts, dim=1).numpy(),
            "labels": np.array([row.label for row in rows], dtype=np.int64),
            "view": np.array([row.view for row in rows], dtype=np.int64),
            "object_id": np.array([row.object_id for row in rows], dtype=object),
            "split": np.array([row.split for row in rows], dtype=object),
        }
        with open(folder / name, "xb") as file:
            file.write(hdf5_bytes(content, {"param_config": json.dumps(config)}))
        return [(name, at) for at in range(len(rows))]

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        spec = statistics.spec
        params = {
            "output_dim": spec.out_dim, "hidden_dim": spec.hidden_dim, "num_layers": spec.num_hidden + 1,
            "omega_0": spec.omega_0,
        }  # fmt: skip
        (folder / "nef.json").write_text(json.dumps({"name": "SIREN", "params": params}, indent=2) + "\n")


SHARD_FORMATS = (
    FitANef(),
    FilePerShard("safetensors", ".safetensors", safetensors_bytes, read_safetensors),
    FilePerShard("parquet", ".parquet", parquet_bytes, read_parquet),
)


def files_by_suffix(root: Path, suffix: str, name: str) -> list[str]:
    """Files of a suffix below root, in their natural order. UsageError where there is none."""
    if not root.is_dir():
        raise UsageError(f"{root} is no folder; --from {name} takes the folder of the files")
    paths = [path.relative_to(root).as_posix() for path in root.rglob(f"*{suffix}")]
    if not paths:
        raise UsageError(f"{root} has no file *{suffix}")
    return sorted(paths, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)])
