"""Certificate table: what `evaluate --certify` prints."""

from collections.abc import Sequence
from pathlib import Path

from inr_factory.cli import terminal
from inr_factory.errors import UsageError


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
        f"{report.count:,} INRs of {report.split}: largest change of the logits over {report.draws} random elements, "
        "relative to their spread"
    )
    rows = [
        (one.symmetry, f"{one.largest:.1e}", f"{one.median:.1e}", f"{one.exact:.1e}",
         "invariant" if one.invariant else "not invariant")
        for one in report.symmetries
    ]  # fmt: skip
    columns = ["symmetry", "float32, largest", "median", "float64, largest", f"at most {report.threshold:g} in float64"]
    terminal.print_table(columns, rows)
    terminal.print_result(f"\naugmentations at their defaults; accuracy without them {report.accuracy:.1%}")
    shifts = [
        (one.transform, f"{one.moved:.3f}", f"{one.flipped:.1%}", f"{one.accuracy:.1%}") for one in report.augmentations
    ]
    terminal.print_table(["augmentation", "probability moved", "predictions flipped", "accuracy"], shifts)
