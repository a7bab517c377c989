"""Manifest: stable seeds, a record that many may write, and files that appear whole or not at all."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage import manifest as room
from inr_factory.storage.manifest import (
    MANIFEST,
    Manifest,
    PSNRSummary,
    Quarantined,
    ShardEntry,
    SourceRecord,
    SplitRecord,
    ViewKey,
    load_manifest,
    record,
    shard_path,
    sweep,
    write_atomically,
)

KNOWN_SEED = 4434530774451100429


def entry(split="train", view=0, block=0, **changes):
    fields = {
        "path": shard_path(split, view, block), "split": split, "view": view, "block": block, "rows": 3, "bytes": 10,
        "sha256": "0" * 64, "psnr": PSNRSummary(mean=40.5, median=40, min=39.125), "mean_steps": 7.5,
    }  # fmt: skip
    return ShardEntry(**{**fields, **changes})


def manifest(**changes):
    fields = {
        "name": "tiny", "spec": SirenSpec(2, 1, hidden_dim=4).to_dict(), "recipe": {"views": 2}, "fingerprint": "ab",
        "source": SourceRecord(name="digits", version="1", licence="BSD", fingerprint="cd"), "classes": ("a", "ü"),
        "splits": {"train": SplitRecord(objects=5, blocks=2), "test": SplitRecord(objects=1, blocks=1)},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def record_ten(root, view):
    for block in range(10):
        record(root, manifest(), [entry(view=view, block=block)])


def temporaries(root):
    return [path.name for path in root.rglob("*.tmp")]


def test_a_seed_is_the_same_in_every_process_and_every_version():
    """Data sets are made again from these: whoever changes them changes every set that was published."""
    code = "from inr_factory.storage.manifest import ViewKey; print(hash('a'), ViewKey('train-ü/7', 3).seed(42, attempt=1))"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    elsewhere = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    assert elsewhere[0] != str(hash("a")), "both processes hash alike, so that this shows nothing"
    assert ViewKey("train-ü/7", 3).seed(42, attempt=1) == int(elsewhere[1]) == KNOWN_SEED


def test_seeds_differ_and_lie_in_range():
    seeds = [
        ViewKey(object_id, view).seed(run_seed, attempt)
        for object_id in ("a", "b", "a1", "", "\udce9")
        for view in range(12)
        for run_seed in (0, 1, 10)
        for attempt in range(3)
    ]

    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62 > min(seeds)


def test_the_parts_of_a_key_do_not_run_into_each_other():
    assert ViewKey("a", 11).seed(0) != ViewKey("a1", 1).seed(0)
    assert ViewKey("b", 1).seed(1) != ViewKey("1b", 1).seed(0)
    assert ViewKey("a", 1).seed(0, attempt=1) != ViewKey("a", 11).seed(0)
    assert ViewKey("a\0001", 0).seed(0) != ViewKey("a", 1).seed(0)


@pytest.mark.parametrize("software", [{}, {"torch": "2"}, {"odd": '}\n"'}])
@pytest.mark.parametrize("shards", [(), (entry(),), (entry(), entry(block=1))], ids=len)
def test_a_manifest_goes_to_disk_and_back(tmp_path, shards, software):
    written = manifest(shards=shards, software=software)

    assert record(tmp_path, written) == written
    assert load_manifest(tmp_path) == written
    assert len([line for line in (tmp_path / MANIFEST).read_text().splitlines() if ".h5" in line]) == len(shards)


def test_quarantine_goes_to_disk_and_back(tmp_path):
    rows = (
        Quarantined(object_id="ü\n'\"", view=1, reason="diverged", psnr=float("nan")),
        Quarantined(object_id="b", view=1, reason="below the floor", psnr=12.5),
    )
    written = manifest(shards=(entry(quarantine=rows, psnr=None, mean_steps=None, rows=0),))

    record(tmp_path, written)

    assert load_manifest(tmp_path).quarantine == rows
    assert "NaN" not in (tmp_path / MANIFEST).read_text(), "JSON has no NaN"


def test_a_manifest_knows_its_shards(tmp_path):
    known = manifest(shards=(entry(rows=3), entry(block=1, rows=4)))

    assert known.rows == 7
    assert known.siren_spec == SirenSpec(2, 1, hidden_dim=4)
    assert list(known.shard_names()) == [
        shard_path(split, view, block) for view in (0, 1) for split, block in (("train", 0), ("train", 1), ("test", 0))
    ]


def test_missing_are_shards_that_are_unrecorded_absent_or_of_another_size(tmp_path):
    known = manifest(recipe={"views": 1}, shards=(entry(), entry(block=1), entry("test")))
    (tmp_path / "data").mkdir()
    for shard, size in ((entry(), 10), (entry(block=1), 9)):
        (tmp_path / shard.path).write_bytes(b"x" * size)

    assert known.missing(tmp_path) == [shard_path("train", 0, 1), shard_path("test", 0, 0)]
    assert shard_path("train", 0, 0) in manifest(recipe={"views": 1}).missing(tmp_path), "there, but not recorded"


def test_entries_stand_in_the_order_of_view_split_and_block():
    keys = [("train", 1, 0), ("test", 0, 0), ("train", 0, 10), ("val", 0, 0), ("train", 0, 2)]

    ordered = manifest(shards=(entry(*keys[0]),)).with_entries(entry(*key) for key in keys[1:])

    assert [(shard.split, shard.view, shard.block) for shard in ordered.shards] == [
        ("train", 0, 2), ("train", 0, 10), ("val", 0, 0), ("test", 0, 0), ("train", 1, 0),
    ]  # fmt: skip


def test_an_entry_takes_the_place_of_that_of_the_same_shard():
    before = manifest(shards=(entry(), entry(block=1)))

    after = before.with_entries([entry(block=1, rows=1)])

    assert [shard.rows for shard in after.shards] == [3, 1]
    assert [shard.rows for shard in before.shards] == [3, 3], "the old manifest changed"


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    (tmp_path / "file").touch()

    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UsageError, match="no data set in"):
            load_manifest(place)


def damage(**changes):
    fields = json.loads(manifest(shards=(entry(),)).to_json())
    fields["shards"][0].update(changes.pop("shard", {}))
    fields.update(changes)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a whole manifest"),
        (manifest().to_json()[:-3], "not a whole manifest"),
        ("[]", "not a whole manifest"),
        ("{}", "not a whole manifest"),
        (damage(format_version=2), "format version 2, this program reads 1"),
        (damage(format_version="1"), "format version 1, this program"),
        (damage(name=3), "damaged: .*name"),
        (damage(colour="red"), "damaged: .*colour"),
        (damage(spec={"in_dim": 2}), "damaged: .*out_dim"),
        (damage(spec={"in_dim": 2, "out_dim": 1, "hidden_dim": 0}), "damaged: hidden_dim"),
        (damage(recipe={}), "damaged: 'views'"),
        (damage(shard={"rows": -1}), "damaged: .*shards.0.rows"),
        (damage(shard={"sha256": "0" * 63}), "damaged: .*shards.0.sha256"),
        (damage(shard={"split": "trian"}), "damaged: .*shards.0.split: .*train, val, test"),
        (damage(shard={"path": "data/../../x.h5"}), "damaged: .*shards.0.path"),
    ],
)
def test_a_damaged_manifest_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / MANIFEST).write_text(text)

    with pytest.raises(IntegrityError, match=message) as caught:
        load_manifest(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_text_is_damaged(tmp_path):
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(IntegrityError, match="cannot be read"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x.h5", "../x.h5", "data/../x.h5", "data/a/../../x.h5", "data/sub/x.h5", "x.h5", "data/.h5", "data/x.txt",
        "data/..\\x.h5", "data/x.h5\n", "data/x.h5\0", "data//x.h5", "file:///x.h5", "data/.x.h5",
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_no_shard(path):
    assert entry(path="data/x.h5").path == "data/x.h5"
    with pytest.raises(ValidationError, match=r"must be data/NAME\.h5"):
        entry(path=path)


def test_many_may_record_at_once(tmp_path):
    context = multiprocessing.get_context("forkserver")  # as fresh as spawned ones, with one import of torch for all
    context.set_forkserver_preload(["inr_factory.storage.manifest"])
    writers = [context.Process(target=record_ten, args=(tmp_path, view)) for view in range(4)]

    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0] * 4
    found = [(shard.view, shard.block) for shard in load_manifest(tmp_path).shards]
    assert found == [(view, block) for view in range(4) for block in range(10)]
    assert temporaries(tmp_path) == []


def test_more_views_are_recorded_and_fewer_are_not(tmp_path):
    record(tmp_path, manifest(), [entry()])

    assert record(tmp_path, manifest(recipe={"views": 5})).views == 5
    fewer = record(tmp_path, manifest(recipe={"views": 1}), [entry(block=1)])

    assert fewer.views == load_manifest(tmp_path).views == 5
    assert [shard.block for shard in fewer.shards] == [0, 1]


def test_another_recipes_set_is_not_written_over(tmp_path):
    record(tmp_path, manifest(), [entry()])
    before = (tmp_path / MANIFEST).read_bytes()

    with pytest.raises(UsageError, match="another recipe"):
        record(tmp_path, manifest(fingerprint="ff"), [entry(block=1)])

    assert (tmp_path / MANIFEST).read_bytes() == before


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"

    for content in (b"one", b"", b"three"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), ResourceError),
        (OSError(errno.EDQUOT, "over quota"), ResourceError),
        (OSError(errno.EIO, "broken"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step, failure, kind):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def fail(*_):
        seen.append(temporaries(tmp_path))
        raise failure

    monkeypatch.setattr(room.os, step, fail)
    with pytest.raises(kind) as caught:
        write_atomically(path, b"new")

    assert isinstance(caught.value, ResourceError) == (kind is ResourceError)
    assert len(seen[0]) == 1, "it was not written to a temporary file"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_says_what_was_needed(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(room.os, "fsync", fail)
    with pytest.raises(ResourceError, match=r"the disk is full: .*file needs 1,500 bytes; make room"):
        write_atomically(tmp_path / "file", b"x" * 1500)


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_sweep_removes_temporaries_of_dead_writers_alone(tmp_path, dead_pid, monkeypatch):
    (tmp_path / "data").mkdir()
    here = room._host()
    gone = [f".{MANIFEST}.{here}-{dead_pid}.0123abcd.tmp", f"data/.x.h5.{here}-{dead_pid}.0123abcd.tmp"]
    kept = [
        f".{MANIFEST}.{here}-{os.getpid()}.0123abcd.tmp",
        f"data/.x.h5.{here}-{os.getppid()}.0123abcd.tmp",
        f".{MANIFEST}.elsewhere-{dead_pid}.0123abcd.tmp",
        ".notes.tmp", ".a.b.tmp", "notes.tmp", f".x.{here}-{dead_pid}.0123abcd", f".x.{here}-{dead_pid}.notes.tmp",
        f".x.{here}-99999999999.0123abcd.tmp", "data/x.h5", MANIFEST,
    ]  # fmt: skip
    for name in gone + kept:
        (tmp_path / name).touch()
    old = [name for name in kept if "elsewhere" not in name]
    for name in old:
        os.utime(tmp_path / name, (0, 0))

    assert sweep(tmp_path) == 2
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
    assert sweep(tmp_path) == 0


def test_sweep_removes_what_came_from_elsewhere_when_it_is_old(tmp_path):
    path = tmp_path / f".{MANIFEST}.elsewhere-1.0123abcd.tmp"
    path.touch()

    assert sweep(tmp_path) == 0
    os.utime(path, (time.time() - 4000,) * 2)
    assert sweep(tmp_path, max_age=5000) == 0
    assert sweep(tmp_path) == 1


def test_sweep_knows_the_names_that_write_atomically_gives(tmp_path, monkeypatch, dead_pid):
    """A writer that is killed in the middle leaves a name that sweep takes away."""
    monkeypatch.setattr(room.os, "getpid", lambda: dead_pid)
    kept = []

    def snatch(temporary, path):
        kept.append((temporary, temporary.read_bytes()))

    monkeypatch.setattr(room.os, "replace", snatch)
    write_atomically(tmp_path / "odd.name-1.h5", b"half")
    monkeypatch.undo()

    assert temporaries(tmp_path) == [kept[0][0].name]
    assert sweep(tmp_path) == 1


def test_a_writer_that_has_ended_unheard_is_dead(tmp_path):
    """A zombie still has its process id."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    deadline = time.monotonic() + 20
    while not _is_zombie(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / f".x.{room._host()}-{process.pid}.0123abcd.tmp").touch()

    assert sweep(tmp_path) == 1
    process.wait()


def _is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
