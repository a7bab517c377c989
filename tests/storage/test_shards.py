"""Shards: what was written is what is read, by anyone; what is damaged or was never a shard is refused."""

import json
import re
import shutil
import zlib

import h5py
import numpy as np
import pytest
from support.shard_files import (
    ATTRIBUTES,
    KEY,
    NEVER_A_SHARD,
    QUARANTINE,
    SPEC,
    columns_of,
    write,
)

from inr_factory.errors import IntegrityError
from inr_factory.inr.initialization import initialize
from inr_factory.storage.manifest import Quarantined
from inr_factory.storage.shards import COLUMN_TYPES, ShardReader, row_checksums, write_shard


@pytest.fixture
def entry(tmp_path):
    return write(tmp_path)


@pytest.fixture
def path(tmp_path, entry):
    return tmp_path / entry.path


def refusal(path):
    """The one line with which an unrecorded shard is refused."""
    with pytest.raises(IntegrityError) as caught:
        ShardReader.unrecorded(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_what_was_written_is_read(tmp_path, entry):
    written = columns_of(5)

    shard = ShardReader(tmp_path, entry)
    assert len(shard) == 5
    assert shard.column_names == tuple(sorted({*written, "checksum"}))
    assert shard.object_ids == list(written.pop("object_id"))
    for name, column in written.items():
        assert shard.column(name).dtype == np.dtype({**COLUMN_TYPES, "height": "<i4", "scale": "<f8"}[name])
        np.testing.assert_array_equal(shard.column(name), column)
    assert shard.spec == SPEC
    assert shard.quarantine == QUARANTINE
    assert ATTRIBUTES.items() <= shard.attributes.items()
    shard.check_rows()


def test_the_entry_says_what_the_shard_holds(entry, path):
    assert (entry.path, entry.split, entry.view, entry.block) == ("data/train-view001-00002.h5", *KEY)
    assert (entry.rows, entry.bytes, entry.quarantine) == (5, path.stat().st_size, QUARANTINE)
    assert entry.psnr.model_dump() == {"mean": 40.25, "median": 40.25, "min": 40.0}
    assert entry.mean_steps == 102


@pytest.mark.parametrize(("name", "value"), [("label", 2**31), ("steps", 0.5), ("status", 200), ("height", 2**40)])
def test_a_number_that_its_column_cannot_hold_is_refused(tmp_path, name, value):
    columns = {**columns_of(5), name: np.full(5, value)}

    with pytest.raises(ValueError, match=f"column {name} has values that do not fit into"):
        write_shard(tmp_path, KEY, SPEC, columns, (), {})

    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_an_unrecorded_shard_describes_itself_as_its_writer_did(tmp_path, rows):
    entry = write(tmp_path, rows)

    assert ShardReader.unrecorded(tmp_path / entry.path).describe() == entry


def test_the_same_input_gives_the_same_bytes(tmp_path):
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    other = write(tmp_path / "three", quarantine=())

    assert one == two
    assert (tmp_path / "one" / one.path).read_bytes() == (tmp_path / "two" / two.path).read_bytes()
    assert other.sha256 != one.sha256


def test_weights_are_laid_out_as_the_attributes_say(tmp_path, entry):
    shard = ShardReader(tmp_path, entry)
    inrs = initialize(SPEC, range(5))
    parts = [part for pair in zip(inrs.weights, inrs.biases, strict=True) for part in pair]

    layout = json.loads(shard.attributes["parameters"])

    assert len(layout) == len(parts)
    for parameter, part in zip(layout, parts, strict=True):
        size = int(np.prod(parameter["shape"]))
        flat = shard.column("weights")[:, parameter["offset"] : parameter["offset"] + size]
        np.testing.assert_array_equal(flat.reshape(5, *parameter["shape"]), part)


def test_plain_h5py_reads_the_same_as_the_memory_maps(tmp_path, entry, path):
    shard = ShardReader(tmp_path, entry)

    with h5py.File(path) as file:
        assert set(file) == set(shard.column_names)
        for name in file:
            np.testing.assert_array_equal(shard.column(name), file[name][:])
        assert sorted(file, key=lambda name: file[name].id.get_offset()) == sorted(file), "their order hangs on chance"
        assert json.loads(file.attrs["spec"]) == SPEC.to_dict()


def test_hugging_face_reads_the_same_rows(tmp_path, entry, path, hugging_face_offline):
    datasets = pytest.importorskip("datasets")
    shard = ShardReader(tmp_path, entry)

    table = datasets.load_dataset("hdf5", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))

    assert table.num_rows == 5
    assert set(table.column_names) == set(shard.column_names)
    np.testing.assert_array_equal(np.array(table["weights"], dtype="<f4"), shard.column("weights"))
    assert [text.decode() if isinstance(text, bytes) else text for text in table["object_id"]] == shard.object_ids
    for name in set(shard.column_names) - {"weights", "object_id"}:
        np.testing.assert_array_equal(np.array(table[name]).astype(shard.column(name).dtype), shard.column(name))


