"""Certificate table: what `evaluate --certify` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inr_factory.cli import terminal
from inr_factory.errors import UsageError

if TYPE_CHECKING:
    from inr_factory.learning.training.certificate import CertificateReport


def print_certificate(runs: Sequence[Path], dataset: Path | None, split: str, device: str, as_json: bool) -> None:
    """Certify a run and print the certificate. Raises UsageError for several runs."""
    from inr_factory.learning.training.trained_run import certify

    if len(runs) > 1:
        raise UsageError(f"--certify takes one run, got {len(runs)}; certify them one by one")
    report = certify(runs[0], None if dataset is None else str(dataset), split, device)
    if as_json:
        terminal.print_json({"run": str(runs[0]), **report.to_fields()})
        return
    terminal.print_result(
        f"{report.count:,} INRs of {report.split}: largest change of the outputs over {report.draws} random elements, "
        "relative to their spread"
    )
    rows = [
        (one.symmetry, f"{one.largest:.1e}", f"{one.median:.1e}", f"{one.exact:.1e}",
         "invariant" if one.invariant else "not invariant")
        for one in report.symmetries
    ]  # fmt: skip
    columns = ["symmetry", "float32, largest", "median", "float64, largest", f"at most {report.threshold:g} in float64"]
    terminal.print_table(columns, rows)
    figure = {"accuracy": "accuracy", "r2": "R²"}.get(report.figure, "mean average precision")
    terminal.print_result(f"\naugmentations at their defaults; {figure} without them {_share(report, report.score)}")
    is_class = report.figure == "accuracy"
    shifts = [
        (one.transform, f"{one.moved:.3f}", *([f"{one.flipped:.1%}"] if is_class else []), _share(report, one.score))
        for one in report.augmentations
    ]
    flipped = ["predictions flipped"] if is_class else []
    terminal.print_table(
        ["augmentation", "probability moved" if is_class else "moved, of the spread", *flipped, figure], shifts
    )


def _share(report: "CertificateReport", score: float) -> str:
    return f"{score:.3f}" if report.figure == "r2" else f"{score:.1%}"
