"""Hostile files: what a foreign shard, block, checkpoint, image, mesh, cloud, recipe or manifest may try.

Each case writes its files below a folder. SECRET is a file outside that no reader may open; code that runs would write
MARK next to it.
"""

import base64
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

from inr_factory.learning.models.checkpoint import save_checkpoint
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.shards import COLUMN_TYPES
from support import shard_files

SECRET, MARK = "secret", "mark"


@dataclass(frozen=True)
class Hostile:
    """One file: the kind of its reader, how it is made (folder, outside), and whether it may be read after all."""

    reader: str
    name: str
    make: Callable[[Path, Path], None]
    harmless: bool = False


def content(name: str, data: bytes | str) -> Callable[[Path, Path], None]:
    return lambda folder, _: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data) and None


def all_cases() -> list[Hostile]:
    makers = (shards, blocks, checkpoints, images, meshes, clouds, recipes, manifests)
    return [case for maker in makers for case in maker()]


SHARD = "data/train-view001-00002.h5"


def shards() -> Iterator[Hostile]:
    def made(change: Callable[[h5py.File], None]) -> Callable[[Path, Path], None]:
        def make(folder: Path, _: Path) -> None:
            shard_files.write(folder)
            with h5py.File(folder / SHARD, "r+", libver=("v110", "v110")) as file:
                change(file)

        return make

    for kind, (change, _) in shard_files.NEVER_A_SHARD.items():
        yield Hostile("shard", kind, made(change))

    def outside(change: Callable[[h5py.File, str], None]) -> Callable[[Path, Path], None]:
        def make(folder: Path, beyond: Path) -> None:
            made(lambda file: change(file, str(beyond / SECRET)))(folder, beyond)

        return make

    for column, size in (("label", 20), ("psnr", 20), ("seed", 40), ("weights", 20 * shard_files.SPEC.num_parameters)):
        kind = COLUMN_TYPES[column]
        shape = (5,) if column != "weights" else (5, shard_files.SPEC.num_parameters)

        def external(file, secret, column=column, kind=kind, shape=shape, size=size):  # type: ignore[no-untyped-def]
            del file[column]
            file.create_dataset(column, shape, kind, external=[(secret, 0, size)])

        def virtual(file, secret, column=column, kind=kind, shape=shape):  # type: ignore[no-untyped-def]
            del file[column]
            layout = h5py.VirtualLayout(shape, kind)
            layout[:] = h5py.VirtualSource(secret, column, shape, kind)
            file.create_virtual_dataset(column, layout)

        def linked(file, secret, column=column):  # type: ignore[no-untyped-def]
            del file[column]
            file[column] = h5py.ExternalLink(secret, f"/{column}")

        for way in (external, virtual, linked):
            yield Hostile("shard", f"{way.__name__} {column}", outside(way))

    def bomb(file: h5py.File) -> None:
        shard_files.replace_column(file, "label", data=np.zeros(2**26, "<i4"), chunks=(2**20,), compression="gzip")

    def many(file: h5py.File) -> None:
        for number in range(1000):
            file.create_dataset(f"a{number}", data=np.zeros(5, "<i4"))

    def loop(file: h5py.File) -> None:
        file["loop"] = file["/"]

    yield Hostile("shard", "gzip bomb", made(bomb))
    yield Hostile("shard", "thousands of columns", made(many))
    yield Hostile("shard", "a hard link to its root", made(loop))
    for size in (10**6, 10**9, 2**62):
        yield Hostile("shard", f"spec of {size} hidden", made(shard_files.text_attribute(
            "spec", json.dumps({**shard_files.SPEC_FIELDS, "hidden_dim": size}))))  # fmt: skip
    yield Hostile("shard", "deep JSON", made(shard_files.text_attribute("quarantine", "[" * 60_000)))
    whole = 10_000

    def claims(offset: int) -> Callable[[Path, Path], None]:
        """Sizes and addresses in the superblock and headers overwritten by the largest number."""

        def make(folder: Path, _: Path) -> None:
            shard_files.write(folder)
            data = bytearray((folder / SHARD).read_bytes())
            data[offset : offset + 8] = b"\xff" * 7 + b"\x7f"
            (folder / SHARD).write_bytes(data)

        return make

    for offset in (8, 12, 20, 28, 36, 48, 64, 96, 128, 200):
        yield Hostile("shard", f"huge number at {offset}", claims(min(offset, whole)))

    def link(folder: Path, beyond: Path) -> None:
        shard_files.write(folder)
        (folder / SHARD).unlink()
        (folder / SHARD).symlink_to(beyond / SECRET)

    yield Hostile("shard", "a link out of the set", link)


