"""Messages that several verbs print."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inr_factory.cli import terminal
from inr_factory.errors import skip_without_extra

if TYPE_CHECKING:
    from inr_factory.storage.dataset_card import CardReport
    from inr_factory.storage.manifest import Quarantined, Remark


@contextmanager
def optional_pictures() -> Iterator[None]:
    """Leave pictures out, with a line, where their extra or memory is missing: results do not depend on them."""
    try:
        with skip_without_extra("pictures"):
            yield
    except MemoryError:
        terminal.log_error("no picture: there is not enough memory to draw it; the results are kept")


def log_edited_files(card: "CardReport") -> None:
    """Name the files of a dataset card that the user has edited."""
    from inr_factory.storage.dataset_card import ALTERNATE_NAMES

    for name in card.edited:
        terminal.log_info(f"{name} was edited and stays as it is; the new version is in {ALTERNATE_NAMES[name]}")


def log_quarantine(rows: "Sequence[Quarantined]", most: int = 5) -> None:
    """Name INRs in quarantine with their reasons, or of more than `most` INRs the commonest reasons with one INR each."""
    from inr_factory.storage.manifest import group_by_reason

    groups = [[row] for row in rows] if len(rows) <= most else group_by_reason(rows)[:most]
    for group in groups:
        count = f"{len(group):,} INRs, as " if len(group) > 1 else ""
        terminal.log_error(f"quarantine: {count}{quarantined_text(group[0])}")
    if len(rows) > most:
        terminal.log_error(f"all {len(rows):,} of them: inr-factory status DATASET --quarantine")


def quarantined_text(row: "Quarantined") -> str:
    """An INR in quarantine, and its reason."""
    return f"{row.object_id}, view {row.view}: {row.reason}"


def print_remarks(remarks: "Iterable[Remark]", noun: str = "INRs") -> None:
    """Name INRs of constant signals, unused frames and the like as results, a line for each kind."""
    from inr_factory.storage.remarks import summarize_remarks

    for remark in summarize_remarks(remarks):
        terminal.print_result(f"note: {remark.text(noun)}")


def remarks_json(remarks: "Iterable[Remark]") -> list[dict[str, Any]]:
    """Remarks for --json, by kind."""
    from inr_factory.storage.remarks import summarize_remarks

    return [vars(remark) for remark in summarize_remarks(remarks)]
