"""Builds a release of the software: sdist and wheels, twice, and installs them in clean environments. All but the upload.

`make release` runs it; docs/releasing.md describes a release. It builds what is committed, not what lies in the folder.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).parents[2]
CONSTRAINTS = {"oldest": ROOT / "constraints-oldest.txt", "newest": ROOT / "constraints.txt"}
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "inr_factory/inr/version.py").read_text())[1]  # type: ignore[index]
ARM_COMPILER = "aarch64-linux-gnu-gcc"

IMPORTED = "import inr_factory as inr, sys; assert inr.__file__.startswith(sys.prefix) and inr.__version__ == {!r}, inr"
EXTRAS = (
    "import h5py, huggingface_hub, igl, jinja2, matplotlib.pyplot, pyarrow.parquet, ray, safetensors.torch, "
    "skimage.measure, torch_geometric, trimesh, torch.utils.tensorboard; "
    # Beside a CPU torch, the registry's torchvision does not import by itself.
    "from inr_factory.generation.sources.torchvision_images import torchvision_part; torchvision_part('datasets').MNIST"
)
# Run in this order in an empty folder, by the environment's own commands.
SMOKE = [
    ["python", "-c", IMPORTED.format(VERSION)],
    ["python", "-c", EXTRAS],
    ["inr-factory", "doctor"],
    ["inr-factory", "fit", "digits", "--limit", "60", "--out", "set"],
    ["inr-factory", "verify", "set"],
    ["inr-factory", "train", "set", "--epochs", "1", "--out", "run"],
]
PURE_SMOKE = ["inr-factory", "fit", "digits", "--limit", "6", "--backend", "local", "--out", "pure"]


class Failure(Exception):
    """A command that failed, with its last words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="an empty or a new folder")
    parser.add_argument("--build-only", action="store_true", help="install nothing")
    parser.add_argument("--python", action="append", help="a Python to install for; default: each from 3.11 on")
    parser.add_argument(
        "--ends", nargs="+", choices=CONSTRAINTS, default=list(CONSTRAINTS), help="versions of dependencies"
    )
    parser.add_argument("--arm-cc", default=shutil.which(ARM_COMPILER), help="compiler for the ARM wheel")
    options = parser.parse_args()
    out = options.out.absolute()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty; an upload would take all of it; remove it or give another --out")
    try:
        build(out, options.arm_cc)
    except Failure as failure:
        sys.exit(str(failure))
    if not options.build_only:
        sys.exit(not check(out, options.python or pythons(), options.ends))


def build(out: Path, arm_compiler: str | None) -> None:
    """Build all files twice, in folders of different names, and keep them if each has the same bytes both times."""
    wheels = {"native": {}, "pure": {"INR_FACTORY_PURE": "1"}}
    if arm_compiler:
        wheels["ARM"] = {"CC": arm_compiler}
    else:
        say(f"no ARM wheel: no {ARM_COMPILER}; install it or give --arm-cc, or build on an ARM machine")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory(suffix="-another") as other:
        first, second = build_once(Path(one), wheels), build_once(Path(other), wheels)
        different = [name for name in {*first, *second} if digest(first.get(name)) != digest(second.get(name))]
        if different:
            raise Failure(f"two builds have different bytes: {', '.join(sorted(different))}")
        out.mkdir(parents=True, exist_ok=True)
        for name, path in sorted(first.items()):
            shutil.copy(path, out / name)
            say(f"{digest(path)}  {name}")
        (out / "SHA256SUMS").write_text("".join(f"{digest(first[name])}  {name}\n" for name in sorted(first)))


def unpack(archive: Path, folder: Path) -> None:
    """Python itself filters from 3.11.4 on only, and warns without a filter from 3.12 on; both archives are our own."""
    folder.mkdir(exist_ok=True)
    run(["tar", "-xf", str(archive), "-C", str(folder)], cwd=folder)


