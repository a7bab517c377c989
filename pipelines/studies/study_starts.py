"""Compares starts of fits: independent, shared, shared with batches in an order of each INR's own, and meta-learned.

    python pipelines/studies/study_starts.py --work /tmp/study_starts --out docs/tables/starts.md

Fits the same 5,000 objects of Fashion-MNIST from each start to the same quality, aligns a copy of each set to one of its
INRs, and trains readers on both. Measures steps and time of a fit, distances of INRs of different objects, and how well the
mean of two INRs shows the mean of their images. Writes Markdown to --out and a picture next to it. What exists in --work is
reused, so the study resumes after an interruption.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from time import process_time

import torch
from study_pretrain import made

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.learned_start import learn_start
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.learning.alignment.aligned_dataset import align_dataset
from inr_factory.learning.alignment.mixup import mix
from inr_factory.learning.alignment.weight_matching import align, relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.reporting.plots import draw_bars
from inr_factory.storage.manifest import Manifest, ViewKey
from inr_factory.storage.manifest_file import load_manifest

SIZES = ("limit.train=5000", "limit.val=1000", "limit.test=2000", "fit.floor_psnr=-100", "fit.attempts=1")
LEARNED = "start.npz"  # of --work
STARTS = {
    "independent": (),
    "shared": ("fit.starts=shared",),
    "shared, own order": ("fit.starts=shared", "fit.batch_points=392", "fit.order=own", "fit.steps=200"),
    "meta-learned": (f"fit.starts={LEARNED}",),
}
# A reader, whether of the aligned copy, and options.
READERS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "mlp, as fitted": (False, ("--model", "mlp", "--no-canonical")),
    "mlp, canonical form": (False, ("--model", "mlp")),
    "mlp, aligned": (True, ("--model", "mlp", "--no-canonical")),
    "dws, as fitted": (False, ("--model", "dws:set_layer=deepsets", "--no-canonical")),
    "dws, aligned": (True, ("--model", "dws:set_layer=deepsets", "--no-canonical")),
    "parity": (False, ("--model", "parity")),
    "parity, aligned": (True, ("--model", "parity")),
    "probes": (False, ("--model", "probes")),
    "probes, aligned": (True, ("--model", "probes")),
}
PAIRS, PROBE = 200, 64  # of INRs that are compared, and images whose fits are timed


def study(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / LEARNED).exists():
        learned = learn_start("fashion_mnist", work / LEARNED, data_root=given.data_root)
        print(f"learned start: {learned.psnr:.1f} dB in {learned.steps} steps", flush=True)
    recipes = {name: recipe_of(settings, work) for name, settings in STARTS.items()}
    folders = {name: work / name.replace(", ", "_").replace(" ", "_") for name in STARTS}
    accuracy: dict[str, dict[str, list[float]]] = {reader: {} for reader in READERS}
    for name, recipe in recipes.items():
        fit_dataset(recipe, folders[name], views=1, data_root=given.data_root, backend="local", workers=given.workers)
        align_dataset(folders[name], aligned(folders[name]), match="phase")
        print(f"set {name}", flush=True)
    for seed in range(given.seeds):
        for reader, (of_copy, options) in READERS.items():
            for name, folder in folders.items():
                run = work / "runs" / f"{folder.name}-{reader.replace(', ', '_').replace(' ', '_')}-{seed}"
                dataset = aligned(folder) if of_copy else folder
                result = made(
                    run, ["train", str(dataset), *options, "--epochs", str(given.epochs), "--seed", str(seed)]
                )
                accuracy[reader].setdefault(name, []).append(100 * float(result["test"]["accuracy"]))
                print(f"{reader}, {name}: {accuracy[reader][name][-1]:.1f}", flush=True)
    costs = measure(recipes, given.data_root)
    lines = [*table(accuracy, folders, costs, given)]
    given.out.write_text("".join(f"{line}\n" for line in lines))
    charts = {f"{name} start": {reader: mean(row[name]) for reader, row in accuracy.items()} for name in folders}
    draw_bars(charts, given.out.with_suffix(".png"), "Fashion-MNIST, 5,000 objects: test accuracy, %")


def aligned(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}_aligned")


def recipe_of(settings: Sequence[str], work: Path) -> Recipe:
    placed = [setting.replace(LEARNED, str(work / LEARNED)) for setting in settings]
    return load_recipe("fashion_mnist", [*SIZES, *placed])


def measure(recipes: dict[str, Recipe], data_root: str | None) -> dict[str, float]:
    """Milliseconds of one core for an INR, by process time: medians of three interleaved rounds."""
    source = open_source(next(iter(recipes.values())).source, data_root)
    signals = [source.signal(index) for index in range(PROBE)]
    keys = [ViewKey(source.items[index].object_id, 0) for index in range(PROBE)]
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(3):
        for name, recipe in recipes.items():
            started = process_time()
            fit_views(recipe.spec.spec(source.in_dim, source.out_dim), keys, signals, recipe.fit, recipe.seed)
            times[name].append(1e3 * (process_time() - started) / PROBE)
    return {name: median(spent) for name, spent in times.items()}


def apart(folder: Path) -> tuple[float, float, float, float]:
    """Medians over pairs of different objects, as fitted and aligned: relative distance, and the PSNR of the image of
    the mean INR against the mean of the images."""
    test = INRDataset(folder, "test", views=1)
    inrs = INRBatch.from_flat(test.spec, test.gather(range(2 * PAIRS))[0])
    a, b = inrs[:PAIRS], inrs[PAIRS:]
    figures = []
    for moved in (b, align(b, a, "phase")):
        figures += [float(relative_distance(moved, a).median()), midpoint_psnr(a, moved)]
    return figures[0], figures[2], figures[1], figures[3]


def midpoint_psnr(a: INRBatch, b: INRBatch) -> float:
    images = [inrs.images(28, 28) for inrs in (a, b, mix(a, b))]
    errors = (images[2] - (images[0] + images[1]) / 2).square().mean((1, 2, 3))
    return float(psnr_of_mse(errors, 1.0).median())


def table(
    accuracy: dict[str, dict[str, list[float]]],
    folders: dict[str, Path],
    costs: dict[str, float],
    given: argparse.Namespace,
) -> Iterator[str]:
    rows: dict[str, list[str]] = {name: [] for name in ("mean dB", "mean steps", "ms of a core an INR")}
    pairs = ("distance", "distance, aligned", "dB of midpoints", "dB of midpoints, aligned")
    rows |= {name: [] for name in pairs}
    for name, folder in folders.items():
        level, steps = quality(load_manifest(folder))
        for row, cell in zip(rows, (f"{level:.1f}", f"{steps:.0f}", f"{costs[name]:.1f}"), strict=False):
            rows[row].append(cell)
        for row, figure in zip(pairs, apart(folder), strict=True):
            rows[row].append(f"{figure:.2f}" if row.startswith("distance") else f"{figure:.1f}")
    yield f"Fashion-MNIST, 5,000 / 1,000 / 2,000 objects, one view, 2-32-32-1; {given.epochs} epochs; seeds: {given.seeds}.\n"
    yield f"| | {' | '.join(folders)} |\n|{'---|' * (len(folders) + 1)}"
    for row, cells in rows.items():
        yield f"| {row} | {' | '.join(cells)} |"
    for reader, of in accuracy.items():
        cells = [
            f"{mean(of[name]):.1f}" + (f" ± {stdev(of[name]):.1f}" if len(of[name]) > 1 else "") for name in folders
        ]
        yield f"| test accuracy of {reader} | {' | '.join(cells)} |"


def quality(manifest: Manifest) -> tuple[float, float]:
    """Mean PSNR and mean number of steps of the INRs of a set."""
    known = [entry for entry in manifest.shards if entry.psnr is not None and entry.mean_steps is not None]
    count = sum(entry.rows for entry in known)
    level = sum(entry.psnr.mean * entry.rows for entry in known if entry.psnr is not None) / count
    return level, sum((entry.mean_steps or 0) * entry.rows for entry in known) / count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="of the images, by default INR_FACTORY_DATA")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="the table, NAME.md")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    study(parser.parse_args())
