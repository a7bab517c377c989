"""Changed views: what is fitted is the changed signal, the row says how, and readers compare with it."""

import json

import numpy as np
import pytest
import torch
from support.small_shapes import prepare
from support.tiny_recipes import LOCAL, files, shards, tiny

import inr_factory as inr
from inr_factory.errors import UsageError
from inr_factory.generation.augmentation import IMAGE_CHANGES, draw_changes, parse_changes
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.signal_reading import read_signal
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.generation.recipe import ImageSource, ShapeSource
from inr_factory.generation.sources.changed_views import change_of_row, changed_shape, changed_signal, describe_change
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.coordinate import reflect, rotate3d, scale
from inr_factory.reporting.image_gallery import reconstruct
from inr_factory.reporting.shape_gallery import surfaces_and_sources
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader, write_shard

pytestmark = pytest.mark.usefixtures("cache")  # else samples of shapes lie in ./data

CHANGES = "flip+flip:axis=y+crop:padding=2+resized_crop+rotate:degrees=20"


def changed(text, values, height=8, width=8):
    """A digit's image (H, W) after changes with chosen numbers."""
    source = open_source(ImageSource(collection="digits", augment=text))
    drawn = draw_changes(source.config.changes, 0, "a", 0, "train") | values
    return changed_signal(source, 3, 1, drawn).targets.view(height, width)


