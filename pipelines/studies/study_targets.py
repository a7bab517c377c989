"""Reads from weights what is no class: coefficients of sines, the omega_0 of a fit, volume and area of a shape.

    python pipelines/studies/study_targets.py --work /tmp/study_targets --out docs/tables/targets.md

Makes three sets, trains every reader on each target, and writes Markdown to --out. The sines are a sin(b x) on [-pi, pi] with
a and b uniform in [0, 10] (Navon et al., ICML 2023). The set of mixed quality has images of Fashion-MNIST, fitted with an
omega_0 between 10 and 60 for 20 to 320 steps; its INRs are then written with omega_0 30, which is exact. The shapes are
`primitives`, fitted by small networks from few points. What exists in --work is reused, so the study resumes.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from study_pretrain import made

import inr_factory as inr
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.storage.manifest import Manifest, SourceRecord, SplitRecord, ViewKey
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import write_shard

READERS = ("mlp", "dws:set_layer=deepsets", "parity", "parity:sine_path=false", "probes")
TARGETS = {  # set, target, and what it is called in the table
    "sines": [("coefficients", "a and b of a sin(b x)")],
    "quality": [("omega_0", "omega_0 of a fit"), ("psnr", "PSNR of an INR")],
    "primitives": [("facts.volume", "volume of a shape"), ("facts.area", "area of a shape")],
}
SMALL = (
    "spec.hidden_dim=32",
    "spec.num_hidden=2",
    "fit.target_psnr=30",
    "source.num_points=8000",
    "source.num_truth=2000",
)
MOST_SHAPES = 1000  # each takes half a second of a core
Array = np.ndarray[Any, Any]
OMEGAS, STEPS = (10, 15, 20, 25, 30, 40, 50, 60), (20, 80, 320)


def study(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    make = {"sines": make_sines, "quality": make_quality, "primitives": make_primitives}
    scores: dict[str, dict[str, list[float]]] = {}
    for name in given.sets:
        folder = given.work / name
        make[name](folder, given.objects)
        for target, title in TARGETS[name]:
            for reader in READERS:
                for seed in range(given.seeds):
                    run = given.work / "runs" / f"{name}-{target}-{reader.replace(':', '_')}-{seed}"
                    options = [
                        "--target",
                        target,
                        "--model",
                        reader,
                        "--seed",
                        str(seed),
                        "--epochs",
                        str(given.epochs),
                    ]
                    result = made(run, ["train", str(folder), *options, "--batch-size", "32"])
                    scores.setdefault(title, {}).setdefault(reader, []).append(float(result["test"]["r2"]))
                print(f"{title}, {reader}: R² {text(scores[title][reader])}", flush=True)
    given.out.write_text("".join(f"{line}\n" for line in table(scores)))


def make_sines(folder: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.uniform(0, 10, (2, count))
    x = np.linspace(-1, 1, 128)
    values = a[:, None] * np.sin(b[:, None] * math.pi * x)
    fitted = inr.fit(coords=x[:, None], values=values[..., None], target_psnr=45, optimizer="sprint")
    fitted.save(folder, targets={"coefficients": np.stack([a, b], 1)})


def make_quality(folder: Path, count: int) -> None:
    """Images of Fashion-MNIST, each with an omega_0 and a number of steps that are drawn for it."""
    if (folder / "manifest.json").exists():
        return
    source = open_source(inr.load_recipe("fashion_mnist").source)
    images = np.stack([source.signal(index).targets.numpy().reshape(28, 28) for index in range(count)])
    labels = np.array([item.label for item in source.items[:count]])
    draw = np.random.default_rng(0)
    chosen = draw.integers(0, [len(OMEGAS), len(STEPS)], (len(images), 2))
    weights: list[torch.Tensor | None] = [None] * len(images)
    psnr = np.zeros(len(images))
    for omega, steps in np.ndindex(len(OMEGAS), len(STEPS)):
        rows = np.flatnonzero((chosen == (omega, steps)).all(1))
        # seed: no two groups begin alike
        fitted = inr.fit(
            images[rows], omega_0=OMEGAS[omega], steps=STEPS[steps], target_psnr=None, floor_psnr=-100,
            optimizer="sprint", seed=omega * len(STEPS) + steps,
        )  # fmt: skip
        for row, flat, level in zip(rows, at_omega(fitted.inrs, 30.0).flatten(), fitted.psnr, strict=True):
            weights[row], psnr[row] = flat, level
    spec = at_omega(fitted.inrs, 30.0).spec
    flat = np.stack([one.numpy() for one in weights if one is not None])
    save_inrs(folder, spec, flat, psnr, labels, source.classes)
    names = [f"{row:06d}" for row in range(len(images))]
    inr.add_targets(folder, {"object_id": names, "omega_0": np.array(OMEGAS, float)[chosen[:, 0]]})


def at_omega(inrs: INRBatch, omega_0: float) -> INRBatch:
    """The same functions with another omega_0: sin(u (W x + b)) = sin(v (W u / v x + b u / v))."""
    factor = inrs.spec.omega_0 / omega_0
    scale = [factor] * (len(inrs.weights) - 1) + [1.0]
    weights, biases = (
        [part * by for part, by in zip(parts, scale, strict=True)] for parts in (inrs.weights, inrs.biases)
    )
    return INRBatch(replace(inrs.spec, omega_0=omega_0), tuple(weights), tuple(biases))


def save_inrs(
    folder: Path, spec: inr.SirenSpec, flat: Array, psnr: Array, labels: Array, classes: tuple[str, ...]
) -> None:
    """A set of INRs that are in memory: the first 70 % of the objects for training, 10 % for validation."""
    count = len(flat)
    ends = {"train": (0, count * 7 // 10), "val": (count * 7 // 10, count * 8 // 10), "test": (count * 8 // 10, count)}
    entries = []
    for split, (start, end) in ends.items():
        names = [f"{row:06d}" for row in range(start, end)]
        columns = {
            "weights": flat[start:end], "label": labels[start:end], "object_id": np.array(names, dtype=np.str_),
            "view": np.zeros(len(names)), "seed": np.array([ViewKey(name, 0).seed(0) for name in names]),
            "psnr": psnr[start:end], "loss": 10 ** (-psnr[start:end] / 10), "steps": np.full(len(names), -1),
            "status": np.ones(len(names)), "height": np.full(len(names), 28), "width": np.full(len(names), 28),
        }  # fmt: skip
        entries.append(
            write_shard(folder, (split, 0, 0), spec, columns, (), {"fingerprint": "0" * 16, "field": "values"})
        )
    manifest = Manifest(
        name="quality", spec=spec.to_dict(), recipe={"views": 1}, fingerprint="0" * 16, classes=classes,
        source=SourceRecord(name="fashion_mnist", version="1", licence="MIT", fingerprint="0"),
        splits={split: SplitRecord(objects=end - start, blocks=1) for split, (start, end) in ends.items()},
    )  # fmt: skip
    update_manifest(folder, manifest, entries)


def make_primitives(folder: Path, count: int) -> None:
    kinds = 14
    per_class = -(-min(count, MOST_SHAPES) // kinds)
    settings = [*SMALL, "source.measure=true", f"source.per_class={per_class}"]
    inr.fit_dataset("primitives", folder, settings=settings, views=1, backend="local")


def text(scores: list[float]) -> str:
    return f"{mean(scores):.3f}" + (f" ± {stdev(scores):.3f}" if len(scores) > 1 else "")


def table(scores: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    yield f"| R² on test objects | {' | '.join(READERS)} |"
    yield f"|---|{'---|' * len(READERS)}"
    for title, row in scores.items():
        yield f"| {title} | {' | '.join(text(row[reader]) for reader in READERS)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--objects", type=int, default=1500, help="of each set")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    study(parser.parse_args())
