"""Interop: our sets in other projects' formats and back, the same bits each way, and what peers' own code finds there."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.paths import DATASETS
from support.small_sets import CLASSES, SPEC, make_set

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.mlp_layers import check_layers, layers_of
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop import export
from inr_factory.interop.conventions import CONVENTIONS, TARGETS, complete_convention, from_convention, to_convention
from inr_factory.interop.export import FORMATS, export_dataset
from inr_factory.interop.import_dataset import import_dataset
from inr_factory.interop.pyg import to_pyg
from inr_factory.interop.sidecar import SIDECAR
from inr_factory.interop.state_dicts import dws_tuples, state_dicts
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest_file import load_manifest

PEERS = DATASETS / "peer_inr_files"
needs_peers = pytest.mark.skipif(not PEERS.is_dir(), reason=f"the peers' files are not at {PEERS}")
needs_fashion = pytest.mark.skipif(
    not (DATASETS / "FashionMNIST").is_dir(), reason=f"Fashion-MNIST is not at {DATASETS}"
)

SPEC_30 = replace(SPEC, omega_0=30.0)
OBJECTS = {"train": 7, "val": 2, "test": 3}

# The others hold other INRs than those of these tests; test_code_layouts.py has them.
OF_IMAGES = [name for name, each in FORMATS.items() if not each.refusal(SPEC_30)]

# What a user has to say of exports that go without their sidecar, where the format's convention does not imply it.
SAID = {
    "implicit-zoo": {"convention": "dwsnets"},
    "coin": {"convention": "dwsnets"},
    "siren-pytorch": {"convention": "dwsnets"},
    "inr2vec": {"output_bias": 0.5, "spec": (2, 4, 4, 1)},
    "fit-a-nef": {"output_bias": 0.5, "targets": "unit"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two views of twelve objects, one in quarantine; omega_0 30, as most formats take for granted."""
    path = tmp_path_factory.mktemp("interop") / "set"
    make_set(path, SPEC_30, views=2, objects=OBJECTS, quarantine=[("train-3", 1)])
    return path


def exported(root, name, out, **options):
    views = 1 if FORMATS[name].one_view else None
    export_dataset(root, name, out, views=views, **options)
    return out


def read(root, split):
    data = INRDataset(root, split)
    weights, labels = data.gather(np.arange(len(data)))
    return data, weights, labels


@pytest.mark.parametrize("name", OF_IMAGES)
def test_with_its_sidecar_an_export_comes_back_as_the_very_set_that_it_was(root, tmp_path, name):
    exported(root, name, tmp_path / "out")

    report = import_dataset(tmp_path / "out", name, tmp_path / "back")

    views = 1 if FORMATS[name].one_view else 2
    before = {entry.path: entry.sha256 for entry in load_manifest(root).shards if entry.view < views}
    back = load_manifest(tmp_path / "back")
    assert {entry.path: entry.sha256 for entry in back.shards} == before
    assert back.head == load_manifest(root).with_views(views).head
    assert report.made == len(before)
    assert run(["verify", str(tmp_path / "back")]) == 0


@pytest.mark.parametrize("name", OF_IMAGES)
def test_without_its_sidecar_an_export_still_gives_the_same_bits_in_the_same_splits(root, tmp_path, name):
    exported(root, name, tmp_path / "out")

    import_dataset(tmp_path / "out", name, tmp_path / "back", no_sidecar=True, **SAID.get(name, {}))

    for split in OBJECTS:
        before, weights, labels = read(root, split)
        after, again, labels_again = read(tmp_path / "back", split)
        first = torch.from_numpy(before.views) < after.manifest.views
        assert torch.equal(again, weights[first])
        assert torch.equal(labels_again, labels[first])
        assert after.views.tolist() == before.views[first.numpy()].tolist()
        assert (after.spec.omega_0, after.spec.output_bias) == (30.0, 0.5)
        images = INRBatch.from_flat(before.spec, weights[first])(pixel_grid(9, 9))
        torch.testing.assert_close(INRBatch.from_flat(after.spec, again)(pixel_grid(9, 9)), images, atol=1e-5, rtol=0)
    assert run(["verify", str(tmp_path / "back")]) == 0


