"""fit-a-nef: HDF5 files of many INRs, `params` (N, D), and a nef.json that holds omega_0.

Shape letters: N INRs, D parameters of one INR, I inputs and O outputs of a layer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import IntegrityError, UsageError, blame_machine, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import Layers, check_layers
from inr_factory.inr.plain_json import parse_json, parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.interop.file_per_shard import MAX_FILE_BYTES, files_by_suffix
from inr_factory.interop.foreign_files import file_inside, left_out, whole_number
from inr_factory.interop.format import Columns, Contents, ExportRow, ForeignRow, Format, Hints, ListedFiles
from inr_factory.interop.hdf5_files import hdf5_bytes, read_hdf5
from inr_factory.interop.split_files import load_splits
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.manifest import SPLITS

Slice = tuple[int, int]  # begin and end within the parameters of one INR


class FitANef(Format):
    """`params` (N, D) holds each layer's bias before its kernel (I, O); `param_config` holds their names.

    Rows a to b of the set, view after view, are in nefs_{a}-{b}.hdf5. Exported files have further data sets, which
    fit-a-nef ignores: object_id, split, view, labels.
    """

    name = "fit-a-nef"
    convention = "fit-a-nef"
    lacks = "target range, PSNR; of foreign files also splits, views and object names"

    def list_files(self, root: Path, hints: Hints) -> ListedFiles:
        rows, others = list[ForeignRow](), list[str]()
        for path in files_by_suffix(root, ".hdf5", self.name):
            match = re.fullmatch(r"nefs_(\d{1,12})-(\d{1,12})\.hdf5", Path(path).name)
            if match is not None:
                rows += self._rows(root, path, int(match[1]), hints)
            else:
                others.append(path)
        if not rows:
            raise UsageError(f"{root} has no file nefs_BEGIN-END.hdf5")
        remarks = left_out(others, "nefs_0-500.hdf5")
        if hints.splits is not None:  # {"train": ["000000", ...], ...}: names of objects
            split_of = {name: split for split, entries in load_splits(hints.splits).items() for name, _ in entries}
            missing = split_of.keys() - {row.object_id for row in rows}
            if missing and not hints.allow_missing:
                raise IntegrityError(
                    f"{hints.splits} names {len(missing):,} objects that are not there, first {min(missing)}; give --allow-missing"
                )
            named = [replace(row, split=split_of[row.object_id]) for row in rows if row.object_id in split_of]
            if count := len(rows) - len(named):
                remarks.append(f"{count:,} INRs are in no split of {hints.splits.name} and are left out")
            rows = named
        return ListedFiles(rows, remarks, self._config(root))

    def _rows(self, root: Path, path: str, begin: int, hints: Hints) -> list[ForeignRow]:
        content = self._open(root, path)
        count = len(content["params"])
        try:
            labels = (
                [whole_number(label) for label in content["labels"].reshape(count)]
                if "labels" in content
                else [None] * count
            )
            if "object_id" in content:
                names = [text.decode() for text in content["object_id"].tolist()]
                splits = [text.decode() for text in content["split"].tolist()]
                columns = zip(names, splits, map(whole_number, content["view"]), labels, strict=True)
                rows = [ForeignRow(*values, path, index) for index, values in enumerate(columns)]
                if any(row.split not in SPLITS or row.view < 0 for row in rows):
                    raise ValueError("it has a split or view that cannot be")
                return rows
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{path} has columns that do not pair up: {one_line(error)}") from None
        signals = hints.num_signals or 10**12
        rows = []
        for index, label in enumerate(labels):
            view, number = divmod(begin + index, signals)
            rows.append(ForeignRow(f"{number:06d}", "train", view, label, path, index))
        return rows

    def _config(self, root: Path) -> dict[str, Any] | None:
        """omega_0 from nef.json, if that exists."""
        path = root / "nef.json"
        if not path.is_file():
            return None
        try:
            fields = parse_json_object(read_regular(file_inside(root, "nef.json", 1_000_000)))
            if fields["name"] != "SIREN":
                raise ValueError(f"it describes a {fields['name']}, not a SIREN")
            return {"omega_0": float(fields["params"]["omega_0"])}
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            blame_machine(error, path)
            raise IntegrityError(f"{path.name} does not say what the INRs are: {one_line(error)}") from None

    def _open(self, root: Path, path: str) -> dict[str, Any]:
        content = read_hdf5(file_inside(root, path, MAX_FILE_BYTES), text=("param_config",))
        params = content.get("params")
        if not isinstance(params, np.ndarray) or params.ndim != 2 or "param_config" not in content:
            raise IntegrityError(f"{path} has no params (INRs, numbers) with a param_config")
        return content

    def read(self, root: Path, rows: Sequence[ForeignRow], hints: Hints) -> Contents:
        layers: list[Layers] = []
        contents = {path: self._open(root, path) for path in dict.fromkeys(row.path for row in rows)}
        slices = {path: self._slices(path, content) for path, content in contents.items()}
        for row in rows:
            flat = torch.from_numpy(contents[row.path]["params"][row.row])
            try:
                weights = [flat[slice(*kernel)].view(shape).T for _, kernel, shape in slices[row.path]]
                layers.append(check_layers(weights, [flat[slice(*bias)] for bias, _, _ in slices[row.path]]))
            except (ValueError, RuntimeError) as error:
                raise IntegrityError(f"{row.path}, row {row.row}: {one_line(error)}") from None
        return Contents(layers, [row.label for row in rows])

    def _slices(self, path: str, content: dict[str, Any]) -> list[tuple[Slice, Slice, tuple[int, ...]]]:
        """For each layer the slices of its bias and of its kernel, and the shape of the kernel."""
        layers: dict[str, dict[str, tuple[Slice, tuple[int, ...]]]] = {}
        end = 0
        for name, shape in parse_param_config(Path(path), content["param_config"]):
            stem, _, kind = name.rpartition(".")
            begin, end = end, end + int(np.prod(shape, dtype=object))
            layers.setdefault(stem, {})[kind] = ((begin, end), shape)
        if end != content["params"].shape[1]:
            raise IntegrityError(f"{path}: param_config lists {end} numbers, params has {content['params'].shape[1]}")
        if any(set(kinds) != {"bias", "kernel"} for kinds in layers.values()):
            raise IntegrityError(
                f"{path}: param_config has a layer without bias or kernel; only MLPs and SIRENs are read"
            )
        ordered = sorted(layers, key=lambda stem: (stem.startswith("output"), *map(int, re.findall(r"\d+", stem)[:1])))
        return [(layers[stem]["bias"][0], *layers[stem]["kernel"]) for stem in ordered]

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


def parse_param_config(path: Path, config: str) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor that a `param_config` lists. IntegrityError where it is something else."""
    try:
        named = [(str(name), tuple(int(side) for side in shape)) for name, shape in parse_json(config)]
        if not named or any(side < 1 for _, shape in named for side in shape):
            raise ValueError("it lists no tensor, or one without numbers")
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{path.name}: param_config is not a list of names and shapes: {one_line(error)}"
        ) from None
    return named
