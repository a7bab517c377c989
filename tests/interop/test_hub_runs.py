"""Hub runs: a run that was pushed predicts elsewhere as it did before, says nothing of this machine, and arrives whole."""

import json
import os

import pytest
import torch
from support.small_runs import make_run
from support.small_sets import make_set
from support.stand_in_hub import MODEL, used_hub

import inr_factory as inr
from inr_factory.cli.main import run
from inr_factory.storage.pull_record import PULLED, load_pull_record

pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")
constants = pytest.importorskip("huggingface_hub.constants")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "someone/reader"
HUB_REPO = REPO + MODEL


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made"), epochs=1)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with used_hub(monkeypatch) as hub:
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def pushed(hub, made):
    assert inr.push_run(made / "run", REPO) == f"{hub.url}/{REPO}"
    return made / "run"


def test_a_run_arrives_and_predicts_as_before(hub, pushed, tmp_path):
    assert set(hub.files(HUB_REPO)) == {"best.pt", "run.json", "metrics.jsonl", "README.md"}
    assert hub.files(HUB_REPO)["best.pt"] == (pushed / "best.pt").read_bytes()
    pulled = inr.pull_run(REPO, out=tmp_path / "out")
    there, here = (each.predict(pushed.parent / "set").probabilities for each in (inr.open_run(pushed), pulled))
    assert (there == here).all()
    assert pulled.history == inr.open_run(pushed).history
    assert pulled.evaluate(pushed.parent / "set").count == 6
    with pytest.raises(inr.UsageError, match="does not record the data set"):
        pulled.evaluate()


def test_nothing_of_this_machine_is_uploaded(hub, pushed):
    for name, content in hub.files(HUB_REPO).items():
        assert str(pushed.parent).encode() not in content, name


def test_a_model_is_loaded_by_its_name_once_and_then_without_a_network(hub, pushed, monkeypatch):
    model = inr.load_model(f"hf://{REPO}", device="cpu")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    again, local = inr.load_model(f"hf://{REPO}", device="cpu"), inr.load_model(pushed, device="cpu")
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, local.state_dict()[name])
    assert not model.training
    (entry,) = inr.cache().entries
    assert entry.what == REPO
    inr.cache(f"hf://{REPO}", prune=True)
    with pytest.raises(inr.ResourceError, match="check the network"):
        inr.load_model(f"hf://{REPO}")


def test_a_revision_is_pinned_until_another_is_named(hub, pushed, tmp_path):
    out = tmp_path / "out"
    first = inr.pull_run(REPO, out=out)
    (out / "README.md").write_text("my notes")
    hub.files(HUB_REPO)["metrics.jsonl"] = b""
    assert inr.pull_run(REPO, out=out).history == first.history
    assert inr.pull_run(REPO, out=out, revision="main").history == ()
    assert (out / "README.md").read_text() == "my notes"
    (out / "best.pt").unlink()
    assert inr.pull_run(REPO, out=out).checkpoint.is_file(), "an interrupted pull is continued"


@pytest.mark.parametrize(("copies", "complete"), [(1, True), (2, False)])
def test_a_checkpoint_with_wrong_bytes_is_fetched_once_more(hub, pushed, tmp_path, copies, complete):
    hub.wrong["best.pt"] = copies
    if complete:
        assert inr.pull_run(REPO, out=tmp_path / "out").checkpoint.read_bytes() == (pushed / "best.pt").read_bytes()
        return
    with pytest.raises(inr.IntegrityError, match=r"best\.pt of someone/reader came with other bytes than recorded"):
        inr.pull_run(REPO, out=tmp_path / "out")
    assert not (tmp_path / "out/best.pt").exists()
    assert inr.pull_run(REPO, out=tmp_path / "out").checkpoint.is_file()


def test_what_is_no_run_is_refused_in_one_line(hub, pushed, tmp_path):
    hub.repos["someone/bert" + MODEL] = {"main": {"config.json": b"{}"}}
    make_set(tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    inr.pull_run(REPO, out=tmp_path / "out")
    wrong = {
        "no run of INR Factory": lambda: inr.pull_run("someone/bert"),
        "the hub has no model someone/nobody": lambda: inr.pull_run("someone/nobody"),
        "no such revision": lambda: inr.pull_run(REPO, revision="x"),
        "is named OWNER/NAME": lambda: inr.pull_run("reader"),
        "has files, but no run": lambda: inr.pull_run(REPO, out=tmp_path / "mine"),
        "was pulled from someone/reader": lambda: inr.pull_run("someone/bert", out=tmp_path / "out"),
        "is a data set": lambda: inr.push_run(tmp_path / "set", REPO),
        "no checkpoint": lambda: inr.load_model(tmp_path / "nowhere"),
    }
    for text, call in wrong.items():
        with pytest.raises(inr.UsageError, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_the_command_line_pushes_pulls_and_cards_runs(hub, made, tmp_path, capsys):
    assert run(["push", str(made / "run"), REPO, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"url": f"{hub.url}/{REPO}"}
    assert run(["pull", REPO, "--run", "--out", str(tmp_path / "out"), "--json"]) == 0
    record = load_pull_record(tmp_path / "out")
    assert json.loads(capsys.readouterr().out) == {"run": str(tmp_path / "out"), "commit": record.commit}
    assert run(["evaluate", str(tmp_path / "out"), "--dataset", str(made / "set")]) == 0
    assert run(["card", str(tmp_path / "out")]) == 0
    assert "README" in capsys.readouterr().out
    assert run(["pull", REPO, "--run", "--views", "2"]) == 2
    assert "a run has none" in capsys.readouterr().err
    assert run(["pull", REPO]) == 2, "without --run a set is meant"
    assert (tmp_path / "out" / PULLED).is_file()
