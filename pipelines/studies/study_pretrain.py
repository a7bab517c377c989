"""Compares contrastive pre-training on two augmentations of one INR, on two views of one object, on both, and without.

    python pipelines/studies/study_pretrain.py --dataset inrs/fashion_mnist --work /tmp/study_pretrain

Measures nearest neighbours, linear probes, and fine-tuning with few labels. Prints Markdown. Runs that exist in --work are
reused, so the study resumes after an interruption.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.models.contrastive import Contrastive
from inr_factory.learning.training.probes import features_of, linear_accuracy
from inr_factory.learning.training.run_config import BEST
from inr_factory.learning.training.sweep import RESULT, make_run
from inr_factory.storage.manifest_file import load_manifest

MODEL = "dws:set_layer=deepsets"
AUGMENT = ("rotate2d", "translate", "scale", "noise:scale=0.1", "quantile_dropout")
POSITIVES = ("augment", "views", "both")
LABELS = {10: 20, 50: 10}  # labels a class: epochs of fine-tuning


def study(dataset: Path, work: Path, epochs: int, seeds: Sequence[int]) -> None:
    torch.set_num_threads(1)
    pretrained, tuned, probed = {}, {}, {}
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
    for seed in seeds:
        for positives in POSITIVES:
            probed[positives, seed] = probe(dataset, work / f"{positives}-{epochs}-{seed}", seed)
        probed["none", seed] = probe(dataset, work / f"views-{epochs}-{seed}", seed, untrained=True)
    heads = ["neighbours, all labels", "probe, all labels"]
    heads += [f"{how}, {labels} a class" for labels in LABELS for how in ("probe", "fine-tuned")]
    print(f"| positives | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for positives in ("none", *POSITIVES):
        kind = "untrained" if positives == "none" else "pretrained"
        runs = [pretrained["views" if positives == "none" else positives, seed] for seed in seeds]
        cells = [percent([run[kind][probe] for run in runs]) for probe in ("neighbours", "linear")]
        for labels in LABELS:
            cells.append(percent([probed[positives, seed][labels] for seed in seeds]))
            cells.append(percent([tuned[positives, labels, seed] for seed in seeds]))
        print(f"| {positives} | {' | '.join(cells)} |")


def pretrain(dataset: Path, work: Path, positives: str, epochs: int, seed: int) -> dict[str, Any]:
    """The result of `inr-factory pretrain --json`."""
    augment = [] if positives == "views" else [word for name in AUGMENT for word in ("--augment", name)]
    return made(
        work / f"{positives}-{epochs}-{seed}",
        ["pretrain", str(dataset), "--model", MODEL, "--positives", positives, *augment, "--epochs", str(epochs)],
        ["--lr", "5e-3", "--warmup-steps", "50", "--probe-epochs", "4", "--seed", str(seed)],
    )


def tune(dataset: Path, work: Path, init: str | None, labels: int, seed: int) -> float:
    """Test accuracy, in [0, 1], of a classifier fine-tuned with `labels` labels a class and all views of their objects."""
    result = made(
        work / f"tuned-{init or f'none-{seed}'}-{labels}",
        ["train", str(dataset), "--model", MODEL, "--labels-per-class", str(labels), "--epochs", str(LABELS[labels])],
        ["--batch-size", "64", "--lr", "2e-3", "--warmup-steps", "20", "--schedule", "cosine", "--seed", str(seed)],
        [] if init is None else ["--init", str(work / init)],
    )
    return float(result["test"]["accuracy"])


def probe(dataset: Path, run: Path, seed: int, untrained: bool = False) -> dict[int, float]:
    """Test accuracy, in [0, 1], of a linear classifier on frozen features, by labels a class; its objects are those of
    fine-tuning. `untrained` takes a freshly initialised encoder with the run's normalizer."""
    note = run / f"few{'-untrained' * untrained}.json"
    if note.exists():
        return {int(labels): share for labels, share in json.loads(note.read_text()).items()}
    saved = load_checkpoint(run / BEST)
    torch.manual_seed(seed)
    encoder = Contrastive.from_description(saved["contrastive"])
    kept = {name: value for name, value in saved["model"].items() if not untrained or name.startswith("normalizer.")}
    encoder.load_state_dict(kept, strict=not untrained)
    test = features_of(encoder, INRLoader(INRDataset(dataset, "test", views=1), 512, shuffle=False))
    accuracy = {}
    for labels in LABELS:
        few = INRDataset(dataset, labels_per_class=labels, label_seed=seed, check=False)
        accuracy[labels] = linear_accuracy(*features_of(encoder, INRLoader(few, 512, shuffle=False)), *test)
    note.write_text(json.dumps(accuracy))
    return accuracy


def made(folder: Path, *arguments: list[str]) -> dict[str, Any]:
    """The result of a run of `inr-factory`, which is made unless it exists."""
    if not (folder / RESULT).exists():
        fault = make_run([*chain(*arguments), "--device", "cpu", "--out", str(folder), "--json"], folder)
        if fault:
            raise SystemExit(f"{folder}: {fault}")
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return result


def percent(shares: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{100 * mean(shares):.1f}" + (f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a set of at least two views")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--epochs", type=int, default=8, help="of pre-training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    study(options.dataset, options.work, options.epochs, options.seeds)
