"""File mutations: random damage to images, meshes, clouds and checkpoints; each is read right, or refused in one line.

Right means: as another program reads the same bytes (Pillow, trimesh, libigl, numpy), or as the file was before.
Each chunk runs in a forked process with little memory, and each read has ten seconds.
"""

import json
import os
import random
import resource
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import igl
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inr_factory.errors import FactoryError
from inr_factory.generation.geometry.mesh_files import read_mesh
from inr_factory.generation.geometry.point_cloud_files import read_points
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.image_files import file_signal
from inr_factory.learning.models.checkpoint import load_classifier, save_checkpoint
from inr_factory.learning.models.classifier import build_classifier
from support import shapes
from support.faults import Tally, exit_code, forked
from support.mutations import SECONDS, mutate, within
from support.shard_files import SPEC

MEMORY = 2**30
CHUNK = 50
RGB = ImageSource(collection="image_folder", mode="rgb", max_pixels=4_000_000, max_points=4_000_000)

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Subject:
    """A valid file, how it is read, and how others read it. Readers raise anything where they cannot."""

    kind: str
    name: str
    content: bytes
    read: Callable[[Path], Numbers]
    others: tuple[Callable[[Path], Numbers], ...]
    tolerance: float = 0.0


def subjects(folder: Path) -> Iterator[Subject]:
    """Small valid files of every kind."""
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    formats = {"png": {}, "jpg": {}, "bmp": {}, "gif": {}, "tif": {}, "webp": {"lossless": True}, "ppm": {}}
    for suffix, options in formats.items():
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix), **options)
        yield Subject("image", f"a.{suffix}", buffer.getvalue(), _pixels, (_pillow_pixels,), 1e-6)

    mesh = shapes.box()
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    igls = (_trimesh_corners, _igl_corners)
    for suffix, options in {"off": {}, "obj": {}, "stl": {}, "ply": {}, "glb": {}}.items():
        content = plain.export(file_type=suffix, **options)
        raw = content if isinstance(content, bytes) else content.encode()
        yield Subject("mesh", f"a.{suffix}", raw, _corners, igls if suffix != "glb" else (_trimesh_corners,), 1e-5)
    for suffix, options in {
        "stl": {"file_type": "stl_ascii"},
        "ply": {"file_type": "ply", "encoding": "ascii"},
    }.items():
        content = plain.export(**options)
        raw = content if isinstance(content, bytes) else content.encode()
        yield Subject("mesh", f"a.{suffix}", raw, _corners, igls, 1e-5)

    points = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    text = "\n".join(" ".join(f"{number:.4f}" for number in row) for row in points)
    npy, npz = BytesIO(), BytesIO()
    np.save(npy, points)
    np.savez(npz, points=points)
    yield Subject("cloud", "a.xyz", text.encode(), _points, (_text_points,), 1e-6)
    yield Subject("cloud", "a.npy", npy.getvalue(), _points, (lambda path: np.load(path)[:, :3],))
    yield Subject("cloud", "a.npz", npz.getvalue(), _points, (lambda path: np.load(path)["points"][:, :3],))
    ply = trimesh.PointCloud(points).export(file_type="ply")
    yield Subject("cloud", "a.ply", ply, _points, (lambda path: np.asarray(trimesh.load(path).vertices),), 1e-6)

    torch.manual_seed(0)
    save_checkpoint(folder / "best.pt", build_classifier("mlp", SPEC, 3, hidden_dim=8), {})
    content, state = (folder / "best.pt").read_bytes(), _state(folder / "best.pt")
    yield Subject("checkpoint", "best.pt", content, _state, (lambda _: state,))