@pytest.fixture(scope="module")
def digit():
    return open_source(ImageSource(collection="digits")).signal(3).targets.view(8, 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a set of changed views, and of the same set without changes."""
    folder = tmp_path_factory.mktemp("changed")
    fit_dataset(tiny(source={"collection": "digits", "augment": CHANGES}, views=3), folder / "changed", **LOCAL)
    fit_dataset(tiny(views=3), folder / "plain", **LOCAL)
    return folder


def test_each_change_of_an_image_is_what_its_numbers_say(digit):
    assert torch.equal(changed("flip", {"flip_x": 1}), digit.flip(1))
    assert torch.equal(changed("flip:axis=y", {"flip_y": 1}), digit.flip(0))
    moved = changed("crop:padding=2,fill=0.25", {"shift_x": 2, "shift_y": -1})
    assert torch.equal(moved[:-1, 2:], digit[1:, :-2])
    assert (moved[:, :2] == 0.25).all()
    assert (moved[-1] == 0.25).all()
    torch.testing.assert_close(changed("rotate:degrees=90", {"rotate": 90.0}), torch.rot90(digit, 1))
    quarter = {"crop_left": 0.5, "crop_top": 0.0, "crop_width": 0.5, "crop_height": 0.5}
    large = changed("resized_crop", quarter)
    assert torch.equal(large[::7, ::7], digit[:4, 4:][::3, ::3]), "its corners are those of the upper right quarter"


def test_changes_are_made_in_the_order_of_the_recipe(digit):
    numbers = {"flip_x": 1, "shift_x": 1, "shift_y": 0}

    assert torch.equal(changed("flip+crop", numbers)[:, 1:], digit.flip(1)[:, :-1])
    assert torch.equal(changed("crop+flip", numbers)[:, :-1], digit.flip(1)[:, 1:])


def test_images_of_colours_and_other_shapes_change_as_one(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (5, 9, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a/1.png")
    source = open_source(ImageSource(collection="image_folder", augment=["flip", "crop"]), tmp_path)

    signal = changed_signal(source, 0, 1, {"flip_x": 1, "shift_x": 0, "shift_y": 1})

    image = signal.targets.view(5, 9, 3)
    torch.testing.assert_close(image[1:], torch.tensor(pixels[:-1, ::-1].copy()) / 255)
    assert signal.facts["change_shift_y"] == 1
    assert signal.content == source.content(0)


def test_view_0_and_the_other_splits_are_those_of_the_plain_set(made):
    for path in sorted(path.name for path in (made / "plain/data").glob("*.h5")):
        plain, other = (ShardReader.unchecked(made / name / "data" / path) for name in ("plain", "changed"))
        same = np.array_equal(plain.column("weights"), other.column("weights"))
        assert same == (not path.startswith("train") or "view000" in path), path
        assert not plain.changes
        neutral = all(describe_change(other, row) == "" for row in range(len(other)))
        assert neutral == same
        assert other.column_names == ShardReader.unchecked(made / "changed/data/train-view001-00000.h5").column_names


def test_the_shards_do_not_depend_on_workers_or_order(made, tmp_path):
    recipe = tiny(source={"collection": "digits", "augment": CHANGES}, views=3)
    for part in ("1/2", "0/2"):
        fit_dataset(recipe, tmp_path / "parts", **LOCAL, shard=part)

    assert shards(tmp_path / "parts") == shards(made / "changed")


def test_a_row_keeps_what_makes_its_signal_again_and_its_quality_is_of_that_signal(made):
    manifest = load_manifest(made / "changed")
    source = open_source(ImageSource(**manifest.recipe["source"]))
    index_of = {item.object_id: index for index, item in enumerate(source.items)}
    shard = ShardReader.unchecked(made / "changed/data/train-view002-00000.h5")
    assert manifest.recipe["source"]["augment"] == [str(change) for change in parse_changes(CHANGES, IMAGE_CHANGES)]
    assert "counter-clockwise" in json.loads(shard.attributes["conventions"])["change_rotate"]
    for row, name in enumerate(shard.object_ids):
        drawn = change_of_row(source, shard, row)
        assert drawn == draw_changes(parse_changes(CHANGES, IMAGE_CHANGES), 0, name, 2, "train")
        signal = read_signal(source, index_of[name], 2, drawn)
        fitted = inr.INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights")[row : row + 1])))
        loss = (fitted(signal.coords)[0] - signal.targets).square().mean()
        torch.testing.assert_close(float(loss), float(shard.column("loss")[row]), rtol=1e-3, atol=1e-6)


def test_verify_renders_against_the_changed_signal(made, tmp_path):
    report = verify_dataset(made / "changed", render=True)
    assert report.faults == ()
    assert report.rendered.max_psnr_gap < 0.01
    out = tmp_path / "set"
    fit_dataset(tiny(source={"collection": "digits", "augment": "flip"}), out, **LOCAL)
    shard = ShardReader.unchecked(out / "data/train-view001-00000.h5")
    columns = {name: np.array(shard.column(name)) for name in shard.column_names if name != "checksum"}
    columns["object_id"] = np.array(shard.object_ids, object)
    columns["change_flip_x"] = 1 - columns["change_flip_x"]
    kept = {name: shard.attributes[name] for name in ("fingerprint", "engine", "device", "field")}
    entry = write_shard(out, shard.key, shard.spec, columns, (), kept)
    update_manifest(out, load_manifest(out), [entry])

    (fault,) = verify_dataset(out, render=True).faults

    assert "do not render what they were fitted to" in fault.reason


def test_pictures_show_the_changed_image_and_say_what_was_changed(made):
    root, manifest = made / "changed", load_manifest(made / "changed")
    source = open_source(ImageSource(**manifest.recipe["source"]))
    entry = next(entry for entry in manifest.shards if (entry.split, entry.view) == ("train", 1))

    shown, *_ = reconstruct(root, manifest, [(entry, 0)], source)

    plain = next(item for item in range(len(source.items)) if source.items[item].object_id == shown.object_id)
    assert not np.array_equal(shown.source.ravel(), source.signal(plain).targets.numpy().ravel())
    assert "rotate" in shown.change


def test_a_data_set_gives_the_changes_of_its_rows(made):
    data = inr.open(made / "changed", split="train", views=2)

    assert len(data.changes["rotate"]) == len(data)
    assert (data.changes["rotate"] != 0).tolist() == (data.views == 1).tolist()
    assert inr.open(made / "plain", split="train").changes == {}


def test_a_set_is_not_continued_with_other_changes(made, tmp_path):
    with pytest.raises(UsageError, match=r"source\.augment is"):
        fit_dataset(tiny(views=3), made / "changed", **LOCAL)
    before = files(made / "plain")
    with pytest.raises(UsageError, match=r"source\.augment is"):
        fit_dataset(tiny(views=4, source={"collection": "digits", "augment": "flip"}), made / "plain", **LOCAL)
    assert files(made / "plain") == before


def test_one_view_is_not_changed_and_fit_says_so(tmp_path):
    report = fit_dataset(tiny(views=1, source={"collection": "digits", "augment": "flip"}), tmp_path / "set", **LOCAL)

    assert any("source.augment changes views from 1 on" in note for note in report.notes)


@pytest.mark.parametrize(
    ("text", "numbers", "of_weights"),
    [
        ("flip:axis=y", {"flip_y": 1}, lambda inrs: reflect(inrs, "y")),
        ("scale", {"scale": 0.8}, lambda inrs: scale(inrs, 0.8)),
        ("rotate", {"rotate_x": 0.0, "rotate_y": 0.0, "rotate_z": 40.0}, lambda inrs: rotate3d(inrs, 40, "z")),
    ],
)
def test_a_shape_changes_as_the_transform_of_weights_changes_its_inr(text, numbers, of_weights):
    """At the corners of the changed shape the changed INR has what the INR has at those of the shape."""
    config = ShapeSource(
        collection="primitives", per_class=1, num_points=50, num_truth=20, num_surface=30, augment=text
    )
    source, inrs = open_source(config), initialize(SirenSpec(3, 1, hidden_dim=8, omega_0=5), [0])

    signals = source.signal(2), changed_signal(source, 2, 1, numbers)
    before, after = (torch.from_numpy(signal.truth.shape().vertices).float() for signal in signals)

    assert not torch.allclose(before, after)
    torch.testing.assert_close(of_weights(inrs)(after), inrs(before), atol=1e-4, rtol=0)


def test_a_mirrored_shape_keeps_its_inside_and_its_truth():
    config = ShapeSource(collection="primitives", per_class=1, num_points=400, augment="flip+rotate:axis=any")
    source = open_source(config)
    numbers = {"flip_x": 1, "rotate_x": 30.0, "rotate_y": -70.0, "rotate_z": 10.0}
    for index in range(0, len(source.items), 5):
        plain, signal = source.signal(index), changed_signal(source, index, 1, numbers)
        inside, other = ((each.truth.targets < 0).float().mean() for each in (plain, signal))
        assert abs(inside - other) < 0.05
        shape = signal.truth.shape()
        to_surface = np.linalg.norm(shape.vertices, axis=1).max()
        assert to_surface == pytest.approx(np.linalg.norm(plain.truth.shape().vertices, axis=1).max())
        expected = changed_shape(source, plain.truth.shape(), numbers)
        np.testing.assert_allclose(shape.vertices, expected.vertices)
        volume = np.einsum("fi,fi->", shape.corners[:, 0], np.cross(shape.corners[:, 1], shape.corners[:, 2])) / 6
        assert volume > 0, "its faces look inward"
        assert signal.coords.abs().max() <= 1


def test_worker_prefetch_and_gallery_of_shapes_use_the_same_change(tmp_path, monkeypatch):
    from inr_factory.generation.execution.prefetch import prefetch_part
    from inr_factory.generation.sources import shape_collections

    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    worker, tasks = prepare(tmp_path, augment="rotate:axis=any")
    prefetch_part(worker, tasks, 0, 1)
    monkeypatch.setattr(shape_collections, "mesh_samples", None)  # what is not in the cache fails
    drawn = {task: worker.change(task, worker.source.items[index].object_id) for task in tasks for index in [0]}
    for task in tasks:
        for index in worker.plan.blocks[task.split][task.block]:
            read_signal(worker.source, index, task.view, worker.change(task, worker.source.items[index].object_id))
    assert any(any(numbers.values()) for numbers in drawn.values())


def test_the_picture_of_a_changed_shape_has_the_changed_source(tmp_path):
    recipe = tiny(
        source={"collection": "primitives", "per_class": 1, "num_points": 100, "num_truth": 20, "num_surface": 20,
                "augment": "rotate+scale"},
        limit=None, splits={"val": 0, "test": 0}, spec={"hidden_dim": 8, "output_bias": 0}, fit={"steps": 2, "floor_psnr": -99},
    )  # fmt: skip
    fit_dataset(recipe, tmp_path / "set", **LOCAL)
    manifest = load_manifest(tmp_path / "set")
    source = open_source(recipe.source)
    rows = [(entry, 1) for entry in manifest.shards if entry.block == 0]

    first, second = surfaces_and_sources(tmp_path / "set", manifest, rows, source, 8)

    assert first.object_id == second.object_id
    assert first.change == ""
    assert "scale" in second.change
    assert "rotate z" in second.change
    reach = [np.linalg.norm(shown.source.vertices, axis=1).max() for shown in (first, second)]
    assert 0.79 < reach[1] / reach[0] < 1
