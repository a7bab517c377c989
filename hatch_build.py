"""Build hook: compiles the C code when a wheel, or an editable install, is made.

ctypes loads the libraries, so one wheel serves every Python of a platform: its tag is py3-none-PLATFORM. A cross compiler in
CC makes the wheel of another machine. Without a compiler, or with INR_FACTORY_PURE=1, the wheel is pure Python, and torch does
the work.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

FUSED = ("inr_factory/generation/fitting/fused.c", "inr_factory/generation/fitting/_fused.so")
NEURON_OPS = (
    "inr_factory/learning/transforms/neuron_ops.c",
    "inr_factory/learning/transforms/_neuron_ops.so",
)
ASSIGNMENTS = (
    "inr_factory/learning/alignment/linear_assignment.c",
    "inr_factory/learning/alignment/_linear_assignment.so",
)
SET_ATTENTION = (
    "inr_factory/learning/models/set_attention.c",
    "inr_factory/learning/models/_set_attention.so",
)
NORM_POOLS = (
    "inr_factory/learning/models/norm_pools.c",
    "inr_factory/learning/models/_norm_pools.so",
)
SOURCES = (FUSED, NEURON_OPS, ASSIGNMENTS, SET_ATTENTION, NORM_POOLS)

# Never -ffast-math: see the top of fused.c.
FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden"]
FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]

# Vector width -> flags; the library picks among them where it runs. The last can run on every machine.
X86 = {
    "avx512": "-mavx512f -mavx512dq -mavx512vl -mavx2 -mfma -mprefer-vector-width=512",
    "avx2": "-mavx2 -mfma",
    "baseline": "-DDISPATCH",
}
OTHERS = {"baseline": "-DDISPATCH"}
MACHINES = {"__x86_64__": "x86_64", "__aarch64__": "aarch64"}  # macro of the compiler -> name in a tag
ONE = {"all": "-ffp-contract=off"}  # as torch computes it


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the library where the package looks for it, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("INR_FACTORY_PURE"):
            return
        root = Path(self.root)
        try:
            macros = macros_of(find_compiler())
            widths = X86 if "__x86_64__" in macros else OTHERS
            for source, library in SOURCES:
                variants = widths if (source, library) in (FUSED, SET_ATTENTION) else ONE
                compile_library(root / source, root / library, variants)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            self.app.display_warning(
                f"The C code was not compiled; fits will run on the batched engine, several times slower, and "
                f"symmetries, alignments and dws in torch and scipy. To have it, install a C compiler (or set CC) and install again. "
                f"Reason: {reason.strip()}"
            )
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_of([root / library for _, library in SOURCES], macros)}"
        build_data["artifacts"] += [library for _, library in SOURCES]


def macros_of(compiler: list[str]) -> set[str]:
    """The macros that a compiler defines, which name the machine that it compiles for."""
    command = [*compiler, "-dM", "-E", "-x", "c", os.devnull]
    defined = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^#define (\w+)", defined, flags=re.M))


def platform_of(libraries: list[Path], macros: set[str]) -> str:
    """The platform of a wheel's tag: with glibc, the oldest version that has all functions of the libraries (PEP 600).

    They need nothing but libc and libm, so that there is nothing for auditwheel to copy into the wheel.
    """
    machine = next((name for macro, name in MACHINES.items() if macro in macros), None)
    versions = re.findall(rb"GLIBC_2\.(\d+)", b"".join(library.read_bytes() for library in libraries))
    if machine is None or not versions:
        return next(platform_tags())
    return f"manylinux_2_{max(17, *map(int, versions))}_{machine}"


def compile_library(source: Path, library: Path, variants: dict[str, str]) -> None:
    """Compile each variant and link them into one library, which appears only when it is complete.

    Raises OSError without a compiler, CalledProcessError (with its stderr) if it fails.
    """
    compiler = find_compiler()
    built_from = hashlib.sha256(
        source.read_bytes()
    ).hexdigest()  # by which compiled_library.py recognises a stale library
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = []
        for name, flags in variants.items():
            objects.append(str(Path(folder) / f"{name}.o"))
            names = [f"-DVARIANT={name}", f"-DBUILT_FROM={built_from}"]
            run([*compiler, *FLAGS, *flags.split(), *names, "-c", str(source), "-o", objects[-1]])
        linked = Path(folder) / library.name
        run([*compiler, "-shared", "-s", "-o", str(linked), *objects, "-lm"])
        os.replace(linked, library)


def find_compiler() -> list[str]:
    """$CC as a command line, or the first of the usual ones that is there."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    found = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if found is None:
        raise OSError("no C compiler (looked for cc, gcc and clang)")
    return [found]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
