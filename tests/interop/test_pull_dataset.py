"""Pull: what arrives is what was pushed, only what was asked for travels, and no fault of the network gets into a set."""

import json
import os
import sys
import threading

import pytest
from support.small_sets import make_set
from support.stand_in_hub import TOKEN, StandInHub

import inr_factory as inr
from inr_factory.cli.main import run
from inr_factory.storage.add_targets import add_targets
from inr_factory.storage.card_notes import CardNotes
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.pull_record import PULLED, load_pull_record
from inr_factory.storage.shards import ShardReader

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")
constants = pytest.importorskip("huggingface_hub.constants")

# How huggingface_hub itself calls its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "someone/small"
SHARD = "data/train-view001-00002.h5"


def name_hub(monkeypatch, url):
    """What HF_ENDPOINT does before the library is loaded."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The library's pauses between attempts, without waiting."""
    for module in ("huggingface_hub.utils._http", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.time.sleep", lambda _: None)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with StandInHub() as hub:
        name_hub(monkeypatch, hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def pushed(hub, tmp_path):
    """The folder of a set of 18 shards that is on the hub."""
    make_set(tmp_path / "set")
    CardNotes(cost="a minute").save(tmp_path / "set")
    inr.write_card(tmp_path / "set")
    (tmp_path / "set/CITATION.cff").write_text("title: a set\n")
    (tmp_path / "set/report.html").write_text("<p>a report</p>")
    hub.repos[REPO] = {"main": files(tmp_path / "set")}
    return tmp_path / "set"


def files(root, *besides):
    """Every file of a folder by its path, but for the record of the pull and what else is left out."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name not in (PULLED, *besides)}


def bytes_of(root, *views):
    return sum(entry.bytes for entry in load_manifest(root).shards if entry.view in views)


def pull(capsys, *arguments):
    """Exit code, result and stderr of a pull."""
    capsys.readouterr()
    code = run(["pull", REPO, *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_a_set_arrives_byte_for_byte_and_a_second_pull_sends_nothing(hub, pushed, tmp_path, capsys):
    code, done, _ = pull(capsys, "--out", tmp_path / "out")
    assert code == 0
    assert (done["fetched_shards"], done["there_before"], done["fetched_again"]) == (18, 0, [])
    assert done["bytes"] == bytes_of(pushed, 0, 1, 2) == hub.shard_bytes()
    assert files(tmp_path / "out") == files(pushed)
    assert run(["verify", str(tmp_path / "out")]) == 0

    hub.served.clear()
    assert pull(capsys, "--out", tmp_path / "out")[1]["there_before"] == 18
    assert hub.shard_bytes() == 0
    assert files(tmp_path / "out") == files(pushed)


def test_of_one_view_only_its_bytes_travel_and_the_folder_is_a_set_that_grows(hub, pushed, tmp_path, capsys):
    out = tmp_path / "out"
    assert pull(capsys, "--views", 1, "--out", out)[0] == 0
    assert hub.shard_bytes() == bytes_of(pushed, 0)
    assert "report.html" not in hub.served, "a report is of the whole set"
    assert load_manifest(out).views == 1
    for verb in ("verify", "status"):
        assert run([verb, str(out)]) == 0, verb
    assert inr.open(out).fingerprint == inr.open(pushed, views=1).fingerprint

    hub.served.clear()
    assert pull(capsys, "--views", 3, "--out", out)[0] == 0
    assert hub.shard_bytes() == bytes_of(pushed, 1, 2)
    assert files(out) == files(pushed)


def test_a_split_alone_and_a_list_of_views(hub, pushed, tmp_path, capsys):
    out = tmp_path / "out"
    assert pull(capsys, "--split", "val", "--views", 2, "--out", out)[0] == 0
    assert {entry.path for entry in load_manifest(out).shards} == {
        f"data/val-view00{v}-0000{b}.h5" for v in (0, 1) for b in (0, 1)
    }
    assert run(["status", str(out)]) == 75
    assert f"continue: inr-factory pull {REPO} --views 2 --out {out}" in capsys.readouterr().err
    report = inr.pull_dataset(REPO, out=out, split="val", views=[2])
    assert (report.fetched, report.already_there) == (2, 0)
    assert run(["verify", str(out)]) in (0, 75)
    assert len(inr.open(out, "val", views=[0, 2])) == 10


def test_the_cache_opens_by_the_name_of_the_repository_without_a_network(hub, pushed, capsys, monkeypatch):
    code, done, _ = pull(capsys, "--views", 2)
    assert (code, done["dataset"]) == (0, f"hf://{REPO}")
    name_hub(monkeypatch, "http://127.0.0.1:9")
    data = inr.open(f"hf://{REPO}", views=2)
    assert data.fingerprint == inr.open(pushed, views=2).fingerprint
    assert data.manifest.views == 3, "the set on the hub has more, which this machine can fetch"


def test_opening_a_pulled_set_fetches_more_of_the_same_commit(hub, pushed, capsys):
    huggingface_hub.HfFileSystem.clear_instance_cache()
    assert pull(capsys, "--views", 1)[0] == 0
    hub.files(REPO)["manifest.json"] = b"another set"
    hub.served.clear()
    assert inr.open(f"hf://{REPO}", views=2).fingerprint == inr.open(pushed, views=2).fingerprint
    assert set(hub.served) == {
        entry.path for entry in load_manifest(pushed).shards if (entry.view, entry.split) == (1, "train")
    }


def test_a_set_opens_from_the_hub_without_a_pull(hub, pushed):
    huggingface_hub.HfFileSystem.clear_instance_cache()
    assert inr.open(f"hf://{REPO}", "val").fingerprint == inr.open(pushed, "val").fingerprint
    report = inr.pull_dataset(REPO, split="val")
    assert (report.fetched, report.already_there) == (0, 6), "both keep shards in one place"


def test_targets_arrive_and_damaged_ones_do_not(hub, pushed, tmp_path, capsys):
    names = {name for entry in load_manifest(pushed).shards for name in ShardReader(pushed, entry).object_ids}
    path = pushed / add_targets(pushed, {"name": sorted(names), "x": range(len(names))}).manifest.targets.path
    assert run(["push", str(pushed), REPO]) == 0
    assert pull(capsys, "--out", tmp_path / "out", "--views", 1)[0] == 0
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()

    hub.files(REPO)[path.name] = b"other"
    code, _, err = pull(capsys, "--out", tmp_path / "again")
    assert code == 4
    assert f"{path.name} is not what was recorded" in err


def test_a_pull_keeps_its_commit_until_another_is_asked_for(hub, pushed, tmp_path, capsys):
    out = tmp_path / "out"
    before = pull(capsys, "--views", 1, "--out", out)[1]["commit"]
    hub.files(REPO)["README.md"] = b"a new card"

    assert pull(capsys, "--views", 2, "--out", out)[1]["commit"] == before
    assert (out / "README.md").read_bytes() != b"a new card"
    assert load_pull_record(out).commit == before

    code, done, err = pull(capsys, "--out", out, "--revision", "main")
    assert code == 0
    assert done["commit"] != before
    assert f"moves from commit {before[:12]}" in err
    assert (out / "README.md").read_bytes() == b"a new card"
    assert pull(capsys, "--out", tmp_path / "old", "--revision", before)[1]["commit"] == before


def test_a_card_that_the_user_edited_stays(hub, pushed, tmp_path, capsys):
    pull(capsys, "--out", tmp_path / "out")
    (tmp_path / "out/README.md").write_text("my notes")
    hub.files(REPO)["README.md"] = b"a new card"
    assert pull(capsys, "--out", tmp_path / "out", "--revision", "main")[0] == 0
    assert (tmp_path / "out/README.md").read_text() == "my notes"


def test_wrong_bytes_are_named_and_fetched_again(hub, pushed, tmp_path, capsys):
    hub.wrong[SHARD] = 1
    code, done, err = pull(capsys, "--out", tmp_path / "out")
    assert code == 0
    assert done["fetched_again"] == [SHARD]
    assert f"{SHARD} came with other bytes than recorded" in err
    assert files(tmp_path / "out") == files(pushed)


def test_one_failure_of_a_large_file_is_survived_and_two_are_not(hub, pushed, tmp_path, capsys):
    hub.failing[SHARD] = hub.short["data/val-view000-00000.h5"] = 1
    assert pull(capsys, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(pushed)
    for fault in (hub.failing, hub.short):
        fault[SHARD] = 2
        code, _, err = pull(capsys, "--out", tmp_path / "again")
        assert code == 5
        assert err.splitlines()[-1].startswith(f"inr-factory: {REPO} cannot be read from the hub")
    assert pull(capsys, "--out", tmp_path / "again")[0] == 0


def test_bytes_that_stay_wrong_are_refused_and_get_nowhere(hub, pushed, tmp_path, capsys):
    hub.wrong[SHARD] = 2
    code, _, err = pull(capsys, "--out", tmp_path / "out")
    assert code == 4
    assert err.splitlines()[-1].startswith(f"inr-factory: {SHARD}, fetched twice, is not what was recorded")
    assert not (tmp_path / "out" / SHARD).exists()
    assert run(["verify", str(tmp_path / "out")]) in (0, 75), "what came before is a set"
    assert pull(capsys, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(pushed)


def test_a_shard_of_the_folder_that_was_damaged_is_fetched_again(hub, pushed, tmp_path, capsys):
    pull(capsys, "--out", tmp_path / "out")
    content = (tmp_path / "out" / SHARD).read_bytes()
    (tmp_path / "out" / SHARD).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert pull(capsys, "--out", tmp_path / "out")[1]["fetched_shards"] == 1
    assert files(tmp_path / "out") == files(pushed)


def test_a_shard_that_the_repository_lost_is_named(hub, pushed, tmp_path, capsys):
    hub.gone.add(SHARD)
    code, _, err = pull(capsys, "--out", tmp_path / "out")
    assert code == 4
    assert f"{SHARD} is recorded, but {REPO} lacks it" in err
    assert pull(capsys, "--views", 1, "--out", tmp_path / "one")[0] == 0, "others can be pulled"


def test_transfers_that_break_off_are_continued_where_they_were(hub, pushed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # 10 MB, more than these shards have
    hub.cut = 5
    code, done, _ = pull(capsys, "--out", tmp_path / "out")
    assert code == 0
    assert len(hub.ranges) == 5
    assert done["bytes"] == bytes_of(pushed, 0, 1, 2)
    assert hub.shard_bytes() < done["bytes"] + 5 * 1024, "less than a chunk travels twice"
    assert files(tmp_path / "out") == files(pushed)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again(hub, pushed, tmp_path, capsys, status):
    hub.busy, hub.busy_status = 1, status
    assert pull(capsys, "--out", tmp_path / "out")[0] == 0
    hub.busy = 4
    code, _, err = pull(capsys, "--out", tmp_path / "again")
    assert code == 0
    assert files(tmp_path / "again") == files(pushed)
    assert f"{status}" in err, "a remark says why it takes long"


def test_a_failing_hub_ends_in_one_line_and_what_came_stays(hub, pushed, tmp_path, capsys):
    hub.busy, hub.busy_status = 10**6, 503
    code, _, err = pull(capsys, "--out", tmp_path / "out")
    assert code == 5
    assert "run again" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_without_a_network_one_line_says_so(hub, pushed, tmp_path, monkeypatch, capsys):
    name_hub(monkeypatch, "http://127.0.0.1:9")
    code, _, err = pull(capsys, "--out", tmp_path / "out")
    assert code == 5
    assert err.count("\n") == 1
    assert "check the network" in err


def test_a_network_that_goes_away_leaves_a_set_that_the_next_pull_completes(hub, pushed, tmp_path, capsys):
    seen = []

    def cut(done, total, arrived):
        seen.append((done, total, arrived))
        if arrived > total / 3:
            hub.busy, hub.busy_status = 10**6, 403

    with pytest.raises(inr.UsageError, match="the hub refuses"):
        inr.pull_dataset(REPO, out=tmp_path / "out", on_progress=cut)
    assert not [name for name in files(tmp_path / "out") if "staging" in name]
    saved = load_manifest(tmp_path / "out").shards
    assert 3 <= len(saved) < 18
    assert run(["verify", str(tmp_path / "out")]) in (0, 75)
    hub.busy = 0
    hub.served.clear()
    assert pull(capsys, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(pushed)
    assert hub.shard_bytes() < bytes_of(pushed, 0, 1, 2)


def test_an_interruption_ends_all_downloads_soon(hub, pushed, tmp_path):
    def interrupt(done, total, arrived):
        if arrived:
            raise KeyboardInterrupt

    hub.seconds = 0.05
    with pytest.raises(KeyboardInterrupt):
        inr.pull_dataset(REPO, out=tmp_path / "out", on_progress=interrupt)
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".staging")]
    assert not [thread for thread in threading.enumerate() if "work" in thread.name]


def test_progress_ends_at_all_bytes(hub, pushed, tmp_path):
    inr.pull_dataset(REPO, out=tmp_path / "out", views=1)
    seen = []
    inr.pull_dataset(REPO, out=tmp_path / "out", on_progress=lambda *state: seen.append(state))
    total = bytes_of(pushed, 0, 1, 2)
    assert seen[-1] == (total, total, bytes_of(pushed, 1, 2))
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_progress_does_not_count_wrong_bytes(hub, pushed, tmp_path):
    seen, hub.wrong["data/train-view000-00000.h5"] = [], 1
    inr.pull_dataset(REPO, out=tmp_path / "out", on_progress=lambda *state: seen.append(state))
    total = bytes_of(pushed, 0, 1, 2)
    assert seen[-1] == (total, total, total + load_manifest(pushed).shards[0].bytes)
    assert all(done < total for done, _, arrived in seen if arrived < seen[-1][2])


def test_files_of_the_other_storage_arrive_as_they_were_pushed(monkeypatch, tmp_path, capsys):
    pytest.importorskip("hf_xet")
    make_set(tmp_path / "set")
    with StandInHub(xet=tmp_path / "storage") as hub:
        name_hub(monkeypatch, hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.expect_xet(tmp_path / "set")
        (tmp_path / "storage").mkdir()
        assert run(["push", str(tmp_path / "set"), REPO]) == 0
        assert not [path for method, path in hub.log if method == "PUT"], "shards go to the other storage"
        code, done, _ = pull(capsys, "--views", "2", "--out", tmp_path / "out")
        assert code == 0
        assert done["fetched_shards"] == 12
        assert hub.shard_bytes() == 0, "shards come from the other storage"
        assert pull(capsys, "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "set")


REFUSED = {
    "name": (["pull", "small"], "a data set of the hub is named OWNER/NAME, got small"),
    "revision in the name": (["pull", f"{REPO}@main"], "what follows @ is the revision"),
    "repository": (["pull", "someone/else"], "the hub has no data set someone/else that you may read"),
    "branch": (["pull", REPO, "--revision", "v9"], f"{REPO} has no such revision"),
    "views": (["pull", REPO, "--views", "4"], "small has 3 views, the first 4 were requested"),
    "split": (["pull", REPO, "--split", "tran"], "unknown split 'tran'; did you mean 'train'?"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_hub_does_not_have_is_refused_in_one_line_and_leaves_nothing(hub, pushed, tmp_path, capsys, case):
    arguments, text = REFUSED[case]
    capsys.readouterr()
    assert run([*arguments, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_repository_without_a_set_is_refused(hub, pushed, tmp_path, capsys):
    hub.repos["someone/other"] = {"main": {"README.md": b"x"}}
    assert run(["pull", "someone/other", "--out", str(tmp_path / "out")]) == 2
    assert "someone/other has no manifest.json" in capsys.readouterr().err
    hub.repos["someone/other"]["main"]["manifest.json"] = b"{"
    assert run(["pull", "someone/other", "--out", str(tmp_path / "out")]) == 4
    assert "hf://someone/other/manifest.json is not a complete manifest" in capsys.readouterr().err


def test_a_private_repository_needs_a_token(hub, pushed, tmp_path, monkeypatch, capsys):
    assert run(["push", str(pushed), "someone/secret", "--private"]) == 0
    assert run(["pull", "someone/secret", "--out", str(tmp_path / "out")]) == 0
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: None)
    assert run(["pull", REPO, "--out", str(tmp_path / "open")]) == 0, "an open one does not"
    assert run(["pull", "someone/secret", "--out", str(tmp_path / "again")]) == 2
    assert "HF_TOKEN for a private one" in capsys.readouterr().err


def test_folders_with_something_else_are_left_alone(hub, pushed, tmp_path, capsys):
    notes, other, foreign = tmp_path / "notes", tmp_path / "other", tmp_path / "foreign"
    notes.mkdir()
    (notes / "x.txt").write_text("x")
    make_set(other, objects={"train": 4})
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "f" * 16}))
    for folder, text in ((notes, "has files, but no set"), (other, "holds another set (small)")):
        before = files(folder)
        assert pull(capsys, "--out", folder)[0] == 2
        assert pull(capsys, "--out", folder)[2].count(text) == 1
        assert files(folder) == before
    pull(capsys, "--out", foreign)
    assert run(["push", str(pushed), "someone/else"]) == 0
    assert run(["pull", "someone/else", "--out", str(foreign)]) == 2
    assert f"was pulled from {REPO}" in capsys.readouterr().err


def test_shards_that_differ_at_another_commit_are_not_mixed(hub, pushed, tmp_path, capsys):
    pull(capsys, "--views", 1, "--out", tmp_path / "out")
    manifest = json.loads(hub.files(REPO)["manifest.json"])
    manifest["shards"][0]["sha256"] = "0" * 64
    hub.files(REPO)["manifest.json"] = json.dumps(manifest).encode()
    assert pull(capsys, "--views", 1, "--out", tmp_path / "out")[0] == 0, "the old commit stays"
    code, _, err = pull(capsys, "--views", 1, "--out", tmp_path / "out", "--revision", "main")
    assert code == 2
    assert "holds another data/train-view000-00000.h5 than the hub" in err


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run(["pull", REPO]) == 2
    assert 'pip install "inr-factory[hub]"' in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [None, 3, b"a/b", "a/b/c", ""])
def test_wrong_arguments_are_one_line(wrong):
    with pytest.raises(inr.UsageError, match="a data set of the hub is named OWNER/NAME"):
        inr.pull_dataset(wrong)
    with pytest.raises(inr.UsageError, match="revision must be"):
        inr.pull_dataset(REPO, revision=wrong or 1) if not isinstance(wrong, str) else inr.pull_dataset(
            REPO, revision=""
        )
