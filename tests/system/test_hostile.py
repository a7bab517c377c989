"""Hostile files run no code, open nothing outside, take at most 1 GiB and ten seconds each, and are refused in one line."""

import os
import signal
import tempfile
from pathlib import Path

import PIL.Image
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile_files import MARK, SECRET, Hostile, all_cases, content
from support.hostile_readers import read_watched

from inr_factory.generation.geometry.mesh_files import READERS as MESHES
from inr_factory.generation.geometry.mesh_files import read_mesh
from inr_factory.generation.geometry.point_cloud_files import READERS as CLOUDS
from inr_factory.generation.geometry.point_cloud_files import read_points
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.image_files import file_signal

# Loaded before the forks, which would each load them again.
assert PIL.Image
assert trimesh

CASES = all_cases()


def test_there_are_two_hundred_of_them():
    assert len(CASES) >= 200
    assert len({(case.reader, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reader}: {case.name}"[:60])
def test_a_hostile_file_is_refused_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = read_watched(case, tmp_path / "inside", tmp_path / "outside")
    assert outcome.breaches == ()


MAGIC = [b"", b"OFF\n", b"v 0 0 0\nf ", b"ply\nformat ascii 1.0\nelement vertex 2\n", b"glTF\x02\0\0\0", b"solid\nvertex ",
         b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0\x08\0\0\0", b"P6 3 3 255\n", b"BM"]  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    suffix=st.sampled_from(sorted({*MESHES, *CLOUDS, ".png", ".tif"})),
    begin=st.sampled_from(MAGIC),
    rest=st.binary(max_size=200),
)
def test_bytes_of_any_kind_are_read_or_refused_in_one_line(suffix, begin, rest):
    message = refusal(suffix, begin + rest)
    assert message is None or 0 < len(message) < 500
    assert "\n" not in (message or "")


def refusal(suffix, content):
    """The message with which the reader of such files refuses the content; None where it reads it."""
    read = {**dict.fromkeys(CLOUDS, read_points), **dict.fromkeys(MESHES, read_mesh)}.get(suffix)
    try:
        if read is not None:
            read(f"a{suffix}", content, 1000)
        else:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / f"a{suffix}").write_bytes(content)
                file_signal(Path(folder) / f"a{suffix}", ImageSource(collection="image_folder", size=4))
    except SignalError as error:
        return str(error)
    return None


def reach_out(folder):
    with open(folder.parent / "outside" / SECRET, "rb") as file:
        file.read()
    raise ValueError("two\nlines")


WATCHED = {
    "a file outside was opened": reach_out,
    "code ran": lambda folder: (folder.parent / "outside" / MARK).write_text("x"),
    "not done after": lambda _: os.read(os.pipe()[0], 1),
    "MiB": lambda _: len(b"x" * (5 * 2**28)),
    "died with": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "it was read": lambda _: None,
    "ValueError": reach_out,
}


@pytest.mark.parametrize("breach", sorted(WATCHED))
def test_the_watch_sees_each_breach(tmp_path, monkeypatch, breach):
    monkeypatch.setitem(read_watched.__globals__["READERS"], "image", WATCHED[breach])
    case = Hostile("image", "watched", content("a.png", b"x"))
    outcome = read_watched(case, tmp_path / "inside", tmp_path / "outside", seconds=10 if breach == "MiB" else 2)
    assert any(breach in line for line in outcome.breaches), outcome.breaches
