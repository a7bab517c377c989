"""Hub: a whole set arrives byte for byte, nothing else does, and what is there is not sent again."""

import json
import sys

import pytest
from support.small_sets import make_set
from support.stand_in_hub import TOKEN, used_hub

from inr_factory.cli.main import run
from inr_factory.storage.add_targets import add_targets
from inr_factory.storage.card_notes import CardNotes
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")
constants = pytest.importorskip("huggingface_hub.constants")

# How huggingface_hub itself calls its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "someone/small"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with used_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


def contents(root, *leave_out):
    """Every file of a folder by its path."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if not name.startswith(leave_out)}


def sent(hub):
    """The shards of which the stand-in was sent the bytes."""
    return sum(method == "PUT" for method, _ in hub.log)


def test_what_arrives_is_the_set_byte_for_byte_and_no_other_file(hub, root, capsys):
    (root / "report.html").write_text("<p>a report</p>")
    (root / "CITATION.cff").write_text("title: a set")
    CardNotes(cost="a minute").save(root)
    for name in ("logs/1.log", "set-aside/old.h5", "augment-report/x.png", ".manifest.lock", "notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("not the set's")

    assert run(["push", str(root), REPO, "--json"]) == 0

    observed = json.loads(capsys.readouterr().out)
    assert observed["sent_shards"] == len(load_manifest(root).shards) == 18
    mine = contents(root, "logs", "set-aside", "augment-report", ".manifest.lock", "notes.txt")
    assert hub.files(REPO) == mine
    assert {"README.md", "croissant.json", "manifest.json", "origin.json", "report.html"} < set(mine)
    assert {"CITATION.cff", "card_notes.json"} < set(mine)
    assert "manifest.json" in hub.commits[-1], "the record comes when its shards are there"


def test_targets_arrive_with_the_set_and_damaged_ones_are_not_pushed(hub, root, capsys):
    names = {name for entry in load_manifest(root).shards for name in ShardReader(root, entry).object_ids}
    path = root / add_targets(root, {"name": sorted(names), "x": range(len(names))}).manifest.targets.path
    assert run(["push", str(root), REPO]) == 0
    assert hub.files(REPO)[path.name] == path.read_bytes()

    path.write_bytes(b"other")
    assert run(["push", str(root), REPO]) == 4
    assert f"{path.name} is not what was recorded" in capsys.readouterr().err


def test_an_interrupted_upload_resumes(hub, root, monkeypatch, capsys):
    monkeypatch.setattr("inr_factory.interop.hugging_face_hub.SHARDS_PER_COMMIT", 5)
    hub.fail_after = 8
    assert run(["push", str(root), REPO]) in (2, 5)
    assert 5 <= len(hub.files(REPO)) < 18
    assert "manifest.json" not in hub.files(REPO)
    before, hub.fail_after = len(hub.files(REPO)), None
    hub.log.clear()

    assert run(["push", str(root), REPO, "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["there_before"] == before
    assert hub.files(REPO) == contents(root)
    assert sent(hub) <= 18 - before


def test_a_second_push_sends_no_shard(hub, root):
    assert run(["push", str(root), REPO]) == 0
    hub.log.clear()
    assert run(["push", str(root), REPO]) == 0
    assert sent(hub) == 0
    assert not [path for _, path in hub.log if path.endswith("objects/batch")], "nor is the hub asked about one"


def test_a_private_repository_and_a_branch(hub, root):
    assert run(["push", str(root), REPO, "--private", "--revision", "v2"]) == 0
    assert hub.private[REPO] == "private"
    assert hub.files(REPO, "v2") == contents(root)
    assert hub.files(REPO) == {}


def test_a_damaged_set_is_not_pushed(hub, root, capsys):
    victim = next((root / "data").glob("*.h5"))
    content = bytearray(victim.read_bytes())
    content[-5] ^= 1
    victim.write_bytes(content)
    assert run(["push", str(root), REPO]) == 4
    assert victim.name in capsys.readouterr().err
    assert not hub.repos


def test_an_unfinished_set_is_not_pushed(hub, tmp_path, capsys):
    make_set(tmp_path / "part", unfitted=[("train", 1, 2)])
    assert run(["push", str(tmp_path / "part"), REPO]) == 4
    assert "data/train-view001-00002.h5" in capsys.readouterr().err
    assert not hub.repos


def test_a_repository_with_other_shards_is_left_alone(hub, root, capsys):
    hub.repos[REPO] = {"main": {"data/train-view000-00099.h5": b"another set's"}}
    assert run(["push", str(root), REPO]) == 2
    assert "train-view000-00099.h5" in capsys.readouterr().err
    assert set(hub.files(REPO)) == {"data/train-view000-00099.h5"}


@pytest.mark.parametrize("name", ["no/such/name", "spaces in/it", "../x"])
def test_a_name_that_no_repository_has_is_one_line(hub, root, capsys, name):
    assert run(["push", str(root), name]) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_a_hub_that_does_not_know_the_token_refuses_in_one_line(hub, root, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert run(["push", str(root), REPO]) == 2
    assert "refuses" in capsys.readouterr().err


def test_without_a_token_nothing_is_asked(hub, root, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert run(["push", str(root), REPO]) == 2
    assert "HF_TOKEN" in capsys.readouterr().err
    assert hub.log == []


def test_a_hub_that_is_not_there_is_one_line(root, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run(["push", str(root), REPO]) == 5
    assert "run again" in capsys.readouterr().err


def test_without_the_extra_one_line_says_how_to_get_it(root, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run(["push", str(root), REPO]) == 2
    assert 'pip install "inr-factory[hub]"' in capsys.readouterr().err
