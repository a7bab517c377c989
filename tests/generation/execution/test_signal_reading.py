"""Signal reading: what a file says goes into quarantine, what the machine says ends the run and names the object."""

import errno
import http.client
import io
import os
import pickle
import resource
import socket
import urllib.error
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_recipes import LOCAL, tiny

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.signal_reading import read_signal, read_signals
from inr_factory.generation.recipe import ImageSource, check_recipe
from inr_factory.generation.signals import Item, Signal, SignalError
from inr_factory.generation.sources.image_files import file_signal
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.pixel_grid import pixel_grid

pytestmark = pytest.mark.faults


class Ramps:
    """Six images of 4x4 pixels; `fault` is raised for the third."""

    name, version, licence, fingerprint = "ramps", "1", "CC0", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("up", "down")
    items = tuple(Item(f"ramp {number}", number % 2, ("train", "val", "test")[number // 2]) for number in range(6))

    def __init__(self, fault=None):
        self.fault = fault

    def signal(self, index, view=0):
        if index == 2 and self.fault is not None:
            self.fault()
        return Signal(pixel_grid(4, 4), torch.linspace(0, 1, 16)[:, None] * (index + 1) / 6)


def fit(source, out, **how):
    return fit_dataset(tiny(source={"collection": "own"}, limit=None, views=1), out, source=source, **LOCAL | how)


@pytest.fixture
def pictures(tmp_path):
    """Six pictures in two classes, and a recipe for them."""
    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    source = {"collection": "image_folder", "mode": "grey"}
    return tiny(source=source, limit=None, views=1, splits={"val": 1, "test": 1}), tmp_path / "data"


def raising(error, cause=None):
    def fault():
        raise error from cause

    return fault


def wrapped(error):
    """A decoder of a user's that takes every failure for damage, as many do."""

    def fault():
        try:
            raise error
        except Exception:
            raise SignalError("cannot be decoded") from None

    return fault


MACHINE = [
    *(
        OSError(code, errno.errorcode[code])
        for code in (errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE)
    ),
    *(OSError(code, errno.errorcode[code]) for code in (errno.ENOSPC, errno.EINTR, errno.EACCES, errno.EPERM)),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((10**6,), np.dtype("f8")),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("can't start new thread"),
    OSError("out of memory error when reading image file"),
    zlib.error("Error -4 while decompressing data: insufficient memory"),
    TimeoutError("the read timed out"),
    ConnectionResetError("peer"),
    ConnectionError("no answer"),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    urllib.error.URLError("no route"),
    urllib.error.HTTPError("http://x", 503, "busy", http.client.HTTPMessage(), io.BytesIO()),
    http.client.IncompleteRead(b"x", 10),
]
CONTENT = [
    OSError("image file is truncated (3 bytes not processed)"),
    OSError(errno.EINVAL, "Invalid argument"),  # a seek to where the file's header points
    ValueError("negative dimensions are not allowed"),
    zlib.error("Error -3 while decompressing data: incorrect header check"),
    EOFError("no more"),
    urllib.error.HTTPError("http://x", 404, "not found", http.client.HTTPMessage(), io.BytesIO()),
    OSError("cannot identify image file 'out_of_memory/no memory.png'"),
]


def name_of(error):
    return f"{type(error).__name__} {error}"[:40]


@pytest.mark.parametrize("error", MACHINE, ids=name_of)
@pytest.mark.parametrize("how", [raising, wrapped], ids=["raised", "taken for damage"])
def test_a_fault_of_the_machine_ends_the_run_and_names_the_object(error, how, tmp_path):
    with pytest.raises(
        ResourceError, match=r"object ramp 2 cannot be read on this machine: .*not put into quarantine"
    ) as caught:
        fit(Ramps(how(error)), tmp_path / "set")

    assert "\n" not in str(caught.value)
    assert ResourceError.exit_code == 5
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), ResourceError), "workers send it"
    assert fit(Ramps(), tmp_path / "set").quarantined == [], "nothing of the failed run may stay"


@pytest.mark.parametrize("error", CONTENT, ids=name_of)
def test_what_the_content_says_goes_into_quarantine(error, tmp_path):
    report = fit(Ramps(wrapped(error)), tmp_path / "set")

    assert [row.object_id for row in report.quarantined] == ["ramp 2"]


def test_an_error_that_a_caller_handles_is_not_taken_for_the_objects(tmp_path):
    try:
        raise MemoryError
    except MemoryError:
        report = fit(Ramps(raising(SignalError("nothing recorded"))), tmp_path / "set")

    assert [row.reason for row in report.quarantined] == ["nothing recorded"]


def test_a_dry_run_ends_with_the_fault_of_the_machine_too(tmp_path):
    recipe = tiny(source={"collection": "own"}, limit=None, views=1)
    source = Ramps(raising(MemoryError()))
    source.items = [Item(item.object_id, item.label, None) for item in Ramps.items]

    with pytest.raises(ResourceError, match="object ramp 2"):
        estimate(
            check_recipe(recipe.model_dump() | {"splits": {"val": 0, "test": 0}}, "x"),
            tmp_path,
            source=source,
            backend="local",
        )


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES])
def test_a_file_that_the_machine_cannot_open_is_not_put_into_quarantine(pictures, code, tmp_path, monkeypatch):
    recipe, root = pictures
    opened = os.open

    def failing(path, *rest, **more):
        if str(path).endswith("2.png"):
            raise OSError(code, errno.errorcode[code], str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(ResourceError, match=rf"object a/2\.png cannot be read .*{errno.errorcode[code]}"):
        fit_dataset(recipe, tmp_path / "set", data_root=root, **LOCAL)

    monkeypatch.undo()
    report = fit_dataset(recipe, tmp_path / "set", data_root=root, **LOCAL)
    assert (report.quarantined, report.manifest.rows) == ([], 6)


def test_a_file_that_vanishes_is_the_machines_and_a_link_to_nothing_the_collections(pictures, tmp_path):
    recipe, root = pictures
    (root / "a" / "link.png").symlink_to("nowhere.png")
    source = open_source(recipe.source, root)
    rows = {item.object_id: index for index, item in enumerate(source.items)}
    (root / "a" / "2.png").unlink()

    with pytest.raises(ResourceError, match=r"object a/2\.png was listed, and its file is gone"):
        read_signal(source, rows["a/2.png"])
    assert read_signals(source, [rows["a/link.png"]], 0).failed[0].reason == "cannot be read: No such file or directory"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "ppm"])
