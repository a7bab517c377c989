"""Peer layouts: one file an INR as published code has it: DWSNets' two, multi-view, NFN, Implicit-Zoo and inr2vec.

Paths hold: DWSNets MNIST label and image number; Fashion-MNIST image number; multi-view the view, third-last; NFN label,
view and number; Implicit-Zoo label, number and seed; inr2vec split and number.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import IntegrityError, one_line
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import Layers, check_layers, layers_of, spec_of
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.file_per_inr import MAX_INR_BYTES, FilePerInr
from inr_factory.interop.foreign_files import file_inside, whole_number
from inr_factory.interop.format import ExportRow, ForeignRow, Hints
from inr_factory.interop.hdf5_files import hdf5_bytes, read_hdf5
from inr_factory.interop.weight_statistics import Statistics


def official_id(part: str, number: int) -> str:
    """An object's name as in the image collections of this package."""
    return f"{part}/{number:05d}"


class DwsnetsMnist(FilePerInr):
    name = "dwsnets-mnist"
    lacks = "views, omega_0, output offset, coordinate order, PSNR"
    one_view = True
    path_parts = 3
    has_statistics = True

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"mnist_png_(training|testing)_(\d{1,4})_(\d{1,9})", parts[-3]) if len(parts) > 2 else None
        if match is None or parts[-2:] != ("checkpoints", "model_final.pth"):
            return None
        part = {"training": "train", "testing": "test"}[match[1]]
        return ForeignRow(official_id(part, int(match[3])), part, 0, int(match[2]), "/".join(parts))

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"mnist_png_{row.part}ing_{row.label}_{row.number}/checkpoints/model_final.pth"


class DwsnetsFmnist(FilePerInr):
    name = "dwsnets-fmnist"
    has_label = True
    lacks = "views, omega_0, output offset, coordinate order, PSNR"
    one_view = True
    path_parts = 2
    has_statistics = True

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"model_(\d{1,9})\.pth", parts[-1])
        if match is None or len(parts) < 2 or parts[-2] not in ("train", "test"):
            return None
        return ForeignRow(official_id(parts[-2], int(match[1])), parts[-2], 0, None, "/".join(parts))

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"fmnist_inrs/{row.part}/model_{row.number}.pth"


class MultiView(FilePerInr):
    name = "multiview"
    has_label = True
    lacks = "omega_0, output offset, coordinate order, PSNR"
    path_parts = 3
    has_statistics = True
    has_plain_splits = True

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        if len(parts) < 3:
            return None
        match = re.fullmatch(r"\D*(\d{1,9})\.pth", parts[-1])
        object_id = f"{parts[-2]}/{parts[-1].removesuffix('.pth')}"
        if match is not None and parts[-2] in ("train", "test"):
            object_id = official_id(parts[-2], int(match[1]))
        split = parts[-2] if parts[-2] in ("train", "val", "test") else "train"
        return ForeignRow(object_id, split, 0, None, "/".join(parts))

    def complete_rows(self, root: Path, rows: list[ForeignRow]) -> list[ForeignRow]:
        """Views in the order of their folders' names, as the authors' code counts them."""
        names = sorted({row.path.split("/")[-3] for row in rows})
        return [replace(row, view=names.index(row.path.split("/")[-3])) for row in rows]

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"view_{row.view:03d}/{row.part}/model_{row.number}.pth"


class Nfn(FilePerInr):
    name = "nfn"
    convention = "nfn"
    lacks = "splits (splits.json has them), omega_0, target range, coordinate order, PSNR"
    path_parts = 2
    module_names = "nfn"
    VAL = 5000  # last images of the official training set

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        number = re.fullmatch(r"net(\d{1,9})\.pth", parts[-1])
        folder = re.fullmatch(r".*?(?:_aug(\d{1,4}))?_(\d{1,4})s", parts[-2]) if len(parts) > 1 else None
        if number is None or folder is None:
            return None
        view = 0 if folder[1] is None else int(folder[1]) + 1
        return ForeignRow(number[1], "train", view, int(folder[2]), "/".join(parts))

    def complete_rows(self, root: Path, rows: list[ForeignRow]) -> list[ForeignRow]:
        """Image numbers count the official training images, then the test images; the channels tell which collection."""
        first, _ = self.read_one(root, rows[0], Hints())
        num_train = _num_train(first.dims[-1])
        completed = []
        for row in rows:
            number = int(row.object_id)
            part = "train" if number < num_train else "test"
            split = "val" if num_train - self.VAL <= number < num_train else part
            number -= 0 if part == "train" else num_train
            completed.append(replace(row, object_id=official_id(part, number), split=split))
        return completed

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        view = f"_aug{row.view - 1}" if row.view else ""
        number = row.number + (_num_train(spec.out_dim) if row.part == "test" else 0)
        return f"randinit_smaller{view}_{row.label}s/net{number}.pth"


