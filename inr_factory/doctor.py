"""Doctor: is this machine ready to make data sets here."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from inr_factory.errors import FactoryError
from inr_factory.fitting import fused_cpu, fused_cuda
from inr_factory.inr import SirenSpec
from inr_factory.local_pool import num_cores
from inr_factory.manifest import write_atomically
from inr_factory.recipe import builtin_recipes

PACKAGES = (
    "inr-factory",
    "torch",
    "torchvision",
    "numpy",
    "h5py",
    "ray",
    "scikit-learn",
    "matplotlib",
    "trimesh",
    "libigl",
)


@dataclass(frozen=True)
class Finding:
    """What was found; good is None for what may be missing."""

    what: str
    good: bool | None
    found: str


def examine(out: Path) -> list[Finding]:
    """Look at versions, cores, memory, GPU, Ray (a worker is started) and at the file system of `out`."""
    return [*_packages(), *_hardware(), *_ray(), *_files(out)]


def _packages() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])
    for name in PACKAGES:
        try:
            yield Finding(name, True, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed; pip install -c constraints.txt inr-factory")
    count = len(builtin_recipes())
    yield Finding("recipes", count > 0, f"{count} built in")
    widths = fused_cpu.variants()
    obstacle = "" if widths else fused_cpu.obstacle(SirenSpec(2, 1))
    compiled = f"fused, compiled for {widths[0]}" if widths else f"reference, about ten times slower: {obstacle}"
    yield Finding("fitting engine", True if widths else None, compiled)


def _hardware() -> Iterator[Finding]:
    yield Finding("cores", True, f"{num_cores()} usable of {os.cpu_count()}")
    with open("/proc/meminfo") if os.path.exists("/proc/meminfo") else open(os.devnull) as file:
        sizes = dict(line.split(":", 1) for line in file)
    if "MemAvailable" in sizes:
        gigabytes = int(sizes["MemAvailable"].split()[0]) / 1e6
        yield Finding("memory", gigabytes > 1, f"{gigabytes:.1f} GB available")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("GPU", True, ", ".join(names))
        obstacle = fused_cuda.obstacle(SirenSpec(2, 1))
        engine = (
            f"reference, many times slower: {obstacle}" if obstacle else "fused, compiled by triton at the first fit"
        )
        yield Finding("fitting engine, GPU", None if obstacle else True, engine)
    else:
        yield Finding("GPU", None, "none; INRs are fitted on the CPU")


def _ray() -> Iterator[Finding]:
    from inr_factory.ray_pool import connected

    def seen() -> str:
        with connected(None, num_cpus=1) as ray:
            task = ray.remote(_gpu_name).options(num_gpus=min(1, torch.cuda.device_count()))
            found = ray.get(task.remote(), timeout=60)
            return f"a local cluster starts; its worker sees {found or 'no GPU'}"

    yield _try("Ray", seen, "; --backend local works without it")


def _gpu_name() -> str | None:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _files(out: Path) -> Iterator[Finding]:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    yield Finding("free disk", free > 10**9, f"{free / 1e9:,.1f} GB at {folder}")

    def write() -> str:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".inr-factory-doctor-") as place:
            path = Path(place) / "probe"
            write_atomically(path, b"one")
            write_atomically(path, b"two")
            assert path.read_bytes() == b"two", "a renamed file does not hold what was written"
        return f"write, fsync and rename work at {folder}"

    yield _try("file system", write, "; choose another --out")
    home = Path.home()
    writable = os.access(home, os.W_OK)
    yield Finding("HOME", True if writable else None, "writable" if writable else f"{home} is read-only, which will do")


def _try(what: str, probe: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, probe())
    except (FactoryError, OSError, AssertionError, RuntimeError, TimeoutError) as error:
        return Finding(what, False, " ".join(str(error).split()) + remedy)
