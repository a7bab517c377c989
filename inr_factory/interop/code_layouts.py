"""Code layouts: one file an INR, named and keyed as the code of HyperDiffusion, COIN and siren-pytorch has it.

siren-pytorch saves no files: its folders are ours. HyperDiffusion splits by lists of names, train_split.lst and others.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.file_per_inr import FilePerInr
from inr_factory.interop.foreign_files import file_inside
from inr_factory.interop.format import ExportRow, ForeignRow
from inr_factory.interop.peer_layouts import official_id
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.manifest import SPLITS

MAX_LIST_BYTES = 2**24


class HyperDiffusion(FilePerInr):
    """Its code takes the name of a shape up to the next underscore, and ReLU MLPs of any widths and `multires`."""

    name = "hyperdiffusion"
    convention = "hyperdiffusion"
    lacks = "labels and splits (splits.json has them), frequencies, what the values mean, PSNR"
    path_parts = 1
    module_names = "layers"

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"occ_([^_]+)(?:_jitter_(\d{1,4}))?_model_final\.pth", parts[-1])
        if match is None:
            return None
        part, _, number = match[1].partition("-")
        split = part if part in ("train", "test") else "train"
        name = official_id(part, int(number)) if part == split and re.fullmatch(r"\d{5,9}", number) else match[1]
        return ForeignRow(name, split, int(match[2] or 0), None, "/".join(parts))

    def complete_rows(self, root: Path, rows: list[ForeignRow]) -> list[ForeignRow]:
        """The splits of the lists, where they are in the folder."""
        split_of: dict[str, str] = {}
        for split in SPLITS:
            if (root / f"{split}_split.lst").exists():
                names = file_inside(root, f"{split}_split.lst", MAX_LIST_BYTES).read_text(errors="replace").split()
                split_of |= {name.partition(".")[0]: split for name in names}
        return [replace(row, split=split_of.get(_shape(row.path), row.split)) for row in rows]

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        plain = re.fullmatch(r"[\w-]+", row.object_id) and "_" not in row.object_id
        name = row.object_id if plain else f"{row.part}-{row.number:05d}"
        return f"occ_{name}_jitter_{row.view}_model_final.pth"

    def refusal(self, spec: SirenSpec) -> str:
        fits = spec.activation == "relu" and spec.coordinates and spec.in_dim == 3
        return "" if fits else "ReLU INRs of three coordinates, which come before their sines and cosines"

    def finish(self, folder: Path, name: str, rows: Sequence[tuple[ExportRow, str]], statistics: Statistics) -> None:
        super().finish(folder, name, rows, statistics)
        for split in SPLITS:
            names = dict.fromkeys(f"{_shape(path)}.obj\n" for row, path in rows if row.split == split)
            (folder / f"{split}_split.lst").write_text("".join(names))


def _shape(path: str) -> str:
    """The name of the shape in that of a file."""
    return Path(path).name.split("_")[1]


class SirenLayout(FilePerInr):
    """SIRENs alone, all of whose hidden layers have one width."""

    def refusal(self, spec: SirenSpec) -> str:
        fits = spec.activation == "sine" and spec.widths is None and not spec.frequencies
        return "" if fits else "SIRENs with hidden layers of one width"


class Coin(SirenLayout):
    name = "coin"
    convention = "coin"
    lacks = "labels and val (splits.json has them), views, omega_0, size of the image, coordinate order, PSNR"
    one_view = True
    suffix = ".pt"
    path_parts = 2
    module_names = "coin"

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"best_model_(\d{1,9})\.pt", parts[-1])
        if match is None:
            return None
        part = parts[-2] if len(parts) > 1 and parts[-2] == "test" else "train"
        return ForeignRow(official_id(part, int(match[1])), part, 0, None, "/".join(parts))

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        return f"{row.part}/best_model_{row.number}.pt"


class SirenPytorch(SirenLayout):
    name = "siren-pytorch"
    convention = "siren-pytorch"
    lacks = "val (splits.json has it), w0 and w0_initial, coordinate order, PSNR"
    suffix = ".pt"
    path_parts = 3
    module_names = "siren-pytorch"

    def parse_path(self, parts: tuple[str, ...]) -> ForeignRow | None:
        match = re.fullmatch(r"(\d{1,9})(?:_view(\d{1,4}))?\.pt", parts[-1])
        if match is None or len(parts) < 3 or parts[-3] not in SPLITS or not re.fullmatch(r"\d{1,4}", parts[-2]):
            return None
        part = "test" if parts[-3] == "test" else "train"
        return ForeignRow(
            official_id(part, int(match[1])), parts[-3], int(match[2] or 0), int(parts[-2]), "/".join(parts)
        )

    def path_of(self, row: ExportRow, spec: SirenSpec) -> str:
        view = f"_view{row.view}" if row.view else ""
        return f"{row.part}/{row.label}/{row.number:05d}{view}.pt"


CODE_FORMATS: tuple[FilePerInr, ...] = (HyperDiffusion(), Coin(), SirenPytorch())