def test_no_amount_of_memory_makes_a_good_picture_a_damaged_one(suffix, tmp_path):
    """Pillow reports missing memory in several ways, some of them as damage."""
    path, config = tmp_path / f"large.{suffix}", ImageSource(collection="image_folder", size=4, max_pixels=10**8)
    small = tmp_path / f"small.{suffix}"
    Image.new("RGB", (8, 8)).save(small)
    Image.effect_noise((1500, 1500), 90).convert("RGB").save(path)
    file_signal(small, config)  # loads the decoder
    good, limits = file_signal(path, config), resource.getrlimit(resource.RLIMIT_AS)
    ended = set()
    for megabytes in (1, 2, 5, 8, 11, 14, 18, 24, 30, 38, 50, 70):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + megabytes * 2**20, limits[1]))
        try:
            assert torch.equal(file_signal(path, config).targets, good.targets)
            ended.add("read")
        except MemoryError:
            ended.add("no memory")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
    assert ended <= {"read", "no memory"}


def test_an_exception_of_a_source_names_the_object_and_keeps_its_traceback(tmp_path):
    def fault():
        raise KeyError("pitch\nof it")

    with pytest.raises(UsageError, match=r"object ramp 2: signal\(\) of the source ramps raised KeyError: ") as caught:
        fit(Ramps(fault), tmp_path / "set")

    assert "\n" not in str(caught.value)
    assert "in fault" in "".join(pickle.loads(pickle.dumps(caught.value)).__notes__)
    log = next((tmp_path / "set" / "logs").iterdir()).read_text()
    assert "in fault" in log, "the traceback is kept in the log"


def test_a_wrong_signal_names_its_object(tmp_path):
    with pytest.raises(UsageError, match=r"object ramp 2: .*coords"):
        fit(Ramps(lambda: Signal(np.array(["x"]), np.zeros((1, 1)))), tmp_path / "set")
