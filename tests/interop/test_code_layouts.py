"""Code layouts: INRs of HyperDiffusion, COIN, siren-pytorch and fit-a-nef compute what a small network of their own does,
and go back as the same tensors."""

import json
import math
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from support.small_sets import make_set
from torch import nn
from torch.nn import functional as F

from inr_factory.cli.main import run
from inr_factory.errors import FactoryError, IntegrityError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.conventions import CONVENTIONS, aspect_of, complete_convention, from_convention, to_convention
from inr_factory.interop.export import export_dataset
from inr_factory.interop.import_dataset import import_dataset
from inr_factory.interop.pyg import to_pyg
from inr_factory.learning.data.dataset import INRDataset

BARE = {"no_sidecar": True}


class Sines(nn.Module):
    """SirenNet of siren-pytorch, and COIN's with its own names: sines in all layers but the last."""

    def __init__(self, w0, w0_initial, stems, last, dims=(2, 6, 6, 3)):
        super().__init__()
        self.rates, self.stems, self.last = [w0_initial, *[w0] * (len(dims) - 3)], stems, last
        generator = torch.Generator().manual_seed(3)
        self.state = {
            f"{stem}.{kind}": torch.rand(shape, generator=generator) * 0.6 - 0.3
            for stem, (inputs, outputs) in zip([*stems, last], pairwise(dims), strict=True)
            for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
        }

    def forward(self, x):
        for stem, rate in zip(self.stems, self.rates, strict=True):
            x = torch.sin(rate * F.linear(x, self.state[f"{stem}.weight"], self.state[f"{stem}.bias"]))
        return F.linear(x, self.state[f"{self.last}.weight"], self.state[f"{self.last}.bias"])


def siren_net(w0=1.0, w0_initial=30.0, dims=(2, 6, 6, 3)):
    return Sines(w0, w0_initial, ["layers.0", "layers.1"], "last_layer", dims)


def coin_net():
    return Sines(30.0, 30.0, ["net.0.linear", "net.1.linear"], "last_layer.linear")


