"""Fits a few shapes by many optimisers at equal cost and prints quality as Markdown; with --images, images by two.

    python pipelines/studies/study_optimisers.py ../shared/datasets --work optimisers.jsonl
    python pipelines/studies/study_optimisers.py ../shared/datasets --images

The file of --work keeps the results, so that an interrupted study resumes. sprint and muon run in the fused engine, all
others in torch (`TorchFit`), whose seconds say nothing about a fused loop. Costs are therefore counts of floating-point
operations. Let W be the weights of an INR, h its hidden neurons, P = 30,000 the points of a signal and B those of a step:

- a point forward 2 W + 30 h, where a sine with its cosine counts 30; backward 4 W.
- Adam 12 operations a parameter.
- a look at the loss over all points: P forward, each epoch of sprint, and each fourth epoch of all others.
- Muon 4 Newton-Schulz steps of 3 products: 24 H³ a matrix (H, H).
- K-FAC, a layer of n inputs and m outputs: 2 (n² + m²) B/4 of its factors, 4 W B/4 for each of two directions of the
  exact step size, 2 n² m + 2 n m² of the product, and 2 (n³ + m³) / 5 of inverses at each fifth step.
- SOAP 8 (n² m + n m²) of statistics, rotations of gradient and mean, and the way back; 4 (n³ + m³) / 10 of QR at each
  tenth step.
- the last layer by least squares: P forward, and 2 h² P of its sums.

Shape letters: N INRs, P points.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from study_shapes import sample, timed
from torch_optimisers import EVERY, PART, TorchFit, Way, config_of

from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.optimizers import LOOKS
from inr_factory.generation.geometry.surface_metrics import iou, mean_distance_error
from inr_factory.generation.recipe import ImageSource, ShapeSource, load_recipe
from inr_factory.generation.signals import Signal
from inr_factory.generation.sources.registry import open_source
from inr_factory.generation.sprint_defaults import muon_rate
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

COLLECTIONS = {"segbench": "sdf", "shrec11": "sdf", "ldraw": "udf"}
NEAR = ((0.5, 0.01), (0.25, 0.05))
BUDGET = 300  # steps of muon, whose cost all others may spend
LOOK = LOOKS * 15  # steps of BATCH points between two looks at all points


def by_muon(hidden_dim: int = 64, num_hidden: int = 3) -> Way:
    """Muon at its default rate."""
    spec = SirenSpec(3, 1, hidden_dim, num_hidden, omega_0=10.0)
    return Way("muon", muon_rate(spec), BUDGET, hidden_dim=hidden_dim, num_hidden=num_hidden)


SPRINT, MUON = Way("sprint", 4e-3, BUDGET), by_muon()
GROWING, NARROW = replace(MUON, batches=(512, 4096)), by_muon(32, 5)


def step_cost(way: Way, points: int = 30_000) -> float:
    """Floating-point operations of a mean step, as the docstring of the module counts them."""
    shapes, hidden = way.spec.layer_shapes, way.hidden_dim
    weights = sum(outputs * inputs for outputs, inputs in shapes)
    forward = 2 * weights + 30 * hidden * way.num_hidden
    first, last = way.batches
    batch = first if first == last else (last - first) / np.log(last / first)
    cost = batch * (forward + 4 * weights) + 12 * way.spec.num_parameters
    cost += points * forward / (LOOK / LOOKS if way.optimizer == "sprint" else EVERY["error"] if way.chosen else LOOK)
    if way.optimizer == "muon":
        cost += 24 * hidden**3 * (way.num_hidden - 1)
    for m, n in ((outputs, inputs + 1) for outputs, inputs in shapes):
        products = n * n * m + n * m * m
        if way.optimizer == "kfac":
            cost += (batch / PART) * (2 * (n * n + m * m) + 8 * n * m) + 2 * products
            cost += 2 * (n**3 + m**3) / EVERY["inverse"]
        elif way.optimizer == "soap":
            cost += 8 * products + 4 * (n**3 + m**3) / EVERY["qr"]
    if way.solve_every:
        cost += points * (forward + 2 * hidden**2) / way.solve_every
    return cost


def at_equal_cost(way: Way) -> Way:
    """The way with as many steps, in tens, as cost what all steps of muon cost."""
    return replace(way, steps=10 * round(BUDGET * step_cost(MUON) / step_cost(way) / 10))


WAYS = {  # name -> ways, of which the one with the best median IoU is printed under that name
    "sprint, four times the steps": [replace(SPRINT, steps=4 * BUDGET)],
    "sprint, rate {learning_rate:g}": [replace(SPRINT, learning_rate=rate) for rate in (4e-3, 8e-3, 1.6e-2)],
    "muon": [MUON],
    "muon, rows not divided": [at_equal_cost(replace(MUON, rows=False))],
    "SOAP, rate {learning_rate:g}": [at_equal_cost(Way("soap", rate)) for rate in (1.2e-2, 1.6e-2, 2e-2)],
    "K-FAC, damping {damping:g}": [at_equal_cost(Way("kfac", 1.0, damping=damping)) for damping in (1e-4, 1e-6, 1e-8)],
    "muon, last layer solved each 50 steps": [at_equal_cost(replace(MUON, solve_every=50))],
    "muon, half of the points by error": [at_equal_cost(replace(MUON, chosen=0.5))],
    "muon, blurred at first": [at_equal_cost(replace(MUON, blur=0.03))],
    "muon, growing batches": [at_equal_cost(GROWING)],
    "sprint, start times {start_scale:g}": [replace(SPRINT, start_scale=scale) for scale in (1.5, 2.0, 3.0)],
    "muon, start times {start_scale:g}": [replace(MUON, start_scale=scale) for scale in (1.5, 2.0, 3.0)],
    "sprint, first_omega_0 20": [replace(SPRINT, first_omega_0=20.0)],
    "sprint, first_omega_0 20, four times the steps": [replace(SPRINT, first_omega_0=20.0, steps=4 * BUDGET)],
    "muon, first_omega_0 20": [replace(MUON, first_omega_0=20.0)],
    "muon, first_omega_0 20, growing batches": [at_equal_cost(replace(GROWING, first_omega_0=20.0))],
    "sprint, 5 x 32": [replace(SPRINT, hidden_dim=32, num_hidden=5, steps=at_equal_cost(NARROW).steps)],
    "muon, 4 x 64": [at_equal_cost(by_muon(64, 4))],
    "muon, 5 x 32": [at_equal_cost(NARROW)],
    "muon, 5 x 32, first_omega_0 20": [at_equal_cost(replace(NARROW, first_omega_0=20.0))],
    "muon, first_omega_0 20, half the steps": [replace(MUON, first_omega_0=20.0, steps=BUDGET // 2)],
    "muon, 5 x 32, half the steps": [replace(NARROW, steps=BUDGET)],
}


def quality_of(way: Way, signals: list[Signal], seeds: int) -> dict[str, float]:
    """Medians over all INRs of a way, and the CPU seconds of one where the fused engine fits them."""
    shapes = signals * seeds
    keys = [ViewKey(str(row % len(signals)), row // len(signals)) for row in range(len(shapes))]
    if way.fused:
        fitted, seconds = timed(fit_views, way.spec, keys, shapes, config_of(way), 0)
        assert not fitted.failures, fitted.failures
        flat = fitted.flat
    else:
        flat, seconds = TorchFit(way, shapes, keys).run(), 0.0
    inrs = INRBatch.from_flat(way.spec, torch.as_tensor(flat))
    columns: dict[str, list[float]] = {name: [] for name in ("psnr", "iou", "error", "udf psnr", "udf error")}
    for inr, signal in zip(inrs, shapes, strict=True):
        unsigned, truth = signal.field == "udf", signal.truth
        assert truth is not None
        loss = (inr(signal.coords)[0] - signal.targets).square().mean().item()
        values = inr(truth.coords)[0]
        columns["udf psnr" if unsigned else "psnr"].append(10 * np.log10(signal.peak**2 / loss))
        error = mean_distance_error(values, truth.targets, signal.peak / (1 if unsigned else 2)).mean().item()
        columns["udf error" if unsigned else "error"].append(error)
        if not unsigned:
            columns["iou"].append(iou(values[:, 0] < 0, truth.targets[:, 0] < 0).item())
    medians = {name: float(np.median(column)) for name, column in columns.items()}
    return medians | {"lowest iou": min(columns["iou"]), "seconds": seconds / len(shapes)}


def compare_shapes(root: Path, work: Path, count: int, seeds: int) -> None:
    """Print the table of WAYS."""
    signals: list[Signal] = []
    saved = [json.loads(line) for line in work.read_text().splitlines()] if work.exists() else []
    known = {json.dumps(row["way"]): row["quality"] for row in saved}
    print(
        "| optimiser | steps | points a step | cost of a step | CPU s | dB | IoU | lowest IoU | distance error", end=""
    )
    print(" | unsigned: dB | distance error |\n|" + "---|" * 11)
    for label, ways in WAYS.items():
        for way in ways:
            if (case := json.dumps(asdict(way))) not in known:
                for folder, field in () if signals else COLLECTIONS.items():
                    config = ShapeSource(collection="mesh_folder", field=field, num_points=30_000, near=NEAR)
                    signals += sample(config, [root / folder], count)
                known[case] = quality_of(way, signals, seeds)
                with work.open("a") as file:
                    file.write(json.dumps({"way": asdict(way), "quality": known[case]}) + "\n")
        best = max(ways, key=lambda way: known[json.dumps(asdict(way))]["iou"])
        q = known[json.dumps(asdict(best))]
        name = label.format(**asdict(best))
        cost = step_cost(best) / step_cost(SPRINT)
        seconds = f"{q['seconds']:.2f}" if best.fused else ""
        points = " to ".join(f"{size:,}" for size in sorted(set(best.batches)))
        print(
            f"| {name} | {best.steps:,} | {points} | {cost:.2f} | {seconds} "
            f"| {q['psnr']:.1f} | {q['iou']:.3f} | {q['lowest iou']:.3f} | {q['error']:.4f} | {q['udf psnr']:.1f} "
            f"| {q['udf error']:.4f} |",
            flush=True,
        )


IMAGES = {  # recipe and settings of sprint
    "2 x 32, omega_0 30, to 40 dB": ("fashion_mnist_40db", []),
    "2 x 32, omega_0 20, to 30 dB": ("fashion_mnist", []),
    "4 x 32, omega_0 30, to 40 dB": ("fashion_mnist_40db", ["spec.num_hidden=4"]),
}


def compare_images(root: Path, count: int) -> None:
    """Print sprint by the recipe against muon at its default rate and twice that, the least time of five."""
    source = open_source(ImageSource(collection="fashion_mnist"), root)
    signals = [source.signal(int(index)) for index in np.linspace(0, len(source.items) - 1, count).round()]
    keys = [ViewKey(str(number), 0) for number in range(count)]
    print("| net | optimiser | rate | steps | ms an INR | mean steps | reached |\n|" + "---|" * 7)
    for net, (recipe, settings) in IMAGES.items():
        rate = load_recipe(recipe, [*settings, "fit.optimizer=muon"]).fit.learning_rate
        paces = [(rate, 40), (2 * rate, 40), (rate, 60), (rate, 80)]
        changes = [["fit.optimizer=muon", f"fit.learning_rate={peak}", f"fit.steps={most}"] for peak, most in paces]
        recipes = [load_recipe(recipe, [*settings, *change, "fit.attempts=1"]) for change in [[], *changes]]
        runs = [[timed(fit_views, r.spec.spec(2, 1), keys, signals, r.fit, 0) for r in recipes] for _ in range(5)]
        for r, times in zip(recipes, zip(*runs, strict=True), strict=True):
            fitted, seconds = times[0][0], min(seconds for _, seconds in times)
            reached = (fitted.psnr >= r.fit.target_psnr - 1e-3).sum() / count
            steps = (fitted.steps.sum() + r.fit.steps * len(fitted.failures)) / count
            print(
                f"| {net} | {r.fit.optimizer} | {r.fit.learning_rate:.2g} | {r.fit.steps} | {1e3 * seconds / count:.2f} "
                f"| {steps:.0f} | {reached:.0%} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, help="where segbench/, shrec11/ and ldraw/ are, or FashionMNIST/")
    parser.add_argument("--work", type=Path, default=Path("optimisers.jsonl"), help="results of shapes go here")
    parser.add_argument("--count", type=int, default=3, help="shapes of each collection")
    parser.add_argument("--seeds", type=int, default=2, help="fits of each shape")
    parser.add_argument("--images", action="store_true", help="sprint and muon for 60 images instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.images:
        compare_images(options.data_root, count=60)
    else:
        compare_shapes(options.data_root, options.work, options.count, options.seeds)


if __name__ == "__main__":
    main()
