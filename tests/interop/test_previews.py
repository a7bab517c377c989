"""Previews: hubs show what the INRs show, names of classes and spec, and an import gives the same INRs."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_sets import CLASSES, make_set

from inr_factory.cli.main import run
from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop import table_files
from inr_factory.interop.export import export_dataset
from inr_factory.interop.import_dataset import import_dataset
from inr_factory.interop.previews import SIDE, render_previews
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.manifest_file import load_manifest

DIGITS = ["limit=16", "spec.hidden_dim=16", "fit.optimizer=sprint", "shard_objects=8"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two views of sixteen scans of 8 by 8 pixels, and their export with previews."""
    folder = tmp_path_factory.mktemp("previews")
    fit_dataset(load_recipe("digits", [*DIGITS, "views=2"]), folder / "set", backend="local", workers=1)
    export_dataset(folder / "set", "parquet", folder / "out", preview=True)
    return folder


def opened(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def test_load_dataset_decodes_previews_and_names_classes(digits, tmp_path, hugging_face_offline):
    datasets = pytest.importorskip("datasets")
    data = INRDataset(digits / "set", "train")

    rows = datasets.load_dataset(str(digits / "out"), split="train", cache_dir=str(tmp_path))
    one_view = datasets.load_dataset(str(digits / "out"), "view001", split="train", cache_dir=str(tmp_path))

    assert rows.features["label"] == datasets.ClassLabel(names=list(data.classes))
    assert rows.features["preview"] == datasets.Image()
    assert [*rows.features][:3] == ["preview", "object_id", "label"]
    assert rows.features["weights"].length == data.spec.num_parameters
    assert (len(rows), set(one_view["view"])) == (len(data), {1})
    ids = list(zip(data.object_ids.tolist(), data.views.tolist(), strict=True))
    weights, labels = data.gather(np.arange(len(data)))
    for row in rows:
        at = ids.index((row["object_id"], row["view"]))
        assert row["label"] == int(labels[at])
        assert np.array_equal(np.float32(row["weights"]), weights[at].numpy())
        image = INRBatch.from_flat(data.spec, weights[at : at + 1])(pixel_grid(8, 8)).reshape(8, 8).clamp(0, 1)
        assert np.abs(np.asarray(row["preview"]) / 255 - image.numpy()).max() < 0.51 / 255


def test_an_export_with_previews_gives_the_same_inrs_with_and_without_its_sidecar(digits, tmp_path):
    shards = [entry.sha256 for entry in load_manifest(digits / "set").shards]

    import_dataset(digits / "out", "parquet", tmp_path / "same")
    import_dataset(digits / "out", "parquet", tmp_path / "bare", no_sidecar=True)

    assert [entry.sha256 for entry in load_manifest(tmp_path / "same").shards] == shards
    before, after = (INRDataset(root, "train") for root in (digits / "set", tmp_path / "bare"))
    everything = np.arange(len(before))
    assert torch.equal(after.gather(everything)[0], before.gather(everything)[0])
    assert after.object_ids.tolist() == before.object_ids.tolist()
    assert after.classes == before.classes


def test_the_schema_says_what_weights_mean_and_groups_of_rows_are_small(digits, tmp_path, monkeypatch):
    from pyarrow import parquet

    file = parquet.ParquetFile(min((digits / "out").glob("train-view000-*.parquet")))
    head = json.loads(file.schema_arrow.metadata[b"inr_factory"])
    assert head["spec"] == load_manifest(digits / "set").spec
    assert (
        sum(np.prod(each["shape"]) for each in head["parameters"])
        == load_manifest(digits / "set").siren_spec.num_parameters
    )
    assert {"forward", "coords", "targets"} <= set(head["conventions"])
    assert file.num_row_groups == 1

    monkeypatch.setattr(table_files, "ROW_GROUP_BYTES", 3000)
    export_dataset(digits / "set", "parquet", tmp_path / "out")
    groups = parquet.ParquetFile(tmp_path / "out" / min((digits / "out").glob("train-*.parquet")).name)
    assert groups.num_row_groups > 2
    import_dataset(tmp_path / "out", "parquet", tmp_path / "back", no_sidecar=True)
    weights = [INRDataset(root, "train").gather(np.arange(4))[0] for root in (digits / "set", tmp_path / "back")]
    assert torch.equal(*weights)

    export_dataset(digits / "set", "parquet", tmp_path / "signed", convention="siren")
    other = parquet.read_schema(min((tmp_path / "signed").glob("*.parquet")))
    assert "conventions" not in json.loads(other.metadata[b"inr_factory"]), "words that hold for other numbers"


def test_the_code_in_the_card_computes_an_inr(digits, monkeypatch):
    text = (digits / "out/README.md").read_text()
    code = next(part for part in text.split("```") if part.startswith("python") and "pyarrow" in part)
    monkeypatch.chdir(digits / "out")
    names = {}
    exec(code.removeprefix("python"), names)
    spec = SirenSpec.from_dict(names["spec"])
    inr = INRBatch.from_flat(spec, torch.from_numpy(names["flat"][None]))
    points = np.random.default_rng(0).uniform(-1, 1, (5, 2))  # as the card draws them
    expected = inr(torch.from_numpy(np.float32(points)))[0].numpy()
    np.testing.assert_allclose(names["values"], expected, atol=1e-5)


def test_large_images_shrink_and_shapes_are_shaded():
    wide = initialize(SirenSpec(2, 3, hidden_dim=4), range(2))
    sizes = {"height": np.array([100, 5]), "width": np.array([400, 7])}
    assert [opened(png).shape for png in render_previews(wide, sizes, "values")] == [(24, 96, 3), (5, 7, 3)]

    pytest.importorskip("skimage")
    random = initialize(SirenSpec(3, 1, hidden_dim=8, output_bias=0.0), range(1))
    middle = float(random(2 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 1).median())
    shape = INRBatch.from_flat(replace(random.spec, output_bias=-middle), random.flatten())
    picture = opened(render_previews(shape, {}, "sdf")[0])
    assert picture.shape == (SIDE, SIDE, 3)
    assert 0.02 < (picture.min(axis=2) < 250).mean() < 0.98
    nothing = INRBatch.from_flat(shape.spec, torch.zeros(1, shape.spec.num_parameters))
    assert opened(render_previews(nothing, {}, "occupancy")[0]).min() == 255


def test_another_export_is_not_taken_for_this_one(digits, capsys):
    command = ["export", str(digits / "set"), "--to", "parquet", "--out", str(digits / "out")]
    assert run([*command, "--preview"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(command) == 2
    assert "is not this export" in capsys.readouterr().err


def test_previews_are_refused_in_one_line_where_nothing_holds_or_shows_them(digits, tmp_path):
    make_set(tmp_path / "sizeless", classes=CLASSES)
    make_set(tmp_path / "sound", spec=SirenSpec(1, 1, hidden_dim=4))
    for root, to, line in (
        (digits / "set", "safetensors", "safetensors holds no previews; export --to parquet, or leave --preview out"),
        (tmp_path / "sizeless", "parquet", "previews need the columns height and width"),
        (tmp_path / "sound", "parquet", "previews are of images and surfaces, the set has 1 inputs and 1 outputs"),
    ):
        with pytest.raises(UsageError, match=line):
            export_dataset(root, to, tmp_path / "out", preview=True)
        assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="preview must be True or False"):
        export_dataset(digits / "set", "parquet", tmp_path / "out", preview="yes")
