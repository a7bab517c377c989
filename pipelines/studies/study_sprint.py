"""Fits a few signals with several optimizer settings and prints quality against time as Markdown.

    python pipelines/studies/study_sprint.py ../shared/datasets
    python pipelines/studies/study_sprint.py ../shared/datasets --work sprint.jsonl

The first compares settings of 2-32-32 nets. With `--work` it compares the default rate and steps of sprint with those of
version 1 and with Adam, for many nets, signals and targets. The file keeps the results, so that an interrupted study
resumes. CIFAR-10 comes from its official files or from a folder of PNGs, cifar10_images/, if that exists.
"""

import argparse
import json
from functools import cache
from pathlib import Path
from time import thread_time

import numpy as np
import torch

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import ImageSource, ShapeSource
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.generation.sprint_defaults import sprint_rate, sprint_steps
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SETTINGS = [  # (optimizer, rate, steps)
    ("adam", 5e-4, 1000),
    ("adam", 1e-3, 1000),
    ("adam", 3e-3, 1000),
    *[("sprint", rate, steps) for steps in (60, 80, 100) for rate in (4e-3, 8e-3, 1.6e-2)],
    *[("sprint", rate, steps) for steps in (200, 400) for rate in (4e-3, 8e-3)],
]

RULE = [  # (data, hidden_dim, num_hidden, omega_0, target in dB)
    *[("Fashion-MNIST", 32, 2, 30, target) for target in (30, 40, 50, 60)],
    ("Fashion-MNIST", 32, 2, 20, 30),
    ("Fashion-MNIST", 32, 2, 20, 40),
    ("CIFAR-10", 32, 2, 20, 35),
    ("Fashion-MNIST", 32, 2, 60, 40),
    ("Fashion-MNIST", 16, 4, 30, 35),
    *[("Fashion-MNIST", 64, layers, 30, 40) for layers in (2, 4, 6, 8)],
    *[("Fashion-MNIST", 32, layers, 30, 40) for layers in (3, 4, 6, 8)],
    ("Fashion-MNIST", 32, 6, 30, 60),
    ("Fashion-MNIST", 64, 3, 60, 40),
    ("Fashion-MNIST", 128, 2, 30, 40),
    ("Fashion-MNIST", 128, 4, 30, 40),
    ("Fashion-MNIST", 256, 2, 30, 40),
    ("CIFAR-10 grey", 32, 2, 30, 40),
    ("CIFAR-10 grey", 64, 2, 30, 50),
    *[("CIFAR-10", 32, 2, 30, target) for target in (30, 35)],
    ("CIFAR-10", 32, 4, 30, 35),
    ("CIFAR-10", 64, 2, 30, 35),
    ("CIFAR-10", 64, 2, 30, 45),
    ("CIFAR-10", 64, 3, 60, 35),
    ("CIFAR-10", 128, 2, 30, 40),
    ("CIFAR-10", 128, 3, 60, 40),
    ("CIFAR-10", 256, 2, 30, 40),
    ("Fashion-MNIST", 8, 2, 30, 20),
    ("CIFAR-10", 4, 2, 30, 17),
    ("CIFAR-10", 8, 2, 30, 20),
    ("CIFAR-10", 12, 2, 30, 24),
    ("digits", 32, 2, 10, 35),
    ("digits", 16, 2, 30, 40),
    ("digits", 64, 3, 10, 40),
    ("primitives", 64, 2, 30, 35),
    ("primitives", 64, 3, 10, 35),
    ("segbench", 64, 4, 30, 38),
    ("segbench", 64, 3, 10, 35),
]


def collections(root: Path) -> dict[str, tuple[Source, SirenSpec, float]]:
    """Source, spec and target in dB of each collection."""
    folder = root / "cifar10_images"
    cifar = (
        open_source(ImageSource(collection="image_folder"), folder)
        if folder.is_dir()
        else open_source(ImageSource(collection="cifar10"), root)
    )
    fashion = open_source(ImageSource(collection="fashion_mnist"), root)
    return {
        "Fashion-MNIST": (fashion, SirenSpec(2, 1, 32, 2, output_bias=0.5), 40.0),
        "CIFAR-10": (cifar, SirenSpec(2, 3, 32, 2, output_bias=0.5), 30.0),
    }


