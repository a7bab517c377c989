"""Measures the CUDA engine: agreement, speed compared with torch.func and torch.compile, roofline, a complete set.

    python pipelines/studies/gpu_figures.py --images train-images-idx3-ubyte.gz --out gpu.json

Prints Markdown and writes the same figures as JSON to --out. It has not run on a GPU yet. Its --quick form was tested on
a CPU with Triton's interpreter (TRITON_INTERPRET=1 ... --device cpu --quick).

Run it from the repository's root. It requires torch, triton, a C compiler for triton, numpy, h5py and a YAML library. On
a machine without pydantic, add wheels of pydantic, pydantic-core, annotated-types and typing-inspection to PYTHONPATH.
Ray, trimesh and libigl are not needed. --images is the raw file of Fashion-MNIST's 60,000 training images (26 MB
gzipped); without it, smooth random images are used, and the figures say so. `--parts layouts` times every layout of the
kernel: 240 compilations of a few seconds, so run it alone.
"""

import argparse
import gzip
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
import triton
from torch import Tensor
from torch.func import grad_and_value, vmap

from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.optimizers import EPSILON, adam_settings
from inr_factory.generation.fitting.reference import objective_and_error
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

IMAGE = SirenSpec(2, 1, output_bias=0.5)
# spec and number of points: an image, an RGB image, a shape in mini-batches of its size, the largest that fits.
SPEEDS = [
    (IMAGE, 784),
    (SirenSpec(2, 3, output_bias=0.5), 1024),
    (SirenSpec(3, 1, hidden_dim=32, num_hidden=3, omega_0=10.0), 2048),
    (SirenSpec(3, 1, hidden_dim=64, omega_0=10.0), 2048),
    (SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0), 2048),
]
PARTS = ["parity", "speed", "set", "layouts"]
Row = dict[str, str | float]


def cloud(spec: SirenSpec, points: int, seed: int) -> Signal:
    """Smooth values at random points."""
    generator = torch.Generator().manual_seed(seed)
    coords = 2 * torch.rand(points, spec.in_dim, generator=generator) - 1
    direction = 3 * torch.randn(spec.in_dim, spec.out_dim, generator=generator)
    return Signal(coords, 0.5 + 0.4 * torch.sin(coords @ direction))


def synthetic(count: int) -> Tensor:
    """(count, 784): smooth images, a few waves each."""
    grid, generator = pixel_grid(28, 28), torch.Generator().manual_seed(0)
    waves = 4 * torch.randn(count, 2, 3, generator=generator)
    phases = 6 * torch.rand(count, 1, 3, generator=generator)
    return 0.5 + 0.15 * torch.sin(grid @ waves + phases).sum(dim=2)


