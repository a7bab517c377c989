"""Release of the software: files with the same bytes each time, that hold what they should, and are tried before an upload."""

import hashlib
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

import inr_factory


@pytest.fixture
def builder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/release"))
    import build_release

    return build_release


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a release is built from a commit, and this is no clone")
def test_a_release_is_built_twice_with_the_same_bytes(builder, tmp_path):
    builder.build(tmp_path / "dist", None)
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "dist/SHA256SUMS").read_text().splitlines())
    files = {path.name: path for path in (tmp_path / "dist").iterdir() if path.name != "SHA256SUMS"}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert len(files) == 3
    with tarfile.open(next(path for name, path in files.items() if name.endswith(".tar.gz"))) as sdist:
        names = [Path(name).parts[1:] for name in sdist.getnames()]
    expected = {"PKG-INFO", "pyproject.toml", ".gitignore", "hatch_build.py", "README.md", "LICENSE"}
    assert {parts[0] for parts in names} == expected | {"inr_factory", "pipelines"}, (
        "what a build needs, and nothing else"
    )
    assert not [parts for parts in names if parts[-1].endswith((".so", ".pyc"))]


@pytest.mark.parametrize("same", [True, False])
def test_builds_of_different_bytes_are_no_release(builder, monkeypatch, tmp_path, same):
    def build_once(folder, wheels):
        (folder / "a.whl").write_text("x" if same else folder.name)
        return {"a.whl": folder / "a.whl"}

    monkeypatch.setattr(builder, "build_once", build_once)
    if same:
        builder.build(tmp_path / "dist", None)
    else:
        with pytest.raises(builder.Failure, match=r"different bytes: a\.whl"):
            builder.build(tmp_path / "dist", None)
    assert (tmp_path / "dist/a.whl").exists() == same


@pytest.mark.parametrize("failing", [None, "oldest"])
def test_a_failed_environment_is_in_the_table_and_fails_the_release(builder, monkeypatch, tmp_path, capsys, failing):
    def install_and_smoke(python, constraints, dist):
        if failing and constraints == builder.CONSTRAINTS[failing]:
            raise builder.Failure("doctor: exit code 5")
        return "2.6.0"

    monkeypatch.setattr(builder, "install_and_smoke", install_and_smoke)
    monkeypatch.setattr(builder, "run", lambda *_, **__: "3.12.1\n")
    assert builder.check(tmp_path, ["python3"], ["oldest", "newest"]) == (failing is None)
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| 3\.12\.1 \| (ok: torch 2\.6\.0|FAILED: doctor: exit code 5).* \| ok: .* \|", row)
    assert ("FAILED" in row) == (failing is not None)


def test_a_command_that_fails_gives_its_last_words(builder):
    assert builder.run(["echo", "fine"]) == "fine\n"
    with pytest.raises(builder.Failure, match=r"exit code 3: no such luck$"):
        builder.run(["sh", "-c", "echo no such luck; exit 3"])


def test_a_folder_with_other_files_is_refused(builder, monkeypatch, tmp_path):
    (tmp_path / "old.whl").write_text("")
    monkeypatch.setattr("sys.argv", ["build_release.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="is not empty"):
        builder.main()


def test_the_pythons_are_those_that_the_package_permits(builder):
    versions = [
        subprocess.run([python, "--version"], capture_output=True, text=True).stdout for python in builder.pythons()
    ]
    assert versions, "this machine has no Python of the path"
    assert all(re.match(r"Python 3\.(1[1-9]|2\d)\.", version) for version in versions)
    assert all(shutil.which(python) for python in builder.pythons())


def requirements(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_the_oldest_versions_are_the_lower_bounds_of_the_project(python):
    """On a Python newer than the bound, a newer version stands for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for name in project["optional-dependencies"] if name not in ("all", "docs", "dev", "tracking")]
    declared = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    pins = {}
    for pin in requirements(ROOT / "constraints-oldest.txt"):
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            pins[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    for requirement in map(Requirement, declared):
        pin, (bound,) = pins[canonicalize_name(requirement.name)], [part.version for part in requirement.specifier]
        assert requirement.specifier.contains(pin), requirement
        if python == "3.11":
            assert f"{pin}.0.0".startswith(f"{bound}."), f"{requirement}: {pin} is not the oldest"


def test_the_changelog_and_the_citation_have_the_version():
    released = re.findall(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    if "dev" not in inr_factory.__version__:
        assert released[0][0] == inr_factory.__version__
        assert f"date-released: {released[0][1]}" in (ROOT / "CITATION.cff").read_text()
