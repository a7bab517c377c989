"""The data set: it holds the requested rows, bit for bit, and refuses what it cannot vouch for."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.small_sets import CLASSES, OBJECTS, SPEC, label_of, make_set, psnr_of, weights_of
from torch.utils.data import DataLoader

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "small"
    make_set(root)
    return root


@pytest.fixture
def root(untouched: Path, tmp_path: Path) -> Path:
    return shutil.copytree(untouched, tmp_path / "small")


def keys(dataset: INRDataset) -> list[tuple[str, int]]:
    return list(zip(dataset.object_ids.tolist(), dataset.views.tolist(), strict=True))


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("spec", [SPEC, SirenSpec(3, 2, hidden_dim=8, num_hidden=3, omega_0=30.0)], ids=str)
def test_every_row_holds_the_weights_and_facts_of_its_object_and_view(
    spec: SirenSpec, in_memory: bool, tmp_path: Path
) -> None:
    make_set(tmp_path, spec)
    dataset = INRDataset(tmp_path, in_memory=in_memory)

    weights, labels = dataset.gather(range(len(dataset)))

    assert dataset.spec == spec
    assert len(dataset) == 3 * OBJECTS["train"]
    assert len(set(keys(dataset))) == len(dataset)
    assert weights.dtype == torch.float32
    for row, (object_id, view) in enumerate(keys(dataset)):
        assert torch.equal(weights[row], weights_of(spec, object_id, view))
        assert labels[row] == dataset.labels[row] == label_of(object_id)
        assert dataset.psnr[row] == psnr_of(object_id, view)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("in_memory", [False, True])
def test_rows_are_gathered_in_the_order_asked_for(in_memory: bool, root: Path) -> None:
    dataset = INRDataset(root, in_memory=in_memory)
    everything, labels = dataset.gather(np.arange(len(dataset)))

    for rows in ([41, 0, 7, 7, 23], np.array([3], dtype=np.int32), torch.tensor([-1, 40]), []):
        weights, chosen = dataset.gather(rows)
        index = torch.as_tensor(np.asarray(rows), dtype=torch.long)
        assert torch.equal(weights, everything[index])
        assert torch.equal(chosen, labels[index])
        assert chosen.dtype == torch.int64
    with pytest.raises(IndexError):
        dataset.gather([len(dataset)])
    with pytest.raises(UsageError, match="given by their numbers, got bool"):
        dataset.gather(dataset.labels == 1)


def test_rows_come_view_by_view_in_the_order_of_the_objects(root: Path) -> None:
    objects = [f"train-{number}" for number in range(OBJECTS["train"])]

    assert keys(INRDataset(root)) == [(name, view) for view in range(3) for name in objects]
    assert keys(INRDataset(root, views=2)) == keys(INRDataset(root))[: 2 * len(objects)]
    chosen = INRDataset(root, views=[2, 0, 2])
    assert keys(chosen) == [(name, view) for view in (0, 2) for name in objects]
    assert (chosen.chosen_views, chosen.incomplete) == ((0, 2), 0)


def test_an_item_is_float_weights_and_a_one_hot_target(root: Path) -> None:
    dataset = INRDataset(root, "val")

    assert len(list(dataset)) == len(dataset) == 3 * OBJECTS["val"]
    for (weights, target), (object_id, view) in zip(dataset, keys(dataset), strict=True):
        assert torch.equal(weights, weights_of(SPEC, object_id, view))
        assert target.tolist() == [float(number == label_of(object_id)) for number in range(3)]
    assert torch.equal(dataset[-1][0], dataset[len(dataset) - 1][0])
    for (weights, target), row in zip(dataset.__getitems__([7, 2, 7]), (7, 2, 7), strict=True):
        assert torch.equal(weights, dataset[row][0])
        assert torch.equal(target, dataset[row][1])


def test_only_shards_of_the_split_and_the_views_are_opened(root: Path) -> None:
    before = keys(INRDataset(root, "train", views=1))
    for shard in (root / "data").iterdir():
        if not shard.name.startswith("train-view000"):
            shard.unlink()

    assert keys(INRDataset(root, "train", views=1)) == before
    for split, views in (("train", 2), ("val", 1)):
        with pytest.raises(IntegrityError, match="is recorded but missing"):
            INRDataset(root, split, views=views)


def test_subsets_hold_the_rows_that_fit_and_no_others(root: Path) -> None:
    def held(row: tuple[str, int]) -> tuple[str, float]:
        return CLASSES[label_of(row[0])], psnr_of(*row)

    whole = keys(INRDataset(root))
    expected: list[tuple[dict[str, Any], Callable[[tuple[str, int]], bool]]] = [
        ({"classes": ["high", "low"]}, lambda row: held(row)[0] != "mid"),
        ({"classes": [1]}, lambda row: held(row)[0] == "mid"),
        ({"classes": "mid"}, lambda row: held(row)[0] == "mid"),
        ({"min_psnr": 41.0}, lambda row: held(row)[1] >= 41),
        ({"max_psnr": 41.0}, lambda row: held(row)[1] <= 41),
        (
            {"classes": ["low"], "min_psnr": 33, "max_psnr": 44, "views": [1]},
            lambda row: held(row)[0] == "low" and 33 <= held(row)[1] <= 44 and row[1] == 1,
        ),
    ]
    for chosen, fits in expected:
        dataset = INRDataset(root, **chosen)
        assert keys(dataset) == [row for row in whole if fits(row)]
        assert 0 < len(dataset) < len(whole)
        weights, labels = dataset.gather(range(len(dataset)))
        for row, (object_id, view) in enumerate(keys(dataset)):
            assert torch.equal(weights[row], weights_of(SPEC, object_id, view))
            assert labels[row] == label_of(object_id), "a label must mean the same in every subset"
        assert dataset[0][1].shape == (3,)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
    ({"classes": ["hihg"]}, "unknown class 'hihg'; did you mean 'high'"),
    ({"classes": [3]}, "no class number 3; the set has 3 classes"),
    ({"classes": []}, "no class was requested"),
    ({"views": 4}, "small has 3 views, the first 4 were requested"),
    ({"views": 0}, "the first 0 were requested"),
    ({"views": [0, 3]}, "small has 3 views, 0 to 2; 3 was requested"),
    ({"views": [-1]}, "-1 was requested"),
    ({"views": []}, "none was requested"),
    ({"min_psnr": 99}, "train, views 0-2 of small has no row with at least 99 dB; there are 42 of 30.0 to 56.5 dB"),
    ({"max_psnr": 29.9}, r"has no row with at most 29\.9 dB"),
    ({"min_psnr": 40, "max_psnr": 39}, r"no row with at most 39 dB; there are \d+ of 40"),
    ({"views": "5"}, "views must be a number of first views or a list of views, got '5'"),
    ({"views": 1.5}, "views must be a number of first views"),
    ({"views": True}, "the first True were requested"),
    ({"classes": [1.0]}, "classes are names or numbers, got 1.0"),
    ({"split": 3}, "unknown split 3"),
    ({"min_psnr": "40"}, "min_psnr must be a number of dB, got '40'"),
    ({"labels_per_class": 1.5}, "labels_per_class must be a whole number"),
    ({"label_noise": 0.2}, r"label_noise must be \(share, seed\)"),
    ({"label_noise": ("a", 0)}, "a share of labels from 0 to 1, got 'a'"),
    ({"split": "val", "classes": ["low"], "min_psnr": 52}, "no row with at least 52 dB; there are 6 of"),
]


@pytest.mark.parametrize(("chosen", "message"), WRONG, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_what_the_set_does_not_have_is_said_in_one_line(chosen: dict[str, Any], message: str, root: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        INRDataset(root, **chosen)
    assert "\n" not in str(caught.value)


def test_a_set_is_named_by_a_folder_or_a_url(root: Path, tmp_path: Path) -> None:
    for path in (root, str(root), f"file://{root}"):
        assert keys(INRDataset(path, views=np.int64(1), classes=0)) == keys(INRDataset(root, views=1, classes=["low"]))
    for wrong, message in (
        (tmp_path / "nothing", "no data set in"),
        (INRDataset(root), "a data set is named by its folder or URL, got INRDataset"),
        (None, "got NoneType"),
        ("nostore://a/b", "no store nostore://"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            INRDataset(wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_class_or_a_split_without_rows_is_said(tmp_path: Path) -> None:
    make_set(tmp_path, objects={"train": 2, "val": 0})

    with pytest.raises(UsageError, match="has no row of class high"):
        INRDataset(tmp_path, classes=["high"])
    for split in ("val", "test"):
        with pytest.raises(UsageError, match=f"has no objects in split {split}; it has train"):
            INRDataset(tmp_path, split)


def test_an_incomplete_set_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    make_set(tmp_path, unfitted=[("train", 0, 1), ("train", 1, 0), ("val", 0, 0), ("val", 0, 1)])
    dataset = INRDataset(tmp_path)

    assert dataset.incomplete == 2
    assert len(dataset) == 3 * OBJECTS["train"] - 8
    assert ("train-4", 0) not in keys(dataset)
    assert "2 shards missing" in repr(dataset)
    assert INRDataset(tmp_path, views=[2]).incomplete == 0
    with pytest.raises(
        UsageError,
        match=r"val, views 0 of small has no rows: 2 shards are missing; inr-factory status gives the command",
    ):
        INRDataset(tmp_path, "val", views=1)


def test_objects_keep_their_numbers_where_views_are_in_quarantine(tmp_path: Path) -> None:
    make_set(tmp_path, quarantine=[("train-0", 0), ("train-5", 1), *[(f"train-{n}", 2) for n in range(4)]])
    dataset = INRDataset(tmp_path)

    assert len(dataset) == 3 * OBJECTS["train"] - 6
    assert ("train-0", 0) not in keys(dataset)
    numbers = dict(zip(dataset.object_ids.tolist(), dataset.objects.tolist(), strict=True))
    assert sorted(numbers.values()) == list(range(OBJECTS["train"]))
    assert [numbers[name] for name in dataset.object_ids.tolist()] == dataset.objects.tolist()
    weights, _ = dataset.gather(range(len(dataset)))
    for row, (object_id, view) in enumerate(keys(dataset)):
        assert torch.equal(weights[row], weights_of(SPEC, object_id, view))


def flip_byte(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        content[file["weights"].id.get_offset() + 2] ^= 1
    shard.write_bytes(content)


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def swap(shard: Path) -> None:
    shard.write_bytes((shard.parent / "train-view001-00000.h5").read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip_byte, "sha256 differs"), (truncate, "bytes, the manifest says"), (swap, "manifest|sha")],
)
def test_a_damaged_shard_is_refused_by_name(damage: Callable[[Path], None], message: str, root: Path) -> None:
    damage(root / "data" / "train-view000-00000.h5")

    with pytest.raises(IntegrityError, match=message) as caught:
        INRDataset(root)
    assert "data/train-view000-00000.h5" in str(caught.value)
    assert len(INRDataset(root, views=[1])) == OBJECTS["train"], "undamaged views can be read"


def test_without_the_check_only_sizes_are_compared(root: Path) -> None:
    flip_byte(root / "data" / "train-view000-00000.h5")

    assert not torch.equal(INRDataset(root, check=False)[0][0], weights_of(SPEC, "train-0", 0))
    truncate(root / "data" / "train-view000-00000.h5")
    with pytest.raises(IntegrityError, match="bytes, the manifest says"):
        INRDataset(root, check=False)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("spec", SPEC.to_dict() | {"omega_0": 30.0}, "omega_0 7"), ("classes", ["low", "mid"], r"labels outside 0\.\.1")],
)
def test_shards_that_contradict_the_manifest_are_refused(field: str, value: Any, message: str, root: Path) -> None:
    manifest = load_manifest(root)
    (root / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json") | {field: value}))

    with pytest.raises(IntegrityError, match=message):
        INRDataset(root)


def test_what_was_read_is_a_copy(root: Path) -> None:
    files = {shard: shard.read_bytes() for shard in (root / "data").iterdir()}
    for in_memory in (False, True):
        dataset = INRDataset(root, in_memory=in_memory)
        for weights in (dataset.gather([0, 1])[0], dataset[0][0]):
            weights.fill_(7)
        assert torch.equal(dataset[0][0], weights_of(SPEC, "train-0", 0))
    assert {shard: shard.read_bytes() for shard in (root / "data").iterdir()} == files


def test_no_file_stays_open(root: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    dataset = INRDataset(root)
    dataset.gather(range(len(dataset)))

    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_pickled_data_set_reads_the_same_and_carries_no_weights(in_memory: bool, tmp_path: Path) -> None:
    spec = SirenSpec(2, 1, hidden_dim=64, num_hidden=3)
    make_set(tmp_path, spec, objects={"train": 30}, shard_objects=30)
    dataset = INRDataset(tmp_path, in_memory=in_memory)
    weights, _ = dataset.gather(range(90))

    pickled = pickle.dumps(dataset)

    assert len(pickled) < weights.nbytes / 20
    assert torch.equal(pickle.loads(pickled).gather(range(90))[0], weights)


def test_a_plain_dataloader_takes_it(root: Path) -> None:
    dataset = INRDataset(root)
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=order)

    seen = []
    for weights, targets in loader:
        assert weights.shape[1:] == (SPEC.num_parameters,)
        assert targets.dtype == torch.float32
        seen += [(row.numpy().tobytes(), int(target.argmax())) for row, target in zip(weights, targets, strict=True)]

    expected = [(weights_of(SPEC, name, view).numpy().tobytes(), label_of(name)) for name, view in keys(dataset)]
    assert sorted(seen) == sorted(expected)
    assert seen != expected, "nothing was shuffled"


def test_the_fingerprint_stands_for_what_the_rows_hold(root: Path, tmp_path: Path) -> None:
    def of(path: Path, **chosen: Any) -> str:
        return INRDataset(path, **chosen).fingerprint

    make_set(tmp_path / "again")
    make_set(tmp_path / "shorter", views=2)
    make_set(tmp_path / "renamed", classes=("low", "mid", "top"))
    make_set(tmp_path / "shifted", replace(SPEC, output_bias=0.0))  # the same weights, other functions

    assert of(root) == of(tmp_path / "again") == of(root, views=3) == of(root, views=[2, 1, 0], min_psnr=0)
    assert of(root, views=2) == of(tmp_path / "shorter"), "a set that was given more views keeps its first ones"
    others = [
        of(root),
        of(root, split="val"),
        of(root, views=2),
        of(root, views=[0, 2]),
        of(root, views=1, classes=["low"]),
        of(root, views=1, classes=["mid"]),  # as many rows, but others
        of(root, min_psnr=35),
        of(tmp_path / "renamed"),
        of(tmp_path / "shifted"),
    ]
    assert len(set(others)) == len(others)


def test_it_says_what_is_in_it(root: Path) -> None:
    dataset = INRDataset(root, views=[0, 2], classes=["low", "high"])

    text = repr(dataset)
    for fact in ("small", "train", "18 INRs", "views 0,2 of 3", "3 classes (2 active)", "2-4-4-1, omega_0 7"):
        assert fact in text
    assert "missing" not in text
    facts = json.loads(json.dumps(dataset.describe()))
    assert facts["fingerprint"] == dataset.fingerprint
    assert facts["rows"] == len(dataset) == 18


@pytest.mark.parametrize(
    "index", ["a", None, 1.5, True, slice(0, 3), [0, 1], np.zeros(2), torch.tensor([1, 2])], ids=str
)
def test_an_item_has_one_number(index: Any, root: Path) -> None:
    with pytest.raises(UsageError, match="an item is given by its number, got"):
        INRDataset(root)[index]
    with pytest.raises(UsageError, match="rows are given by their numbers"):
        INRDataset(root).gather(np.zeros((2, 2), dtype=int))