class Occupancy(nn.Module):
    """HyperDiffusion's MLP3D: x, then sin and cos of x, 2 x, 4 x, ..., and ReLU layers."""

    def __init__(self, widths=(128, 128, 128), multires=4, inputs=3):
        super().__init__()
        self.multires = multires
        dims = [inputs * (1 + 2 * multires), *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x):
        parts = [x]
        for power in range(self.multires):
            parts += [torch.sin(x * 2.0**power), torch.cos(x * 2.0**power)]
        x = torch.cat(parts, -1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def save(path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def stored(root, split="train"):
    data = INRDataset(root, split)
    return INRBatch.from_flat(data.spec, data.gather(np.arange(len(data)))[0])


def occupancy_files(folder, count=2, **options):
    torch.manual_seed(5)
    nets = [Occupancy(**options) for _ in range(count)]
    for number, net in enumerate(nets):
        save(folder / f"occ_1a04e{number}_jitter_0_model_final.pth", net.state_dict())
    return nets


def same_files(folder, again, pattern):
    """Whether both folders have the same state dicts by the same names, tensor by tensor."""
    names = sorted(path.relative_to(folder) for path in folder.rglob(pattern))
    assert names == sorted(path.relative_to(again) for path in again.rglob(pattern))
    for name in names:
        before, after = (torch.load(root / name, weights_only=True) for root in (folder, again))
        assert list(before) == list(after)
        if not all(torch.equal(before[key], after[key]) for key in before):
            return False
    return True


def test_hyperdiffusion_nets_compute_the_same_in_coordinates_from_minus_1_to_1_and_go_back_bit_for_bit(tmp_path):
    nets = occupancy_files(tmp_path / "in")
    (tmp_path / "in/val_split.lst").write_text("1a04e1.obj\n")
    import_dataset(tmp_path / "in", "hyperdiffusion", tmp_path / "set")
    coords = 2 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 1
    for split, net in zip(("train", "val"), nets, strict=True):
        inrs = stored(tmp_path / "set", split)
        assert (inrs.spec.num_parameters, inrs.spec.first_frequency, inrs.spec.start) == (36_737, 0.5, "linear")
        torch.testing.assert_close(inrs(coords)[0], net(coords / 2).detach(), atol=1e-6, rtol=0)
        assert not torch.allclose(inrs(coords)[0], net(coords).detach(), atol=1e-3)
    report = export_dataset(tmp_path / "set", "hyperdiffusion", tmp_path / "out")
    assert same_files(tmp_path / "in", tmp_path / "out", "*.pth")
    assert (tmp_path / "out/val_split.lst").read_text() == "1a04e1.obj\n"
    assert "4 frequencies from 1" in report.convention
    import_dataset(tmp_path / "out", "hyperdiffusion", tmp_path / "back")
    assert torch.equal(stored(tmp_path / "back").flatten(), stored(tmp_path / "set").flatten())


def test_hyperdiffusion_nets_of_other_widths_and_frequencies_are_imported_with_them(tmp_path):
    nets = occupancy_files(tmp_path / "in", widths=(8, 6), multires=2)
    import_dataset(tmp_path / "in", "hyperdiffusion", tmp_path / "set", frequencies=2)
    inrs = stored(tmp_path / "set")
    assert (inrs.spec.widths, inrs.spec.frequencies, inrs.spec.in_dim) == ((8, 6), 2, 3)
    coords = torch.rand(20, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(inrs(coords)[1], nets[1](coords / 2).detach(), atol=1e-6, rtol=0)
    export_dataset(tmp_path / "set", "hyperdiffusion", tmp_path / "out")
    assert same_files(tmp_path / "in", tmp_path / "out", "*.pth")


def test_frequencies_that_the_first_layer_cannot_have_are_a_usage_error_in_one_line(tmp_path, capsys):
    occupancy_files(tmp_path / "in", widths=(8, 6), multires=2)
    words = ["import", str(tmp_path / "in"), "--from", "hyperdiffusion", "--out", str(tmp_path / "set")]
    assert run(words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("a multiple of 9 inputs, these INRs have 15; give --frequencies")
    for more, expected in (
        (["--frequencies", "-1"], "from 0 to 32"),
        (["--activation", "swish"], "must be one of sine"),
        (["--frequencies", "0", "--no-coordinates"], "coordinates must be true"),
        (["--frequencies", "2", "--first-omega-0", "3"], "is of sines"),
    ):
        assert run([*words, *more]) == 2
        assert expected in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "set").exists()


def test_state_dicts_with_any_activation_and_encoding_are_imported_by_options(tmp_path):
    spec = SirenSpec(2, 1, widths=(5, 4), activation="tanh", frequencies=3, first_frequency=2.0, coordinates=False)
    inrs = initialize(spec, range(2))
    for number in range(2):
        tensors = zip(spec.parameter_shapes, inrs.flatten()[number].split(spec.parameter_sizes), strict=True)
        save(tmp_path / f"in/a/train/{number}.pth", {name: part.view(shape) for (name, shape), part in tensors})
    options = {"convention": "inr-factory", "output_bias": 0.0, "activation": "tanh", "frequencies": 3}
    import_dataset(tmp_path / "in", "multiview", tmp_path / "set", **options, first_frequency=2.0, coordinates=False)
    again = stored(tmp_path / "set")
    assert torch.equal(again.flatten(), inrs.flatten())
    assert torch.equal(again(pixel_grid(4, 4)), inrs(pixel_grid(4, 4)))


@pytest.mark.parametrize("size", [(5, 5), (5, 8)], ids=["square", "Kodak's shape"])
def test_coin_nets_show_their_image_on_coordinates_divided_by_its_height(tmp_path, size):
    net = coin_net()
    save(tmp_path / "in/best_model_15.pt", net.state)
    options = {"size": f"{size[0]}x{size[1]}"}
    import_dataset(tmp_path / "in", "coin", tmp_path / "set", **options)
    theirs = torch.ones(size).nonzero().float() / (size[0] - 1) * 2 - 1
    torch.testing.assert_close(
        stored(tmp_path / "set")(pixel_grid(*size))[0], net(theirs), atol=1e-5 if size[0] == size[1] else 1e-4, rtol=0
    )
    if size[0] == size[1]:
        export_dataset(tmp_path / "set", "coin", tmp_path / "out")
        again = torch.load(tmp_path / "out/train/best_model_15.pt", weights_only=True)
        assert list(again) == list(net.state)
        assert all(torch.equal(again[name], tensor) for name, tensor in net.state.items())


def test_coin_nets_need_the_size_of_their_image(tmp_path):
    save(tmp_path / "in/best_model_15.pt", coin_net().state)
    with pytest.raises(UsageError, match="give --size"):
        import_dataset(tmp_path / "in", "coin", tmp_path / "set")
    with pytest.raises(UsageError, match="2 rows and columns or more"):
        import_dataset(tmp_path / "in", "coin", tmp_path / "set", size=(1, 7))
    with pytest.raises(UsageError, match="no exact conversion with --frequencies"):
        import_dataset(tmp_path / "in", "coin", tmp_path / "set", size=(5, 7), frequencies=2)


@pytest.mark.parametrize(("w0", "w0_initial"), [(30.0, 30.0), (1.0, 32.0), (1.0, 30.0)])
def test_siren_pytorch_nets_keep_their_function_and_go_back(tmp_path, w0, w0_initial):
    """Bit for bit, but for the first layer where w0_initial is no power of two times w0: rounded once."""
    net = siren_net(w0, w0_initial)
    save(tmp_path / "in/train/1/00004.pt", net.state)
    options = {"omega_0": w0, "first_omega_0": w0_initial}
    import_dataset(tmp_path / "in", "siren-pytorch", tmp_path / "set", **options)
    inrs = stored(tmp_path / "set")
    assert inrs.spec.omega_0 == w0
    torch.testing.assert_close(inrs(pixel_grid(6, 6))[0], net(pixel_grid(6, 6).flip(-1)), atol=1e-5, rtol=0)
    convention = complete_convention("siren-pytorch", w0, first_omega_0=w0_initial)
    again = to_convention(inrs, convention)
    assert torch.equal(from_convention(again, convention).flatten(), inrs.flatten())
    torch.testing.assert_close(again.weights[0][0], net.state["layers.0.weight"], atol=0, rtol=1.3e-7)
    exact = [*again.weights[1:], *again.biases[1:]]
    if (w0_initial / w0).is_integer() and math.log2(w0_initial / w0).is_integer():
        exact = [*again.weights, *again.biases]
    originals = [net.state[f"{name}.{kind}"] for kind in ("weight", "bias") for name in (*net.stems, net.last)]
    assert sum(any(torch.equal(each[0], one) for one in originals) for each in exact) == len(exact)


def test_an_export_to_siren_pytorch_has_the_default_w0_where_the_set_allows_it(tmp_path):
    net = siren_net()
    save(tmp_path / "in/train/1/00004.pt", net.state)
    import_dataset(tmp_path / "in", "siren-pytorch", tmp_path / "set")
    report = export_dataset(tmp_path / "set", "siren-pytorch", tmp_path / "out")
    assert "30 in the first layer" in report.convention
    state = torch.load(tmp_path / "out/train/1/00004.pt", weights_only=True)
    assert list(state) == list(net.state)
    torch.testing.assert_close(state["layers.0.weight"], net.state["layers.0.weight"], atol=0, rtol=1.3e-7)
    import_dataset(tmp_path / "out", "siren-pytorch", tmp_path / "back")
    assert torch.equal(stored(tmp_path / "back").flatten(), stored(tmp_path / "set").flatten())
    assert INRDataset(tmp_path / "back", "train").object_ids.tolist() == ["train/00004"]


@pytest.mark.parametrize("name", ["siren-pytorch", "coin", "hyperdiffusion"])
def test_files_that_are_no_state_dict_or_of_another_name_are_refused_in_one_line(tmp_path, capsys, name):
    path = {"siren-pytorch": "train/1/00004.pt", "coin": "best_model_1.pt", "hyperdiffusion": "occ_a_model_final.pth"}
    save(tmp_path / "in" / path[name], [1, 2])
    words = ["import", str(tmp_path / "in"), "--from", name, "--size", "4x4", "--out", str(tmp_path / "set")]
    assert run(words) == IntegrityError.exit_code
    assert path[name] in capsys.readouterr().err.strip().splitlines()[-1]
    (tmp_path / "in" / path[name]).rename(tmp_path / f"in/sdf_b{'.pt' if path[name].endswith('t') else '.pth'}")
    assert run(words) == 2
    assert "has no file of the layout" in capsys.readouterr().err.strip().splitlines()[-1]


WIDE = SirenSpec(2, 1, widths=(5, 4), output_bias=0.5)
ENCODED = SirenSpec(2, 1, hidden_dim=4, activation="relu", frequencies=2, output_bias=0.5)


@pytest.mark.parametrize(
    ("name", "spec"),
    [("fit-a-nef", WIDE), ("fit-a-nef", ENCODED), ("coin", WIDE), ("siren-pytorch", ENCODED), ("hyperdiffusion", WIDE)],
)
def test_inrs_that_a_format_cannot_hold_are_refused_in_one_line(tmp_path, capsys, name, spec):
    make_set(tmp_path / "set", spec, views=1)
    assert run(["export", str(tmp_path / "set"), "--to", name, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{name} holds" in line
    assert "--to safetensors" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", [WIDE, ENCODED], ids=["widths", "encoding"])
@pytest.mark.parametrize("name", ["multiview", "inr2vec", "safetensors"])
def test_sidecars_give_back_widths_and_encodings(tmp_path, name, spec):
    make_set(tmp_path / "set", spec, views=1)
    export_dataset(tmp_path / "set", name, tmp_path / "out")
    import_dataset(tmp_path / "out", name, tmp_path / "back")
    again = stored(tmp_path / "back")
    assert again.spec == spec
    assert torch.equal(again.flatten(), stored(tmp_path / "set").flatten())
    if name == "safetensors":
        import_dataset(tmp_path / "out", name, tmp_path / "bare", **BARE)
        assert stored(tmp_path / "bare").spec == spec
        assert torch.equal(stored(tmp_path / "bare").flatten(), again.flatten())


def test_widths_that_differ_are_imported_from_flat_files_by_their_dims(tmp_path):
    make_set(tmp_path / "set", WIDE, views=1)
    export_dataset(tmp_path / "set", "inr2vec", tmp_path / "out")
    import_dataset(tmp_path / "out", "inr2vec", tmp_path / "back", **BARE, spec="2-5-4-1", output_bias=0.5)
    assert stored(tmp_path / "back").spec.widths == (5, 4)
    assert torch.equal(stored(tmp_path / "back").flatten(), stored(tmp_path / "set").flatten())


def test_graphs_of_encoded_inrs_have_a_node_for_each_input_of_the_first_layer():
    (graph,) = to_pyg(initialize(ENCODED, [1]))
    assert graph.num_nodes == ENCODED.encoded_dim + 4 + 4 + 1
    assert graph.num_edges == graph.edge_attr.shape[0] == sum(o * i for o, i in ENCODED.layer_shapes)


def test_order_aspect_and_extent_of_coordinates_go_both_ways_in_encoded_inrs_too():
    theirs = initialize(SirenSpec(2, 1, hidden_dim=4, activation="relu", frequencies=2, first_frequency=1.0), range(3))
    options = {"activation": "relu", "frequencies": 2, "first_frequency": 1.0}
    convention = complete_convention("nfn", targets="unit", **options)
    mine = from_convention(theirs, convention)
    torch.testing.assert_close(mine(pixel_grid(4, 4)), theirs(pixel_grid(4, 4).flip(-1)), atol=1e-6, rtol=0)
    assert torch.equal(to_convention(mine, convention).flatten(), theirs.flatten())
    assert to_convention(theirs, CONVENTIONS["nfn"]) is None
    assert aspect_of((512, 768)) == 767 / 511


# fit-a-nef and Neural Field Arena.


def nef_files(folder, names, dims, count=6):
    """A file of `count` networks with these layers, and its tensors, as fit-a-nef writes them: biases first."""
    generator = np.random.default_rng(0)
    config, parts = [], []
    for name, (inputs, outputs) in zip(names, pairwise(dims), strict=True):
        config += [[f"{name}.bias", [outputs]], [f"{name}.kernel", [inputs, outputs]]]
        parts += [generator.normal(size=(count, outputs)), generator.normal(size=(count, inputs * outputs))]
    params = np.concatenate(parts, axis=1).astype(np.float32)
    folder.mkdir(parents=True)
    with h5py.File(folder / f"nefs_0-{count}.hdf5", "w") as file:
        file["params"], file["labels"] = params, np.arange(count) % 3
        file["param_config"] = [json.dumps(config)]
    return params


NETS = {
    "SIREN": (["kernel_net_0.linear", "kernel_net_1.linear", "output_linear"], {"num_layers": 3, "omega_0": 8.0}),
    "MLP": (["Dense_0", "Dense_1", "Dense_2"], {"num_layers": 2}),
}


@pytest.mark.parametrize("described", [True, False], ids=["nef.json", "no nef.json"])
@pytest.mark.parametrize("network", NETS)
def test_networks_of_the_arena_compute_the_same_and_go_back_bit_for_bit(tmp_path, network, described):
    names, settings = NETS[network]
    params = nef_files(tmp_path / "in", names, (2, 4, 4, 1))
    if described:
        (tmp_path / "in/nef.json").write_text(json.dumps({"name": network, "params": {"hidden_dim": 4, **settings}}))
    options = {"output_bias": 0.0, "targets": "unit", "classes": 3}
    options |= {} if described or network == "MLP" else {"omega_0": 8.0}
    import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options)
    x = pixel_grid(3, 3)
    parts = torch.from_numpy(params[2]).split([4, 8, 4, 16, 1, 4])
    for layer, shape in enumerate([(2, 4), (4, 4), (4, 1)]):
        x = x @ parts[2 * layer + 1].view(shape) + parts[2 * layer]
        if layer < 2:
            x = torch.sin(8 * x) if network == "SIREN" else F.relu(x)
    torch.testing.assert_close(stored(tmp_path / "set")(pixel_grid(3, 3))[2], x, atol=1e-4, rtol=0)

    export_dataset(tmp_path / "set", "fit-a-nef", tmp_path / "out")
    with h5py.File(tmp_path / "out/nefs_0-6.hdf5") as file:
        assert (file["params"][:] == params).all()
        assert file["labels"][:].tolist() == [0, 1, 2, 0, 1, 2]
        assert [name for name, _ in json.loads(file["param_config"][0])][::2] == [f"{name}.bias" for name in names]
    said = json.loads((tmp_path / "out/nef.json").read_text())
    assert (said["name"], said["params"]["num_layers"]) == (network, settings["num_layers"])
    train = json.loads((tmp_path / "out/metadata.json").read_text())["train"]
    kernel = params[:, 16:32]  # after 4 + 8 numbers of the first layer and 4 biases
    np.testing.assert_allclose([train["mean"][20], train["std"][20]], [kernel.mean(), kernel.std()], rtol=1e-5)
    assert len(train["mean"]) == params.shape[1]


def test_splits_of_the_arena_are_ranges_of_rows(tmp_path):
    nef_files(tmp_path / "in", *[NETS["MLP"][0], (2, 4, 4, 1)])
    options = {"output_bias": 0.0, "targets": "unit", "classes": 3, "splits": tmp_path / "splits.json"}
    options["splits"].write_text('{"train": [0, 3], "val": [3, 4], "test": [4, 6]}')
    manifest = import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options).manifest
    assert {split: part.objects for split, part in manifest.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert INRDataset(tmp_path / "set", "test").object_ids.tolist() == ["000004", "000005"]
    for wrong in ('{"train": [0, 4], "val": [3, 5]}', '{"train": [0, 7]}', '{"train": [3, 3]}', '{"train": [-1, 3]}'):
        options["splits"].write_text(wrong)
        with pytest.raises(IntegrityError, match="expected rows from"):
            import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "wrong", **options)


@pytest.mark.parametrize(
    ("names", "dims"),
    [(["encoding.coefficients", "layers_0.linear", "linear_final"], (2, 4, 4, 1)),
     (["filters_0", "linears_0", "output_linear"], (2, 4, 4, 1))],
    ids=["RFFNet", "FourierNet"],
)  # fmt: skip
def test_other_networks_of_the_arena_are_refused_in_one_line(tmp_path, names, dims):
    nef_files(tmp_path / "in", names, dims)
    options = {"output_bias": 0.0, "omega_0": 8.0, "targets": "unit"}
    with pytest.raises(FactoryError, match="no layer of a SIREN or MLP"):
        import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options)
    (tmp_path / "in/nef.json").write_text(json.dumps({"name": "RFFNet", "params": {"std": 3.5}}))
    with pytest.raises(FactoryError, match="describes a RFFNet"):
        import_dataset(tmp_path / "in", "fit-a-nef", tmp_path / "set", **options)
