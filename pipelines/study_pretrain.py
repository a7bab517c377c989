"""What is contrastive pre-training worth? Encoders that learned from two augmentations of one INR, from two views of one
object, or from both, against none: nearest neighbours, a linear probe, and fine-tuning with few labels.

python pipelines/study_pretrain.py --dataset inrs/fashion_mnist --work /tmp/study_pretrain

Prints Markdown. What is in --work already is taken as it is: run it again after an interruption.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from inr_factory.manifest import load_manifest
from inr_factory.sweep import RESULT, make_run

MODEL = "dws:set_layer=deepsets"
AUGMENT = ("rotate2d", "translate", "scale", "noise:scale=0.1", "quantile_dropout")
POSITIVES = ("augment", "views", "both")
LABELS = {10: 20, 50: 10}  # labels a class: epochs of fine-tuning


def study(dataset: Path, work: Path, epochs: int, seeds: Sequence[int]) -> None:
    pretrained, tuned = {}, {}
    for seed in seeds:
        for labels in LABELS:
            tuned["none", labels, seed] = tune(dataset, work, None, labels, seed)
        for positives in POSITIVES:
            pretrained[positives, seed] = pretrain(dataset, work, positives, epochs, seed)
            for labels in LABELS:
                tuned[positives, labels, seed] = tune(dataset, work, f"{positives}-{epochs}-{seed}", labels, seed)
    sizes = load_manifest(dataset)
    parts = ", ".join(f"{split} {part.objects:,}" for split, part in sizes.splits.items())
    print(
        f"{sizes.name}, {sizes.views} views of each object ({parts}); {MODEL}, canonical form; pre-trained for {epochs} "
        f"epochs, augmented by {', '.join(AUGMENT)}; seeds {', '.join(map(str, seeds))}. Accuracy on test in percent "
        f"(chance {100 / len(sizes.classes):.0f}).\n"
    )
    heads = ["20 nearest neighbours", "linear probe", *[f"{labels} labels a class" for labels in LABELS]]
    print(f"| positives | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for positives in ("none", *POSITIVES):
        kind = "untrained" if positives == "none" else "pretrained"
        runs = [pretrained["views" if positives == "none" else positives, seed] for seed in seeds]
        cells = [percent([run[kind][probe] for run in runs]) for probe in ("neighbours", "linear")]
        cells += [percent([tuned[positives, labels, seed] for seed in seeds]) for labels in LABELS]
        print(f"| {positives} | {' | '.join(cells)} |")


def pretrain(dataset: Path, work: Path, positives: str, epochs: int, seed: int) -> dict[str, Any]:
    """What `inr-factory pretrain --json` says."""
    augment = [] if positives == "views" else [word for name in AUGMENT for word in ("--augment", name)]
    return made(
        work / f"{positives}-{epochs}-{seed}",
        ["pretrain", str(dataset), "--model", MODEL, "--positives", positives, *augment, "--epochs", str(epochs)],
        ["--lr", "5e-3", "--warmup-steps", "50", "--probe-epochs", "4", "--seed", str(seed)],
    )


def tune(dataset: Path, work: Path, start: str | None, labels: int, seed: int) -> float:
    """Test accuracy, in [0, 1], of a classifier that saw so many labels a class, all views of their objects."""
    found = made(
        work / f"tuned-{start or f'none-{seed}'}-{labels}",
        ["train", str(dataset), "--model", MODEL, "--labels-per-class", str(labels), "--epochs", str(LABELS[labels])],
        ["--batch-size", "64", "--lr", "2e-3", "--warmup-steps", "20", "--schedule", "cosine", "--seed", str(seed)],
        [] if start is None else ["--init", str(work / start)],
    )
    return float(found["test"]["accuracy"])


def made(folder: Path, *arguments: list[str]) -> dict[str, Any]:
    """The figures of a run of `inr-factory`, made unless they are there."""
    if not (folder / RESULT).exists():
        fault = make_run([*chain(*arguments), "--device", "cpu", "--out", str(folder), "--json"], folder)
        if fault:
            raise SystemExit(f"{folder}: {fault}")
    found: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return found


def percent(shares: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{100 * mean(shares):.1f}" + (f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a set of at least two views")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--epochs", type=int, default=8, help="of pre-training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    given = parser.parse_args()
    study(given.dataset, given.work, given.epochs, given.seeds)