@pytest.mark.parametrize("name", ["fit-a-nef", "safetensors", "parquet"])
def test_formats_that_hold_names_give_them_back(root, tmp_path, name):
    exported(root, name, tmp_path / "out")
    import_dataset(tmp_path / "out", name, tmp_path / "back", no_sidecar=True, **SAID.get(name, {}))
    before, _, _ = read(root, "train")
    after, _, _ = read(tmp_path / "back", "train")
    assert after.object_ids.tolist() == before.object_ids.tolist()
    if name != "fit-a-nef":
        assert after.psnr.tolist() == before.psnr.tolist()
        assert after.classes == before.classes


def test_another_omega_0_has_to_be_said_where_the_sidecar_is_gone(tmp_path):
    make_set(tmp_path / "set", SPEC, views=1, objects=OBJECTS)  # omega_0 7
    export_dataset(tmp_path / "set", "dwsnets-fmnist", tmp_path / "out")
    options = {"no_sidecar": True}
    import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "silent", **options)
    import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "said", **options, omega_0=7.0)
    import_dataset(tmp_path / "out", "dwsnets-fmnist", tmp_path / "sidecar")
    before, weights, _ = read(tmp_path / "set", "train")
    image = INRBatch.from_flat(before.spec, weights)(pixel_grid(9, 9))
    for name, same in (("silent", False), ("said", True), ("sidecar", True)):
        after, again, _ = read(tmp_path / name, "train")
        assert torch.equal(again, weights)
        assert torch.allclose(INRBatch.from_flat(after.spec, again)(pixel_grid(9, 9)), image, atol=1e-5) is same


def test_what_the_files_do_not_say_is_asked_for(root, tmp_path):
    exported(root, "fit-a-nef", tmp_path / "out")
    with pytest.raises(UsageError, match=r"--targets"):
        import_dataset(tmp_path / "out", "fit-a-nef", tmp_path / "back", no_sidecar=True)
    (tmp_path / "out" / "nef.json").unlink()
    with pytest.raises(UsageError, match=r"--omega-0"):
        import_dataset(tmp_path / "out", "fit-a-nef", tmp_path / "back", no_sidecar=True, **SAID["fit-a-nef"])
    assert not (tmp_path / "back").exists()


def test_a_set_that_came_back_with_its_sidecar_can_be_given_more_views(digits, tmp_path):
    export_dataset(digits, "parquet", tmp_path / "out")
    import_dataset(tmp_path / "out", "parquet", tmp_path / "back")
    recipe = load_recipe("digits", [*DIGITS, "views=2"])
    report = fit_dataset(recipe, tmp_path / "back", backend="local", workers=1)
    assert (report.made, report.missing) == (len(load_manifest(digits).shards), 0)


def test_load_dataset_yields_names_of_classes_and_readable_ids_of_parquet(root, tmp_path, hugging_face_offline):
    datasets = pytest.importorskip("datasets")
    exported(root, "parquet", tmp_path / "out")

    rows = datasets.load_dataset(str(tmp_path / "out"), split="test", cache_dir=str(tmp_path / "cache"))

    assert rows.features["label"] == datasets.ClassLabel(names=list(CLASSES))
    names = {row["object_id"]: rows.features["label"].int2str(row["label"]) for row in rows}
    assert names == {f"test-{number}": CLASSES[number] for number in range(3)}


# What the numbers mean.


