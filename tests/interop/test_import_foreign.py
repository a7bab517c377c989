"""Foreign files: what is damaged, hostile, mixed or half there is refused in one line that names it, and leaves nothing."""

import io
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.small_sets import SPEC, make_set

from inr_factory.cli.main import run
from inr_factory.errors import FactoryError, IntegrityError, UsageError
from inr_factory.interop import export as exports
from inr_factory.interop import import_foreign as foreign_set
from inr_factory.interop.export import export_dataset
from inr_factory.interop.import_dataset import import_dataset
from inr_factory.interop.sidecar import SIDECAR
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest

SPEC_30 = replace(SPEC, omega_0=30.0)
BARE = {"no_sidecar": True}


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set", SPEC_30, views=1, objects={"train": 5, "test": 2})
    return tmp_path / "set"


@pytest.fixture
def fmnist(root, tmp_path):
    """An export that its INRs can be altered in: model_0.pth to model_4.pth, and two of test."""
    export_dataset(root, "dwsnets-fmnist", tmp_path / "out")
    return tmp_path / "out"


FIRST = "fmnist_inrs/train/model_1.pth"


def alter(path, change):
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


DAMAGES = {
    "NaN": lambda state: {**state, "seq.1.weight": torch.full((4, 4), torch.nan)},
    "float64": lambda state: {name: v.double() if torch.is_tensor(v) else v for name, v in state.items()},
    "a tensor of something else": lambda state: {**state, "running_mean": torch.zeros(4)},
    "a layer without its bias": lambda state: {name: v for name, v in state.items() if name != "seq.1.bias"},
    "layers that do not follow": lambda state: {**state, "seq.2.weight": torch.zeros(1, 5)},
    "wider than the others": lambda state: {
        "label": 1, "seq.0.weight": torch.zeros(6, 2), "seq.0.bias": torch.zeros(6), "seq.1.weight": torch.zeros(1, 6),
        "seq.1.bias": torch.zeros(1),
    },
    "no state dict": lambda state: [1, 2, 3],
    "a tensor that claims more than is stored": lambda state: {
        **state, "seq.0.weight": torch.zeros(1, 1).expand(4, 2)
    },
    "another label": lambda state: {**state, "label": 2},
    "a label that is none": lambda state: {**state, "label": "seven"},
    "code": lambda state: {**state, "x": Bomb()},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_inr_is_named_and_nothing_of_it_is_run(fmnist, tmp_path, monkeypatch, damage, capsys):
    monkeypatch.chdir(tmp_path)
    alter(fmnist / FIRST, DAMAGES[damage])
    code = run(["import", str(fmnist), "--from", "dwsnets-fmnist", "--out", "back", "--no-sidecar"])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == IntegrityError.exit_code
    assert FIRST in line
    assert not Path("exploded").exists()


@pytest.mark.parametrize("cut", [0, 100, -50])
def test_a_truncated_file_is_named(fmnist, tmp_path, cut):
    content = (fmnist / FIRST).read_bytes()
    (fmnist / FIRST).write_bytes(content[:cut])
    with pytest.raises(IntegrityError, match=FIRST):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)


def test_a_plain_pickle_is_refused(fmnist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (fmnist / FIRST).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(IntegrityError, match=FIRST):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)
    assert not Path("exploded").exists()


def test_links_out_of_the_set_are_refused(fmnist, tmp_path):
    (fmnist / FIRST).rename(tmp_path / "secret.pth")
    (fmnist / FIRST).symlink_to(tmp_path / "secret.pth")
    with pytest.raises(IntegrityError, match=r"leads out of"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)


@pytest.mark.parametrize("way", ["../secret.pth", "fmnist_inrs/../fmnist_inrs/train/model_1.pth", "/etc/hosts"])
def test_a_sidecar_cannot_lead_out_of_its_folder(fmnist, tmp_path, way):
    text = (fmnist / SIDECAR).read_text()
    (fmnist / SIDECAR).write_text(text.replace(FIRST, way))
    with pytest.raises(IntegrityError, match=r"leads out of"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back")


# Splits.


def rewrite(folder, change):
    path = folder / "splits.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(change(fields)))


def test_paths_of_another_machine_are_found_by_their_last_parts(fmnist, tmp_path):
    rewrite(
        fmnist,
        lambda s: {k: {"path": ["/home/them/" + p for p in v["path"]], "label": v["label"]} for k, v in s.items()},
    )
    report = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)
    assert report.manifest.rows == 7


