"""Measures the GPU: parity, complete sets, speed compared with the usual ways, shapes, whole fits, loading and training.

    python pipelines/studies/gpu_figures.py --bundle gpu-bundle --out gpu.json

Run it from the repository's root. Every row is written at once, as JSON to --out and as Markdown to the same name with
.md, so that an interrupted run keeps its figures. It ends within --minutes: what there is no time for is listed as left
out. Parity is asserted; where a row fails it says so, later parts use the engine that `fit` would fall back to, and the
exit code is 1. `make gpu-bundle` prepares a machine without a network and prints the line to run there.

It has not run on a GPU yet. Its --quick form runs on a CPU with Triton's interpreter:

    TRITON_INTERPRET=1 python pipelines/studies/gpu_figures.py --quick --device cpu --out /tmp/gpu.json

The parts are in gpu/, one file each. --then-train fits ten views of Fashion-MNIST and trains on them until the time is up.
"""

import argparse
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from gpu.parity import parity
from gpu.problems import unpack_images
from gpu.readers import readers
from gpu.record import TIME, DeviceLostError, Record, one_line
from gpu.rivals import more_rivals, rivals
from gpu.sets import sets
from gpu.shapes import shapes
from gpu.speed import compile_needed, layouts, profile, speed, widths
from gpu.then_train import then_train
from gpu.whole_fit import whole_fit

from inr_factory.generation.fitting import fused_cpu, fused_cuda

ROOT = Path(__file__).parents[2]
# In their order. A part gets at most so many seconds, so that one that is slow leaves time for the others.
PARTS = {
    "compile": (compile_needed, 60), "parity": (parity, 60), "sets": (sets, 120), "speed": (speed, 40),
    "whole_fit": (whole_fit, 80), "shapes": (shapes, 80), "rivals": (rivals, 110), "readers": (readers, 60),
    "widths": (widths, 50), "layouts": (layouts, 40), "profile": (profile, 40), "more_rivals": (more_rivals, 300),
}  # fmt: skip
GRACE = 3.0  # seconds after the deadline until a part that still measures is given up


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of the figures (default: gpu.json)")
    parser.add_argument("--bundle", type=Path, default=ROOT / "gpu-bundle", help="folder that make gpu-bundle filled")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda:0"))
    parser.add_argument("--minutes", type=float, default=8.0, help="all ends within this time (default: 8)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="which figures (default: all)")
    parser.add_argument("--then-train", action="store_true", help="use what is left of the time for training")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument(
        "--engine", choices=("fused", "batched", "reference"), default="fused", help="engine of the sets"
    )
    parser.add_argument("--append", action="store_true", help="keep the tables of --out")
    options = parser.parse_args()
    if options.device.type == "cpu":  # the interpreter stands in for the GPU
        fused_cpu.fit_fused, fused_cpu.obstacle = fused_cuda.fit_fused, fused_cuda._beyond
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tables = json.loads(options.out.read_text()) if options.append and options.out.is_file() else {}
    deadline = monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="gpu-figures-") as folder:
        data = unpack_images(options.bundle, Path(folder))
        record = Record(
            options.device, options.out, deadline, Path(folder), options.bundle, data, options.quick, options.engine, tables
        )  # fmt: skip
        if not options.append:
            record.add("Machine", **machine(options.device))
        parts = list(options.parts)
        watchdog = threading.Timer(record.left + GRACE, give_up, [record])
        watchdog.daemon = True
        watchdog.start()
        while parts:
            name = parts.pop(0)
            function, most = PARTS[name]
            begin = monotonic()
            try:
                record.within(most, function)
            except DeviceLostError:
                continue_in_new_process(options, parts, record.left / 60)
            except Exception as error:  # the other parts are still of use
                record.fail(name, one_line(error))
            record.add(TIME, part=name, seconds=monotonic() - begin)
        if options.then_train:
            record.within(math.inf, then_train)
        watchdog.cancel()
    print(f"\n{record.markdown()}\nfigures in {options.out}, {'FAILED' if record.failed else 'passed'}")
    return int(record.failed)


def machine(device: torch.device) -> dict[str, str | float]:
    """What the figures belong to."""
    row: dict[str, str | float] = {"device": "CPU, Triton's interpreter", "python": platform.python_version()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        row |= {"device": properties.name, "multiprocessors": properties.multi_processor_count}
        row |= {"GiB": properties.total_memory / 2**30, "CUDA": str(torch.version.cuda)}
    for name in ("torch", "triton", "jax", "numpy"):
        try:
            row[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            row[name] = "not installed"
    return row | {"commit": os.environ.get("GPU_COMMIT", "")}


def give_up(record: Record) -> None:
    """End this process and those that it started: the time is up, and every row is written."""
    record.fail("the run", "a part did not end in time")
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


def continue_in_new_process(options: argparse.Namespace, parts: list[str], minutes: float) -> None:
    """Replace this process, whose GPU context is lost, by one that measures the other parts without the fused engine."""
    script = [sys.executable, str(Path(__file__)), "--out", str(options.out), "--bundle", str(options.bundle)]
    script += ["--device", str(options.device), "--minutes", f"{minutes:.2f}", "--engine", "reference", "--append"]
    script += ["--quick"] * options.quick + ["--then-train"] * options.then_train + ["--parts", *parts]
    os.execv(sys.executable, script)


if __name__ == "__main__":
    raise SystemExit(main())
