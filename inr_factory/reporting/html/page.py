"""Page: measures a set and renders the HTML report."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.maintenance.dataset_source import open_dataset_source
from inr_factory.generation.signals import Source
from inr_factory.inr.threads import one_thread
from inr_factory.learning.alignment.weight_matching import finest_match
from inr_factory.reporting.dataset_status import summarize_splits
from inr_factory.reporting.html import renderings as pictures
from inr_factory.reporting.html import run_summary as summary
from inr_factory.reporting.html import svg_charts as charts
from inr_factory.reporting.html.playground import make_playground
from inr_factory.reporting.html.sampling import RowLocations, Rows, Sample, draw_sample, read_rows, worst_and_ordinary
from inr_factory.reporting.html.template import open_template
from inr_factory.reporting.html.weight_analysis import (
    WeightMap,
    chance_between,
    layer_statistics,
    view_distances,
    weight_maps,
)
from inr_factory.reporting.number_format import format_duration, format_rate
from inr_factory.reporting.palette import COLORS
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.inr_formulas import encoding_formula, hidden_formula
from inr_factory.storage.locations import Location, RemoteLocation, parse_location
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.remarks import summarize_remarks

MOST_CLASSES = 40  # with a histogram of their own
MOST_QUARANTINED = 500  # that are listed
MOST_TEXT = 1_700_000  # of pictures and playground, so that the page stays below 2 MB
WORST, ORDINARY = 8, 12
WORST_SHAPES, ORDINARY_SHAPES = 2, 4


@dataclass(frozen=True)
class HtmlReport:
    """The report that was written: its size, INRs of the set, INRs shown and sampled, and missing shards."""

    path: Path
    bytes: int
    inrs: int
    shown: int
    sampled: int
    median_psnr: float | None
    missing_shards: int


def report_dataset(
    dataset: str | Path | RemoteLocation,
    out: str | Path | None = None,
    *,
    data_root: str | Location | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> HtmlReport:
    """Write one HTML file that shows a data set: counts, cost, pictures, quality, layers, distances, a map.

    The same set, source and seed give the same bytes. The time does not grow with the set: what is read is bounded.

    Args:
        dataset: folder or URL of the set.
        out: file to write; None writes report.html into the set.
        data_root: folder or URL of the source's files; without them INRs are shown alone.
        seed: of the sample of INRs.
        on_step: called with a line of progress.

    Returns:
        The file, its size, and what it is based on.

    Raises:
        UsageError: for a location without a set.
        IntegrityError: for a shard that is not as recorded.
    """
    root = fetch_dataset(dataset)
    manifest = load_manifest(root)
    sources = None if data_root is None else parse_location(data_root)
    source, obstacle = open_dataset_source(manifest, root, sources)
    if obstacle:
        on_step(f"without the sources: {obstacle}")
    path = root / "report.html" if out is None else Path(out)
    with one_thread():  # the same sums, and bytes, for any number of cores
        return write_report(root, manifest, source, path, obstacle, seed, on_step)


def write_report(
    root: Path,
    manifest: Manifest,
    source: Source | None,
    out: Path,
    without: str | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> HtmlReport:
    """Measure the set in folder root and write its report to the file out; `without` is why there is no source."""
    manifest = manifest.model_copy(update={"classes": manifest.classes or ("no class",)})
    missing = manifest.missing(root)
    absent = set(missing)
    present = [entry for entry in manifest.shards if entry.path not in absent]
    on_step("quality of all INRs")
    rows = read_rows(root, present, seed)
    content = _about(root, manifest, present, missing) | _quality(manifest, rows, present)
    on_step("pictures of the worst and of ordinary INRs")
    content |= _pictures(root, manifest, rows, source, without, on_step)
    on_step("weights: layers, distances between views, maps")
    sample = draw_sample(root, manifest, present, seed)
    with torch.no_grad():
        content |= _weights(manifest, sample)
    page = open_template("report.html.jinja").render(**content, seed=seed, palette=COLORS).encode()
    make_folder(out.parent)
    write_atomically(out, page)
    middle = round(float(np.median(rows.psnr)), 2) if len(rows) else None
    sampled = 0 if sample is None else len(sample.inrs) + len(sample.other or ())
    shown = len(content["worst"]) + len(content["ordinary"])
    return HtmlReport(out, len(page), sum(e.rows for e in present), shown, sampled, middle, len(missing))


def _about(root: Path, manifest: Manifest, present: list[ShardEntry], missing: list[str]) -> dict[str, Any]:
    runs = summary.read_runs(root)
    pace = summary.inrs_per_second(runs, manifest)
    steps = [(entry.mean_steps, entry.rows) for entry in present if entry.mean_steps is not None]
    spec = manifest.siren_spec
    quarantine = [row for entry in present for row in entry.quarantine]
    return {
        "manifest": manifest,
        "spec": spec,
        "hidden_formula": hidden_formula(spec),
        "encoding": encoding_formula(spec) if spec.frequencies else "",
        "is_shapes": spec.in_dim == 3,
        "inrs": sum(entry.rows for entry in present),
        "megabytes": sum(entry.bytes for entry in present) / 1e6,
        "parts": sorted(summarize_splits(manifest, present), key=lambda part: SPLITS.index(part.split)),
        "objects": sum(split.objects for split in manifest.splits.values()),
        "missing": missing,
        "source_settings": summary.settings(manifest, "source"),
        "fit_settings": summary.settings(manifest, "fit"),
        "mean_steps": sum(mean * count for mean, count in steps) / sum(count for _, count in steps) if steps else None,
        "runs": runs[-summary.MOST_RUNS :],
        "older_runs": max(0, len(runs) - summary.MOST_RUNS),
        "duration": format_duration,
        "pace": format_rate(pace, 1) if pace else None,
        "remarks": [str(remark) for remark in summarize_remarks(manifest.remarks)],
        "quarantine": quarantine[:MOST_QUARANTINED],
        "quarantined": len(quarantine),
    }


def _quality(manifest: Manifest, rows: Rows, present: list[ShardEntry]) -> dict[str, Any]:
    """Histograms of all INRs for each measure, and of each class for the most telling measure."""
    measures = {"psnr": rows.psnr, **rows.quality}
    titles = {
        "psnr": ("PSNR", "dB"),
        "explained": ("variance explained", ""),
        "iou": ("IoU", ""),
        "distance_error": ("distance error", ""),
        "chamfer": ("chamfer", ""),
        "fscore": ("F-score at 1 %", ""),
        "normals": ("agreement of normals", ""),
    }
    overall = []
    for name, values in measures.items():
        finite = values[np.isfinite(values)]
        if name == "explained":
            finite = finite.clip(min=0)  # a constant explains more than what is below 0
        if len(finite):
            title, unit = titles[name]
            label = f"{title} of {len(finite):,} INRs, median {charts.digits(float(np.median(finite)))} {unit}".strip()
            chart = charts.histogram({"all": finite}, charts.nice_range(finite), label, unit, (420, 130), ticks=True)
            ends = [float(np.quantile(finite, share)) for share in (0.0, 0.01, 0.5, 1.0)]
            overall.append({"title": title, "unit": unit, "chart": chart, "ends": ends})
    title, unit = titles[rows.measure]
    measured, span = rows.measured, charts.nice_range(rows.measured)
    by_class = []
    for label in np.unique(rows.label):
        values = measured[(rows.label == label) & np.isfinite(measured)]
        if len(values):
            middle = float(np.median(values))
            name = manifest.classes[label]
            caption = f"{title} of {len(values):,} INRs of class {name}, median {charts.digits(middle)} {unit}".strip()
            chart = charts.histogram({name: values}, span, caption, unit)
            by_class.append({"name": name, "count": len(values), "median": middle, "chart": chart})
    lowest = sorted(by_class, key=lambda each: each["median"])[:MOST_CLASSES]
    return {
        "rows": rows,
        "read_all": len(rows.entries) == sum(1 for entry in present if entry.rows),
        "overall": overall,
        "by_class": [each for each in by_class if each in lowest],
        "num_with_inrs": len(by_class),
        "measure": title,
        "unit": unit,
    }


def _pictures(
    root: Path,
    manifest: Manifest,
    rows: Rows,
    source: Source | None,
    without: str | None,
    on_step: Callable[[str], None],
) -> dict[str, Any]:
    is_shapes = manifest.siren_spec.in_dim == 3
    counts = (WORST_SHAPES, ORDINARY_SHAPES) if is_shapes else (WORST, ORDINARY)
    worst, ordinary = worst_and_ordinary(root, rows, *counts)
    obstacle, shown = None, []
    try:
        pictures.can_draw(root, manifest, [*worst, *ordinary])
        draw = partial(_shapes, on_step=on_step) if is_shapes else pictures.images
        shown = draw(root, manifest, [*worst, *ordinary], source)
    except UsageError as error:
        obstacle = str(error)
    playground = make_playground(root, manifest, [*ordinary, *worst], source)
    sizes = np.cumsum([sum(len(uri) for _, uri in one.pictures) for one in shown]) + len(json.dumps(playground))
    shown = shown[: max(1, int((sizes <= MOST_TEXT).sum()))]
    return {
        "playground": playground,
        "worst": shown[: len(worst)],
        "ordinary": shown[len(worst) :],
        "obstacle": obstacle,
        "without": without,
        "strip_style": pictures.style,
        "frames": pictures.FRAMES,
    }


def _shapes(
    root: Path, manifest: Manifest, locations: RowLocations, source: Source | None, on_step: Callable[[str], None]
) -> list[pictures.RenderedINR]:
    shown = []
    for one in pictures.shapes(root, manifest, locations, source):
        shown.append(one)
        on_step(f"shape {len(shown)} of {len(locations)} from all around")
    return shown


def _weights(manifest: Manifest, sample: Sample | None) -> dict[str, Any]:
    if sample is None:
        return {"sample": None, "layers": [], "distances": [], "maps": []}
    layers = layer_statistics(sample.inrs)
    rows = [(each.name, each.std, each.published) for each in layers]
    distances = view_distances(sample)
    top = max((float(np.quantile(np.concatenate([d.same, d.different]), 0.995)) for d in distances), default=1.0)
    maps = weight_maps(sample)
    colors = charts.color_classes(sample.label, manifest.classes)
    return {
        "sample": sample,
        "layers": layers,
        "spread_chart": charts.spreads(rows, "spread of weights and biases, layer by layer"),
        "published": list(layers[0].published),
        "match": finest_match(sample.inrs.spec),
        "distances": [(each, _distance_chart(each.name, each.same, each.different, 1.04 * top)) for each in distances],
        "maps": [(each, _map(each, sample, colors)) for each in maps],
        "colors": [(label, name, kind) for label, name, kind in colors],
        "rest": [name for _, name, kind in colors if kind == "k-rest"],
        "chance": chance_between(sample.label),
        "median": lambda values: float(np.median(values)),
    }


def _map(each: WeightMap, sample: Sample, colors: list[tuple[int, str, str]]) -> Any:
    first, second = (f"{share:.1%} of the variance" for share in each.shares)
    axes = (f"first component: {first}", f"second component: {second}")
    return charts.scatter(each.positions, sample.label, colors, f"map of weights, {each.name}", axes)


def _distance_chart(name: str, same: Any, different: Any, top: float) -> Any:
    label = (
        f"relative distances {name}: median {np.median(same):.2f} between two views of one object, "
        f"{np.median(different):.2f} between different objects"
    )
    groups = {"one object": same, "different objects": different}
    return charts.histogram(groups, (0.0, top), label, "", (300, 130), ticks=True)
