"""Compares fits by `adam` and by `sprint`, to the same PSNR, as training data.

    python pipelines/studies/study_fast.py --data-root ../shared/datasets --work /tmp/study_fast

Both fit the same Fashion-MNIST objects. Measures the accuracy of a classifier of the weights, layer statistics, the
distance between views, and MixUp midpoints. `--ridge R`, repeatable, adds `sprint` with another ridge of its
least-squares solution, for one seed. Prints Markdown. Sets and runs that exist in --work are reused, so the study resumes
after an interruption.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from time import monotonic

import torch

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.learning.alignment.weight_matching import Match, align, relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest_file import load_manifest

WAYS = {
    "adam 5e-4": ["fit.optimizer=adam", "fit.learning_rate=5e-4", "fit.steps=1000"],
    "adam 1e-3": ["fit.optimizer=adam", "fit.learning_rate=1e-3", "fit.steps=1000"],
    "sprint": ["fit.optimizer=sprint", "fit.learning_rate=8e-3", "fit.steps=80"],
}
SEEDS = (0, 1, 2)
PAIRS = 200  # objects of which two views are compared
MATCHES: tuple[Match, ...] = ("permutation", "signed", "phase")


def study(data_root: Path, work: Path, limit: int, epochs: int, ridges: list[float]) -> None:
    torch.set_num_threads(1)
    others = {f"sprint, ridge {ridge:g}": [*WAYS["sprint"], f"fit.ridge={ridge}"] for ridge in ridges}
    ways = WAYS | others
    seconds = {name: make(work, name, how, data_root, limit, views=1) for name, how in ways.items()}
    for name, how in WAYS.items():
        make(work, name, how, data_root, PAIRS, views=2)
    seeds = {name: SEEDS if name in WAYS else SEEDS[:1] for name in ways}
    runs = [(name, seed) for seed in SEEDS for name in ways if seed in seeds[name]]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        accuracy = dict(zip(runs, pool.map(lambda run: train(work, *run, limit, epochs), runs), strict=True))
    sizes = load_manifest(folder(work, "sprint", limit)).splits
    print(
        f"Fashion-MNIST, {limit:,} objects ({', '.join(f'{split} {part.objects:,}' for split, part in sizes.items())}), one "
        f"view, 2-32-32-1 to 40 dB; DWS (DeepSets), canonical form, {epochs} epochs, seeds {SEEDS}.\n"
    )
    print("| fit | seconds | at 40 dB | test accuracy | by seed |\n|---|---|---|---|---|")
    for name in ways:
        scores = [accuracy[name, seed] for seed in seeds[name]]
        spread = f" ± {stdev(scores):.1%}" if len(scores) > 1 else ""
        print(
            f"| {name} | {seconds[name]:.0f} | {share_at(folder(work, name, limit), 40.0):.1%} "
            f"| {mean(scores):.1%}{spread} | {', '.join(f'{score:.1%}' for score in scores)} |"
        )
    print(
        f"\nTwo views of each of {PAIRS} objects: distance between them, relative to their norm, and PSNR of midpoints.\n"
    )
    names = [f"{kind} {match}" for kind in ("distance,", "midpoint dB,") for match in ("none", *MATCHES)]
    print(f"| fit | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    source = open_source(load_recipe("fashion_mnist").source, data_root)
    for name in WAYS:
        distances, midpoints = compare_views(folder(work, name, PAIRS), source)
        cells = [*[f"{value:.2f}" for value in distances], *[f"{value:.1f}" for value in midpoints]]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\nStandard deviation of each layer's weights and biases.\n")
    print("| fit | W0 | W1 | W2 | b0 | b1 | b2 |\n|---|---|---|---|---|---|---|")
    for name in ways:
        inrs = read(folder(work, name, limit), view=0)
        spreads = [float(part.std()) for part in (*inrs.weights, *inrs.biases)]
        print(f"| {name} | {' | '.join(f'{spread:.3f}' for spread in spreads)} |")


def folder(work: Path, name: str, limit: int) -> Path:
    return work / f"{name.replace(' ', '-').replace(',', '')}-{limit}"


def make(work: Path, name: str, how: list[str], data_root: Path, limit: int, views: int) -> float:
    """Seconds that the fit of the set took, kept in a file next to it."""
    out = folder(work, name, limit)
    recipe = load_recipe("fashion_mnist_40db", [f"limit={limit}", f"views={views}", *how])
    started = monotonic()
    report = fit_dataset(recipe, out, data_root=data_root, backend="local")
    note = work / f"{out.name}.seconds"
    if report.made or not note.exists():
        note.write_text(str(monotonic() - started))
    return float(note.read_text())


def train(work: Path, name: str, seed: int, limit: int, epochs: int) -> float:
    """Test accuracy, in [0, 1]."""
    data = folder(work, name, limit)
    out = work / f"{data.name}-run{seed}-{epochs}"
    result = out / "result.json"
    if not result.exists():
        done = subprocess.run(
            [sys.executable, "-c", "from inr_factory.cli.main import main; main()", "train", str(data), "--json",
             "--model", "dws:set_layer=deepsets", "--epochs", str(epochs), "--batch-size", "64", "--lr", "5e-3",
             "--schedule", "cosine", "--seed", str(seed), "--out", str(out)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        result.write_bytes(done.stdout)
    return float(json.loads(result.read_text())["test"]["accuracy"])


def share_at(data: Path, target: float) -> float:
    return float((INRDataset(data, "train").psnr >= target - 1e-3).mean())


def read(data: Path, view: int) -> INRBatch:
    dataset = INRDataset(data, "train", views=[view])
    return INRBatch.from_flat(dataset.spec, dataset.gather(range(len(dataset)))[0])


def compare_views(data: Path, source: Source) -> tuple[list[float], list[float]]:
    """Means over objects: relative distance of view 1 from view 0, and PSNR in dB of their midpoints against the
    image, without alignment and for each kind of it."""
    first, second = read(data, 0), read(data, 1)
    index_of = {item.object_id: index for index, item in enumerate(source.items)}
    signals = [source.signal(index_of[object_id]) for object_id in INRDataset(data, "train", views=[0]).object_ids]
    targets = torch.stack([signal.targets for signal in signals])
    aligned = [second, *(align(second, first, match) for match in MATCHES)]
    distances = [float(relative_distance(other, first).mean()) for other in aligned]
    midpoints = []
    for other in aligned:
        middle = INRBatch.from_flat(first.spec, (first.flatten() + other.flatten()) / 2)
        midpoints.append(float(psnr_of_mse((middle(signals[0].coords) - targets).square().mean(dim=(1, 2))).mean()))
    return distances, midpoints


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="where FashionMNIST/ is")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--limit", type=int, default=10_000, help="objects")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--ridge", type=float, action="append", default=[])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    study(options.data_root, options.work, options.limit, options.epochs, options.ridge)