def _num_train(channels: int) -> int:
    """Training images of the official collection with these channels: CIFAR-10, or MNIST and Fashion-MNIST."""
    return 50_000 if channels == 3 else 60_000


class ImplicitZoo(FilePerInr):
    name = "implicit-zoo"
    convention = "implicit-zoo"
    lacks = "val (splits.json has them), omega_0, target range, coordinate order, PSNR"
    suffix = ".ckpt"
    path_parts = 4

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"(\d{1,9})_(\d{1,9})\.ckpt", parts[-1])
        if match is None or len(parts) < 3 or parts[-3] != "ckpts" or not re.fullmatch(r"\d{1,4}", parts[-2]):
            return None
        part = next((name for name in ("test", "val") if name in parts[:-3]), "train")
        object_id = official_id("train" if part == "val" else part, int(match[1]))
        return ForeignRow(object_id, part, int(match[2]), int(parts[-2]), "/".join(parts))

    def complete_rows(self, root: Path, rows: list[ForeignRow]) -> list[ForeignRow]:
        """Views of an image in the order of their seeds."""
        seeds: dict[str, list[int]] = {}
        for row in rows:
            seeds.setdefault(row.object_id, []).append(row.view)
        ordered = {object_id: sorted(values) for object_id, values in seeds.items()}
        return [replace(row, view=ordered[row.object_id].index(row.view)) for row in rows]

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"{row.part}/ckpts/{row.label:02d}/{row.number:06d}_{row.number + row.view:07d}.ckpt"

    def unpack(self, saved: Any, row: ForeignRow) -> tuple[Layers, int | None]:
        if not isinstance(saved, Mapping) or "params" not in saved:
            raise ValueError("it has no params")
        number = int(Path(row.path).name.partition("_")[0])
        if whole_number(saved.get("image_idx", number)) != number:
            raise ValueError(f"it is of image {saved['image_idx']}, its name says {number}")
        return layers_of(saved["params"]), None

    def pack(self, state: dict[str, Tensor], row: ExportRow) -> bytes:
        buffer = io.BytesIO()
        torch.save({"image_idx": row.number, "params": state}, buffer)
        return buffer.getvalue()


class Inr2Vec(FilePerInr):
    name = "inr2vec"
    convention = "inr2vec"
    lacks = "views, object names, dims, omega_0, what the values mean, PSNR; the point cloud `pcd` is left out"
    one_view = True
    suffix = ".h5"
    path_parts = 2
    DIMS = (3, 512, 512, 512, 512, 1)

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        number = re.fullmatch(r"(\d{1,9})\.h5", parts[-1])
        if number is None or len(parts) < 2 or parts[-2] not in ("train", "val", "test"):
            return None
        return ForeignRow(official_id(parts[-2], int(number[1])), parts[-2], 0, None, "/".join(parts))

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"{row.split}/{row.position}.h5"

    def read_one(self, root: Path, row: ForeignRow, hints: Hints) -> tuple[Layers, int | None]:
        content = read_hdf5(file_inside(root, row.path, MAX_INR_BYTES), skip=("pcd",))
        dims = hints.dims or self.DIMS
        spec = spec_of(dims, 30.0, 0.0, "siren")
        try:
            flat = torch.from_numpy(content["params"])
            if flat.shape != (spec.num_parameters,):
                raise ValueError(
                    f"it has {tuple(flat.shape)} parameters, {'-'.join(map(str, dims))} has {spec.num_parameters}; give --spec"
                )
            one = INRBatch.from_flat(spec, flat[None])
            layers = check_layers([W[0] for W in one.weights], [b[0] for b in one.biases])
            label = whole_number(content["class_id"])
        except (KeyError, ValueError, TypeError) as error:
            raise IntegrityError(f"{row.path} is not an INR of {self.name}: {one_line(error)}") from None
        return layers, label

    def pack(self, state: dict[str, Tensor], row: ExportRow) -> bytes:
        flat = torch.cat([tensor.flatten() for tensor in state.values()]).numpy()
        return hdf5_bytes({"params": flat, "class_id": np.array(row.label)})

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        """Its folders are its splits."""


INR_FORMATS: tuple[FilePerInr, ...] = (DwsnetsMnist(), DwsnetsFmnist(), MultiView(), Nfn(), ImplicitZoo(), Inr2Vec())