@pytest.mark.parametrize("omega_0", [30.0, 7.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_row_column_order_and_signed_targets_go_to_ours_and_back_without_rounding(omega_0, channels):
    theirs = initialize(SirenSpec(2, channels, hidden_dim=8, omega_0=omega_0), range(5))
    convention = replace(CONVENTIONS["nfn"], omega_0=omega_0)

    ours = from_convention(theirs, convention)

    grid = pixel_grid(6, 6)
    torch.testing.assert_close(ours(grid), (theirs(grid.flip(-1)) + 1) / 2, atol=1e-6, rtol=0)
    assert torch.equal(to_convention(ours, convention).flatten(), theirs.flatten())
    assert ours.spec.output_bias == 0.5


def test_standardised_targets_go_to_ours_but_not_bit_by_bit_back():
    theirs = initialize(SirenSpec(2, 3, hidden_dim=8), range(5))
    convention = CONVENTIONS["implicit-zoo"]
    ours = from_convention(theirs, convention)
    mean, std = (torch.tensor(side) for side in (TARGETS["imagenet"].mean, TARGETS["imagenet"].std))
    torch.testing.assert_close(ours(pixel_grid(6, 6)), theirs(pixel_grid(6, 6)) * std + mean, atol=1e-6, rtol=0)
    assert to_convention(initialize(replace(ours.spec, start="siren"), range(5)), convention) is None


def test_targets_may_be_given_as_means_and_standard_deviations():
    convention = complete_convention("fit-a-nef", 12.0, None, None, "0.1,0.2,0.3/0.4,0.5,0.6")
    assert (convention.targets.mean, convention.targets.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    for wrong in ("0.1/0", "0.1,0.2/0.3", "nan/1", "a/b", "unitt"):
        with pytest.raises(UsageError, match=r"targets"):
            complete_convention("fit-a-nef", 12.0, None, None, wrong)


def test_an_export_is_refused_in_a_convention_that_it_reaches_only_by_rounding(root, tmp_path):
    with pytest.raises(UsageError, match=r"without rounding"):
        export_dataset(root, "nfn", tmp_path / "out", convention="implicit-zoo")
    report = export_dataset(root, "implicit-zoo", tmp_path / "out", views=1)
    assert any("without rounding" in remark for remark in report.remarks)
    assert not list(tmp_path.glob(".*"))


# What peers' code finds.


def test_dws_tuples_state_dicts_and_graphs_hold_the_same_numbers():
    inrs = initialize(SirenSpec(2, 3, hidden_dim=5, num_hidden=2), range(4))
    weights, biases = dws_tuples(inrs)
    assert [tuple(w.shape) for w in weights] == [(4, 2, 5, 1), (4, 5, 5, 1), (4, 5, 3, 1)]
    assert [tuple(b.shape) for b in biases] == [(4, 5, 1), (4, 5, 1), (4, 3, 1)]
    states, graphs = state_dicts(inrs), to_pyg(inrs, labels=range(4))
    assert [*states[0]] == [f"seq.{layer}.{kind}" for layer in range(3) for kind in ("weight", "bias")]
    assert [*state_dicts(inrs, "nfn")[0]][-2:] == ["net.2.weight", "net.2.bias"]
    for row, (state, graph) in enumerate(zip(states, graphs, strict=True)):
        assert torch.equal(weights[1][row, :, :, 0].T, state["seq.1.weight"])
        assert (graph.num_nodes, graph.num_edges, int(graph.y)) == (15, 50, row)
        assert torch.equal(graph.x[2:7, 0], state["seq.0.bias"])
        for source, target, value in zip(*graph.edge_index.tolist(), graph.edge_attr[:, 0].tolist(), strict=True):
            layer = int(graph.layer[source])
            begin = [0, 2, 7, 12]
            assert value == float(state[f"seq.{layer}.weight"][target - begin[layer + 1], source - begin[layer]])


def test_a_graph_computes_what_its_inr_does():
    inrs = initialize(SirenSpec(2, 1, hidden_dim=6, omega_0=7.0, output_bias=0.5), range(2))
    for row, graph in enumerate(to_pyg(inrs)):
        values = torch.zeros(graph.num_nodes)
        values[:2] = torch.tensor([0.3, -0.6])
        for layer in (1, 2, 3):
            into = graph.layer[graph.edge_index[1]] == layer
            source, target = graph.edge_index[:, into]
            summed = (
                torch.zeros_like(values).index_add(0, target, values[source] * graph.edge_attr[into, 0]) + graph.x[:, 0]
            )
            values = torch.where(graph.layer == layer, summed if layer == 3 else torch.sin(7 * summed), values)
        expected = inrs(torch.tensor([[0.3, -0.6]]))[row, 0, 0]
        torch.testing.assert_close(values[-1] + 0.5, expected, atol=1e-6, rtol=0)


def test_dwsnets_files_are_as_their_code_reads_them(root, tmp_path):
    exported(root, "dwsnets-mnist", tmp_path / "mnist")
    exported(root, "dwsnets-fmnist", tmp_path / "fmnist")
    for folder, pattern in (
        ("mnist", "mnist_png_*/checkpoints/model_final.pth"),
        ("fmnist", "fmnist_inrs/*/model_*.pth"),
    ):
        paths = {path.relative_to(tmp_path / folder).as_posix() for path in (tmp_path / folder).glob(pattern)}
        splits = json.loads((tmp_path / folder / "splits.json").read_text())
        assert {path for split in splits.values() for path in split["path"]} == paths
        assert [len(splits[split]["label"]) for split in ("train", "val", "test")] == [7, 2, 3]
        state = torch.load(tmp_path / folder / splits["train"]["path"][1], weights_only=True)
        assert state.pop("label", 1) == 1
        assert {name: (tuple(v.shape), v.dtype) for name, v in state.items()}["seq.0.weight"] == ((4, 2), torch.float32)
    assert (tmp_path / "mnist/mnist_png_testing_1_1/checkpoints/model_final.pth").is_file()


def test_files_of_nfn_implicit_zoo_and_inr2vec_are_as_their_code_reads_them(root, tmp_path):
    for name in ("nfn", "implicit-zoo", "inr2vec"):
        exported(root, name, tmp_path / name)
    state = torch.load(tmp_path / "nfn/randinit_smaller_aug0_2s/net2.pth", weights_only=True)
    stems = ["net.0.linear", "net.1.linear", "net.2"]
    assert [*state] == [f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")]
    found = torch.load(tmp_path / "implicit-zoo/train/ckpts/02/000002_0000003.ckpt", weights_only=True)
    assert (found["image_idx"], next(iter(found["params"]))) == (2, "seq.0.weight")
    _, weights, labels = read(root, "train")
    with h5py.File(tmp_path / "inr2vec/train/2.h5") as file:
        assert (file["params"][:] == weights[2].numpy()).all()
        assert int(file["class_id"][()]) == int(labels[2])


@needs_peers
def test_statistics_and_splits_have_the_structure_of_the_peers_files(root, tmp_path):
    exported(root, "dwsnets-mnist", tmp_path / "out")

    def structure(value):
        if isinstance(value, dict):
            return {name: structure(inner) for name, inner in value.items()}
        return [(inner.dim(), inner.dtype, inner.shape[-1]) for inner in value]

    ours, theirs = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "out/statistics.pth", PEERS / "neural-graphs/mnist_statistics.pth")
    )
    assert structure(ours) == structure(theirs)
    real = json.loads((PEERS / "neural-graphs/fmnist_splits.json").read_text())
    made = json.loads((tmp_path / "out/splits.json").read_text())
    assert {split: sorted(part) for split, part in made.items()} == {
        split: sorted(part) for split, part in real.items()
    }


def test_statistics_are_those_of_the_training_split_transposed(root, tmp_path):
    exported(root, "multiview", tmp_path / "out")
    _, weights, _ = read(root, "train")
    batch = INRBatch.from_flat(SPEC_30, weights)
    found = torch.load(tmp_path / "out/statistics.pth", weights_only=True)
    for layer, W in enumerate(batch.weights):
        torch.testing.assert_close(found["weights"]["mean"][layer], W.mean(0).T[..., None])
        torch.testing.assert_close(found["weights"]["std"][layer], W.std(0).T[..., None])
        torch.testing.assert_close(found["biases"]["std"][layer], batch.biases[layer].std(0)[:, None])


def test_multiview_paths_lead_from_the_folder_that_the_splits_lie_in(root, tmp_path):
    exported(root, "multiview", tmp_path / "fmnist_multiview")
    splits = json.loads((tmp_path / "fmnist_multiview/splits.json").read_text())
    for path in splits["train"]:
        parts = Path(path).parts  # their code takes what follows the folder's own name, and the view third-last
        assert (tmp_path / "fmnist_multiview").joinpath(*parts[parts.index("fmnist_multiview") + 1 :]).is_file()
    assert sorted({path.split("/")[-3] for path in splits["train"]}) == ["view_000", "view_001"]


def test_a_fit_a_nef_file_has_the_bias_before_the_kernel_and_kernels_in_out(root, tmp_path):
    exported(root, "fit-a-nef", tmp_path / "out")
    with h5py.File(tmp_path / "out/nefs_0-4.hdf5") as file:
        config = json.loads(file["param_config"][0].decode())
        params, labels = file["params"][:], file["labels"][:]
    assert config[:2] == [["kernel_net_0.linear.bias", [4]], ["kernel_net_0.linear.kernel", [2, 4]]]
    assert config[-2:] == [["output_linear.bias", [1]], ["output_linear.kernel", [4, 1]]]
    _, weights, expected = read(root, "train")
    batch = INRBatch.from_flat(SPEC_30, weights)
    assert (params[:, :4] == batch.biases[0][:4].numpy()).all()
    assert (params[:, 4:12].reshape(4, 2, 4) == batch.weights[0][:4].mT.numpy()).all()
    assert labels.tolist() == expected[:4].tolist()
    assert json.loads((tmp_path / "out/nef.json").read_text())["params"]["omega_0"] == 30.0


def test_views_that_only_training_objects_have_leave_the_other_splits_empty(root, tmp_path):
    exported(root, "nfn", tmp_path / "out")
    for path in (tmp_path / "out").glob("randinit_smaller_aug0_*/net*.pth"):
        if int(path.stem.removeprefix("net")) >= 7:
            path.unlink()
    options = {"no_sidecar": True, "allow_missing": True}
    import_dataset(tmp_path / "out", "nfn", tmp_path / "back", **options)
    assert {split: len(INRDataset(tmp_path / "back", split)) for split in OBJECTS} == {"train": 13, "val": 2, "test": 3}
    assert run(["verify", str(tmp_path / "back")]) == 0
    assert run(["status", str(tmp_path / "back")]) == 0


# Is the convention the right one?


DIGITS = ["limit=16", "spec.hidden_dim=16", "fit.optimizer=sprint"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Sixteen scans, well fitted, one view."""
    path = tmp_path_factory.mktemp("digits") / "set"
    fit_dataset(load_recipe("digits", [*DIGITS, "views=1"]), path, backend="local", workers=1)
    return path


def test_the_right_convention_is_confirmed_by_rendering_and_psnr_is_measured(digits, tmp_path):
    export_dataset(digits, "fit-a-nef", tmp_path / "out", convention="siren")
    options = {"no_sidecar": True, "convention": "siren", "source": load_recipe("digits")}
    report = import_dataset(tmp_path / "out", "fit-a-nef", tmp_path / "back", **options)
    assert report.check.fits
    assert report.check.requested_db > 25
    for split in ("train", "test"):
        before, after = INRDataset(digits, split), INRDataset(tmp_path / "back", split)
        np.testing.assert_allclose(after.psnr, before.psnr, atol=0.05)
    assert run(["verify", str(tmp_path / "back"), "--render"]) == 0
    assert run(["show", str(tmp_path / "back"), "--count", "2"]) == 0


def test_a_wrong_convention_that_was_asked_for_is_refused_and_the_right_one_named(digits, tmp_path):
    export_dataset(digits, "fit-a-nef", tmp_path / "out", convention="siren")
    wrong = {"no_sidecar": True, "source": load_recipe("digits"), "convention": "dwsnets"}
    with pytest.raises(IntegrityError, match=r"rowcol, targets signed gives"):
        import_dataset(tmp_path / "out", "fit-a-nef", tmp_path / "back", **wrong)
    assert not (tmp_path / "back").exists()
    report = import_dataset(tmp_path / "out", "fit-a-nef", tmp_path / "back", **wrong, unchecked=True)
    assert report.check is None


def test_inrs_of_other_images_are_refused(digits, tmp_path):
    make_set(tmp_path / "noise", replace(SPEC_30, hidden_dim=16), views=1, objects={"train": 4})
    ids = INRDataset(digits, "train").object_ids[:4].tolist()
    export_dataset(tmp_path / "noise", "parquet", tmp_path / "out")
    options = {"no_sidecar": True, "source": load_recipe("digits")}
    with pytest.raises(IntegrityError, match=r"lacks 4 of the objects"):
        import_dataset(tmp_path / "out", "parquet", tmp_path / "back", **options)
    import pyarrow.parquet as parquet

    path = next((tmp_path / "out").glob("*.parquet"))
    table = parquet.read_table(path)
    at = table.schema.get_field_index("object_id")
    parquet.write_table(table.set_column(at, "object_id", [ids]), path, compression="NONE", use_dictionary=False)
    with pytest.raises(IntegrityError, match=r"no convention shows the images"):
        import_dataset(tmp_path / "out", "parquet", tmp_path / "back", **options)


@needs_fashion
def test_where_none_was_asked_for_the_convention_that_fits_is_taken_and_told(tmp_path):
    settings = ["limit={train: 12, val: 0, test: 0}", "views=1"]
    data_root = DATASETS
    fit_dataset(
        load_recipe("fashion_mnist_40db", settings), tmp_path / "set", data_root=data_root, backend="local", workers=1
    )
    export_dataset(tmp_path / "set", "nfn", tmp_path / "out", convention="inr-factory")
    options = {"no_sidecar": True, "source": load_recipe("fashion_mnist_40db"), "data_root": data_root}
    report = import_dataset(tmp_path / "out", "nfn", tmp_path / "back", **options)
    assert any("xy, targets unit, which fits best" in remark for remark in report.remarks)
    before, weights, _ = read(tmp_path / "set", "train")
    after, again, _ = read(tmp_path / "back", "train")
    assert torch.equal(again, weights)
    assert after.object_ids.tolist() == before.object_ids.tolist()
    assert after.classes == before.classes


@needs_peers
def test_the_start_file_of_inr2vec_is_read_and_goes_through_its_format(tmp_path):
    state = torch.load(PEERS / "inr2vec/in3_out1_h512_l4.pt", weights_only=True)
    layers = layers_of(state)
    assert layers.dims == (3, 512, 512, 512, 512, 1)
    flat = torch.cat([tensor.flatten() for tensor in state.values()]).numpy()
    (tmp_path / "in/train").mkdir(parents=True)
    with h5py.File(tmp_path / "in/train/0.h5", "w") as file:
        file["params"], file["pcd"], file["class_id"] = flat, np.zeros((8, 3), np.float32), np.array(7)
    import_dataset(tmp_path / "in", "inr2vec", tmp_path / "set")
    data, weights, labels = read(tmp_path / "set", "train")
    assert labels.tolist() == [7]
    assert len(data.classes) == 40
    assert (weights[0].numpy() == flat).all()
    assert (data.spec.in_dim, data.spec.hidden_dim, data.spec.num_hidden) == (3, 512, 4)


def test_layers_come_in_the_order_of_their_numbers_whatever_their_names():
    state = {f"layers.{n}.0.weight": torch.full((2, 2), float(n)) for n in (10, 9, 0)}
    state |= {f"layers.{n}.0.bias": torch.zeros(2) for n in (10, 9, 0)}
    assert [float(W[0, 0]) for W in layers_of(state).weights] == [0.0, 9.0, 10.0]
    with pytest.raises(ValueError, match=r"after 2 neurons"):
        check_layers([torch.zeros(2, 2), torch.zeros(1, 3)], [torch.zeros(2), torch.zeros(1)])


# What the verbs say.


def test_the_verbs_export_and_import_and_say_when_nothing_is_to_do(root, tmp_path, capsys):
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert run(["export", str(root), "--to", "multiview", "--out", out]) == 0
    assert "23 INRs" in capsys.readouterr().out
    assert run(["export", str(root), "--to", "multiview", "--out", out]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(["import", out, "--from", "multiview", "--out", back, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["inrs"], said["views"], said["splits"]) == (23, 2, OBJECTS)
    assert run(["import", out, "--from", "multiview", "--out", back]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "dwsnet"], "did you mean"),
        (["--from", "nfn"], "says that this is multiview"),
        (["--from", "multiview", "--omega-0", "7"], "says what the numbers mean"),
        (["--from", "multiview", "--no-sidecar", "--order", "yx"], "xy or rowcol"),
        (["--from", "multiview", "--spec", "2-32"], "one or more hidden layers"),
        (["--from", "multiview", "--size", "28"], "HEIGHTxWIDTH"),
        (["--from", "multiview", "--classes", "a,a"], "different names"),
        (["--from", "multiview", "--no-sidecar", "--convention", "dws"], "unknown convention"),
    ],
)
def test_what_cannot_be_is_a_usage_error_in_one_line(root, tmp_path, capsys, arguments, words):
    exported(root, "multiview", tmp_path / "out")
    capsys.readouterr()
    assert run(["import", str(tmp_path / "out"), "--out", str(tmp_path / "back"), *arguments]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "back").exists()


def test_an_imported_set_is_not_fitted_further_and_an_unnamed_source_is_not_compared(root, tmp_path, capsys):
    exported(root, "nfn", tmp_path / "out")
    import_dataset(tmp_path / "out", "nfn", tmp_path / "back", no_sidecar=True)
    back = str(tmp_path / "back")
    assert run(["fit", "digits", "--out", back, "--backend", "local"]) == 2
    assert "was imported" in capsys.readouterr().err
    assert run(["verify", back, "--render"]) == 2
    assert "--source" in capsys.readouterr().err
    assert run(["show", back, "--count", "2"]) == 0
    assert run(["status", back, "--json"]) == 0


def test_an_export_says_all_that_is_needed_in_its_sidecar(root, tmp_path):
    exported(root, "nfn", tmp_path / "out")
    said = json.loads((tmp_path / "out" / SIDECAR).read_text())
    assert said["convention"]["order"] == "rowcol"
    assert said["manifest"]["spec"]["omega_0"] == 30.0
    assert sum(len(shard["columns"]["psnr"]["values"]) for shard in said["shards"]) == 23


def test_a_full_disk_names_the_export_and_leaves_nothing(root, tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "_sync", full)
    with pytest.raises(ResourceError, match=r"the disk is full: no space for .*out"):
        export_dataset(root, "safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_a_foreign_set_does_not_make_up_a_licence(tmp_path):
    make_set(tmp_path / "set", views=1)
    assert run(["export", str(tmp_path / "set"), "--to", "nfn", "--out", str(tmp_path / "theirs")]) == 0
    arguments = ["import", str(tmp_path / "theirs"), "--from", "nfn", "--no-sidecar", "--out", str(tmp_path / "ours")]
    assert run(arguments) == 0
    text = (tmp_path / "ours" / "README.md").read_text()
    assert "license: unknown" in text
    assert "is not known" in text