def build_once(folder: Path, wheels: dict[str, dict[str, str]]) -> dict[str, Path]:
    """Name -> path of the sdist of the last commit, and of the wheels that are built from it."""
    epoch = run(["git", "log", "-1", "--format=%ct"], cwd=ROOT).strip()
    (folder / "checkout").mkdir()
    run(["git", "archive", "--output", str(folder / "checkout.tar"), "HEAD"], cwd=ROOT)
    unpack(folder / "checkout.tar", folder / "checkout")
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "out"), "-t"]
    run([*hatch, "sdist"], cwd=folder / "checkout", SOURCE_DATE_EPOCH=epoch)
    (sdist,) = (folder / "out").glob("*.tar.gz")
    for name, variables in wheels.items():
        unpack(sdist, folder / name)  # a folder of its own: nothing compiled is left over
        (source,) = (folder / name).iterdir()
        say(f"building the {name} wheel")
        wheel = Path(run([*hatch, "wheel"], cwd=source, SOURCE_DATE_EPOCH=epoch, **variables).split("\n")[-2])
        if wheel.name.endswith("-any.whl") != (name == "pure"):
            raise Failure(
                f"the {name} wheel is {wheel.name}: its C code was not compiled, or the compiler is not for it"
            )
        if name == "ARM" and "aarch64" not in wheel.name:
            raise Failure(f"the ARM wheel is {wheel.name}: {variables['CC']} compiles for another machine")
    return {path.name: path for path in (folder / "out").iterdir()}


def check(dist: Path, interpreters: list[str], ends: list[str]) -> bool:
    """Install the files by name into a clean environment for each Python and end of the ranges, and print a table."""
    results: dict[tuple[str, str], str] = {}
    versions = {
        python: run([python, "-c", "import platform as p; print(p.python_version())"]).strip()
        for python in interpreters
    }
    for python in interpreters:
        for end in ends:
            started = monotonic()
            say(f"Python {versions[python]}, {end} dependencies")
            try:
                torch = install_and_smoke(python, CONSTRAINTS[end], dist)
                results[python, end] = f"ok: torch {torch}, {monotonic() - started:.0f} s"
            except Failure as failure:
                results[python, end] = f"FAILED: {failure}"
            say(results[python, end])
    print("| Python | " + " | ".join(ends) + " |")
    print("|---" * (len(ends) + 1) + "|")
    for python in interpreters:
        print(f"| {versions[python]} | " + " | ".join(results[python, end] for end in ends) + " |")
    return all(result.startswith("ok") for result in results.values())


def install_and_smoke(python: str, constraints: Path, dist: Path) -> str:
    """Install all extras, run the commands, then the same with the pure wheel. The version of torch.

    Dependencies come as wheels from the registry that pip is configured for.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([python, "-m", "venv", str(folder / "venv")])
        bin = folder / "venv/bin"
        pip = [str(bin / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        install = [*pip, "--only-binary", ":all:", "--find-links", str(dist), "-c", str(constraints)]
        run([*install, f"inr-factory[all]=={VERSION}"])
        for command in SMOKE:
            run([str(bin / command[0]), *command[1:]], cwd=folder)
        pure = next(dist.glob("*-any.whl"))
        run([*pip, "--no-deps", "--no-index", "--force-reinstall", str(pure)])
        if "this install has no C code" not in run([str(bin / PURE_SMOKE[0]), *PURE_SMOKE[1:]], cwd=folder):
            raise Failure("a fit by the pure wheel does not say that it is slower")
        return run([str(bin / "python"), "-c", "import torch; print(torch.__version__)"]).strip()


def pythons() -> list[str]:
    """One Python of each version from 3.11 on, of the path or of pyenv."""
    newest: dict[int, str] = {}
    installed = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"), key=lambda path: path.parts[-3])
    for minor in range(11, 30):
        names = [f"python3.{minor}", *(str(path) for path in installed if path.parts[-3].startswith(f"3.{minor}."))]
        for name in filter(shutil.which, names):
            if subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0:  # a shim may not run
                newest[minor] = name
    return list(newest.values())


def run(command: list[str], cwd: Path | None = None, **variables: str) -> str:
    """Standard output and error of a command.

    Raises:
        Failure: It ended with another exit code than 0.
    """
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | variables
    ran = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ran.returncode:
        raise Failure(f"{shlex.join(command)}: exit code {ran.returncode}: {' '.join(ran.stdout.split())[-600:]}")
    return ran.stdout


def digest(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
