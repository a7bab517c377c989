"""Wheel: what is built and installed can do what a checkout can."""

import os
import subprocess
import sys
import zipfile

import pytest
from support.paths import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The files of a wheel built from this tree, in a folder of their own."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling, which the dev extra installs")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_recipes_are_inside(unpacked):
    inside = {path.name: path.read_bytes() for path in (unpacked / "inr_factory/pipelines/recipes").glob("*.yaml")}
    assert inside == {path.name: path.read_bytes() for path in (ROOT / "pipelines/recipes").glob("*.yaml")}
    assert inside


def test_sweeps_type_marker_and_sources_of_the_compiled_code_are_inside(unpacked):
    inside = {str(path.relative_to(unpacked)) for path in (unpacked / "inr_factory").rglob("*") if path.is_file()}
    assert "inr_factory/py.typed" in inside
    assert {
        f"inr_factory/pipelines/sweeps/{path.name}" for path in (ROOT / "pipelines/sweeps").glob("*.yaml")
    } <= inside
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "inr_factory").rglob("*.c")} <= inside


def test_the_parts_of_the_reports_page_are_inside(unpacked):
    parts = {path.name for path in (ROOT / "inr_factory/reporting/html").iterdir() if path.is_file()}
    assert {path.name for path in (unpacked / "inr_factory/reporting/html").iterdir()} == parts
    assert "report.html.jinja" in parts


def test_it_fits_digits_outside_the_checkout(unpacked, tmp_path):
    arguments = ["fit", "digits", "--limit", "6", "--backend", "local", "--workers", "1", "--set", "fit.steps=2"]
    arguments += ["--set", "fit.floor_psnr=0", "--out", "set"]
    code = f"import inr_factory.cli.main as c; print(c.__file__); raise SystemExit(c.run({arguments!r}))"
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(unpacked)), "the checkout was run, not the wheel"
    assert (tmp_path / "set/manifest.json").is_file()