def test_a_shard_without_rows_is_a_shard(tmp_path):
    entry = write(tmp_path, rows=0)

    shard = ShardReader(tmp_path, entry)

    assert (len(shard), entry.rows, entry.psnr, entry.mean_steps) == (0, 0, None, None)
    assert shard.column("weights").shape == (0, SPEC.num_parameters)
    assert shard.object_ids == []
    assert shard.quarantine == QUARANTINE
    shard.check_rows()
    ShardReader.unrecorded(tmp_path / entry.path)


def test_thousands_may_be_in_quarantine(tmp_path):
    rows = tuple(Quarantined(object_id=f"ü-{row}", view=1, reason="diverged") for row in range(5000))

    entry = write(tmp_path, quarantine=rows)

    shard = ShardReader.unrecorded(tmp_path / entry.path)
    assert len(shard.attributes["quarantine"]) > 2**16
    assert shard.quarantine == entry.quarantine == rows


@pytest.mark.parametrize(
    "object_ids",
    [["ü", "日本語/画像.png", "a", "", "🙂 🙂"], [""] * 5, ["a" * 4000, "b", "c", "d", "e"]],
    ids=["unicode", "empty", "long"],
)
def test_object_ids_may_be_any_text(tmp_path, object_ids):
    entry = write(tmp_path, object_ids=object_ids)

    assert ShardReader.unrecorded(tmp_path / entry.path).object_ids == object_ids


def test_columns_cannot_be_written_to(tmp_path, entry):
    shard = ShardReader(tmp_path, entry)

    for name in shard.column_names:
        with pytest.raises(ValueError, match="read-only"):
            shard.column(name)[0] = 0
    assert ShardReader(tmp_path, entry).entry == entry


def test_a_truncated_shard_is_refused_at_any_length(tmp_path, entry, path):
    whole = path.read_bytes()
    generator = np.random.default_rng(0)

    for length in [0, 1, 8, len(whole) - 1, *generator.integers(len(whole), size=20)]:
        path.write_bytes(whole[:length])
        refusal(path)
        with pytest.raises(IntegrityError, match=f"{path.name} has {length:,} bytes, the manifest says"):
            ShardReader(tmp_path, entry, check=False)