SPLITS = {
    "dots": (lambda s: {"train": ["fmnist_inrs/../../train/model_1.pth"]}, "leads out of"),
    "twice": (lambda s: {"train": s["train"]["path"], "val": s["train"]["path"][:1]}, "twice"),
    "missing": (lambda s: {"train": [*s["train"]["path"], "fmnist_inrs/train/model_99.pth"]}, "--allow-missing"),
    "no lists": (lambda s: {"train": 3}, "not a splits file"),
    "nothing": (lambda s: {}, "names no file"),
    "numbers": (lambda s: {"train": [1, 2]}, "not a splits file"),
    "unpaired": (lambda s: {"train": {"path": s["train"]["path"], "label": [1]}}, "not a splits file"),
    "label": (lambda s: {"train": {"path": s["train"]["path"], "label": [2, 2, 2, 2, 2]}}, "labels"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_cannot_be_are_refused(fmnist, tmp_path, name):
    change, words = SPLITS[name]
    rewrite(fmnist, change)
    with pytest.raises(IntegrityError, match=words):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)


def test_what_is_missing_or_in_no_split_is_told(fmnist, tmp_path):
    rewrite(fmnist, lambda s: {"train": [*s["train"]["path"][:3], "fmnist_inrs/train/model_99.pth"]})
    report = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE, allow_missing=True)
    assert report.manifest.rows == 3
    assert any("1 files that splits.json names are not there" in remark for remark in report.remarks)
    assert any("4 files are in no split" in remark for remark in report.remarks)


def test_without_splits_the_official_parts_are_the_splits(fmnist, tmp_path):
    (fmnist / "splits.json").unlink()
    report = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)
    assert {split: part.objects for split, part in report.manifest.splits.items()} == {"train": 5, "test": 2}


def test_an_inr_that_is_there_twice_is_refused(fmnist, tmp_path):
    (fmnist / "splits.json").unlink()
    (fmnist / "again/train").mkdir(parents=True)
    (fmnist / "again/train/model_1.pth").write_bytes((fmnist / FIRST).read_bytes())
    with pytest.raises(IntegrityError, match=r"are both view 0 of train/00001"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)


def test_views_with_gaps_and_objects_in_two_splits_are_refused(tmp_path):
    make_set(tmp_path / "views", SPEC_30, views=3, objects={"train": 3})
    export_dataset(tmp_path / "views", "nfn", tmp_path / "out")
    for path in (tmp_path / "out").glob("randinit_smaller_aug0_*/net*.pth"):
        path.unlink()
    with pytest.raises(IntegrityError, match=r"have gaps"):
        import_dataset(tmp_path / "out", "nfn", tmp_path / "back", **BARE, allow_missing=True)
    export_dataset(tmp_path / "views", "multiview", tmp_path / "out2")
    fields = json.loads((tmp_path / "out2/splits.json").read_text())
    last = fields["train"].pop()
    (tmp_path / "out2/splits.json").write_text(json.dumps({**fields, "val": [last]}))
    with pytest.raises(IntegrityError, match=r"is in split val and train"):
        import_dataset(tmp_path / "out2", "multiview", tmp_path / "back", **BARE)


def test_labels_that_only_some_files_say_are_refused_and_none_at_all_are_told(fmnist, tmp_path):
    (fmnist / "splits.json").unlink()
    alter(fmnist / FIRST, lambda state: {name: v for name, v in state.items() if name != "label"})
    with pytest.raises(IntegrityError, match=r"says no label"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "some", **BARE)
    for path in fmnist.rglob("*.pth"):
        if path.name != "statistics.pth":
            alter(path, lambda state: {name: v for name, v in state.items() if name != "label"})
    report = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "none", **BARE)
    assert report.manifest.classes == ("unlabelled",)
    assert any("no labels" in remark for remark in report.remarks)


def test_labels_with_fractions_are_not_cut(fmnist, tmp_path):
    rewrite(fmnist, lambda s: {"train": {**s["train"], "label": [0.9, *s["train"]["label"][1:]]}})
    with pytest.raises(IntegrityError, match=r"0\.9 is no whole number"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "splits", **BARE)
    (fmnist / "splits.json").unlink()
    alter(fmnist / FIRST, lambda state: {**state, "label": torch.tensor(0.9)})
    with pytest.raises(IntegrityError, match=r"model_1\.pth is not an INR .* is no whole number"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "files", **BARE)


