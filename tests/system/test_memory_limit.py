"""Memory limits: too little to load libraries, or to read an object, is one line and exit code 5; nothing stays behind."""

import subprocess
import sys

import pytest
from PIL import Image
from support.tiny_recipes import files

from inr_factory.storage.manifest_file import load_manifest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v limits memory on Linux"),
    pytest.mark.faults,
]


def run(kilobytes, *arguments):
    command = 'ulimit -v "$1"; shift; exec "$@"'
    words = [sys.executable, "-m", "inr_factory", "-q", *map(str, arguments)]
    return subprocess.run(["sh", "-c", command, "sh", str(kilobytes), *words], capture_output=True, text=True)


@pytest.mark.parametrize("kilobytes", [100_000, 300_000, 600_000, 720_000])
def test_too_little_memory_to_load_libraries_is_one_line(kilobytes, tmp_path):
    done = run(kilobytes, "fit", "digits", "--backend", "local", "--workers", 1, "--out", tmp_path / "set")

    assert done.returncode == 5
    assert len(done.stderr.strip().splitlines()) == 1
    assert "memory" in done.stderr


def test_a_large_picture_under_a_memory_limit_is_not_put_into_quarantine(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    Image.effect_noise((7000, 7000), 80).convert("RGB").save(tmp_path / "data" / "a" / "large.png", compress_level=0)
    for number in range(8):
        Image.effect_noise((16, 16), 80).save(tmp_path / "data" / "a" / f"{number}.png")
    how = ["image_folder", "--data-root", tmp_path / "data", "--backend", "local", "--workers", 1]
    how += ["--set", "source.size=8", "--set", "source.max_pixels=100000000", "--set", "fit.steps=20"]
    how += ["--set", "fit.floor_psnr=0"]

    small = run(1_000_000, "fit", *how, "--out", tmp_path / "set")

    assert small.returncode == 5, small.stderr
    assert "object a/large.png cannot be read on this machine: out of memory" in small.stderr
    assert not load_manifest(tmp_path / "set").quarantine
    for out in ("set", "roomy"):
        assert run("unlimited", "fit", *how, "--out", tmp_path / out).returncode == 0
    data = [
        {name: content for name, content in files(tmp_path / out).items() if name.endswith(".h5")}
        for out in ("set", "roomy")
    ]
    assert data[0] == data[1]