def blocks() -> Iterator[Hostile]:
    def made(change: Callable[[h5py.File, str], None]) -> Callable[[Path, Path], None]:
        def make(folder: Path, beyond: Path) -> None:
            with h5py.File(folder / "ply_data_train0.h5", "w") as file:
                file["data"], file["label"] = np.random.default_rng(0).normal(size=(3, 9, 3)), np.zeros(3, np.int64)
                change(file, str(beyond / SECRET))

        return make

    def external(file, secret):  # type: ignore[no-untyped-def]
        del file["data"]
        file.create_dataset("data", (3, 9, 3), "<f4", external=[(secret, 0, 324)])

    def linked(file, secret):  # type: ignore[no-untyped-def]
        del file["data"]
        file["data"] = h5py.ExternalLink(secret, "/data")

    def virtual(file, secret):  # type: ignore[no-untyped-def]
        del file["data"]
        layout = h5py.VirtualLayout((3, 9, 3), "<f4")
        layout[:] = h5py.VirtualSource(secret, "data", (3, 9, 3), "<f4")
        file.create_virtual_dataset("data", layout)

    def bomb(file, _):  # type: ignore[no-untyped-def]
        del file["data"]
        file.create_dataset("data", (20_000, 2048, 3), "<f4", chunks=(1, 2048, 3), compression="gzip", fillvalue=0)

    def piece(file, _):  # type: ignore[no-untyped-def]
        del file["data"]
        file.create_dataset("data", (3, 2**26, 3), "<f4", chunks=(1, 2**26, 3), compression="gzip")

    def labels(file, _):  # type: ignore[no-untyped-def]
        del file["label"]
        file["label"] = np.full(3, 2**62)

    def text(file, _):  # type: ignore[no-untyped-def]
        del file["label"]
        file["label"] = [b"a", b"b", b"c"]

    def flat(file, _):  # type: ignore[no-untyped-def]
        del file["data"]
        file["data"] = np.zeros(3)

    def lossy(file, _):  # type: ignore[no-untyped-def]
        del file["data"]
        file.create_dataset("data", data=np.zeros((3, 9, 3)), chunks=(1, 9, 3), compression="lzf")

    def sparse(file, _):  # type: ignore[no-untyped-def]
        del file["label"]
        file.create_dataset("label", (2**40,), "<i4")

    for change in (external, linked, virtual, bomb, piece, labels, text, flat, lossy, sparse):
        yield Hostile("block", change.__name__, made(change))
    yield Hostile("block", "no HDF5", content("ply_data_train0.h5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 900))


class _Runs:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (open, (self.mark, "w"))


def checkpoints() -> Iterator[Hostile]:
    def good(folder: Path) -> bytes:
        model = build_classifier("mlp", shard_files.SPEC, 3, hidden_dim=8)
        save_checkpoint(folder / "best.pt", model, {})
        return (folder / "best.pt").read_bytes()

    def altered(change: Callable[[dict], object]) -> Callable[[Path, Path], None]:  # type: ignore[type-arg]
        def make(folder: Path, beyond: Path) -> None:
            good(folder)
            saved = torch.load(folder / "best.pt", weights_only=True)
            change(saved)
            torch.save(saved, folder / "best.pt")

        return make

    def code(protocol: int) -> Callable[[Path, Path], None]:
        return lambda folder, beyond: (
            (folder / "best.pt").write_bytes(pickle.dumps(_Runs(str(beyond / MARK)), protocol)) and None
        )

    for protocol in range(6):
        yield Hostile("checkpoint", f"code, pickle protocol {protocol}", code(protocol))

    def code_in_zip(folder: Path, beyond: Path) -> None:
        torch.save(
            {"kind": "inr-factory checkpoint", "version": 1, "model": _Runs(str(beyond / MARK))}, folder / "best.pt"
        )

    yield Hostile("checkpoint", "code in a zip", code_in_zip)

    def widen(saved: dict) -> None:  # type: ignore[type-arg]
        for name in list(saved["model"]):
            if saved["model"][name].ndim == 2:
                saved["model"][name] = torch.zeros(1).expand(2**30, 2**10)

    def describe(**changes: object) -> Callable[[dict], object]:  # type: ignore[type-arg]
        return lambda saved: saved["classifier"].update(changes)

    spec = shard_files.SPEC.to_dict()
    cases: dict[str, Callable[[dict], object]] = {  # type: ignore[type-arg]
        "strides that claim terabytes": widen,
        "a model of gigabytes": describe(options={"hidden_dim": 24_000}),
        "a model of terabytes": describe(options={"hidden_dim": 10**7, "num_layers": 4}),
        "a model of endless layers": describe(options={"hidden_dim": 8, "num_layers": 10**9}),
        "endless classes": describe(num_classes=10**12),
        "an INR of terabytes": describe(spec={**spec, "hidden_dim": 60_000, "num_hidden": 60_000}),
        "another model": describe(encoder="os.system"),
        "odd options": describe(options={"__class__": 3}),
        "a spec that is none": describe(spec=[1, 2]),
        "no model": lambda saved: saved.pop("model"),
        "text for a tensor": lambda saved: saved["model"].update({next(iter(saved["model"])): "x"}),
        "no description": lambda saved: saved.pop("classifier"),
        "another kind": lambda saved: saved.update(kind="x"),
        "a description of text": lambda saved: saved.update(classifier="x"),
    }
    for name, change in cases.items():
        yield Hostile("checkpoint", name, altered(change))

    def zipped(change: Callable[[str, bytes], bytes], packed: int = zipfile.ZIP_STORED) -> Callable[[Path, Path], None]:
        def make(folder: Path, _: Path) -> None:
            data = good(folder)
            with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(folder / "best.pt", "w", packed) as new:
                for member in old.infolist():
                    new.writestr(member.filename, change(member.filename, old.read(member)))

        return make

    yield Hostile("checkpoint", "zip bomb", zipped(
        lambda name, data: data + bytes(2**27) if name.endswith("/version") else data, zipfile.ZIP_DEFLATED))  # fmt: skip
    yield Hostile(
        "checkpoint", "an empty pickle", zipped(lambda name, data: b"" if name.endswith("data.pkl") else data)
    )
    yield Hostile("checkpoint", "short storages", zipped(lambda name, data: data[:1] if "/data/" in name else data))
    yield Hostile(
        "checkpoint", "endless bytes of pickle", content("best.pt", b"\x80\x02B" + struct.pack("<I", 2**32 - 1))
    )
    yield Hostile("checkpoint", "nested pickle", content("best.pt", b"\x80\x02" + b"(" * 10**6 + b"."))
    yield Hostile("checkpoint", "text", content("best.pt", "import os\n"))
    yield Hostile("checkpoint", "empty", content("best.pt", b""))


def png(width: int, height: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _deflated(count: int) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(2**20)) for _ in range(count // 2**20)]
    return b"".join([*parts, packer.compress(bytes(count % 2**20)), packer.flush()])


def encoded_image(kind: str, side: int, mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


def newer_images() -> Iterator[Hostile]:
    """JPEG 2000, AVIF and TGA: what their headers claim, and what little they unpack to much."""
    tga = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 7990, 7990, 24, 0)
    yield Hostile("image", "TGA bomb within the limits", content("a.tga", tga + b"\xff\1\2\3" * 500_000), harmless=True)
    claim = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65_535, 65_535, 24, 0)
    yield Hostile("image", "TGA of 65535 x 65535", content("a.tga", claim + bytes(100)))
    yield Hostile("image", "TGA named .png", content("a.png", tga + b"\xff\1\2\3" * 500_000))

    def jp2(folder: Path, _: Path) -> None:
        (folder / "a.jp2").write_bytes(encoded_image("JPEG2000", 4000, "RGBA"))

    yield Hostile("image", "JPEG 2000 bomb within the limits", jp2, harmless=True)
    small = encoded_image("JPEG2000", 16, "RGB")
    start = small.index(b"\xff\x51") + 6  # the sizes of SIZ: image, offset, tile, offset of the tiles
    for side in (5_000, 60_000):
        grown = small[:start] + struct.pack(">II", side, side) + small[start + 8 :]
        yield Hostile("image", f"JPEG 2000 whose code claims {side}", content("a.jp2", grown))
        bare = grown[small.index(b"\xff\x4f") :]
        yield Hostile("image", f"bare code of JPEG 2000 that claims {side}", content("a.j2k", bare))
    tiles = small[:start] + struct.pack(">IIIIII", 3_900, 3_900, 0, 0, 1, 1) + small[start + 24 :]
    yield Hostile("image", "JPEG 2000 in tiles of one pixel", content("a.j2k", tiles[small.index(b"\xff\x4f") :]))
    avif = encoded_image("AVIF", 64, "RGB")
    ispe = avif.index(b"ispe") + 8
    for side in (7_900, 30_000, 2**31):
        grown = avif[:ispe] + struct.pack(">II", side, side) + avif[ispe + 8 :]
        yield Hostile("image", f"AVIF that claims {side}", content("a.avif", grown), harmless=side < 8_000)


def images() -> Iterator[Hostile]:
    for channels, colour in ((1, 0), (3, 2), (4, 6)):
        side = 7990

        def bomb(folder: Path, _: Path, channels: int = channels, colour: int = colour, side: int = side) -> None:
            (folder / "a.png").write_bytes(png(side, side, colour, _deflated(side * (side * channels + 1))))

        yield Hostile("image", f"PNG bomb within the limits, {channels} channels", bomb, harmless=True)
    yield Hostile(
        "image", "PNG of 65000 x 65000", content("a.png", png(65_000, 65_000, 2, zlib.compress(b"\0" * 10**6)))
    )
    yield Hostile(
        "image", "PNG of 2 billion x 2 billion", content("a.png", png(2**31 - 1, 2**31 - 1, 0, zlib.compress(b"")))
    )
    text = b"key\0\0" + _deflated(2**28)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    yield Hostile(
        "image", "PNG text bomb", content("a.png", png(4, 4, 0, zlib.compress(bytes(20)), chunk)), harmless=True
    )
    yield from newer_images()
    yield Hostile("image", "PNG without rows", content("a.png", png(64, 64, 2, b"")))
    yield Hostile("image", "BMP of 30000 x 30000", content("a.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)))  # fmt: skip
    yield Hostile("image", "BMP of negative size", content("a.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, -5, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)))  # fmt: skip
    yield Hostile("image", "PPM of billions", content("a.ppm", b"P6 99999999 99999999 255\n" + b"\0" * 100))
    yield Hostile("image", "PPM of long numbers", content("a.ppm", b"P6 " + b"9" * 100_000 + b" 1 255\n"))
    yield Hostile("image", "PPM of huge text numbers", content("a.ppm", b"P3 2 2 255\n" + b"1" * 10**6))
    yield Hostile(
        "image",
        "GIF of 65535 x 65535",
        content("a.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0\0;"),
    )
    yield Hostile(
        "image", "GIF in endless pieces", content("a.gif", b"GIF89a\x04\0\x04\0\0\0\0" + b"!\xfe\x01x\0" * 200_000)
    )
    # Directory entries of a TIFF: tag, type, count, value.
    for name, entries in {
        "TIFF of billions": [(256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 2**31)],
        "TIFF of endless strips": [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 2**30, 8), (279, 4, 2**30, 8)],
        "TIFF of endless samples": [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 2**31, 8), (277, 3, 1, 65535), (262, 3, 1, 2), (273, 4, 1, 8)],
    }.items():  # fmt: skip
        body = (
            b"II*\0\x08\0\0\0"
            + struct.pack("<H", len(entries))
            + b"".join(struct.pack("<HHII", *e) for e in entries)
            + bytes(4)
        )
        yield Hostile("image", name, content("a.tif", body))
    yield Hostile("image", "TIFF whose directory follows itself", content("a.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0"))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(MARK) (w) file closefile\n"
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp", "ppm"):
        yield Hostile("image", f"EPS named .{suffix}", content(f"a.{suffix}", postscript))
    yield Hostile(
        "image", "SVG", content("a.png", '<svg xmlns:xlink="a"><image xlink:href="file:///etc/passwd"/></svg>')
    )
    yield Hostile(
        "image", "webp of nothing", content("a.webp", b"RIFF\xff\xff\xff\x7fWEBPVP8L\xff\xff\xff\x7f/" + b"\xff" * 30)
    )
    yield Hostile(
        "image",
        "JPEG of 65500 x 65500",
        content("a.jpg", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x11\0\x02\x11\0\x03\x11\0\xff\xd9"),
    )
    yield Hostile(
        "image",
        "ICO in a PNG's name",
        content("a.png", b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0" + struct.pack("<II", 2**31, 22)),
    )

    def fifo(folder: Path, _: Path) -> None:
        import os

        os.mkfifo(folder / "a.png")

    yield Hostile("image", "a pipe that nobody writes to", fifo)


def meshes() -> Iterator[Hostile]:
    many = 4_000_000_000
    texts = {
        "OFF of billions.off": f"OFF\n{many} {many} 0\n0 0 0\n",
        "OFF of negative counts.off": "OFF\n-1 -1 0\n",
        "OFF of long numbers.off": "OFF\n" + "9" * 100_000 + " 1 0\n",
        "OFF of a polygon of billions.off": f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n{many} 0 1 2\n",
        "OFF of indices beyond.off": f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 {2**63 - 1}\n",
        "OFF of infinity.off": "OFF\n3 1 0\n0 0 inf\n1 0 nan\n0 1 0\n3 0 1 2\n",
        "OFF, binary.off": "OFF BINARY\n" + "\0" * 100,
        "OBJ of indices beyond.obj": f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 {10**30}\n",
        "OBJ of negative indices.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -9\n",
        "OBJ with a library.obj": "mtllib ../../../../etc/passwd\nv 0 0 0\nf 1 1\n",
        "OBJ that calls.obj": "call ../../secret\ncsh touch mark\nv 0 0 0\n",
        "OBJ of one endless face.obj": "v 0 0 0\n" + "f" + " 1" * 3_000_000 + "\n",
        "OBJ of endless continuations.obj": "v 0 0 \\\n" * 300_000,
        "STL of endless corners.stl": "solid\n" + "vertex 0 0 0\n" * 400_001,
        "STL of words.stl": "solid x\nfacet normal a b c\nvertex x y z\n",
        "PLY of billions.ply": f"ply\nformat ascii 1.0\nelement vertex {many}\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n",
        "PLY of lists of billions.ply": "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nelement face 1\nproperty list uint int vertex_indices\nend_header\n0 0 0\n4294967295 0 1 2\n",
        "PLY without properties.ply": f"ply\nformat ascii 1.0\nelement vertex {many}\nend_header\n",
        "PLY of binary without properties.ply": f"ply\nformat binary_little_endian 1.0\nelement nothing {many}\nelement vertex 0\nproperty float x\nend_header\n",
        "PLY of endless header.ply": "ply\nformat ascii 1.0\n" + "comment x\n" * 500_000,
        "PLY of endless elements.ply": "ply\nformat ascii 1.0\n" + "element vertex 1\nproperty float x\n" * 20_000 + "end_header\n",
        "PLY of odd types.ply": "ply\nformat ascii 1.0\nelement vertex 1\nproperty object x\nend_header\n",
    }  # fmt: skip
    for name, text in texts.items():
        yield Hostile("mesh", name, content(name, text))
    for size in (4, 0x7FFFFFFF, 0xFFFFFFFF):
        body = b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nelement face 1\nproperty list uint int vertex_indices\nend_header\n"
        yield Hostile(
            "mesh", f"PLY of a binary list of {size}", content("a.ply", body + bytes(12) + struct.pack("<I", size))
        )
    for count in (10**9, 2**32 - 1, 1):
        yield Hostile(
            "mesh", f"STL of {count} triangles", content("a.stl", bytes(80) + struct.pack("<I", count) + bytes(20))
        )

    def glb(tree: object, size: int | None = None, binary: bytes = b"") -> bytes:
        text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        body = struct.pack("<I", len(text) if size is None else size) + b"JSON" + text
        body += struct.pack("<I", len(binary)) + b"BIN\0" + binary if binary else b""
        return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body

    mesh = {
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    view = {"buffers": [{"byteLength": 36}], "bufferViews": [{"buffer": 0, "byteLength": 36}]}
    vec = {"bufferView": 0, "componentType": 5126, "type": "VEC3", "count": 3}
    secret = "../outside/secret"
    trees: dict[str, object] = {
        "claims": {**mesh, **view, "accessors": [{**vec, "count": 10**9}]},
        "negative counts": {**mesh, **view, "accessors": [{**vec, "count": -3}]},
        "fractions": {**mesh, **view, "accessors": [{**vec, "count": 0.5}]},
        "counts of text": {**mesh, **view, "accessors": [{**vec, "count": "3"}]},
        "no view": {**mesh, "accessors": [{"componentType": 5126, "type": "VEC3", "count": 10**9}]},
        "sparse": {**mesh, **view, "accessors": [{**vec, "sparse": {"count": 10**9}}]},
        "another file": {**mesh, "buffers": [{"uri": "../../secret", "byteLength": 36}], "accessors": [vec]},
        "an address": {**mesh, "buffers": [{"uri": secret, "byteLength": 36}], "accessors": [vec]},
        "an image elsewhere": {**mesh, **view, "accessors": [vec], "images": [{"uri": secret}], "textures": [{"source": 0}]},
        "beyond its buffer": {**mesh, "buffers": [{"byteLength": 10**12}], "bufferViews": [{"buffer": 0, "byteOffset": 10**11, "byteLength": 36}], "accessors": [vec]},
        "nodes in a circle": {**mesh, **view, "accessors": [vec], "nodes": [{"mesh": 0, "children": [1]}, {"children": [0]}]},
        "a node of itself": {**mesh, **view, "accessors": [vec], "nodes": [{"mesh": 0, "children": [0]}]},
        "doubling nodes": {**mesh, **view, "accessors": [vec], "nodes": [{"mesh": 0}, *[{"children": [n, n]} for n in range(30)]], "scenes": [{"nodes": [30]}]},
        "endless data": {**mesh, "buffers": [{"uri": "data:application/octet-stream;base64," + base64.b64encode(bytes(9)).decode(), "byteLength": 10**12}], "bufferViews": [{"buffer": 0, "byteLength": 36}], "accessors": [vec]},
        "a list": [1, 2],
        "text": "x",
        "numbers": {"meshes": 5, "accessors": 7},
    }  # fmt: skip
    for name, tree in trees.items():
        yield Hostile(
            "mesh",
            f"GLB, {name}",
            content("a.glb", glb(tree, binary=b"" if "view" in name else bytes(36))),
            "image" in name,
        )
    yield Hostile("mesh", "GLB of deep JSON", content("a.glb", glb(b'{"a":' + b"[" * 10**5)))
    yield Hostile("mesh", "GLB of absurd length", content("a.glb", glb({}, size=2**32 - 1)))
    yield Hostile("mesh", "GLB that is short", content("a.glb", b"glTF"))


def clouds() -> Iterator[Hostile]:
    def npy(header: str, body: bytes = b"") -> bytes:
        text = header.encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body

    texts = {
        "npy of terabytes.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}"),
        "npy of negative shape.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"),
        "npy of objects.npy": npy(
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(_Runs("mark"))
        ),
        "npy of code.npy": npy(
            "{'descr': __import__('os').system('touch mark'), 'fortran_order': False, 'shape': (3, 3)}"
        ),
        "npy of endless header.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 30_000 + ")}"),
        "npy of deep header.npy": npy("(" * 30_000),
        "npy of a wide type.npy": npy("{'descr': '|V2000000000', 'fortran_order': False, 'shape': (0, 3)}"),
        "npy of version 9.npy": b"\x93NUMPY\x09\x00" + bytes(100),
        "text of one endless word.xyz": "1" * 5_000_000,
        "text of infinities.xyz": "inf nan 0\n" * 10,
        "text of hexadecimals.txt": "0x1p2000 0 0\n" * 3,
    }
    for name, data in texts.items():
        yield Hostile("cloud", name, content(name, data))
    for name, inner in {
        "bomb": None,
        "objects": texts["npy of objects.npy"],
        "claims": texts["npy of terabytes.npy"],
    }.items():
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            data = (
                npy("{'descr': '<f4', 'fortran_order': False, 'shape': (22000000, 3)}", bytes(264_000_000))
                if inner is None
                else inner
            )
            archive.writestr("../../mark.npy" if name == "claims" else "points.npy", data)
        yield Hostile("cloud", f"npz, {name}", content("a.npz", packed.getvalue()))
    lying = packed.getvalue().replace(b"PK\x01\x02", b"PK\x01\x09")
    yield Hostile("cloud", "npz without directory", content("a.npz", lying))


def recipes() -> Iterator[Hostile]:
    lists = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    maps = "m0: &m0 {x: 1}\n" + "".join(
        f"m{n}: &m{n} {{{','.join(f'k{k}: *m{n - 1}' for k in range(10))}}}\n" for n in range(1, 12)
    )
    texts = {
        "python object": "name: !!python/object/apply:os.system ['touch mark']\n",
        "python name": "name: !!python/name:os.system\n",
        "python module": "name: !!python/module:antigravity\n",
        "python new": "!!python/object/new:os.system [touch mark]\n",
        "a bomb of lists in a known key": lists + "name: *a11\n",
        "a bomb of lists in an unknown key": lists,
        "a bomb of maps": maps + "source: *m11\n",
        "a bomb under fit": maps + "fit: *m11\nsource: {collection: digits}\n",
        "a list in itself": "name: &a [*a]\nsource: {collection: digits}\n",
        "a map in itself": "source: &a {collection: digits, more: *a}\n",
        "a base in itself": "base: &a {base: *a}\n",
        "deep lists": "name: " + "[" * 2_000 + "\n",
        "deep maps": "name: " + "{a: " * 2_000 + "\n",
        "a base elsewhere": "base: ../../../../etc/passwd\n",
        "an endless number": "views: " + "9" * 100_000 + "\n",
        "many digits in groups": "views: 1" + ":59" * 2_000 + "\n",
        "a name of slashes": "name: ../../../../tmp/mark\nsource: {collection: digits}\n",
        "control characters": 'name: "\\x1b[2J"\nsource: {collection: digits}\n',
        "a merge key bomb": "a: &a {x: 1}\n" + "b: {<<: [" + ",".join(["*a"] * 5_000) + "]}\n",
        "points by billions": "base: primitives\nsource: {num_points: 100000000000}\n",
        "not text": "\ufffe\u0000",
    }
    for name, text in texts.items():
        yield Hostile("recipe", name, content("mine.yaml", text))
    yield Hostile("recipe", "bytes", content("mine.yaml", b"\xff\xfe\x00\xd8" * 10))
    yield Hostile("recipe", "a large file", content("mine.yaml", b"- 1\n" * 5_000_000))
    yield Hostile("sweep", "a bomb of lists", content("grid.yaml", lists + "dataset: *a11\n"))
    yield Hostile("sweep", "python object", content("grid.yaml", texts["python object"]))
    yield Hostile("sweep", "deep lists", content("grid.yaml", texts["deep lists"]))
    endless = "".join(f"  o{n}: [{','.join(map(str, range(50)))}]\n" for n in range(8))
    yield Hostile("sweep", "an endless grid", content("grid.yaml", f"dataset: x\ntrain: {{}}\ngrid:\n{endless}"))


def manifests() -> Iterator[Hostile]:
    def altered(change: Callable[[dict], object]) -> Callable[[Path, Path], None]:  # type: ignore[type-arg]
        def make(folder: Path, beyond: Path) -> None:
            from support.small_sets import make_set

            make_set(folder)
            fields = json.loads((folder / MANIFEST).read_text())
            change(fields)
            (folder / MANIFEST).write_text(json.dumps(fields))
            (folder / ORIGIN).unlink()

        return make

    paths = ["../../secret.h5", "/etc/passwd", "data/../../secret.h5", "data/x/../../../secret.h5", "file:///etc/passwd",
             "data/.h5", "data/\u2025/x.h5", "data\\..\\x.h5", "data/x.h5\u0000.h5", "\u001b[2J.h5"]  # fmt: skip
    for path in paths:
        yield Hostile(
            "manifest", f"a shard at {path!r}", altered(lambda fields, path=path: fields["shards"][0].update(path=path))
        )
    cases: dict[str, Callable[[dict], object]] = {  # type: ignore[type-arg]
        "endless views": lambda fields: fields["recipe"].update(views=10**15),
        "views of text": lambda fields: fields["recipe"].update(views="many"),
        "views below nothing": lambda fields: fields["recipe"].update(views=-5),
        "endless blocks": lambda fields: fields["splits"]["train"].update(blocks=10**15),
        "rows by billions": lambda fields: fields["shards"][0].update(rows=10**12),
        "bytes by billions": lambda fields: fields["shards"][0].update(bytes=10**15),
        "an INR of terabytes": lambda fields: fields["spec"].update(hidden_dim=65_536, num_hidden=65_536),
        "no views": lambda fields: fields["recipe"].pop("views"),
        "a number that is none": lambda fields: fields["shards"][0]["psnr"].update(mean=float("nan")),
        "another split": lambda fields: fields["shards"][0].update(split="../train"),
    }
    for name, change in cases.items():
        yield Hostile("manifest", name, altered(change))
    yield Hostile("manifest", "deep JSON", content(MANIFEST, "[" * 10**6))
    yield Hostile("manifest", "deep objects", content(MANIFEST, '{"a":' * 10**5))
    yield Hostile("manifest", "an endless number", content(MANIFEST, '{"format_version": ' + "9" * 10**6 + "}"))
    yield Hostile("manifest", "a large file", content(MANIFEST, "[" + "[]," * 20_000_000 + "[]]"))

    def linked(folder: Path, beyond: Path) -> None:
        (folder / MANIFEST).symlink_to(beyond / SECRET)

    def data_elsewhere(folder: Path, beyond: Path) -> None:
        altered(lambda fields: None)(folder, beyond)
        (folder / "data").rename(beyond / "data")
        (folder / "data").symlink_to(beyond / "data")

    yield Hostile("manifest", "a link out of the set", linked)
    yield Hostile("manifest", "shards elsewhere", data_elsewhere)