def test_files_that_are_not_named_as_the_layout_has_it_are_told(root, fmnist, tmp_path):
    (fmnist / FIRST).rename(fmnist / "fmnist_inrs/train/copy_of_1.pth")
    (fmnist / "splits.json").unlink()
    (remark, *_) = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE).remarks
    assert remark.endswith("left out: 1, first fmnist_inrs/train/copy_of_1.pth")
    export_dataset(root, "fit-a-nef", tmp_path / "nef")
    other, *_ = sorted((tmp_path / "nef").glob("*.hdf5"))
    other.rename(other.with_name("renamed.hdf5"))
    remarks = import_dataset(tmp_path / "nef", "fit-a-nef", tmp_path / "set2", **NEF_SAID | {"omega_0": 30.0}).remarks
    assert any("left out: 1, first renamed.hdf5" in remark for remark in remarks)


def test_splits_of_fit_a_nef_say_what_they_leave_out_and_name_what_is_there(tmp_path):
    nef(tmp_path / "in", NEF, count=6, labels=np.arange(6) % 3)
    options = {**NEF_SAID, "classes": 3, "size": (5, 7), "splits": tmp_path / "splits.json"}
    options["splits"].write_text(json.dumps({"train": ["000000", "000001"], "test": ["000003"]}))
    remarks = import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options).remarks
    assert "3 INRs are in no split of splits.json and are left out" in remarks
    options["splits"].write_text(json.dumps({"train": ["000000", "0000001"]}))
    with pytest.raises(IntegrityError, match=r"names 1 objects that are not there, first 0000001"):
        import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set2", **options)


# Tables.


def hdf5(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            file[name] = value


def nef(folder, config, count=2, width=None, **columns):
    size = sum(int(np.prod(shape)) for _, shape in config)
    params = np.zeros((count, width or size), np.float32)
    hdf5(folder / f"nefs_0-{count}.hdf5", params=params, param_config=[json.dumps(config)], **columns)


NEF = [
    ["kernel_net_0.linear.bias", [4]], ["kernel_net_0.linear.kernel", [2, 4]],
    ["output_linear.bias", [1]], ["output_linear.kernel", [4, 1]],
]  # fmt: skip
NEF_SAID = {**BARE, "omega_0": 8.0, "output_bias": 0.0, "targets": "mnist"}


def test_a_file_of_fit_a_nef_itself_is_read_its_rows_counted_on_over_the_views(tmp_path):
    nef(tmp_path / "in", NEF, count=6, labels=np.arange(6) % 3)
    options = {**NEF_SAID, "num_signals": 3, "classes": 3, "size": (5, 7)}
    manifest = import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options).manifest
    assert (manifest.views, manifest.splits["train"].objects, manifest.classes) == (2, 3, ("0", "1", "2"))
    assert manifest.siren_spec.omega_0 == 8.0
    assert run(["verify", str(tmp_path / "set")]) == 0


WRONG_NEFS = {
    "sizes": ({"config": NEF, "width": 9}, "param_config lists 17 numbers"),
    "no kernel": ({"config": NEF[:3]}, "without bias or kernel"),
    "an unknown tensor": ({"config": [*NEF, ["frequencies", [3]]]}, "without bias or kernel"),
    "a negative side": ({"config": [["a0.bias", [-4]], ["a0.kernel", [2, 4]]], "width": 4}, "not a list of names"),
    "labels": ({"config": NEF, "labels": np.zeros(5)}, "do not pair up"),
    "labels with fractions": ({"config": NEF, "labels": np.array([0.9, 1.2])}, r"0\.9 is no whole number"),
}


@pytest.mark.parametrize("name", WRONG_NEFS)
def test_a_file_of_fit_a_nef_that_contradicts_itself_is_refused(tmp_path, name):
    columns, words = WRONG_NEFS[name]
    nef(tmp_path / "in", **columns)
    with pytest.raises(IntegrityError, match=words):
        import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **NEF_SAID)


