"""Environment check: is this machine ready to make data sets here? The verb `doctor` prints it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Literal

import psutil
import torch
from filelock import FileLock, Timeout
from packaging.requirements import Requirement

from inr_factory.errors import FactoryError, ResourceError, UsageError, one_line
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.engines import choose_engine
from inr_factory.generation.fitting.self_check import compare
from inr_factory.generation.recipe import builtin_recipes
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.atomic_files import write_atomically

INSTALL = "pip install -c constraints.txt"
SHARED_BYTES = 200e6  # of /dev/shm; a container has 64 MB by default
OPEN_FILES = 1024
GPU_ENGINES: dict[Literal["fused", "batched"], SirenSpec] = {
    "fused": SirenSpec(2, 1),
    "batched": SirenSpec(2, 1, hidden_dim=128),
}


@dataclass(frozen=True)
class Finding:
    """One property of the machine. `good` is None for what may be missing; what is not good has a remedy."""

    what: str
    good: bool | None
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.good or self.remedy, f"{self.what}: a finding that is not good needs a remedy"


@dataclass(frozen=True)
class EnvironmentReport:
    """What `check_environment` found, one finding a property."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is broken; what may be missing does not count."""
        return all(finding.good is not False for finding in self.findings)


def check_environment(out: str | Path = ".") -> EnvironmentReport:
    """Check versions, cores, memory, GPU, Ray and the file system of a folder.

    A local Ray cluster with one worker is started and stopped, which takes seconds.

    Args:
        out: folder where data sets will be written; it need not exist.

    Returns:
        One finding for each property, with a remedy for each that is not good.
    """
    folder = Path(out).absolute()
    return EnvironmentReport((*_packages(), *_hardware(), *_limits(), *_ray(), *_file_system(folder)))


def _packages() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer")
    try:
        yield Finding("inr-factory", True, metadata.version("inr-factory"))
        required = list(map(Requirement, metadata.requires("inr-factory") or []))
    except metadata.PackageNotFoundError:
        yield Finding("inr-factory", None, "not installed, runs from its folder", f"{INSTALL} -e .")
        required = []
    yield from _core(required)
    yield from _extras(required)
    count = len(builtin_recipes())
    yield Finding("recipes", count > 0, f"{count} built in", "install again: the recipes lie inside the package")
    widths = fused_cpu.variants()
    slower = "batched, several times slower; symmetries, alignments and dws run in torch and scipy"
    engine = f"fused, compiled for {widths[0]}" if widths else slower
    yield Finding("fitting engine", True if widths else None, engine, fused_cpu.obstacle(SirenSpec(2, 1)))
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), os.environ.get("CC"))
    missing = "not installed; installing needs it, running does not"
    yield Finding("C compiler", True if compiler else None, compiler or missing, "install gcc or clang, or set CC")


