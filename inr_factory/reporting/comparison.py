"""Comparison: two sets side by side, or a set and a published corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inr_factory.inr.spec import SirenSpec
from inr_factory.reporting.figures import check_png
from inr_factory.reporting.plots import draw_spreads
from inr_factory.reporting.weight_statistics import (
    PUBLISHED,
    PUBLISHED_SPEC,
    SetStatistics,
    measure_set,
    published_statistics,
)
from inr_factory.storage.fetch_dataset import fetch_dataset

TableRow = tuple[str, list[float | None]]


@dataclass(frozen=True)
class CompareReport:
    """The comparison of sets A and B.

    `statistics` by "A", "B" and published corpora of the same shape; `rows` (name, one value each); `typical_factor` by
    which the spreads of A and B differ, None for other shapes; `spec_differences` (A, B) by field; the picture.
    """

    statistics: Mapping[str, SetStatistics]
    rows: list[TableRow]
    typical_factor: float | None
    spec_differences: Mapping[str, tuple[Any, Any]]
    picture: Path

    @property
    def titles(self) -> dict[str, str]:
        return {key: f"{key}: {each.name}" if key in ("A", "B") else key for key, each in self.statistics.items()}


def compare_datasets(
    a: str | Path, b: str | Path, *, split: str = "train", count: int = 2000, out: str | Path | None = None
) -> CompareReport:
    """Compare two data sets: spread of each layer, distances between INRs, PSNRs and specs.

    Args:
        a: folder or URL of a set, or the name of a published corpus.
        b: the other one.
        split: train, val or test.
        count: INRs of each that are measured, at most.
        out: PNG to write; None writes compare.png into the first set.

    Returns:
        Statistics, differences, and the picture that was written.

    Raises:
        UsageError: for a split with fewer than two INRs, or a picture that is no PNG.
        IntegrityError: for a shard that is not as recorded.
    """
    check_png(out)
    folders = {str(each): fetch_dataset(each) for each in (a, b) if str(each) not in PUBLISHED}
    sets = {"A": str(a), "B": str(b)}
    statistics = {
        key: measure_set(folders[name], split, count) if name in folders else published_statistics(name)
        for key, name in sets.items()
    }
    first, second = statistics.values()
    shapes = {first.spec.layer_shapes, second.spec.layer_shapes}
    if len(folders) == len(set(sets.values())) and shapes == {PUBLISHED_SPEC.layer_shapes}:
        statistics |= {name: published_statistics(name) for name in PUBLISHED}
    picture = next(iter(folders.values()), Path()) / "compare.png" if out is None else Path(out)
    report = CompareReport(
        statistics=statistics,
        rows=table_rows(statistics),
        typical_factor=first.spreads.typical_factor(second.spreads) if len(shapes) == 1 else None,
        spec_differences=spec_differences(first.spec, second.spec),
        picture=picture,
    )
    spreads = {report.titles[key]: (s.spreads.weights, s.spreads.biases) for key, s in statistics.items()}
    draw_spreads(spreads, picture, "standard deviation of each layer over INRs")
    return report


def spec_differences(a: SirenSpec, b: SirenSpec) -> dict[str, tuple[Any, Any]]:
    """The fields of the specs that differ, with both values."""
    fields_a, fields_b = a.to_dict(), b.to_dict()
    return {name: (fields_a[name], fields_b[name]) for name in fields_a if fields_a[name] != fields_b[name]}


def table_rows(statistics: Mapping[str, SetStatistics]) -> list[TableRow]:
    """The table of a comparison: a name and one number for each set, None where it has none."""
    sets = list(statistics.values())
    rows: list[TableRow] = []
    for kind in ("weights", "biases"):
        for layer in range(max(len(each.spreads.weights) for each in sets)):
            spreads = [getattr(each.spreads, kind) for each in sets]
            rows.append((f"std of {kind} {layer}", [s[layer] if layer < len(s) else None for s in spreads]))
    rows.append(("distance, different objects", [each.distance for each in sets]))
    rows.append(("distance, views of one object", [each.view_distance for each in sets]))
    rows.append(("median dB", [each.psnr for each in sets]))
    return rows