@pytest.mark.parametrize("where", ["anywhere", "in what is not zero"])
def test_a_flipped_bit_is_found_or_does_no_harm(tmp_path, entry, path, where):
    """The sha256 of a recorded shard always differs; an unrecorded one is refused, or all it says is right."""
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    good = ShardReader(tmp_path, entry)
    columns = {name: good.column(name).copy() for name in good.column_names}
    positions = np.arange(whole.size) if where == "anywhere" else np.flatnonzero(whole)
    refused = 0

    for seed in range(60):
        generator = np.random.default_rng(seed)
        flipped = whole.copy()
        flipped[generator.choice(positions)] ^= 1 << generator.integers(8)
        path.unlink()  # `good` still maps the old one
        path.write_bytes(flipped.tobytes())

        with pytest.raises(IntegrityError, match="sha256 differs"):
            ShardReader(tmp_path, entry)
        try:
            shard = ShardReader.unrecorded(path)
        except IntegrityError as error:
            refused += path.name in str(error)
            continue
        assert shard.attributes == good.attributes
        assert shard.column_names == good.column_names
        for name, column in columns.items():
            assert shard.column(name).dtype == column.dtype
            np.testing.assert_array_equal(shard.column(name), column)
    assert refused > (30 if where != "anywhere" else 5)


@pytest.mark.parametrize("name", sorted(columns_of(1)))
def test_the_checksum_of_a_row_covers_every_column(path, name):
    with h5py.File(path, "r+") as file:
        column = file[name][:]
        column[3] = b"z" if name == "object_id" else column[3] + 1
        file[name][:] = column

    assert "the checksum of row 3 is wrong" in refusal(path)


def test_a_checksum_names_the_rows_that_differ(path):
    with h5py.File(path, "r+") as file:
        file["label"][1:4] = 9

    assert "row 1, 2, 3 is" in refusal(path)


def test_the_checksum_of_a_row_is_that_of_its_bytes():
    columns = {"b": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.array([7, 8], "<i4"), "checksum": np.zeros(2)}

    expected = [zlib.crc32(columns["a"][row].tobytes() + columns["b"][row].tobytes()) for row in range(2)]

    assert row_checksums(columns).tolist() == expected


def test_a_shard_of_other_rows_than_recorded_is_refused(tmp_path, entry):
    with pytest.raises(IntegrityError, match="has 5 rows, the manifest says 4"):
        ShardReader(tmp_path, entry.model_copy(update={"rows": 4}))


def test_a_shard_that_is_gone_is_refused(tmp_path, entry, path):
    path.unlink()

    with pytest.raises(IntegrityError, match="is recorded but missing"):
        ShardReader(tmp_path, entry)
    refusal(path)


def test_another_shard_of_the_same_size_is_found_by_its_content(tmp_path, entry, path):
    other = write_shard(tmp_path / "b", KEY, SPEC, {**columns_of(5), "label": np.full(5, 9)}, QUARANTINE, ATTRIBUTES)
    shutil.copy(tmp_path / "b" / other.path, path)

    assert other.bytes == entry.bytes
    with pytest.raises(IntegrityError, match="sha256 differs"):
        ShardReader(tmp_path, entry)
    assert len(ShardReader(tmp_path, entry, check=False)) == 5


@pytest.mark.parametrize("kind", NEVER_A_SHARD)
def test_what_a_shard_never_has_is_refused(tmp_path, path, kind):
    change, message = NEVER_A_SHARD[kind]
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)

    assert re.search(message, refusal(path))


def test_other_files_are_no_shards(tmp_path):
    for name, content in (
        ("text.h5", b"hello"),
        ("empty.h5", b""),
        ("signature.h5", b"\x89HDF\r\n\x1a\n" + bytes(600)),
    ):
        (tmp_path / name).write_bytes(content)
        assert "is not a shard of this format" in refusal(tmp_path / name)
    assert "is not a shard of this format" in refusal(tmp_path)


@pytest.mark.parametrize("width", [3, 300])
def test_a_row_checksum_is_that_of_all_its_bytes_in_the_order_of_the_names(width):
    weights = np.arange(4 * width, dtype="<f4").reshape(4, width)
    columns = {"width": np.arange(4, dtype="<i4"), "weights": weights, "label": np.arange(4, dtype="<i4") + 7}
    expected = [
        zlib.crc32(b"".join(columns[name][row].tobytes() for name in ("label", "weights", "width"))) for row in range(4)
    ]
    assert row_checksums(columns).tolist() == expected
