"""Messages that several verbs print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inr_factory.cli import terminal

if TYPE_CHECKING:
    from inr_factory.storage.dataset_card import CardReport
    from inr_factory.storage.manifest import Quarantined


def log_edited_files(card: "CardReport") -> None:
    """Name the files of a dataset card that the user has edited."""
    from inr_factory.storage.dataset_card import ALTERNATE_NAMES

    for name in card.edited:
        terminal.log_info(f"{name} was edited and stays as it is; the new version is in {ALTERNATE_NAMES[name]}")


def log_quarantine(rows: "Sequence[Quarantined]", most: int = 5) -> None:
    """Name INRs in quarantine with their reasons, at most `most` of them."""
    for row in rows[:most]:
        terminal.log_error(f"quarantine: {row.object_id}, view {row.view}: {row.reason}")
    if len(rows) > most:
        terminal.log_error(f"and {len(rows) - most} more (inr-factory status DATASET --quarantine)")
