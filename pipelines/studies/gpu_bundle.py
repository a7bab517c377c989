"""Prepares a machine that has a GPU and no network for gpu_figures.py; `make gpu-bundle` calls it.

It fills the folder gpu-bundle with wheels, the images of Fashion-MNIST, sampled shapes, the tree of the project, and
run.sh, which measures. The other machine needs Python 3.12 with the packages of ASSUMED and a C compiler; JAX is
measured where it is installed.
"""

import argparse
import gzip
import os
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu.problems import IMAGES, RAW, SHAPES, save_shapes

from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.sources.shape_collections import PrimitiveShapes
from inr_factory.generation.sources.shape_sampling import mesh_samples

ROOT = Path(__file__).parents[2]
MAX_BYTES = 64 * 2**20
ASSUMED = ("torch", "torchvision", "triton", "numpy", "h5py", "scipy", "scikit-image")
WHEELS = ("pydantic", "ruamel.yaml")  # and what they need
ALONE = ("libigl",)  # wheels that need nothing but what is assumed
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

RUN = """#!/bin/sh
# sh run.sh [options of gpu_figures.py]: measures, and writes gpu.json and gpu.md to $OUT, else to this folder.
set -eu
bundle=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${OUT:-.}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$bundle/tree.tar.gz" -C "$work"
for wheel in "$bundle"/wheels/*.whl; do
    if [ -f "$wheel" ]; then "${PYTHON:-python3}" -m zipfile -e "$wheel" "$work/site"; fi
done
export TMPDIR="$work" GPU_COMMIT=@COMMIT@ PYTHONUNBUFFERED=1 PYTHONPATH="$work/site:$work${PYTHONPATH:+:$PYTHONPATH}"
cd "$work"
"${PYTHON:-python3}" pipelines/studies/gpu_figures.py --bundle "$bundle" --out "$out/gpu.json" "$@"
"""


def find_images(roots: list[Path]) -> Path:
    """The first data root that has Fashion-MNIST; SystemExit with the remedy where none has."""
    for root in roots:
        if all((root / RAW / name).is_file() for name in IMAGES):
            return root
    looked = ", ".join(str(root / RAW) for root in roots)
    raise SystemExit(
        f"Fashion-MNIST is missing: expected {', '.join(IMAGES)} in one of {looked}; let $INR_FACTORY_DATA or --data-root "
        "name the folder that has FashionMNIST/raw in it"
    )


def pack_images(root: Path, bundle: Path) -> None:
    for name in IMAGES:
        (bundle / f"{name}.gz").write_bytes(gzip.compress((root / RAW / name).read_bytes(), mtime=0))


def pack_shapes(bundle: Path, points: int | None = None) -> None:
    """Samples of one shape of each class of primitives, as the recipe draws them, or with fewer points."""
    settings = (
        [] if points is None else [f"source.{name}={points}" for name in ("num_points", "num_truth", "num_surface")]
    )
    config = load_recipe("primitives", settings).source
    assert isinstance(config, ShapeSource)
    source = PrimitiveShapes(config, bundle)
    first = {item.label: index for index, item in reversed(list(enumerate(source.items)))}
    samples = [mesh_samples(source.geometry(at), config, source.items[at].object_id, None) for at in first.values()]
    save_shapes(bundle / SHAPES, samples)


def pack_tree(bundle: Path) -> str:
    """The files of the project as they are now, and the compiled libraries. Returns the commit."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    names = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    libraries = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "inr_factory").rglob("*.so"))]
    with tarfile.open(bundle / "tree.tar.gz", "w:gz") as archive:
        for name in [*names, *libraries]:
            if name.startswith(("inr_factory/", "pipelines/")) and (ROOT / name).is_file():
                archive.add(ROOT / name, name)
    changed = "-changed" if git("status", "--porcelain", "--untracked-files=no") else ""
    return git("rev-parse", "--short", "HEAD").strip() + changed


def download_wheels(bundle: Path) -> None:
    """Wheels for Python 3.12 on Linux x86-64, in the tested versions."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "-c", str(ROOT / "constraints.txt")]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for words in (WHEELS, ("--no-deps", *ALONE)):
        subprocess.run([*command, "--dest", str(bundle / "wheels"), *words], check=True)


def make_bundle(bundle: Path, roots: list[Path], wheels: bool = True, points: int | None = None) -> None:
    """Fill the folder of the bundle; SystemExit where something is missing or it is too large."""
    root = find_images(roots)
    for old in bundle.rglob("*.whl"):
        old.unlink()
    (bundle / "wheels").mkdir(parents=True, exist_ok=True)
    pack_images(root, bundle)
    pack_shapes(bundle, points)
    commit = pack_tree(bundle)
    if wheels:
        download_wheels(bundle)
    (bundle / "run.sh").write_text(RUN.replace("@COMMIT@", commit))
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        raise SystemExit(f"{bundle} has {size / 2**20:.1f} MiB, at most {MAX_BYTES // 2**20} may be carried")
    print(f"{bundle}: {size / 2**20:.1f} MiB. Carry the folder to the machine with the GPU and run there:\n")
    print(f"    sh {bundle.name}/run.sh --minutes 8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "gpu-bundle", help="folder to fill (default: gpu-bundle)")
    parser.add_argument("--data-root", type=Path, help="folder with FashionMNIST/raw in it")
    options = parser.parse_args()
    named = options.data_root or os.environ.get("INR_FACTORY_DATA")
    make_bundle(options.bundle, [Path(named)] if named else [ROOT / "data", ROOT.parent / "shared" / "datasets"])


if __name__ == "__main__":
    main()