def mutate_files(tally: Tally, folder: Path, count: int, kinds: tuple[str, ...] = (), seed: int = 0) -> None:
    """Damage `count` files, one after the other kind by kind, and read them. `tally.wrong` names each breach."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [subject for subject in subjects(folder) if not kinds or subject.kind in kinds]
    for start in range(0, count, CHUNK):
        report = folder / "report"
        report.unlink(missing_ok=True)
        numbers = range(start, min(start + CHUNK, count))
        code = exit_code(forked(partial(_read_chunk, chosen, folder, numbers, seed, report)))
        lines = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        for kind, outcome, what in lines:
            tally.counts[f"mutated {kind} files {'read right' if outcome == 'right' else 'refused'}"] += 1
            tally.expect(outcome in ("right", "refused"), what)
        if len(lines) < len(numbers):
            tally.wrong.append(f"file {numbers[len(lines)]}: the process that read it ended with {code}")


def _read_chunk(chosen: list[Subject], folder: Path, numbers: range, seed: int, report: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY,) * 2)
    warnings.simplefilter("ignore")
    for number in numbers:
        subject, chance = chosen[number % len(chosen)], random.Random(f"{seed} {number}")
        path = folder / subject.name
        path.unlink(missing_ok=True)
        content = mutate(subject.content, chance)
        path.write_bytes(content)
        outcome, what = _outcome(subject, path)
        if outcome == "wrong":
            (folder / f"wrong-{number}-{subject.name}").write_bytes(content)
        with report.open("a") as lines:
            lines.write(json.dumps([subject.kind, outcome, f"file {number} ({subject.name}): {what}"]) + "\n")


def _outcome(subject: Subject, path: Path) -> tuple[str, str]:
    try:
        with within(SECONDS):
            numbers = np.asarray(subject.read(path), np.float64)
    except (SignalError, FactoryError) as error:
        text = str(error)
        return ("refused", text) if text and "\n" not in text and len(text) < 600 else ("wrong", f"no line: {text!r}")
    except BaseException as error:
        return "wrong", f"{type(error).__name__}: {error}"
    readings = []
    for other in subject.others:
        try:
            with within(SECONDS):
                readings.append(np.asarray(other(path), np.float64))
        except BaseException:  # it cannot read this
            continue
    same = any(_same(numbers, reading, subject.tolerance) for reading in readings)
    if same or not readings:
        return "right", "" if same else "nobody else reads it"
    return "wrong", f"read as {numbers.shape}, others read {[reading.shape for reading in readings]}"


def _same(one: Numbers, other: Numbers, tolerance: float) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def _pixels(path: Path) -> Numbers:
    signal = file_signal(path, RGB)
    return np.asarray(signal.targets.numpy().reshape(signal.facts["height"], signal.facts["width"], 3))


def _pillow_pixels(path: Path) -> Numbers:
    with Image.open(BytesIO(path.read_bytes())) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            return np.repeat(np.asarray(upright, np.float64)[..., None] / 65535, 3, axis=2)
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return np.asarray(upright.convert("RGB"), np.float64) / 255


def _corners(path: Path) -> Numbers:
    mesh = read_mesh(path.name, path.read_bytes(), 100_000)
    return _sorted(mesh.vertices[mesh.faces])


def _trimesh_corners(path: Path) -> Numbers:
    mesh: Any = trimesh.load(path, process=False, force="mesh")
    return _sorted(np.asarray(mesh.vertices, np.float64)[mesh.faces])


def _igl_corners(path: Path) -> Numbers:
    """In a process of its own, which libigl aborts for some files."""
    found = path.with_suffix(".corners.npy")
    found.unlink(missing_ok=True)

    def read() -> None:
        vertices, faces = igl.read_triangle_mesh(str(path))[:2]
        np.save(found, _sorted(vertices[faces]))

    exit_code(forked(read))
    return np.load(found)


def _sorted(corners: Numbers) -> Numbers:
    """Triangles (F, 3, 3) in an order of their own, each from its least corner on, so that only geometry counts."""
    rows = corners.astype(np.float32).astype(np.float64).round(4)
    turned = [np.roll(row, -min(range(3), key=lambda at: tuple(row[at])), axis=0).reshape(-1) for row in rows]
    return np.array(sorted(map(tuple, turned))).reshape(-1, 9)


def _points(path: Path) -> Numbers:
    return read_points(path.name, path.read_bytes(), 100_000)


def _text_points(path: Path) -> Numbers:
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    return np.array([[float(word) for word in words[:3]] for words in lines])


def _state(path: Path) -> Numbers:
    state = load_classifier(path).state_dict()
    return np.concatenate([tensor.double().numpy().reshape(-1) for _, tensor in sorted(state.items())])
