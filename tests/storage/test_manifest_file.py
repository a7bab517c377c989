"""Manifest files: what many runs write at once is complete; what is damaged is refused in one line."""

import hashlib
import json
import multiprocessing

import pytest
from support.command_line import failure
from support.manifests import entry, manifest
from support.small_sets import make_set

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.storage.manifest import MANIFEST, ORIGIN, Quarantined, SplitRecord
from inr_factory.storage.manifest_file import load_manifest, load_origin, origin_content, update_manifest

pytestmark = pytest.mark.faults


def record_ten(root, view):
    for block in range(10):
        many = manifest(recipe={"views": 4}, splits={"train": SplitRecord(objects=60, blocks=10)})
        update_manifest(root, many, [entry(view=view, block=block)])


def leftovers(root):
    return [path.name for path in root.rglob(".*")]


@pytest.mark.parametrize("software", [{}, {"torch": "2"}, {"odd": '}\n"'}])
@pytest.mark.parametrize("shards", [(), (entry(),), (entry(), entry(block=1))], ids=len)
def test_a_manifest_goes_to_disk_and_back(tmp_path, shards, software):
    written = manifest(shards=shards, software=software)

    assert update_manifest(tmp_path, written) == written
    assert load_manifest(tmp_path) == written
    assert len([line for line in (tmp_path / MANIFEST).read_text().splitlines() if ".h5" in line]) == len(shards)


def test_quarantine_goes_to_disk_and_back(tmp_path):
    rows = (
        Quarantined(object_id="ü\n'\"", view=1, reason="diverged", psnr=float("nan")),
        Quarantined(object_id="b", view=1, reason="below the floor", psnr=12.5),
    )
    written = manifest(shards=(entry(quarantine=rows, psnr=None, mean_steps=None, rows=0),))

    update_manifest(tmp_path, written)

    assert load_manifest(tmp_path).quarantine == rows
    assert "NaN" not in (tmp_path / MANIFEST).read_text(), "JSON has no NaN"


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    (tmp_path / "file").touch()

    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UsageError, match="no data set in"):
            load_manifest(folder)


def damage(**changes):
    fields = json.loads(manifest(shards=(entry(),)).to_json())
    fields["shards"][0].update(changes.pop("shard", {}))
    fields.update(changes)
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a complete manifest"),
        (manifest().to_json()[:-3], "not a complete manifest"),
        ("[]", "not a complete manifest"),
        ("{}", "not a complete manifest"),
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
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / MANIFEST).write_text(text)

    with pytest.raises(IntegrityError, match=message) as caught:
        load_manifest(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_text_is_damaged(tmp_path):
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(IntegrityError, match=r"not a complete manifest.*UTF-8"):
        load_manifest(tmp_path)


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
    assert leftovers(tmp_path) == []


def test_more_views_are_recorded_and_fewer_are_not(tmp_path):
    update_manifest(tmp_path, manifest(), [entry()])

    assert update_manifest(tmp_path, manifest(recipe={"views": 5})).views == 5
    fewer = update_manifest(tmp_path, manifest(recipe={"views": 1}), [entry(block=1)])

    assert fewer.views == load_manifest(tmp_path).views == 5
    assert [shard.block for shard in fewer.shards] == [0, 1]


def test_another_recipes_set_is_not_written_over(tmp_path):
    update_manifest(tmp_path, manifest(), [entry()])
    before = (tmp_path / MANIFEST).read_bytes()

    with pytest.raises(UsageError, match="another recipe"):
        update_manifest(tmp_path, manifest(fingerprint="ff"), [entry(block=1)])

    assert (tmp_path / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    ("shards", "changes", "message"),
    [
        ([entry(), entry(block=1), entry()], {}, "data/train-view000-00000.h5 is recorded twice"),
        (
            [entry(), entry(block=1, path="data/train-view000-00000.h5")],
            {},
            "00000.h5 says it is train, view 0, block 1",
        ),
        ([entry(), entry(path="data/other.h5")], {}, "data/other.h5 says it is train, view 0, block 0"),
        ([entry(block=2)], {}, "data/train-view000-00002.h5 is recorded, but the set has no such shard"),
        ([entry(view=2)], {}, "data/train-view002-00000.h5 is recorded, but the set has no such shard"),
        ([entry("val")], {}, "data/val-view000-00000.h5 is recorded, but the set has no such shard"),
        ([entry(rows=61)], {}, "more objects than the split .60.; the last is data/train-view000-00000.h5"),
        ([entry(rows=40), entry(block=1, rows=21)], {}, "more objects than the split .60.; the last is .*00001.h5"),
        ([entry(rows=8)], {"recipe": {"views": 1, "shard_objects": 7}}, "has 8 objects, .* at most 7"),
    ],
)
def test_entries_that_a_set_cannot_have_are_refused_by_name(tmp_path, shards, changes, message):
    """A manifest line twice, and its kind: 64 rows where 56 objects are."""
    (tmp_path / MANIFEST).write_text(manifest(shards=tuple(shards), **changes).to_json())

    with pytest.raises(IntegrityError, match=message) as caught:
        load_manifest(tmp_path)

    assert "inr-factory repair" in str(caught.value)


def test_a_line_twice_is_refused_by_every_verb(tmp_path, capsys):
    make_set(tmp_path)
    lines = (tmp_path / MANIFEST).read_text().splitlines()
    row = next(number for number, line in enumerate(lines) if ".h5" in line)
    (tmp_path / MANIFEST).write_text("\n".join([*lines[: row + 1], *lines[row:]]))

    for verb in (["status"], ["verify"], ["train", "--epochs", "1"], ["show"], ["report"]):
        code, line = failure(capsys, verb[0], tmp_path, *verb[1:])
        assert (code, "data/train-view000-00000.h5 is recorded twice" in line) == (4, True), line


def test_a_key_twice_is_refused(tmp_path):
    """A reader takes the first, another the last."""
    text = manifest(shards=(entry(),)).to_json()
    (tmp_path / MANIFEST).write_text(text.replace('"rows": 3', '"rows": 1, "rows": 3'))
    with pytest.raises(IntegrityError, match="the key 'rows' occurs twice"):
        load_manifest(tmp_path)
    (tmp_path / ORIGIN).write_bytes(
        origin_content(manifest()).replace(b'"name": "tiny"', b'"name": "x", "name": "tiny"')
    )
    with pytest.raises(IntegrityError, match="the key 'name' occurs twice"):
        load_origin(tmp_path)


def test_an_origin_that_lists_shards_is_refused(tmp_path):
    fields = manifest(shards=(entry(),)).model_dump(mode="json")
    checksum = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (tmp_path / ORIGIN).write_text(json.dumps({**fields, "checksum": checksum}))
    with pytest.raises(IntegrityError, match="it lists shards"):
        load_origin(tmp_path)


@pytest.mark.parametrize("rest", [ORIGIN, "data/train-view000-00000.h5"])
def test_a_lost_manifest_points_to_repair(tmp_path, rest):
    (tmp_path / rest).parent.mkdir(exist_ok=True)
    (tmp_path / rest).touch()
    with pytest.raises(IntegrityError, match=r"has lost its manifest.json; inr-factory repair"):
        load_manifest(tmp_path)
