"""fit-a-nef: HDF5 files of many INRs, `params` (N, D), and a nef.json that holds omega_0. Neural Field Arena reads them.

Of its networks SIREN and MLP, whose hidden layers are ReLU; others have no spec here.

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
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.file_per_shard import MAX_FILE_BYTES, files_by_suffix
from inr_factory.interop.foreign_files import file_inside, left_out, whole_number
from inr_factory.interop.format import Columns, Contents, ExportRow, ForeignRow, Format, Hints, ListedFiles
from inr_factory.interop.hdf5_files import hdf5_bytes, read_hdf5
from inr_factory.interop.split_files import MAX_SPLITS_BYTES, load_splits
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.manifest import SPLITS

RELU = {"activation": "relu"}
Slice = tuple[int, int]  # begin and end within the parameters of one INR


class FitANef(Format):
    """`params` (N, D) holds each layer's bias before its kernel (I, O); `param_config` holds their names.

    Rows a to b of the set, view after view, are in nefs_{a}-{b}.hdf5. Exported files have `labels`, as those of the
    Arena, and further data sets, which both ignore: object_id, split, view. The Arena's splits are ranges of rows;
    metadata.json has the mean and standard deviation of each layer, as its normalisation takes them.
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
        remarks, config = left_out(others, "nefs_0-500.hdf5"), self._config(root, rows[0].path)
        if hints.splits is not None:  # {"train": ["000000", ...], ...}: names of objects; or {"train": [0, 55000], ...}
            split_of = split_by_ranges(hints.splits, len(rows)) or {
                name: split for split, entries in load_splits(hints.splits).items() for name, _ in entries
            }
            missing = split_of.keys() - {row.object_id for row in rows}
            if missing and not hints.allow_missing:
                raise IntegrityError(
                    f"{hints.splits} names {len(missing):,} objects that are not there, first {min(missing)}; give --allow-missing"
                )
            named = [replace(row, split=split_of[row.object_id]) for row in rows if row.object_id in split_of]
            if count := len(rows) - len(named):
                remarks.append(f"{count:,} INRs are in no split of {hints.splits.name} and are left out")
            rows = named
        return ListedFiles(rows, remarks, config)

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

    def _config(self, root: Path, first: str) -> dict[str, Any] | None:
        """omega_0 or activation, from nef.json, if that exists, or from the names of layers."""
        path = root / "nef.json"
        if not path.is_file():
            config = parse_param_config(Path(first), self._open(root, first)["param_config"])
            return RELU if all(name.startswith("Dense_") for name, _ in config) else None
        try:
            fields = parse_json_object(read_regular(file_inside(root, "nef.json", 1_000_000)))
            if fields["name"] not in ("SIREN", "MLP"):
                raise ValueError(f"it describes a {fields['name']}, of which no spec is known here, not a SIREN or MLP")
            return RELU if fields["name"] == "MLP" else {"omega_0": float(fields["params"]["omega_0"])}
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
        if others := [stem for stem in layers if re.match("filters?_|linears_|encoding", stem)]:
            raise IntegrityError(f"{path}: {others[0]} is no layer of a SIREN or MLP, the networks that are read")
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
        last, is_mlp = inrs.spec.num_hidden, inrs.spec.activation == "relu"
        config, parts = [], []
        for layer, (W, b) in enumerate(zip(inrs.weights, inrs.biases, strict=True)):
            stem = "output_linear" if layer == last else f"kernel_net_{layer}.linear"
            stem = f"Dense_{layer}" if is_mlp else stem
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
        # `num_layers` counts the output layer of a SIREN, not that of an MLP.
        params = {"output_dim": spec.out_dim, "hidden_dim": spec.hidden_dim, "num_layers": spec.num_hidden}
        if spec.activation == "sine":
            params |= {"num_layers": spec.num_hidden + 1, "omega_0": spec.omega_0}  # type: ignore[dict-item]
        network = {"name": "SIREN" if spec.activation == "sine" else "MLP", "params": params}
        (folder / "nef.json").write_text(json.dumps(network, indent=2) + "\n")
        if statistics.count:
            (folder / "metadata.json").write_text(json.dumps({"train": _normalisation(statistics)}) + "\n")

    def refusal(self, spec: SirenSpec) -> str:
        fits = spec.activation in ("sine", "relu") and spec.widths is None and not spec.frequencies
        return "" if fits else "SIRENs and ReLU MLPs with hidden layers of one width and no encoding"


def _normalisation(statistics: Statistics) -> dict[str, list[float]]:
    """Mean and standard deviation of each bias and kernel, repeated for each of their numbers, in the order of params."""
    fields: dict[str, list[float]] = {"mean": [], "std": []}
    for layer in range(len(statistics.sums["weights1"])):
        for kind in ("biases", "weights"):
            first, second = (statistics.sums[f"{kind}{power}"][layer] for power in (1, 2))
            mean, square = (float(each.mean()) / statistics.count for each in (first, second))
            fields["mean"] += [mean] * first.numel()
            fields["std"] += [max(square - mean**2, 0.0) ** 0.5] * first.numel()
    return fields


def split_by_ranges(path: Path, count: int) -> dict[str, str] | None:
    """The split of each object in ranges of rows [begin, end), as the Arena has them, {"train": [0, 55000], ...}.

    None where the file holds something else. IntegrityError for ranges that overlap, or end after all `count` rows.
    """
    try:
        fields = parse_json_object(read_regular(file_inside(path.parent, path.name, MAX_SPLITS_BYTES)))
    except (ValueError, OSError, RecursionError) as error:
        blame_machine(error, path)
        return None
    ranges = {split: fields[split] for split in SPLITS if split in fields} if isinstance(fields, dict) else {}
    if not ranges or not all(isinstance(each, list) and [*map(type, each)] == [int, int] for each in ranges.values()):
        return None
    end = 0
    for each in sorted(ranges.values()):
        if not end <= each[0] < each[1] <= count:
            raise IntegrityError(
                f"{path.name} has the rows {each[0]} to {each[1]}, expected rows from {end} to {count}"
            )
        end = each[1]
    return {f"{number:06d}": split for split, each in ranges.items() for number in range(*each)}


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