def test_hdf5_that_is_stored_in_a_way_that_reaches_further_is_refused(tmp_path):
    flat = np.zeros(17, np.float32)
    options = {**BARE, "spec": (2, 4, 1)}
    hdf5(tmp_path / "links/train/0.h5", class_id=1)
    with h5py.File(tmp_path / "links/train/0.h5", "a") as file:
        file["params"] = h5py.ExternalLink(str(tmp_path / "else.h5"), "params")
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("params", data=flat, compression="gzip", chunks=True)
        file["class_id"] = 1
    (tmp_path / "packed/train").mkdir(parents=True)
    (tmp_path / "packed.h5").rename(tmp_path / "packed/train/0.h5")
    hdf5(tmp_path / "short/train/0.h5", params=flat[:5], class_id=1)
    hdf5(tmp_path / "classless/train/0.h5", params=flat)
    for folder, words in (
        ("links", "link"),
        ("packed", "not contiguous"),
        ("short", "--spec"),
        ("classless", "class_id"),
    ):
        with pytest.raises(IntegrityError, match=words):
            import_dataset(tmp_path / folder, "inr2vec", tmp_path / "set", **options)


@pytest.mark.parametrize("name", ["safetensors", "parquet"])
@pytest.mark.parametrize("cut", [10, -20])
def test_truncated_tables_are_refused(root, tmp_path, name, cut):
    export_dataset(root, name, tmp_path / "out")
    path = next((tmp_path / "out").glob(f"*.{name}"))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(IntegrityError, match=path.name):
        import_dataset(tmp_path / "out", name, tmp_path / "back", **BARE)


def test_tables_that_do_not_say_what_they_hold_are_refused(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet
    from safetensors.torch import save_file

    (tmp_path / "in").mkdir()
    save_file({"layers.0.weight": torch.zeros(1, 4, 2)}, tmp_path / "in/a.safetensors")
    parquet.write_table(pa.table({"weights": [[1.0]]}), tmp_path / "in/a.parquet")
    for name in ("safetensors", "parquet"):
        with pytest.raises(IntegrityError, match=r"no inr_factory head"):
            import_dataset(tmp_path / "in", name, tmp_path / "back", **BARE)


# The sidecar, and what is left of work that was cut short.


def test_weights_that_were_altered_after_the_export_are_found_out(fmnist, tmp_path, capsys):
    alter(fmnist / FIRST, lambda state: {**state, "seq.0.bias": state["seq.0.bias"] + 1e-3})
    assert run(["import", str(fmnist), "--from", "dwsnets-fmnist", "--out", str(tmp_path / "back")]) == 4
    assert "is not what was exported" in capsys.readouterr().err
    import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "bare", **BARE)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"omega_0":30.0', '"omega_0":31.0'), ('"version":1', '"version":"x"'), ('"train"', '"trian"'), ("{", "[")],
)
def test_an_altered_sidecar_is_refused(fmnist, tmp_path, before, after):
    path = fmnist / SIDECAR
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(FactoryError, match=SIDECAR):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back")


def test_an_export_that_fails_leaves_nothing(root, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "describe_shard", full)
    assert run(["export", str(root), "--to", "nfn", "--out", str(tmp_path / "new/out")]) == 5
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_export_left_is_swept_and_what_a_living_one_makes_is_not(root, tmp_path):
    host = exports.writer_name().rpartition("-")[0]
    dead, foreign = tmp_path / f".out.{host}-999999999.export", tmp_path / ".out.elsewhere-7.export"
    for folder in (dead, foreign):
        (folder / "fmnist_inrs").mkdir(parents=True)
    export_dataset(root, "dwsnets-fmnist", tmp_path / "out")
    assert not dead.exists()
    assert foreign.exists()


def test_an_import_that_was_cut_short_goes_on(root, tmp_path, monkeypatch):
    export_dataset(root, "dwsnets-fmnist", tmp_path / "out")
    options = {**BARE, "shard_objects": 2}
    whole = import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "whole", **options).manifest
    write, calls = foreign_set.write_shard, []

    def die(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(foreign_set, "write_shard", die)
    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "parts", **options)
    assert len(load_manifest(tmp_path / "parts").shards) == 2
    report = import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "parts", **options)
    assert report.made == len(whole.shards) - 2
    assert [entry.sha256 for entry in report.manifest.shards] == [entry.sha256 for entry in whole.shards]


