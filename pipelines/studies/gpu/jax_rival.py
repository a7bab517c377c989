"""Measures JAX for rivals.py, in a process of its own: prints one line of JSON a problem, rates in INR-steps a second."""

import json
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[3]))

import jax
import jax.numpy as jnp
import torch

from gpu.record import one_line
from gpu.rivals import STEPS, problem
from inr_factory.benchmarks.fitting_baselines import jax_fit
from inr_factory.inr.spec import SirenSpec


def rate(spec: SirenSpec, points: int, count: int) -> float:
    """The median of three runs, after one that compiles."""
    arrays = [jnp.asarray(tensor.numpy()) for tensor in problem(spec, points, count, torch.device("cpu"))]
    fit, taken = jax_fit(spec), []
    for _ in range(4):
        begin = perf_counter()
        fit(*arrays, STEPS).block_until_ready()
        taken.append(perf_counter() - begin)
    return count * STEPS / sorted(taken[1:])[1]


def main() -> None:
    jax.config.update("jax_default_matmul_precision", "highest")  # single precision, not TF32
    given = json.loads(sys.argv[1])
    for number, (fields, points) in enumerate(given["problems"]):
        row = {"problem": number, "device": jax.devices()[0].platform}
        try:
            spec = SirenSpec.from_dict(fields)
            row["rate"], row["count"] = max((rate(spec, points, count), count) for count in given["counts"])
        except Exception as error:  # one problem of several
            row["error"] = one_line(error)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
