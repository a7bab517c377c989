"""Wheel: what is built and installed can do what a checkout can."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.tags import platform_tags
from support.paths import ROOT

from inr_factory.inr.compiled_library import COMPILE


def build_wheel(folder, **variables):
    """A wheel of this tree, and the folder with its files."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling, which the dev extra installs")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | variables)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return wheel, folder / "site"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The files of a wheel built from this tree, in a folder of their own."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))[1]


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


def fit_digits(site, folder):
    arguments = ["fit", "digits", "--limit", "6", "--backend", "local", "--workers", "1", "--set", "fit.steps=2"]
    arguments += ["--set", "fit.floor_psnr=0", "--out", "set"]
    code = f"import inr_factory.cli.main as c; print(c.__file__); raise SystemExit(c.run({arguments!r}))"
    environment = os.environ | {"PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(site)), "the checkout was run, not the wheel"
    assert (folder / "set/manifest.json").is_file()
    return result.stderr


def test_it_fits_digits_outside_the_checkout(unpacked, tmp_path):
    assert "slower" not in fit_digits(unpacked, tmp_path)


def test_one_wheel_serves_all_pythons_of_its_platform(unpacked):
    (record,) = unpacked.glob("*.dist-info/WHEEL")
    (tag,) = [line for line in record.read_text().splitlines() if line.startswith("Tag: ")]
    assert tag.startswith("Tag: py3-none-")
    assert tag.endswith(platform.machine())
    assert len(list(unpacked.rglob("*.so"))) == len(list(unpacked.rglob("*.c"))) > 0


def test_a_pure_wheel_serves_all_machines_and_says_once_what_is_slower(tmp_path):
    wheel, site = build_wheel(tmp_path, INR_FACTORY_PURE="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not list(site.rglob("*.so"))
    stderr = fit_digits(site, tmp_path)
    assert stderr.count("the slower batched engine") == 1
    assert COMPILE in " ".join(stderr.split())


@pytest.fixture
def hook():
    """The module hatch_build.py."""
    pytest.importorskip("hatchling", reason="the build hook needs hatchling, which the dev extra installs")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("symbols", "macros", "tag"),
    [
        ((b"GLIBC_2.2.5 GLIBC_2.27", b"GLIBC_2.14"), {"__x86_64__"}, "manylinux_2_27_x86_64"),
        ((b"GLIBC_2.17", b""), {"__aarch64__", "__linux__"}, "manylinux_2_17_aarch64"),
        ((b"GLIBC_2.2.5", b""), {"__x86_64__"}, "manylinux_2_17_x86_64"),
        ((b"", b""), {"__x86_64__"}, None),
        ((b"GLIBC_2.27", b""), {"__riscv"}, None),
    ],
)
def test_the_platform_is_that_of_the_compiler_and_the_newest_symbol(hook, tmp_path, symbols, macros, tag):
    libraries = [tmp_path / f"{number}.so" for number in range(len(symbols))]
    for library, text in zip(libraries, symbols, strict=True):
        library.write_bytes(text)
    assert hook.platform_of(libraries, macros) == (tag or next(platform_tags()))


def test_a_compiler_says_for_which_machine_it_compiles(hook):
    machines = {name for macro, name in hook.MACHINES.items() if macro in hook.macros_of(hook.find_compiler())}
    assert machines == {platform.machine()} & set(hook.MACHINES.values())


@pytest.mark.skipif(not shutil.which("clang"), reason="no clang")
def test_clang_compiles_the_c_code_too(hook, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "clang")
    widths = hook.X86 if "__x86_64__" in hook.macros_of(["clang"]) else hook.OTHERS
    for pair in hook.SOURCES:
        variants = widths if pair in (hook.FUSED, hook.SET_ATTENTION) else hook.ONE
        hook.compile_library(ROOT / pair[0], tmp_path / "library.so", variants)
