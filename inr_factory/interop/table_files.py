"""Table files: safetensors and parquet files of many INRs. The only module that imports their libraries (extra `exchange`).

A file holds the flat weights (N, D) of N INRs, further columns (N,), and a head: JSON that describes them.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, blame_machine, needs_extra, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.spec import SirenSpec

HEAD = "inr_factory"
MAX_HEAD_BYTES = 32 * 2**20
PREVIEW = "preview"  # a column of PNGs, which a reader leaves out: they follow from the weights
SHOWN_FIRST = (PREVIEW, "object_id", "label", "view", "split", "psnr")
ROW_GROUP_BYTES, ROW_GROUP_ROWS = 2**22, 1000  # viewers of hubs load a row group for each page of 100 rows


class Table(NamedTuple):
    """What a file holds: its head, weights (N, D) float32, and columns (N,) by name."""

    head: dict[str, Any]
    weights: NDArray[np.float32]
    columns: dict[str, NDArray[Any]]


def safetensors_bytes(table: Table) -> bytes:
    """A tensor a layer, `layers.0.weight` (N, O, I), as safetensors users expect; columns as `columns.NAME`."""
    with needs_extra("exchange"):
        from safetensors.torch import save
    spec = SirenSpec.from_dict(table.head["spec"])
    inrs = INRBatch.from_flat(spec, torch.from_numpy(table.weights))
    stacked = [tensor for pair in zip(inrs.weights, inrs.biases, strict=True) for tensor in pair]
    tensors = {name: part.contiguous() for (name, _), part in zip(spec.parameter_shapes, stacked, strict=True)}
    text = {name: [str(value) for value in column] for name, column in table.columns.items() if column.dtype == object}
    numbers = {name: column for name, column in table.columns.items() if name not in text}
    tensors |= {f"columns.{name}": torch.from_numpy(np.ascontiguousarray(column)) for name, column in numbers.items()}
    content: bytes = save(tensors, {HEAD: json.dumps(table.head), "text": json.dumps(text)})
    return content


def read_safetensors(path: Path, weights: bool = True) -> Table:
    """The file; without `weights` only head and columns. The library checks that offsets lie inside the file."""
    with needs_extra("exchange"):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            head = _head(metadata.get(HEAD))
            spec = SirenSpec.from_dict(head["spec"])
            columns = {
                name.removeprefix("columns."): file.get_tensor(name).numpy()
                for name in file.keys()  # noqa: SIM118 - not a mapping
                if name.startswith("columns.")
            }
            text = parse_json_object(metadata.get("text", "{}"))
            columns |= {name: np.array(values, dtype=object) for name, values in text.items()}
            rows = file.get_slice(spec.parameter_shapes[0][0]).get_shape()[0]
            parts = []
            for name, shape in spec.parameter_shapes:
                if file.get_slice(name).get_shape() != [rows, *shape]:
                    raise ValueError(f"{name} has the shape {file.get_slice(name).get_shape()}, not {[rows, *shape]}")
                if weights:
                    parts.append(file.get_tensor(name).reshape(rows, -1))
            flat = torch.cat(parts, dim=1) if weights else torch.empty(rows, 0)
            if flat.dtype != torch.float32:
                raise ValueError(f"its weights are {flat.dtype}, expected float32")
        return _validate(Table(head, flat.numpy(), columns), rows)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path.name} is not a safetensors file of INRs: {one_line(error)}") from None


def parquet_bytes(table: Table) -> bytes:
    """A row an INR: the list `weights` and the columns; uncompressed, since fitted weights do not compress.

    Hubs and the library `datasets` learn names of classes, and that previews are images, from the key `huggingface`.
    """
    with needs_extra("exchange"):
        import pyarrow as pa
        from pyarrow import parquet
    flat = pa.array(table.weights.reshape(-1))
    columns = {name: c for name, c in table.columns.items() if name != PREVIEW}
    arrays = {name: pa.array(list(c) if c.dtype == object else c) for name, c in columns.items()}
    arrays |= {"weights": pa.FixedSizeListArray.from_arrays(flat, table.weights.shape[1])}  # the last column
    notes, classes = {HEAD: json.dumps(table.head)}, table.head.get("classes", [])
    features: dict[str, dict[str, Any]] = {}
    bytes_a_row = table.weights.shape[1] * table.weights.itemsize
    if PREVIEW in table.columns:
        pictures = list(table.columns[PREVIEW])
        pairs = [{"bytes": each, "path": None} for each in pictures]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        arrays[PREVIEW] = pa.array(pairs, kind)
        features[PREVIEW] = {"_type": "Image"}
        bytes_a_row += max(map(len, pictures), default=0)
    if "label" in arrays and len(set(classes)) == len(classes) > 0:
        arrays["label"] = arrays["label"].cast(pa.int64())
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    if features:
        notes["huggingface"] = json.dumps({"info": {"features": features}})
    sink = pa.BufferOutputStream()
    order = sorted(arrays, key=lambda name: SHOWN_FIRST.index(name) if name in SHOWN_FIRST else len(SHOWN_FIRST))
    table_of_rows = pa.table({name: arrays[name] for name in order}).replace_schema_metadata(notes)
    rows = min(ROW_GROUP_ROWS, max(1, ROW_GROUP_BYTES // bytes_a_row))
    parquet.write_table(table_of_rows, sink, compression="NONE", use_dictionary=False, row_group_size=rows)
    return bytes(sink.getvalue().to_pybytes())


def read_parquet(path: Path, weights: bool = True) -> Table:
    """The file; without `weights` only head and columns. Refused if its weights claim more than the file has."""
    with needs_extra("exchange"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        file = parquet.ParquetFile(path)
        head = _head((file.schema_arrow.metadata or {}).get(HEAD.encode()))
        spec, rows = SirenSpec.from_dict(head["spec"]), file.metadata.num_rows
        if 4 * rows * spec.num_parameters > path.stat().st_size:
            raise ValueError(f"it claims {rows:,} INRs, more than its bytes can hold")
        pictures = {each.name for each in file.schema_arrow if each.name == PREVIEW and each.type.num_fields}
        left_out = pictures if weights else pictures | {"weights"}
        chosen = [name for name in file.schema_arrow.names if name not in left_out]
        content = file.read(columns=chosen)
        columns = {name: _numpy(content.column(name)) for name in chosen if name != "weights"}
        flat = np.empty((rows, 0), dtype=np.float32)
        if weights:
            values = content.column("weights").combine_chunks().flatten()
            if values.type != pa.float32():
                raise ValueError(f"its weights are {values.type}, expected float32")
            flat = values.to_numpy().reshape(rows, spec.num_parameters).copy()
        return _validate(Table(head, flat, columns), rows)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path.name} is not a parquet file of INRs: {one_line(error)}") from None


def _numpy(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _head(text: str | bytes | None) -> dict[str, Any]:
    if text is None:
        raise ValueError(f"it has no {HEAD} head; only files that inr-factory export wrote say what their weights are")
    if len(text) > MAX_HEAD_BYTES:
        raise ValueError(f"its head has {len(text):,} bytes")
    head = parse_json_object(text)
    if not isinstance(head, dict):
        raise ValueError("its head is no mapping")
    return head


def _validate(table: Table, rows: int) -> Table:
    for name, column in table.columns.items():
        if column.shape != (rows,):
            raise ValueError(f"column {name} has the shape {column.shape}, expected {rows} values")
    if not np.isfinite(table.weights).all():
        raise ValueError("it has weights that are NaN or infinite")
    return table
