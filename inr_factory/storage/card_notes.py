"""Card notes: what a dataset card says besides the manifest: baselines, whom to credit, and what the set cost.

They lie in card_notes.json of the set, which nothing but its maker writes, so that a card that is written again keeps them.
"""

from pydantic import Field, ValidationError

from inr_factory.errors import IntegrityError, validation_message
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location, read_file
from inr_factory.storage.manifest import Record, check_inside

NOTES = "card_notes.json"
# Files of a published set that its maker wrote; they travel with the card.
COMPANIONS = (NOTES, "LICENSE", "CITATION.cff", "datacite.json")
MAX_NOTES_BYTES = 2**20


class Baseline(Record):
    """A reader that was trained on the set.

    Attributes:
        reader: the model, as `--model` takes it.
        views: how many of the first views it was trained on.
        inrs: how many INRs these were.
        accuracy: share of the INRs of split test, view 0, whose class it names, in [0, 1].
        command: what trains it again; DATASET stands for the set.
    """

    reader: str
    views: int = Field(ge=1)
    inrs: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1)
    command: str


class CardNotes(Record):
    """What a card says besides the manifest; each part is left out where it is empty.

    Attributes:
        baselines: readers and their accuracies.
        licence: of the INRs, where the source leaves it to their maker.
        attribution: whom to credit, and what was changed.
        cost: what making the set took.
    """

    baselines: tuple[Baseline, ...] = ()
    licence: str = ""
    attribution: str = ""
    cost: str = ""

    def save(self, root: Location) -> None:
        """Write the notes of the set in folder root."""
        write_atomically(root / NOTES, (self.model_dump_json(indent=1) + "\n").encode())


NO_NOTES = CardNotes()


def load_card_notes(root: Location) -> CardNotes:
    """The notes of a set; empty ones where it has none. Raises IntegrityError where they are damaged."""
    path = root / NOTES
    check_inside(root, path)
    try:
        return CardNotes.model_validate_json(read_file(path, MAX_NOTES_BYTES))
    except FileNotFoundError:
        return NO_NOTES
    except ValidationError as error:
        raise IntegrityError(f"{path} is damaged: {validation_message(error)}; correct or remove it") from None
