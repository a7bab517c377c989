"""Fits a few images of Fashion-MNIST and CIFAR-10 with several optimizer settings and prints quality against time.

    python pipelines/studies/study_sprint.py ../shared/datasets

Prints Markdown. CIFAR-10 comes from its official files or from a folder of PNGs, cifar10_images/, if that exists.
"""

import argparse
from pathlib import Path
from time import thread_time

import numpy as np
import torch

from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import FitConfig, ImageSource
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SETTINGS = [  # (optimizer, rate, steps)
    ("adam", 5e-4, 1000),
    ("adam", 1e-3, 1000),
    ("adam", 3e-3, 1000),
    *[("sprint", rate, steps) for steps in (60, 80, 100) for rate in (4e-3, 8e-3, 1.6e-2)],
    *[("sprint", rate, steps) for steps in (200, 400) for rate in (4e-3, 8e-3)],
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
    return np.concatenate([result.psnr, failed]), float(result.steps.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path, help="where FashionMNIST/ and CIFAR-10 are")
    parser.add_argument("--count", type=int, default=200, help="images of each")
    options = parser.parse_args()
    study(options.data_root, options.count)
