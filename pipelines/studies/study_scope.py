"""Measures the effect of weight scope alignment on MixUp midpoints.

    python pipelines/studies/study_scope.py --data-root ../shared/datasets --work /tmp/study_scope

Fits two views of Fashion-MNIST objects with scopes of several strengths. Compares midpoints of two views of one object
with its image, and midpoints of two objects with the mean of their images. Prints Markdown. Sets that exist in --work are
reused, so the study resumes after an interruption.
"""

import argparse
from pathlib import Path

import torch
from study_fast import WAYS, make, read, share_at
from torch import Tensor

from inr_factory.generation.recipe import load_recipe
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.learning.alignment.weight_matching import Match, align, relative_distance
from inr_factory.learning.data.dataset import INRDataset

STRENGTHS = (0.0, 1e-6, 1e-5, 1e-4)
MATCHES: tuple[Match | None, ...] = (None, "signed")


def study(data_root: Path, work: Path, limit: int) -> None:
    torch.set_num_threads(1)
    source = open_source(load_recipe("fashion_mnist").source, data_root)
    index_of = {item.object_id: index for index, item in enumerate(source.items)}
    kinds = [f"{what}, {match or 'as they are'}" for what in ("one object", "two objects") for match in MATCHES]
    head = [
        "fit",
        "scope",
        "median dB",
        "at 40 dB",
        "distance",
        *(f"midpoint dB, {k}" for k in kinds),
    ]
    print(f"{limit:,} Fashion-MNIST objects, two views each, 2-32-32-1; means over training objects.\n")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in ("adam 1e-3", "sprint"):
        for strength in STRENGTHS:
            label = f"{name} scope {strength:g}"
            make(work, label, [*WAYS[name], f"fit.scope={strength}"], data_root, limit, views=2)
            data = work / f"{label.replace(' ', '-')}-{limit}"
            first, second = read(data, 0), read(data, 1)
            dataset = INRDataset(data, "train", views=[0])
            signals = [source.signal(index_of[object_id]) for object_id in dataset.object_ids]
            images = torch.stack([signal.targets for signal in signals])
            coords = signals[0].coords
            same_object = [midpoint(first, second, images, match, coords) for match in MATCHES]
            other = second.select(torch.arange(len(second)).roll(1))
            mixed = (images + images.roll(1, 0)) / 2
            two_objects = [midpoint(first, other, mixed, match, coords) for match in MATCHES]
            figures = [
                f"{float(torch.from_numpy(dataset.psnr).median()):.1f}",
                f"{share_at(data, 40.0):.1%}",
                f"{float(relative_distance(second, first).mean()):.2f}",
            ]
            print(
                f"| {name} | {strength:g} | {' | '.join([*figures, *(f'{dB:.1f}' for dB in same_object + two_objects)])} |",
                flush=True,
            )


def midpoint(first: INRBatch, second: INRBatch, images: Tensor, match: Match | None, coords: Tensor) -> float:
    """Mean PSNR in dB of the midpoints of pairs, the second aligned to the first, against images (N, P, O)."""
    aligned = second if match is None else align(second, first, match)
    middle = INRBatch.from_flat(first.spec, (first.flatten() + aligned.flatten()) / 2)
    return float(psnr_of_mse((middle(coords) - images).square().mean(dim=(1, 2))).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="where FashionMNIST/ is")
    parser.add_argument("--work", type=Path, required=True, help="folder for the sets")
    parser.add_argument("--limit", type=int, default=300, help="objects")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    study(options.data_root, options.work, options.limit)