def test_folders_that_hold_something_else_are_left_alone(root, fmnist, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    with pytest.raises(UsageError, match=r"not this export"):
        export_dataset(root, "nfn", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"not this export"):
        export_dataset(root, "nfn", fmnist)
    with pytest.raises(UsageError, match=r"holds another set"):
        import_dataset(fmnist, "dwsnets-fmnist", root, **BARE)
    with pytest.raises(UsageError, match=r"needs a folder of its own"):
        import_dataset(fmnist, "dwsnets-fmnist", fmnist, **BARE)
    assert (tmp_path / "mine/file").read_text() == "mine"
    assert not (fmnist / MANIFEST).exists()


def test_sets_that_a_format_cannot_hold_are_refused(tmp_path):
    make_set(tmp_path / "views", SPEC_30, views=2)
    make_set(tmp_path / "parts", SPEC_30, views=1, unfitted=[("train", 0, 1)])
    with pytest.raises(UsageError, match=r"holds one view"):
        export_dataset(tmp_path / "views", "dwsnets-mnist", tmp_path / "out")
    with pytest.raises(UsageError, match=r"lacks shards \(1, first "):
        export_dataset(tmp_path / "parts", "nfn", tmp_path / "out")
    with pytest.raises(UsageError, match=r"has 2 views"):
        export_dataset(tmp_path / "views", "nfn", tmp_path / "out", views=3)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_such_files_says_what_was_looked_for(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("dwsnets-mnist", "nfn", "implicit-zoo", "inr2vec", "fit-a-nef", "parquet"):
        with pytest.raises(UsageError, match=r"has no file"):
            import_dataset(tmp_path / "in", name, tmp_path / "out", **BARE)
    with pytest.raises(UsageError, match=r"is no folder"):
        import_dataset(tmp_path / "nowhere", "nfn", tmp_path / "out", **BARE)


def seeded(count):
    """State dicts of MLPs 2-4-4-1 with weights of their own, and their layers."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 2), (4,), (4, 4), (4,), (1, 4), (1,)]
    return [[torch.rand(shape, generator=generator) - 0.5 for shape in shapes] for _ in range(count)]


def write_states(root, states):
    for number, state in enumerate(states):
        path = root / f"fmnist_inrs/{'test' if number == 0 else 'train'}/model_{number}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)


NAMED = {
    "siren-pytorch (D20)": ("layers.0", "layers.1", "last_layer"),
    "a wrapper of it": ("net.layers.0", "net.layers.1", "net.last_layer"),
    "first and last": ("first_layer", "hidden.0", "final_layer"),
    "numbers in numbers": ("net.0.9.linear", "net.0.10.linear", "net.1.0.linear"),
}


@pytest.mark.parametrize("names", NAMED)
def test_names_of_layers_say_their_order(names, tmp_path):
    parts = seeded(3)
    keys = [f"{stem}.{kind}" for stem in NAMED[names] for kind in ("weight", "bias")]
    write_states(tmp_path / "in", [dict(reversed(list(zip(keys, tensors, strict=True)))) for tensors in parts])
    import_dataset(tmp_path / "in", "dwsnets-fmnist", tmp_path / "out", classes=("a", "b"))
    row = torch.cat([tensor.flatten() for tensor in parts[0]])
    assert torch.equal(inr_of(tmp_path / "out", "test").flatten()[0], row)


def inr_of(out, split):
    from inr_factory.inr.batch import INRBatch
    from inr_factory.learning.data.dataset import INRDataset

    data = INRDataset(out, split)
    return INRBatch.from_flat(data.spec, data.gather(np.arange(len(data)))[0])


def test_two_last_layers_are_refused(tmp_path):
    tensors = seeded(1)[0]
    names = ["layers.0", "last_layer", "head"]
    write_states(tmp_path / "in", [{f"{name}.{kind}": tensors[2 * layer + part] for layer, name in enumerate(names)
                                    for part, kind in enumerate(("weight", "bias"))}])  # fmt: skip
    with pytest.raises(IntegrityError, match="one at most"):
        import_dataset(tmp_path / "in", "dwsnets-fmnist", tmp_path / "out")


@pytest.mark.parametrize(("first", "omega_0"), [(30.0, 1.0), (1.0, 30.0), (30.0, 30.0), (45.0, 7.0)])
def test_another_omega_0_of_the_first_layer_is_folded_into_it(first, omega_0, tmp_path, capsys):
    """D20: siren-pytorch has w0_initial 30 in the first layer and w0 1 in the others."""
    parts = seeded(2)
    keys = [f"{stem}.{kind}" for stem in NAMED["siren-pytorch (D20)"] for kind in ("weight", "bias")]
    write_states(tmp_path / "in", [dict(zip(keys, tensors, strict=True)) for tensors in parts])
    words = ["--convention", "siren", "--order", "xy", "--targets", "unit", "--first-omega-0", f"{first}"]
    assert run(["import", str(tmp_path / "in"), "--from", "dwsnets-fmnist", "--out", str(tmp_path / "out"),
                "--omega-0", f"{omega_0}", *words]) == 0  # fmt: skip
    coords = 2 * torch.rand(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1
    W0, b0, W1, b1, W2, b2 = (tensor.double() for tensor in parts[0])
    hidden = torch.sin(omega_0 * (torch.sin(first * (coords @ W0.T + b0)) @ W1.T + b1))
    torch.testing.assert_close(
        inr_of(tmp_path / "out", "test")(coords.float())[0].double(), hidden @ W2.T + b2, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("value", ["0", "-3", "inf", "nan"])
def test_an_impossible_omega_0_of_the_first_layer_is_refused(value, fmnist, tmp_path):
    words = ["--no-sidecar", "--first-omega-0", value]
    assert run(["import", str(fmnist), "--from", "dwsnets-fmnist", "--out", str(tmp_path / "back"), *words]) == 2


KINDS_OF_TENSORS = {
    "nn.Parameter (D13)": torch.nn.Parameter,
    "tensors that require a gradient": lambda tensor: tensor.clone().requires_grad_(),
    "bfloat16 parameters": lambda tensor: torch.nn.Parameter(tensor.bfloat16()),
}


@pytest.mark.parametrize("kind", KINDS_OF_TENSORS)
def test_state_dicts_of_parameters_are_imported(kind, fmnist, tmp_path):
    make = KINDS_OF_TENSORS[kind]
    for path in (fmnist / "fmnist_inrs").rglob("*.pth"):
        alter(path, lambda state: {name: make(v) if torch.is_tensor(v) else v for name, v in state.items()})
    report = import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)
    assert report.manifest.rows == 7


@pytest.mark.parametrize(
    "others", [{}, {"epoch": 3, "optimizer": {"state": {}, "param_groups": []}}], ids=["alone", "with others"]
)
def test_a_state_dict_within_another_dict_is_imported(others, fmnist, tmp_path):
    for path in (fmnist / "fmnist_inrs").rglob("*.pth"):
        alter(path, lambda state: {"state_dict": state, **others})
    assert import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE).manifest.rows == 7


def test_two_state_dicts_in_one_file_are_refused(fmnist, tmp_path):
    for path in (fmnist / "fmnist_inrs").rglob("*.pth"):
        alter(path, lambda state: {"model": state, "ema": state})
    with pytest.raises(IntegrityError, match="but 2 state dicts; save one"):
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)


def saved(save, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


OTHER_FILES = {
    "torch before 1.6 (D18)": (
        lambda path: torch.save(torch.load(path), path, _use_new_zipfile_serialization=False), "before 1.6.*torch.save"),
    "a whole module (D18)": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "torch.nn.*save module.state_dict"),
    "a module in an old file": (
        lambda path: torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=False), "before 1.6"),
    "a compressed archive": (lambda path: path.write_bytes(saved(np.savez_compressed, a=np.zeros(99))), "compressed"),
    "an archive of numpy": (lambda path: path.write_bytes(saved(np.savez, a=np.zeros(99))), "."),
    "a plain pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "plain pickle"),
    "an array of numpy": (lambda path: path.write_bytes(saved(np.save, arr=np.zeros(9))), "no zip"),
    "a sparse tensor": (
        lambda path: torch.save({"seq.0.weight": torch.eye(3).to_sparse()}, path), "sparse"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_format_is_named_with_a_remedy(kind, fmnist, tmp_path, capsys):
    make, expected = OTHER_FILES[kind]
    make(fmnist / FIRST)
    with pytest.raises(IntegrityError, match=expected) as caught:
        import_dataset(fmnist, "dwsnets-fmnist", tmp_path / "back", **BARE)
    line = str(caught.value)
    assert FIRST in line
    assert "\x1b" not in line
    assert "weights_only" not in line
