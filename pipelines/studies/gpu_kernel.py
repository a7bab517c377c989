"""Lists what the CUDA kernel compiles to for compute capability 9.0. Needs no GPU.

    python pipelines/studies/gpu_kernel.py --json kernel.json
    python pipelines/studies/gpu_kernel.py --layouts

A row is one spec in one mode: registers a thread, bytes of spills, bytes of shared memory, programs (CTAs) that fit on
one multiprocessor, and the instructions that one warp issues a tile, in total and by kind. Two columns bound the clocks
of a multiprocessor a point from below: its four schedulers issue one instruction of a warp each, and its shared-memory
pipe moves 128 bytes (loads, stores, shuffles). --layouts lists the candidates for the image spec instead
(`fused_cuda.candidate_layouts`).

It compiles with the triton that is installed (tested with 3.6.0 and 3.7.1) and reads the result with the tools that
triton ships: ptxas for registers and spills, nvdisasm for the instructions.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from inr_factory.generation.fitting import fused_cuda
from inr_factory.inr.spec import SirenSpec

IMAGE = SirenSpec(2, 1, output_bias=0.5)
SPECS = [  # of SPEEDS in gpu_figures.py
    IMAGE,
    SirenSpec(2, 3, output_bias=0.5),
    SirenSpec(3, 1, hidden_dim=32, num_hidden=3, omega_0=10.0),
    SirenSpec(3, 1, hidden_dim=64, omega_0=10.0),
    SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0),
]
KINDS = ["FFMA", "HMMA", "HGMMA", "MUFU", "LDS", "LDSM", "STS", "STSM", "SHFL", "BAR", "LDL", "STL"]
Row = dict[str, str | int | float]


def compile_ahead(spec: SirenSpec, **settings: Any) -> Any:
    """The kernel as `fused_cuda.run_steps` has it compiled, for compute capability 9.0.

    `settings` are those of `fused_cuda.compile_settings`. The result has `asm["ptx"]`, `asm["cubin"]`, `metadata`.
    """
    constants, options = fused_cuda.compile_settings(spec, **settings)
    kernel = fused_cuda.fused_triton().fit_kernel
    integers = {"num_points": "i32", "num_steps": "i32", "batch_points": "i32", "coords_stride": "i64"}
    arrays = {"coords", "targets", "flat", "mean", "square", "gradient", "rates", "stop_loss", "loss_out"}
    kinds = {name: "*fp32" if name in arrays else "fp32" for name in kernel.arg_names}
    signature = kinds | {"steps_out": "*i32"} | integers | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): number for name, number in constants.items()}
    return triton.compile(ASTSource(kernel, signature, places), target=GPUTarget("cuda", 90, 32), options=options)


def run_tool(name: str, *arguments: str, suffix: str, content: str | bytes) -> str:
    """Output of one of triton's tools about `content`."""
    tool = Path(importlib.util.find_spec("triton").origin).parent / "backends/nvidia/bin" / name  # type: ignore
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"kernel.{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = subprocess.run([tool, *arguments, path.name], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def instructions(cubin: bytes) -> list[tuple[str, str]]:
    """Opcode and operands of each instruction, labels with an empty opcode."""
    listing = run_tool("nvdisasm", "-c", suffix="cubin", content=cubin)
    found = []
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            found.append(("", label[1]))
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line):
            found.append((instruction[1], instruction[2]))
    return found


def tile_loop(code: list[tuple[str, str]]) -> list[str]:
    """Opcodes of the loop over tiles: of the loops without another one inside, that with the most matrix products."""
    labels = {operands: at for at, (opcode, operands) in enumerate(code) if not opcode}
    loops = []
    for at, (opcode, operands) in enumerate(code):
        target = re.search(r"\.L_x_\d+", operands)
        if opcode.startswith("BRA") and target and labels.get(target[0], at) < at:
            loops.append((labels[target[0]], at))
    inner = [loop for loop in loops if not any(loop[0] <= a and b < loop[1] for a, b in loops if (a, b) != loop)]
    bodies = [[opcode for opcode, _ in code[begin : end + 1] if opcode] for begin, end in inner]
    return max(bodies, key=lambda body: [sum(opcode.startswith(kind) for opcode in body) for kind in ("H", "FFMA")])


def pipe_clocks(opcode: str) -> int:
    """Clocks of the shared-memory pipe: one for 4 bytes a lane."""
    kind, *details = opcode.split(".")
    if kind in ("LDS", "STS", "LDL", "STL"):
        return 4 if "128" in details else 2 if "64" in details else 1
    if kind in ("LDSM", "STSM"):
        return int(details[-1]) if details[-1] in "24" else 1
    return int(kind == "SHFL")


def programs_at_once(registers: int, shared: int, num_warps: int) -> int:
    """CTAs on a multiprocessor of an H100 (CUDA C++ programming guide, compute capability 9.0): 64 warps, 32 CTAs,
    65,536 registers handed out 256 at a time to a warp, 228 KB of shared memory of which a CTA takes 1 KB more."""
    a_warp = -(-registers * 32 // 256) * 256
    return min(32, 64 // num_warps, 65536 // a_warp // num_warps, 228 * 1024 // (shared + 1024))


def measure(spec: SirenSpec, tf32: bool = False, layout: fused_cuda.Layout | None = None) -> Row:
    """What the compiler reports of a spec in a mode, with the usual layout or another."""
    compiled = compile_ahead(spec, tf32=tf32, layout=layout)
    layout = layout or fused_cuda.layout_of(spec)
    report = run_tool("ptxas", "-v", "--gpu-name=sm_90a", suffix="ptx", content=compiled.asm["ptx"])
    registers = int(re.search(r"Used (\d+) registers", report)[1])  # type: ignore[index]
    spills = sum(int(count) for count in re.findall(r"(\d+) bytes spill", report))
    body = tile_loop(instructions(compiled.asm["cubin"]))
    counts = Counter(opcode.split(".")[0] for opcode in body)
    return {
        "spec": str(spec).split(",")[0], "mode": "tf32" if tf32 else "fp32",
        "tile": layout.tile, "warps": layout.num_warps, "registers": registers, "spills, bytes": spills,
        "shared, bytes": compiled.metadata.shared,
        "CTAs": programs_at_once(registers, compiled.metadata.shared, layout.num_warps),
        "issue, clocks a point": round(len(body) * layout.num_warps / layout.tile / 4, 1),
        "pipe, clocks a point": round(sum(map(pipe_clocks, body)) * layout.num_warps / layout.tile, 1),
        "instr. a tile": len(body),
        **{kind: counts[kind] for kind in KINDS},
    }  # fmt: skip


def table(rows: list[Row]) -> str:
    names = list(rows[0])
    lines = [
        names,
        ["---"] * len(names),
        *([f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layouts", action="store_true", help="the candidate layouts of the image spec")
    parser.add_argument("--json", type=Path, help="file for the same figures as JSON")
    options = parser.parse_args()
    if options.layouts:
        rows = [measure(IMAGE, layout=layout) for layout in fused_cuda.candidate_layouts(IMAGE)]
    else:
        rows = [measure(spec, tf32) for spec in SPECS for tf32 in (False, True)]
    print(f"triton {triton.__version__}, sm_90, a warp's instructions a tile by kind\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps({"triton": triton.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