def study(root: Path, count: int) -> None:
    torch.set_num_threads(1)
    for name, (source, spec, target) in collections(root).items():
        chosen = np.linspace(0, len(source.items) - 1, count).round().astype(int)
        signals = [source.signal(int(index)) for index in chosen]
        print(f"\n{name}, {count} images, {spec}, until each has {target:g} dB or has made all steps; one core.\n")
        print(
            "| optimizer | rate | steps | INRs/s | mean steps | reached | median dB | lowest dB | dB after all steps |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for optimizer, rate, steps in SETTINGS:
            fit = FitConfig(
                optimizer=optimizer, learning_rate=rate, steps=steps, target_psnr=target, floor_psnr=0, attempts=1
            )
            started = thread_time()
            psnr, mean_steps = fitted(spec, signals, fit)
            seconds = thread_time() - started
            to_the_end, _ = fitted(spec, signals[: count // 4], fit.model_copy(update={"target_psnr": None}))
            print(
                f"| {optimizer} | {rate:g} | {steps} | {count / seconds:.0f} | {mean_steps:.0f} "
                f"| {(psnr >= target - 1e-3).mean():.1%} | {np.median(psnr):.1f} | {psnr.min():.1f} | {np.median(to_the_end):.1f} |",
                flush=True,
            )


def fitted(spec: SirenSpec, signals: list[Signal], fit: FitConfig) -> tuple[np.ndarray, float]:
    """PSNR of each in dB, failures included, and mean steps."""
    result = fit_views(spec, [ViewKey(str(number), 0) for number in range(len(signals))], signals, fit, run_seed=0)
    failed = [-np.inf if row.psnr is None else row.psnr for row in result.failures]
    return np.concatenate([result.psnr, failed]), float(result.steps.mean()) if len(result.keys) else float(fit.steps)


@cache
def sample(data: str, root: Path, count: int) -> list[Signal]:
    """Signals of a collection of RULE, evenly spread."""
    points = {"num_points": 20_000, "num_truth": 100, "num_surface": 100}
    source = {
        "Fashion-MNIST": lambda: open_source(ImageSource(collection="fashion_mnist"), root),
        "CIFAR-10": lambda: collections(root)["CIFAR-10"][0],
        "CIFAR-10 grey": lambda: open_source(
            ImageSource(collection="image_folder", mode="grey"), root / "cifar10_images"
        ),
        "digits": lambda: open_source(ImageSource(collection="digits"), root),
        "primitives": lambda: open_source(ShapeSource(collection="primitives", per_class=2, **points), root),
        "segbench": lambda: open_source(ShapeSource(collection="mesh_folder", **points), root / "segbench"),
    }[data]()
    chosen = np.linspace(0, len(source.items) - 1, count).round().astype(int)
    return [source.signal(int(index)) for index in chosen]


def compare_rule(root: Path, work: Path, count: int) -> None:
    """Print what the default rate and steps of sprint reach, beside those of version 1 and Adam at 1e-3."""
    torch.set_num_threads(1)
    saved = [json.loads(line) for line in work.read_text().splitlines()] if work.exists() else []
    cells = {tuple(row["case"]): row["cell"] for row in saved}
    settings = ("by the rule", "8e-3, 80 steps", "Adam 1e-3, 1,000 steps")
    print(f"\n| data | net | omega_0 | target dB | rate, steps | {' | '.join(settings)} |\n|{'---|' * 8}")
    for data, width, layers, omega, target in RULE:
        signals = sample(data, root, count if width <= 64 else count // 4)
        in_dim, out_dim = signals[0].coords.shape[1], signals[0].targets.shape[1]
        shape = in_dim == 3
        if shape:
            signals = signals[: count // 4]
        spec = SirenSpec(in_dim, out_dim, width, layers, omega_0=float(omega), output_bias=0.0 if shape else 0.5)
        steps = sprint_steps(target, spec)
        rate = sprint_rate(spec, steps)
        paces = [("sprint", rate, steps), ("sprint", 8e-3, 80), ("adam", 1e-3, 1000)]
        row = []
        for optimizer, peak, most in paces:
            case = (data, width, layers, omega, target, optimizer, peak, most)
            if case not in cells:
                fit = FitConfig(
                    optimizer=optimizer, learning_rate=peak, steps=most, target_psnr=target, floor_psnr=-50, attempts=1,
                    batch_points=2048 if shape else None, ridge=1e-4 if shape else 5.0,
                )  # fmt: skip
                started = thread_time()
                psnr, mean_steps = fitted(spec, signals, fit)
                milliseconds = 1e3 * (thread_time() - started) / len(signals)
                share = float((psnr >= target - 1e-3).mean())
                cells[case] = f"{share:.0%}, {mean_steps:.0f} steps, {milliseconds:.3g} ms" + (
                    "" if share == 1 else f", lowest {psnr.min():.1f} dB"
                )
                with work.open("a") as file:
                    file.write(json.dumps({"case": case, "cell": cells[case]}) + "\n")
            row.append(cells[case])
        print(
            f"| {data} | {layers} x {width} | {omega} | {target} | {rate:.3g}, {steps} | {' | '.join(row)} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, help="where FashionMNIST/ and CIFAR-10 are")
    parser.add_argument("--count", type=int, default=200, help="images of each")
    parser.add_argument(
        "--work", type=Path, help="compare the rule of defaults for many nets; results of cases go here"
    )
    options = parser.parse_args()
    if options.work is None:
        study(options.data_root, options.count)
    else:
        compare_rule(options.data_root, options.work, min(options.count, 24))
