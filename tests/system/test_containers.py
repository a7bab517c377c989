"""Containers: fixed base images, no root, versions by constraints, and nothing of one machine or host. None is built."""

import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from support.paths import ROOT

FOLDER = ROOT / "pipelines" / "containers"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
APPTAINER = FOLDER / "inr-factory.def"
LABELS = ("title", "description", "licenses", "version", "base.name")
FOREIGN = re.compile(r"https?://|\b[\w-]+\.(?:com|org|io|net)/|/(?:home|Users|scratch|mnt)/")


def without_comments(text):
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def shared_faults(text):
    """What is wrong with a base image, the installations and the labels of either kind of file."""
    code = without_comments(text).replace("\\\n", " ")
    for name in re.findall(r"^from:? +(\S+)", code, re.M | re.I):
        if not re.search(r":\d+\.\d+", name) or "latest" in name:
            yield f"base image {name} without a fixed tag"
    installs = re.findall(r"pip install[^\n&]*", code)
    if not installs:
        yield "installs nothing"
    for command in installs:
        fixed = "--constraint /opt/inr-factory/constraints.txt" in command or "--no-index --no-deps" in command
        if "--no-cache-dir" not in command or not fixed:
            yield f"without constraints or with a cache: {command}"
    own = [number for number, command in enumerate(installs) if "inr-factory inr-factory" in command]
    if (
        not own
        or any("inr-factory[" in command for command in installs[: own[0]])
        or "--no-index" not in installs[own[0]]
    ):
        yield "takes the package from an index"
    if "apt-get install" in code and not ("--no-install-recommends" in code and "rm -rf /var/lib/apt/lists/*" in code):
        yield "leaves lists of apt"
    yield from (f"no label {name}" for name in LABELS if f"org.opencontainers.image.{name}" not in code)
    yield from (f"names {name}" for name in FOREIGN.findall(text))


def docker_faults(text):
    """What is wrong with a Dockerfile."""
    yield from shared_faults(text)
    instructions = re.findall(r"^([A-Z]+) (.*)", without_comments(text).replace("\\\n", " "), re.M)
    last = dict(instructions)
    if instructions[0][0] != "FROM":
        yield "does not start from an image"
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", last.get("USER", "root")):
        yield "runs as root, or as a user without a number"
    if last.get("ENTRYPOINT") != '["inr-factory"]':
        yield "starts another program"
    names = [name for name, _ in instructions]
    if any(name in ("ADD", "MAINTAINER") for name in names):
        yield "has ADD or MAINTAINER"
    if any(name == "RUN" for before, name in pairwise(names) if "USER" in names[: names.index(before)]):
        yield "installs as the user"


def apptainer_faults(text):
    """What is wrong with an Apptainer definition."""
    yield from shared_faults(text)
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.M | re.S))
    for name in ("arguments", "files", "post", "environment", "labels", "runscript", "test", "help"):
        if name not in sections:
            yield f"no section {name}"
    if sections.get("runscript", "").strip() != 'exec inr-factory "$@"':
        yield "starts another program"
    if "set -eu" not in sections.get("post", ""):
        yield "installs on after a failure"
    known = re.findall(r"^ +(\w+)=", sections.get("arguments", ""), re.M)
    yield from (f"unknown argument {name}" for name in re.findall(r"{{ (\w+) }}", text) if name not in known)
    if "PYTHONNOUSERSITE=1" not in sections.get("environment", ""):
        yield "takes packages of the user's home"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_keep_the_rules(path):
    assert list(docker_faults(path.read_text())) == []


def test_the_apptainer_definition_keeps_the_rules():
    assert list(apptainer_faults(APPTAINER.read_text())) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("python:3.12-slim-bookworm\n", "python:latest\n", "without a fixed tag"),
        ("python:3.12-slim-bookworm\n", "python\n", "without a fixed tag"),
        ("USER 1000:1000\n", "", "runs as root"),
        ("USER 1000:1000\n", "USER inr\n", "runs as root"),
        ("--no-cache-dir", "", "with a cache"),
        ("--constraint /opt/inr-factory/constraints.txt", "", "without constraints"),
        ("--no-index ", "", "takes the package from an index"),
        (
            "--find-links /opt/inr-factory inr-factory",
            "--find-links /opt/inr-factory",
            "takes the package from an index",
        ),
        ('["inr-factory"]', "inr-factory", "starts another program"),
        ("image.licenses", "image.license", "no label licenses"),
        ("COPY", "ADD", "has ADD"),
        ("WORKDIR /work", "WORKDIR /home/someone/work", "names /home/"),
        ("ARG TORCH_INDEX=\n", "ARG TORCH_INDEX=https://example.org/cpu\n", "names https://"),
        ("WORKDIR /work", "WORKDIR /work\nRUN inr-factory version", "installs as the user"),
    ],
)
def test_a_dockerfile_that_breaks_a_rule_is_found(before, after, fault):
    text = (FOLDER / "cpu.Dockerfile").read_text()
    assert before in text
    assert any(fault in each for each in docker_faults(text.replace(before, after)))


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("From: python:3.12-slim-bookworm", "From: python:latest", "without a fixed tag"),
        ("set -eu", "", "installs on"),
        ("    EXTRAS=all\n", "", "unknown argument EXTRAS"),
        ('exec inr-factory "$@"', "bash", "starts another program"),
        ("%test", "%tests", "no section test"),
        ("PYTHONNOUSERSITE=1", "PYTHONNOUSERSITE=", "user's home"),
    ],
)
def test_a_definition_that_breaks_a_rule_is_found(before, after, fault):
    text = APPTAINER.read_text()
    assert before in text
    assert any(fault in each for each in apptainer_faults(text.replace(before, after)))


def test_what_the_files_copy_is_sent_to_the_builder_and_nothing_else():
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore == ["*", "!constraints.txt", "!dist/*.whl"]
    for path in DOCKERFILES:
        assert "COPY constraints.txt dist/*.whl /opt/inr-factory/" in path.read_text()


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_accepts_the_dockerfiles(path):
    result = subprocess.run(["hadolint", str(path)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
