"""Doctor: is this machine ready to make data sets here."""

import fcntl
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from inr_factory.errors import FactoryError, ResourceError
from inr_factory.generation.execution.local_pool import num_cores
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.recipe import builtin_recipes
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import write_atomically

INSTALL = "pip install -c constraints.txt"
SHARED_BYTES = 200e6  # of /dev/shm; a container has 64 MB unless told otherwise
OPEN_FILES = 1024


@dataclass(frozen=True)
class Finding:
    """What was found; good is None for what may be missing. Whatever is not good comes with a remedy."""

    what: str
    good: bool | None
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.good or self.remedy, f"{self.what}: nobody is helped by a finding alone"


def examine(out: Path) -> list[Finding]:
    """Look at versions, cores, memory, GPU, Ray (a worker is started) and at the file system of `out`."""
    return [*_packages(), *_hardware(), *_limits(), *_ray(), *_files(out)]


def _packages() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")
    try:
        yield Finding("inr-factory", True, metadata.version("inr-factory"))
        needed = metadata.requires("inr-factory") or []
    except metadata.PackageNotFoundError:
        yield Finding("inr-factory", None, "run from its folder, not installed", f"{INSTALL} -e .")
        needed = []
    yield from map(_package, needed)
    count = len(builtin_recipes())
    yield Finding("recipes", count > 0, f"{count} built in", "install again: the recipes lie inside the package")
    widths = fused_cpu.variants()
    obstacle = "" if widths else fused_cpu.obstacle(SirenSpec(2, 1))
    compiled = f"fused, compiled for {widths[0]}" if widths else f"reference, about ten times slower: {obstacle}"
    again = f"install a C compiler (gcc or clang, or set CC), then {INSTALL} --force-reinstall --no-deps inr-factory"
    yield Finding("fitting engine", True if widths else None, compiled, again)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), os.environ.get("CC"))
    what = "not there; needed to install, not to run"
    yield Finding("C compiler", True if compiler else None, compiler or what, "install gcc or clang, or set CC")


def _package(requirement: str) -> Finding:
    """A line of the package's own requirements: `name[extras]>=minimum; extra == 'which'`."""
    line, _, marker = requirement.partition(";")
    name, minimum = re.match(r"\s*([\w.-]+)[^>]*>?=?\s*([\d.]*)", line).groups()  # type: ignore[union-attr]
    extra = re.search(r"extra == ['\"](\w+)", marker)
    what = f"{name}, for {extra[1]}" if extra else name
    missing = None if extra else False
    remedy = f'{INSTALL} "{name}>={minimum}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(what, missing, "not installed", remedy)
    if _numbers(version) < _numbers(minimum):
        return Finding(what, missing, f"{version}, older than {minimum}", remedy)
    return Finding(what, True, version)


def _numbers(version: str) -> list[int]:
    """The numbers a version begins with, to compare it by."""
    return [int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]


def _hardware() -> Iterator[Finding]:
    yield Finding("cores", True, f"{num_cores()} usable of {os.cpu_count()}")
    with open("/proc/meminfo") if os.path.exists("/proc/meminfo") else open(os.devnull) as file:
        sizes = dict(line.split(":", 1) for line in file)
    if "MemAvailable" in sizes:
        gigabytes = int(sizes["MemAvailable"].split()[0]) / 1e6
        yield Finding(
            "memory", gigabytes > 1, f"{gigabytes:.1f} GB available", "end other programs, or use --workers 1"
        )
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("GPU", True, ", ".join(names))
        obstacle = fused_cuda.obstacle(SirenSpec(2, 1))
        engine = (
            f"reference, many times slower: {obstacle}" if obstacle else "fused, compiled by triton at the first fit"
        )
        yield Finding("fitting engine, GPU", None if obstacle else True, engine, f"{INSTALL} triton")
    else:
        why = "this torch is built for CPUs" if torch.version.cuda is None else "torch sees none"
        remedy = "INRs are fitted on the CPU; for a GPU install its driver and a torch built for CUDA"
        yield Finding("GPU", None, f"none: {why}", remedy)


def _limits() -> Iterator[Finding]:
    """What a container or a shell may have set too low."""
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        remedy = (
            "Ray takes /tmp instead, which is slower: start the container with --shm-size=1g, or use --backend local"
        )
        yield Finding("/dev/shm", True if size >= SHARED_BYTES else None, f"{size / 1e9:,.2f} GB", remedy)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    enough = files == resource.RLIM_INFINITY or files >= OPEN_FILES
    yield Finding("open files", True if enough else None, f"at most {files}", f"ulimit -n {64 * OPEN_FILES}")


def _ray() -> Iterator[Finding]:
    from inr_factory.generation.execution.ray_pool import connected

    def seen() -> str:
        with connected(None, num_cpus=1) as ray:
            task = ray.remote(_gpu_name).options(num_gpus=min(1, torch.cuda.device_count()))
            found = ray.get(task.remote(), timeout=60)
            if torch.cuda.is_available() and not found:
                raise ResourceError(
                    "a local cluster starts, but its worker does not see the GPU that this process sees"
                )
            return f"a local cluster starts; its worker sees {found or 'no GPU'}"

    yield _try("Ray", seen, "use --backend local, which works without it")


def _gpu_name() -> str | None:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _files(out: Path) -> Iterator[Finding]:
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    elsewhere = "choose another --out"
    yield Finding("free disk", free > 10**9, f"{free / 1e9:,.1f} GB at {folder}", f"make room, or {elsewhere}")

    def write() -> str:
        with _probing(folder) as place:
            path = Path(place) / "probe"
            write_atomically(path, b"one")
            write_atomically(path, b"two")
            assert path.read_bytes() == b"two", "a renamed file does not hold what was written"
        return f"write, fsync and rename work at {folder}"

    yield _try("file system", write, elsewhere)
    yield _locks(folder)
    home = Path.home()
    writable = os.access(home, os.W_OK)
    remedy = (
        "fit needs no more; for ray start set RAY_AUTH_TOKEN, for the caches of matplotlib and triton MPLCONFIGDIR and "
        "TRITON_CACHE_DIR, or HOME itself, to what can be written"
    )
    yield Finding("HOME", True if writable else None, "writable" if writable else f"{home} is read-only", remedy)


def _locks(folder: Path) -> Finding:
    """Whether a lock of one process keeps others out."""
    remedy = (
        "let only one run at a time work on a set here, and run fit once more after several: it records what was lost"
    )
    try:
        with _probing(folder) as place, open(Path(place) / "lock", "w") as ours, open(Path(place) / "lock") as theirs:
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Finding("locks", True, f"flock works at {folder}")
    except OSError as error:
        return Finding("locks", None, f"{folder} has none: {error.strerror}", remedy)
    return Finding("locks", None, f"{folder} gives one lock to two", remedy)


def _probing(folder: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=folder, prefix=".inr-factory-doctor-")


def _try(what: str, probe: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, probe())
    except (FactoryError, OSError, AssertionError, RuntimeError, TimeoutError) as error:
        return Finding(what, False, " ".join(str(error).split()), remedy)
