"""`align` and `augment-report`: what is done to the weights of a set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_options import Folder, Json
from inr_factory.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from inr_factory.inr.batch import INRBatch
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.reporting.augmentation_report import Mixed

SHOWN = 6


def align(
    dataset: Folder,
    out: Annotated[Path, typer.Option(help="folder of the copy", show_default=False)],
    template: Annotated[
        str | None, typer.Option(help="NAME or NAME@VIEW of an object; else the first INR", show_default=False)
    ] = None,
    match: Annotated[str, typer.Option(help="permutation, signed or phase")] = "signed",
    as_json: Json = False,
) -> None:
    """Store a copy of a set whose INRs have their neurons matched to one template: the same functions, closer weights."""
    from inr_factory.learning.alignment.aligned_dataset import align_dataset
    from inr_factory.storage.manifest_file import load_manifest

    with ShardProgress("align", len(load_manifest(dataset).shards)) as progress:
        report = align_dataset(dataset, out, match, template, progress)  # type: ignore[arg-type]
    if as_json:
        terminal.print_json(
            {"out": str(out), "made_shards": report.made, "before": report.before, "after": report.after}
        )
    elif not report.made:
        terminal.print_result(f"nothing to do: {out} has all {len(report.manifest.shards):,} shards")
    else:
        distances = f"relative distance from the template {report.before:.3f} before, {report.after:.3f} after"
        terminal.print_result(f"{out}: {report.made:,} shards aligned; {distances}")


def augment_report(
    dataset: Folder,
    count: Annotated[int, typer.Option(help="how many INRs are measured", min=2)] = 64,
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    out: Annotated[
        Path | None, typer.Option(help="folder of the report; else DATASET/augment-report", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure and draw what every transform and every way of mixing does to the INRs of a set."""
    import numpy as np
    import torch

    from inr_factory.inr.pixel_grid import pixel_grid
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.reporting.augmentation_report import (
        HIDDEN_BY,
        as_fields,
        as_markdown,
        decibels,
        fitting_transforms,
        ratios,
        report_recovery,
        report_transform,
    )
    from inr_factory.reporting.plots import draw_grid
    from inr_factory.storage.atomic_files import write_atomically

    data = INRDataset(dataset, split)
    if data.spec.in_dim != 2 or data.spec.out_dim not in (1, 3):
        raise UsageError(f"augment-report draws images, got INRs {data.spec}")
    out = out or dataset / "augment-report"
    size = _image_size(dataset, data)
    coords = pixel_grid(*size)
    rows = np.flatnonzero(data.views == data.views[0])
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    inrs = _inrs(data, rows)
    moved = [report_transform(transform, inrs, coords) for transform in fitting_transforms(inrs)]
    mixed = _mixings(data, rows, inrs, coords)
    kinds = [*HIDDEN_BY] if data.spec.activation == "sine" else ["permutation"]
    found = [report_recovery(kind, inrs) for kind in kinds]
    heading = f"{data.manifest.name}: {len(inrs)} INRs, {data.spec}"
    with torch.no_grad():
        grid = [("as fitted", _images(inrs(coords), size))] + [
            (m.name.replace(":", "\n"), _images(m.images, size)) for m in moved
        ]
    draw_grid(grid, out / "augmentations.png", f"INRs of {data.manifest.name}, transformed and rendered")
    for pairs in dict.fromkeys(m.pairs for m in mixed):
        paths = [(m.name, m.path) for m in mixed if m.pairs == pairs]
        lines = [
            (f"{name}\nlam 1 ... 0" if at == 0 else "", _images(path[:, at], size))
            for name, path in paths
            for at in (0, 1)
        ]
        draw_grid(lines, out / f"mixing-{pairs.replace(' ', '-')}.png", f"between {pairs}, by the way of matching")
    write_atomically(out / "report.md", as_markdown(moved, mixed, found, heading).encode())
    write_atomically(out / "report.json", json.dumps(as_fields(moved, mixed, found), indent=2).encode())
    if as_json:
        terminal.print_json(dict(as_fields(moved, mixed, found)))
        return
    table = [(m.name, decibels(m.psnr), ratios(m.weight_spread), ratios(m.bias_spread)) for m in moved]
    terminal.print_table(["transform", "dB to what it should give", "spread of weights", "of biases"], table, heading)
    terminal.print_result("")
    mixings = [(m.name, m.pairs, decibels(m.psnr), f"{m.distance:.3f}") for m in mixed]
    terminal.print_table(["mixing, lam = 0.5", "pairs", "dB to the mean image", "distance"], mixings)
    terminal.print_result("")
    shares = [(f.match, f"{f.share:.1%}", f"{f.largest:.1e}") for f in found]
    terminal.print_table(["alignment", "hidden copies found again", "largest distance"], shares)
    terminal.print_result(f"\npictures in {out}")


def _inrs(data: "INRDataset", rows: "np.ndarray") -> "INRBatch":  # type: ignore[type-arg]
    from inr_factory.inr.batch import INRBatch

    return INRBatch.from_flat(data.spec, data.gather(rows)[0])


def _mixings(data: "INRDataset", rows: "np.ndarray", inrs: "INRBatch", coords: "torch.Tensor") -> "list[Mixed]":  # type: ignore[type-arg]
    """Midpoints between INRs of different objects and, where there are several, between two views of one object."""
    import numpy as np

    from inr_factory.reporting.augmentation_report import MATCHES, report_mixing

    partners = {"different objects": (inrs, _inrs(data, np.roll(rows, 1)))}
    other_view = {int(data.objects[row]): row for row in np.flatnonzero(data.views != data.views[0])}
    both = [(row, other_view[int(data.objects[row])]) for row in rows if int(data.objects[row]) in other_view]
    if both:
        first, second = (np.array(side) for side in zip(*both, strict=True))
        partners["two views of one object"] = (_inrs(data, first), _inrs(data, second))
    kinds = MATCHES if data.spec.activation == "sine" else MATCHES[:3]
    return [report_mixing(kind, pairs, *sides, coords) for pairs, sides in partners.items() for kind in kinds]


def _image_size(root: Path, data: "INRDataset") -> tuple[int, int]:
    """Height and width of the first image, in which all are drawn."""
    from inr_factory.storage.shards import ShardReader

    first = next(entry for entry in data.manifest.shards if entry.split == data.split and entry.rows)
    shard = ShardReader(root, first, check=False)
    return int(shard.column("height")[0]), int(shard.column("width")[0])


def _images(values: "torch.Tensor", size: tuple[int, int]) -> "np.ndarray":  # type: ignore[type-arg]
    """Up to SHOWN rendered INRs (K, P, O) as images (K, H, W, O)."""
    return values[:SHOWN].reshape(-1, *size, values.shape[-1]).detach().numpy()