def _missing(requirement: Requirement) -> str:
    """What is wrong with the installed version of a requirement; empty if nothing is."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{version}, needs {requirement.specifier}"


def _core(requirements: Iterable[Requirement]) -> Iterator[Finding]:
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            fault = _missing(requirement)
            remedy = f'{INSTALL} "{requirement.name}{requirement.specifier}"'
            yield Finding(requirement.name, not fault, fault or metadata.version(requirement.name), remedy)


def _extras(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """One finding an extra; those that only combine others, or serve developers, are left out."""
    for extra in metadata.metadata("inr-factory").get_all("Provides-Extra") or []:
        if extra in ("all", "dev", "docs"):
            continue
        needed = [
            requirement
            for requirement in requirements
            if requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
        ]
        faults = [f"{requirement.name} {fault}" for requirement in needed if (fault := _missing(requirement))]
        versions = ", ".join(
            f"{requirement.name} {metadata.version(requirement.name)}" for requirement in needed if not faults
        )
        remedy = f'for its commands, pip install "inr-factory[{extra}]"'
        yield Finding(f"extra {extra}", None if faults else True, "; ".join(faults) or versions, remedy)


def _hardware() -> Iterator[Finding]:
    yield Finding("cores", True, f"{num_cores()} usable of {os.cpu_count()}")
    gigabytes = psutil.virtual_memory().available / 1e9
    yield Finding("memory", gigabytes > 1, f"{gigabytes:.1f} GB available", "end other programs, or use --workers 1")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield from _gpu(torch.device("cuda", number))
    else:
        why = "this torch is built for CPUs" if torch.version.cuda is None else "torch sees none"
        remedy = (
            "INRs are fitted on the CPU; a GPU needs its driver, a torch built for CUDA, triton, a C compiler, and compute "
            "capability 8.0 for the fused engine"
        )
        yield Finding("GPU", None, f"none: {why}", remedy)


def _gpu(device: torch.device) -> Iterator[Finding]:
    """What a GPU is, and how far each engine is from the reference there; a kernel is compiled for it."""
    gpu = torch.cuda.get_device_properties(device)
    about = f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, compute capability {gpu.major}.{gpu.minor}"
    yield Finding(f"GPU {device.index}", True, f"{about}, triton {fused_cuda.triton_version() or 'not installed'}")
    for name, spec in GPU_ENGINES.items():
        what = f"{name} engine, GPU {device.index}"
        config = FitConfig(engine=name)
        try:
            engine, started = choose_engine(config, device, spec, checks=False), monotonic()
            report = compare(engine.fit, spec, config, device)
        except UsageError as error:
            yield Finding(
                what, None, one_line(error), f"auto takes the next engine; {INSTALL} triton, if that is missing"
            )
            continue
        except ResourceError as error:
            yield Finding(what, False, one_line(error), "end other programs on the GPU, and check its driver")
            continue
        passed = (
            f"{spec}: five steps differ from the reference's by {report.difference:.1g} of their size, "
            f"{report.tolerance:g} is accepted; {monotonic() - started:.1f} s with compilation"
        )
        remedy = (
            "fits take the next engine; check the C compiler, TRITON_CACHE_DIR, and the versions of torch and triton"
        )
        yield Finding(what, not report.reason, report.reason or passed, remedy)


def _limits() -> Iterator[Finding]:
    """Limits that a container or a shell may have set too low."""
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        remedy = (
            "Ray takes /tmp instead, which is slower: start the container with --shm-size=1g, or use --backend local"
        )
        yield Finding("/dev/shm", True if size >= SHARED_BYTES else None, f"{size / 1e9:,.2f} GB", remedy)
    if os.name == "posix":
        import resource  # Windows has no such limits

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        enough = files == resource.RLIM_INFINITY or files >= OPEN_FILES
        yield Finding("open files", True if enough else None, f"at most {files}", f"ulimit -n {64 * OPEN_FILES}")


def _ray() -> Iterator[Finding]:
    if find_spec("ray") is None:
        yield Finding("Ray", None, "not installed", 'use --backend local, or pip install "inr-factory[ray]"')
        return
    from inr_factory.generation.execution.ray_pool import connected

    def start() -> str:
        with connected(None, num_cpus=1) as ray:
            task = ray.remote(_gpu_name).options(num_gpus=min(1, torch.cuda.device_count()))
            gpu = ray.get(task.remote(), timeout=60)
            if torch.cuda.is_available() and not gpu:
                raise ResourceError(
                    "a local cluster starts, but its worker does not see the GPU that this process sees"
                )
            return f"a local cluster starts; its worker sees {gpu or 'no GPU'}"

    yield _try("Ray", start, "use --backend local, which works without it")


def _gpu_name() -> str | None:
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _file_system(folder: Path) -> Iterator[Finding]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    another = "choose another --out"
    yield Finding("free disk", free > 10**9, f"{free / 1e9:,.1f} GB at {folder}", f"free some space, or {another}")

    def write() -> str:
        with _probe_folder(folder) as probe:
            path = Path(probe) / "probe"
            write_atomically(path, b"one")
            write_atomically(path, b"two")
            assert path.read_bytes() == b"two", "a renamed file does not hold what was written"
        return f"write, fsync and rename work at {folder}"

    yield _try("file system", write, another)
    yield _locks(folder)
    home = Path.home()
    writable = os.access(home, os.W_OK)
    remedy = (
        "fit needs no more; set RAY_AUTH_TOKEN for ray start, MPLCONFIGDIR and TRITON_CACHE_DIR for caches, or HOME, "
        "to writable folders"
    )
    yield Finding("HOME", True if writable else None, "writable" if writable else f"{home} is read-only", remedy)


def _locks(folder: Path) -> Finding:
    """Whether a lock of one process excludes others."""
    remedy = "let one run at a time write a set here; after several, run fit once more: it records lost shards"
    try:
        with _probe_folder(folder) as probe, FileLock(Path(probe) / "lock", fallback_to_soft=False):
            try:
                FileLock(Path(probe) / "lock", timeout=0, fallback_to_soft=False).acquire().__exit__(None, None, None)
            except Timeout:
                return Finding("locks", True, f"file locks work at {folder}")
    except (OSError, NotImplementedError) as error:
        return Finding("locks", None, f"{folder} has none: {one_line(error)}", remedy)
    return Finding("locks", None, f"{folder} gives one lock to two", remedy)


def _probe_folder(folder: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=folder, prefix=".inr-factory-doctor-")


def _try(what: str, probe: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, probe())
    except (FactoryError, OSError, AssertionError, RuntimeError, TimeoutError) as error:
        return Finding(what, False, one_line(error), remedy)
