"""Card notes: what a card says besides the manifest, which stays when the card is written again."""

import json

import pytest
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError
from inr_factory.storage.card_notes import NO_NOTES, NOTES, Baseline, CardNotes, load_card_notes
from inr_factory.storage.dataset_card import CROISSANT, README, write_card
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest, replace_manifest

READER = Baseline(reader="mlp|x", views=1, inrs=1400, accuracy=0.4567, command="inr-factory train DATASET\n```\n# x")
FULL = CardNotes(
    baselines=(READER,), licence="MIT (https://x.example/)", attribution="A. Author, 1998", cost="Two hours."
)


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


def test_a_card_has_the_notes_of_its_set(root):
    FULL.save(root)
    assert load_card_notes(root) == FULL
    write_card(root)
    text, croissant = (root / README).read_text(), json.loads((root / CROISSANT).read_text())
    assert "| mlp\\|x | 1 | 1,400 | 45.7 |" in text
    assert "inr-factory train DATASET ''' # x\n" in text, "a command is one line of its block"
    assert "Two hours." in text.partition("## How it was made")[2].partition("## Licence")[0]
    assert "Attribution: A. Author, 1998" in text.partition("## Licence and terms")[2]
    assert text.startswith("---\nlicense: mit\n")
    assert (croissant["license"], croissant["creditText"]) == ("https://x.example/", "A. Author, 1998")


def test_a_set_without_notes_has_the_card_of_before(root):
    write_card(root)
    before = (root / README).read_bytes()
    assert load_card_notes(root) == NO_NOTES
    assert b"Baselines" not in before
    NO_NOTES.save(root)
    assert write_card(root).written == ()
    assert (root / README).read_bytes() == before


def test_notes_stay_when_the_card_is_written_again(root):
    write_card(root)
    FULL.save(root)
    assert write_card(root).written == (CROISSANT, README)
    assert write_card(root).written == ()
    manifest = load_manifest(root)
    replace_manifest(root, manifest.model_copy(update={"name": "other"}))
    (root / CROISSANT).unlink()
    assert run(["card", str(root)]) == 0
    text = (root / README).read_text()
    assert "# other" in text
    assert "| mlp\\|x | 1 | 1,400 | 45.7 |" in text
    assert (root / MANIFEST).read_text().count("mlp") == 0


@pytest.mark.parametrize("text", ["{", '{"baselines": [{"reader": "mlp"}]}', '{"accuracy": 1}'])
def test_damaged_notes_are_named_in_one_line(root, text):
    (root / NOTES).write_text(text)
    with pytest.raises(IntegrityError, match=f"{NOTES} is damaged: .*; correct or remove it") as caught:
        write_card(root)
    assert "\n" not in str(caught.value)