def read_images(path: Path) -> Tensor:
    """(N, 784) in [0, 1] from a raw MNIST file (LeCun et al.), gzipped or not."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 784)
    return torch.from_numpy(pixels.copy()).float() / 255


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The median of some runs, after one that compiles."""

    def once() -> float:
        begin = perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - begin

    once()
    return sorted(once() for _ in range(repeats))[repeats // 2]


def rates(device: torch.device, quick: bool) -> dict[str, float]:
    """Peak rates of the machine: FLOP/s of matrix products, and pairs of sine and cosine a second."""
    size = 256 if quick else 8192
    a, b = torch.randn(2, size, size, device=device)
    flops = {}
    for name, precision in (("fp32 FLOP/s", "highest"), ("tf32 FLOP/s", "high")):
        torch.set_float32_matmul_precision(precision)
        flops[name] = 2 * size**3 / seconds(lambda: a @ b, device)
    torch.set_float32_matmul_precision("highest")
    programs, repeats = (2, 3) if quick else (132 * 16, 2000)
    z = torch.rand(programs * 512, device=device)
    kernel, sine, cosine = fused_cuda.fused_triton().sincospi_kernel, torch.empty_like(z), torch.empty_like(z)
    took = seconds(lambda: kernel[(programs,)](z, sine, cosine, repeats, COUNT=512), device)
    return {**flops, "sincos/s": programs * 512 * repeats / took}


def work(spec: SirenSpec, points: int) -> tuple[float, float]:
    """FLOP of the matrix products of one step, and its pairs of sine and cosine."""
    products = [outputs * inputs for outputs, inputs in spec.layer_shapes]
    return 2 * points * (3 * sum(products) - products[0]), points * spec.hidden_dim * spec.num_hidden


def parity(spec: SirenSpec, tf32: bool, device: torch.device, quick: bool) -> Row:
    """Differences from the reference on the same device: the largest of several INRs."""
    count, points, short, full = (2, 20, 3, 5) if quick else (16, 784, 20, 300)
    signals = [cloud(spec, points, seed) for seed in range(count)]
    keys = [ViewKey(f"{number}", 0) for number in range(count)]

    def fit(engine: str, steps: int, batch_points: int | None = None, count: int = count) -> tuple[Tensor, Tensor]:
        config = FitConfig(
            engine=engine, steps=steps, target_psnr=None, floor_psnr=-99, attempts=1, batch_points=batch_points,
            tf32=tf32 and engine == "fused", learning_rate=1e-3,
        )  # fmt: skip
        fitted = fit_views(spec, keys[:count], signals[:count], config, run_seed=0, device=device)
        return fitted.inrs.flatten(), torch.from_numpy(fitted.psnr)

    def difference(batch_points: int | None = None) -> float:
        fused, reference = fit("fused", short, batch_points)[0], fit("reference", short, batch_points)[0]
        return float(((fused - reference).norm(dim=1) / reference.norm(dim=1)).max())

    return {
        "spec": str(spec), "mode": "tf32" if tf32 else "fp32",
        f"{short} steps, relative": difference(), f"{short} steps of mini-batches": difference(points // 3),
        f"{full} steps, dB": float((fit("fused", full)[1] - fit("reference", full)[1]).abs().max()),
        "alone as together": str(torch.equal(fit("fused", short, count=1)[0][0], fit("fused", short)[0][0])),
    }  # fmt: skip


def fused_rate(
    spec: SirenSpec, points: int, device: torch.device, quick: bool, tf32: bool = False,
    layout: fused_cuda.Layout | None = None,
) -> float:  # fmt: skip
    """INR-steps a second of the kernel alone."""
    count, steps = (2, 2) if quick else (4096, 60)
    coords = cloud(spec, points, 0).coords.to(device)
    targets = torch.rand(count, points, spec.out_dim, device=device)
    flat, stop = initialize(spec, range(count)).flatten().to(device), torch.full((count,), -1.0, device=device)
    adam = adam_settings(FitConfig(steps=steps))
    took = seconds(
        lambda: fused_cuda.run_steps(spec, coords, targets, flat.clone(), adam, stop, tf32=tf32, layout=layout), device
    )
    return count * steps / took


def baseline_rate(
    spec: SirenSpec, points: int, device: torch.device, steps: int, counts: Sequence[int], compiled: bool
) -> tuple[float, int]:
    """INR-steps a second of torch.func with Adam, eager or compiled, without any stopping test; and its best batch."""
    slope_and_loss = vmap(grad_and_value(objective_and_error(spec, "values"), has_aux=True), in_dims=(0, None, 0))

    def step(flat: Tensor, mean: Tensor, square: Tensor, coords: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        slope, _ = slope_and_loss(flat, coords, targets)
        mean = torch.lerp(mean, slope, 0.1)
        square = 0.999 * square + 0.001 * slope * slope
        return flat - 5e-4 * mean / (square.sqrt() + EPSILON), mean, square

    best = (0.0, 0)
    for count in counts:
        torch._dynamo.reset()
        run = torch.compile(step, dynamic=False) if compiled else step
        coords = cloud(spec, points, 0).coords.to(device)
        targets = torch.rand(count, points, spec.out_dim, device=device)
        flat = initialize(spec, range(count)).flatten().to(device)
        zeros = torch.zeros_like(flat)

        def several(run=run, state=(flat, zeros, zeros), rest=(coords, targets)) -> None:  # type: ignore[no-untyped-def]
            for _ in range(steps):
                state = run(*state, *rest)

        try:
            best = max(best, (count * steps / seconds(several, device), count))
        except torch.OutOfMemoryError:
            break
    return best


def speed(device: torch.device, quick: bool, measured: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for spec, points in [(IMAGE, 32)] if quick else SPEEDS:
        flop, pairs = work(spec, points)
        fused = fused_rate(spec, points, device, quick)
        steps, counts = (2, (2,)) if quick else (20, (256, 1024, 4096))
        eager, batch = baseline_rate(spec, points, device, steps, counts, compiled=False)
        compiled, _ = baseline_rate(spec, points, device, steps, (batch,), compiled=True)
        least = flop / (measured["tf32 FLOP/s"] / 3) + pairs / measured["sincos/s"]
        rows.append({
            "spec": str(spec), "points": points, "fused, INR-steps/s": fused,
            "tf32 mode": fused_rate(spec, points, device, quick, tf32=True),
            "eager torch.func": eager, "batch": batch, "times eager": fused / eager,
            "torch.compile": compiled, "times compiled": fused / max(compiled, 1e-9),
            "share of the roofline": least * fused,
        })  # fmt: skip
    return rows


def layouts(device: torch.device, quick: bool) -> list[Row]:
    rows: list[Row] = []
    for spec, points in SPEEDS:
        chosen = fused_cuda.layout_of(spec)
        for tile, num_warps, registers in itertools.product((16, 32, 64), (1, 2, 4, 8), (96, 128, 168, 255)):
            layout = fused_cuda.Layout(chosen.width, tile, num_warps, registers, chosen.shared)
            row: Row = {"spec": str(spec), "tile": tile, "warps": num_warps, "registers": registers}
            try:
                row["INR-steps/s"] = fused_rate(spec, points, device, quick, layout=layout)
            except (RuntimeError, triton.runtime.errors.OutOfResources) as error:
                row["INR-steps/s"] = " ".join(str(error).split())[:80]
            if (tile, num_warps, registers) == (chosen.tile, chosen.num_warps, chosen.registers):
                row["chosen"] = "yes"
            rows.append(row)
    return rows


def complete_set(images: Tensor, device: torch.device, steps: int, batch: int) -> Row:
    """All images fitted by sprint through `fit_views`, `batch` in a call, initial values and quality included."""
    started = perf_counter()
    signals = [Signal(pixel_grid(28, 28), image[:, None]) for image in images]
    keys = [ViewKey(f"{number}", 0) for number in range(len(images))]
    ready = perf_counter()
    config = FitConfig(engine="fused", optimizer="sprint", steps=steps, floor_psnr=0)
    parts = [
        fit_views(IMAGE, keys[begin : begin + batch], signals[begin : begin + batch], config, 0, device)
        for begin in range(0, len(keys), batch)
    ]
    took = perf_counter() - ready
    psnr = np.concatenate([part.psnr for part in parts])
    return {
        "INRs": len(images), "steps at most": steps, "in a call": batch, "signals, s": ready - started, "fit, s": took,
        "INRs/s": len(images) / took, "mean steps": float(np.mean(np.concatenate([part.steps for part in parts]))),
        "median dB": float(np.median(psnr)), "share of 40 dB": float((psnr >= 40).mean()),
        "failed": sum(len(part.failures) for part in parts),
    }  # fmt: skip


def table(title: str, rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))

    def shown(entry: str | float) -> str:
        if isinstance(entry, str) or entry is None:
            return entry or ""
        return f"{entry:,.0f}" if abs(entry) >= 1000 or entry % 1 == 0 else f"{entry:.3g}"

    lines = [names, ["---"] * len(names), *([shown(row.get(name, "")) for name in names] for row in rows)]
    return f"\n## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="raw file of Fashion-MNIST's training images")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="which figures (default: no layouts)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    options = parser.parse_args()
    device, quick = options.device, options.quick
    if device.type == "cpu":  # the interpreter stands in for the GPU
        fused_cpu.fit_fused, fused_cpu.obstacle = fused_cuda.fit_fused, fused_cuda._beyond

    measured = rates(device, quick)
    machine: Row = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU", "torch": torch.__version__,
        "triton": triton.__version__, **measured,
    }  # fmt: skip
    figures: dict[str, list[Row]] = {}

    def keep(title: str, rows: list[Row]) -> None:
        """Print and save a table at once, so that an interrupted run keeps its results."""
        figures[title] = rows
        print(table(title, rows), flush=True)
        options.out.write_text(json.dumps(figures, indent=1))

    keep("Machine", [machine])
    if "parity" in options.parts:
        specs = [spec for spec, _ in SPEEDS[: 1 if quick else None]]
        exact = [parity(spec, False, device, quick) for spec in specs]
        keep("Parity with the reference, worst INR", [*exact, parity(IMAGE, True, device, quick)])
    if "speed" in options.parts:
        keep("Speed", speed(device, quick, measured))
    if "set" in options.parts:
        count = 1 if quick else 60_000
        images = read_images(options.images)[:count] if options.images else synthetic(count)
        kind = "Fashion-MNIST" if options.images else "smooth random images"
        sizes, steps = ((count,), (2,)) if quick else ((count, 4096, 500), (60, 80))
        rounds = [complete_set(images, device, most, size) for most in steps for size in sizes]
        keep(f"A complete set of {kind}, 2-32-32-1, sprint to 40 dB", rounds)
    if "layouts" in options.parts:
        keep("Layouts", layouts(device, quick))


if __name__ == "__main__":
    main()
