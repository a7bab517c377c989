"""Compares the layer spreads of the published INR corpora with those of variants of their described recipe.

    python pipelines/studies/study_dwsnets.py --data-root ../shared/datasets --work /tmp/study_dwsnets

Fits the same Fashion-MNIST objects by variants of `dwsnets_fashion_mnist` (steps, learning rate, stop). Prints Markdown.
Sets that exist in --work are reused.
"""

import argparse
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.reporting.weight_statistics import PUBLISHED, Spreads, measure_spreads

STOPS = {"or 40 dB": "40", "": "null"}
WAYS = [
    (5e-4, 1000, "or 40 dB"), (5e-4, 3000, "or 40 dB"), (5e-4, 10_000, "or 40 dB"), (5e-4, 3000, ""),
    (1e-3, 1000, "or 40 dB"), (1e-3, 3000, "or 40 dB"),
]  # fmt: skip
OTHER_STARTS = [("siren", 5e-4, 1000, "or 40 dB")]


def study(data_root: Path, work: Path, count: int) -> None:
    torch.set_num_threads(1)
    target = PUBLISHED["dwsnets_fashion_mnist"]
    print(f"{count} Fashion-MNIST objects, 2-32-32-1, one view; published figures in the last row.\n")
    print(
        "| start | fit | steps taken | median dB | W std | b std | typical factor off |\n|---|---|---|---|---|---|---|"
    )
    for start, rate, steps, stop in [("dwsnets", *way) for way in WAYS] + OTHER_STARTS:
        spreads, taken, level = measure(data_root, work, count, start, rate, steps, stop)
        fit = f"Adam {rate:g}, {steps:,} steps {stop}".strip()
        off = spreads.typical_factor(target)
        print(f"| {start} | {fit} | {taken:,.0f} | {level:.1f} | {cells(spreads)} | {off:.2f} |", flush=True)
    print(f"| dwsnets | published | ? | ? | {cells(target)} | 1 |")


def measure(
    data_root: Path, work: Path, count: int, start: str, rate: float, steps: int, stop: str
) -> tuple[Spreads, float, float]:
    """Spreads, mean steps taken and median dB of one way to fit."""
    settings = [f"spec.start={start}", f"fit.learning_rate={rate}", f"fit.steps={steps}"]
    settings += [f"fit.target_psnr={STOPS[stop]}", f"limit={{train: {count}, val: 0, test: 0}}"]
    recipe = load_recipe("dwsnets_fashion_mnist", settings)
    out = work / f"{start}-{rate:g}-{steps}-{'40dB' if stop else 'all'}-{count}"
    begun = monotonic()
    report = fit_dataset(recipe, out, data_root=data_root, backend="local", workers=1, device="cpu")
    if report.made:
        (out / "seconds").write_text(f"{monotonic() - begun:.0f}\n")
    data = INRDataset(out, "train")
    inrs = INRBatch.from_flat(data.spec, data.gather(np.arange(len(data)))[0])
    entries = [entry for entry in data.manifest.shards if entry.rows]
    taken = sum((entry.mean_steps or 0) * entry.rows for entry in entries) / len(data)
    return measure_spreads(inrs), taken, float(np.median(data.psnr))


def cells(spreads: Spreads) -> str:
    return " | ".join(" ".join(f"{value:.4f}" for value in values) for values in (spreads.weights, spreads.biases))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    study(arguments.data_root, arguments.work, arguments.count)
