"""The report: what it says is so, what a stranger's set says is harmless in it, and every kind of set has one."""

import html
import json
import re
from base64 import b64decode

import numpy as np
import pytest
import torch
from support.small_sets import SPEC, make_set, psnr_of

from inr_factory.cli.main import run
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance import dataset_source
from inr_factory.generation.recipe import check_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons
from inr_factory.reporting.html import page
from inr_factory.reporting.html import playground as play
from inr_factory.reporting.html import png_data_uri as png
from inr_factory.reporting.html import run_summary as summary
from inr_factory.reporting.html import svg_charts as charts
from inr_factory.reporting.html.page import write_report
from inr_factory.reporting.html.renderings import can_draw
from inr_factory.reporting.html.sampling import Sample, draw_sample, read_rows, worst_and_ordinary
from inr_factory.reporting.html.weight_analysis import (
    chance_between,
    layer_statistics,
    principal_axes,
    view_distances,
    weight_maps,
)
from inr_factory.reporting.weight_statistics import PUBLISHED
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.run_log import LOG_FOLDER

SECTIONS = ("made", "pictures", "playground", "quality", "layers", "distances", "map", "quarantine", "basis")


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A set of images, two views of 40 scans."""
    fields = {
        "name": "tiny", "source": {"collection": "digits"}, "limit": 40, "views": 2, "shard_objects": 9,
        "spec": {"hidden_dim": 8}, "fit": {"steps": 30, "floor_psnr": -99, "lanes": 8},
    }  # fmt: skip
    out = tmp_path_factory.mktemp("digits") / "set"
    fit_dataset(check_recipe(fields, origin="test"), out, backend="local", workers=1)
    return out


def report(root, *arguments):
    """The page that the command writes."""
    assert run(["report", str(root), *arguments]) == 0
    return (root / "report.html").read_text()


def words(text):
    """What a reader sees, on one line."""
    body = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


# --- what it says ---


def test_the_page_of_a_set_has_all_its_parts(digits):
    text = report(digits)
    assert all(f'<section id="{section}">' in text and f'href="#{section}"' in text for section in SECTIONS)
    assert text.count('alt="source of') == text.count('alt="INR of') == text.count('alt="difference of') == 20
    seen = words(text)
    assert "80 SIRENs" in seen
    assert "CC BY 4.0" in seen
    assert "Nothing is in quarantine" in seen
    assert re.search(r"pace \d+ INRs/s", seen)


def test_it_needs_nothing_from_elsewhere(digits):
    text = report(digits)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"url\((?!data:)", text.replace("url(--", ""))
    assert "default-src 'none'" in text


def test_the_same_set_gives_the_same_bytes_and_another_seed_another_sample(digits):
    first = report(digits)
    assert report(digits) == first
    assert report(digits, "--seed", "1") != first


def test_json_says_where_it_is(root, capsys):
    assert run(["report", str(root), "--out", str(root / "deep/a.html"), "--json"]) == 0
    observed = capsys.readouterr()
    fields = json.loads(observed.out)
    assert fields["path"] == str(root / "deep/a.html")
    assert fields["bytes"] == (root / "deep/a.html").stat().st_size
    assert fields["inrs"] == 57
    assert "report: quality" in observed.err


def test_what_a_stranger_wrote_is_shown_and_not_run(tmp_path):
    evil = "<script>alert(1)</script>"
    root = tmp_path / "set"
    manifest = make_set(root, classes=(evil, "b' onload='x", "c"), quarantine=[("train-0", 0)])
    source = manifest.source.model_copy(update={"licence": evil, "name": "</style><img src=x>"})
    entries = [
        entry.model_copy(
            update={
                "quarantine": tuple(q.model_copy(update={"reason": evil, "object_id": evil}) for q in entry.quarantine)
            }
        )
        for entry in manifest.shards
    ]
    changed = manifest.model_copy(
        update={"name": evil, "source": source, "shards": tuple(entries), "software": {evil: evil}}
    )

    write_report(root, changed, None, root / "r.html", without=evil)

    text = (root / "r.html").read_text()
    assert text.count("<script") == 1, "its own"
    assert "<img src=x" not in text
    assert "' onload='x" not in text.replace("&#39;", "_")
    assert words(text).count(evil) >= 6


def test_the_worst_come_first_and_each_object_once(root):
    manifest = load_manifest(root)
    rows = read_rows(root, manifest.shards, seed=0)
    worst, ordinary = worst_and_ordinary(root, rows, 4, 5)
    levels = [page.pictures.ShardReader(root, entry).column("psnr")[row] for entry, row in worst]
    expected = sorted(psnr_of(f"{split}-{n}", 0) for split, count in (("train", 14), ("val", 5)) for n in range(count))[
        :4
    ]
    assert levels == expected
    names = [page.pictures.ShardReader(root, entry).object_ids[row] for entry, row in [*worst, *ordinary]]
    assert len(set(names)) == len(names) == 9


def test_only_so_many_shards_are_read_those_with_the_lowest_psnr_among_them(root):
    manifest = load_manifest(root)
    rows = read_rows(root, manifest.shards, seed=0, most=4)
    assert len(rows.entries) == 4
    lowest = sorted(manifest.shards, key=lambda entry: entry.psnr.min)[:2]
    assert set(lowest) <= set(rows.entries)
    assert read_rows(root, manifest.shards, seed=0, most=4).entries == rows.entries
    others = {read_rows(root, manifest.shards, seed=seed, most=4).entries for seed in range(8)}
    assert len(others) > 1


def test_a_sample_is_bounded_and_pairs_the_views_of_an_object(root, monkeypatch):
    manifest = load_manifest(root)
    sample = draw_sample(root, manifest, manifest.shards, seed=0)
    assert len(sample.inrs) == len(sample.other) == 19
    from support.small_sets import weights_of

    known = {
        (name, view): weights_of(SPEC, name, view)
        for view in (0, 1)
        for name in [f"train-{n}" for n in range(14)] + [f"val-{n}" for n in range(5)]
    }
    for one, two in zip(sample.inrs.flatten(), sample.other.flatten(), strict=True):
        names = [
            [name for (name, view), w in known.items() if view == v and torch.equal(w, x)]
            for v, x in ((0, one), (1, two))
        ]
        assert names[0] == names[1] != []
    monkeypatch.setattr("inr_factory.reporting.html.sampling.MOST_PAIRS", 6)
    assert len(draw_sample(root, manifest, manifest.shards, seed=0).inrs) == 6
    monkeypatch.setattr("inr_factory.reporting.html.sampling.MOST_NUMBERS", 6 * SPEC.num_parameters)
    assert len(draw_sample(root, manifest, manifest.shards, seed=0).inrs) == 3


def test_objects_without_a_second_view_come_last(tmp_path):
    root = tmp_path / "set"
    manifest = make_set(root, views=2, quarantine=[("train-1", 1), ("val-0", 1)])
    sample = draw_sample(root, manifest, manifest.shards, seed=0)
    assert (len(sample.inrs), len(sample.other)) == (19, 17)


# --- weights ---


def inrs_of(weights):
    return INRBatch.from_flat(SPEC, torch.as_tensor(weights, dtype=torch.float32))


def test_layer_statistics_are_those_of_all_inrs_together():
    inrs = initialize(SPEC, range(6))
    layers = layer_statistics(inrs)
    assert [layer.name for layer in layers] == [
        f"layer {n}, {what}" for n in (1, 2, 3) for what in ("weights", "biases")
    ]
    assert layers[2].std == pytest.approx(float(inrs.weights[1].double().var(0, correction=0).mean().sqrt()))
    assert layers[2].shape == (4, 4)
    assert not layers[0].published, "none are known of this shape"


def test_published_spreads_stand_beside_inrs_of_their_shape():
    layers = layer_statistics(initialize(SirenSpec(2, 1), range(3)))
    assert [layer.published["Fashion-MNIST"] for layer in layers[0::2]] == list(
        PUBLISHED["dwsnets_fashion_mnist"].weights
    )
    assert [layer.published["MNIST"] for layer in layers[1::2]] == list(PUBLISHED["dwsnets_mnist"].biases)


def test_hidden_copies_are_far_as_fitted_and_found_by_alignment():
    inrs = initialize(SPEC, range(8))
    copies = FlipSigns()(PermuteNeurons()(inrs, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2))
    found = {d.name: d for d in view_distances(Sample(inrs, np.zeros(8, np.int64), copies, (0, 1)))}
    assert set(found) == {"as fitted", "canonical", "aligned"}
    assert np.median(found["as fitted"].same) > 0.5
    assert found["aligned"].same.max() < 1e-4 < 0.2 < found["aligned"].different.min()


@pytest.mark.parametrize("activation", ["relu", "tanh", "gauss", "finer"])
def test_other_inrs_have_the_forms_of_their_activation(activation):
    inrs = initialize(SirenSpec(2, 1, hidden_dim=4, activation=activation, start="linear"), range(8))
    sample = Sample(inrs, np.zeros(8, np.int64), inrs, (0, 1))
    names = ["as fitted", "canonical", "aligned"]
    assert [d.name for d in view_distances(sample)] == [m.name for m in weight_maps(sample)] == names


def test_a_map_lays_classes_apart_that_are_apart():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    weights = random.normal(size=(40, 30))
    alike = principal_axes("x", weights, labels)
    apart = principal_axes("x", weights + 20 * labels[:, None], labels)
    assert alike.between_classes < 0.1
    assert apart.between_classes > 0.9
    assert apart.shares[0] > 0.9
    assert (apart.positions[labels == 0, 0].max() < apart.positions[labels == 1, 0].min()) or (
        apart.positions[labels == 1, 0].max() < apart.positions[labels == 0, 0].min()
    )
    distances = np.linalg.norm(apart.positions[:, None] - apart.positions[None], axis=2)
    assert (
        distances.max()
        <= np.linalg.norm(
            weights[:, None] + 20 * (labels[:, None, None] - labels[None, :, None]) - weights[None], axis=2
        ).max()
        + 1e-9
    )


def test_chance_is_what_labels_without_meaning_give():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 6
    found = [principal_axes("x", random.normal(size=(60, 20)), labels).between_classes for _ in range(30)]
    assert np.mean(found) == pytest.approx(chance_between(labels), abs=0.01)


# --- charts and pictures ---


def test_a_histogram_counts_everything():
    values = np.array([0.0, 0.1, 0.5, 0.9, 7.0])
    chart = charts.histogram({"a": values}, (0.0, 1.0), "label", "dB")
    (path,) = re.findall(r'class="bars g0" d="([^"]*)"', chart)
    heights = [78 - 3.6 * 0 - float(v) for v in re.findall(r"V([\d.]+)H", path)]
    assert sum(height > 1e-9 for height in heights) == 4, "the last two are in one bar"


@pytest.mark.parametrize(("low", "high"), [(39.9, 43.0), (0.0, 1.68), (0.0145, 0.022), (-5, 1000)])
def test_round_numbers_lie_within_and_are_round(low, high):
    ticks = charts.round_numbers(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(f"{tick:g}".strip("-0.").replace(".", "")) <= 3 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (40.4321, "40.4"), (0.98123, "0.981"), (123456, "123,456"), (0.000012345, "1.23e-05"), (float("nan"), "–"), (999.7, "1000")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert charts.digits(value) == text


def test_many_classes_share_a_colour_the_frequent_do_not():
    labels = np.repeat(np.arange(50), np.arange(50) + 1)
    colors = charts.color_classes(labels, [f"c{n}" for n in range(50)])
    own = [label for label, _, kind in colors if kind != "k-rest"]
    assert own == list(range(50 - charts.MOST_COLORS, 50))
    assert len({kind for _, _, kind in colors}) == charts.MOST_COLORS + 1


def test_a_map_names_its_axes_and_the_third_seven_classes_are_triangles():
    labels = np.arange(21)
    colors = charts.color_classes(labels, [f"c{number}" for number in labels])
    axes = ("first component: 40.0% of the variance", "second component: 9.0% of the variance")
    drawn = str(charts.scatter(np.random.default_rng(0).normal(size=(21, 2)), labels, colors, "map", axes))

    assert all(f">{axis}<" in drawn for axis in axes)
    triangles = {number for number in labels.tolist() if re.search(rf'data-class="{number}" d="[^"]*l2.1 3.6', drawn)}
    assert triangles == set(range(14, 21))


def unpack(uri):
    """Pixels of a data URI."""
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGBA"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_survives_its_file(channels):
    image = np.random.default_rng(0).random((7, 5, channels))
    pixels = unpack(png.image_uri(image))
    expected = (
        np.round(image * 255).astype(int) if channels == 3 else np.repeat(np.round(image * 255).astype(int), 3, axis=2)
    )
    assert np.abs(pixels[:, :, :3].astype(int) - expected).max() <= 1
    assert (pixels[:, :, 3] == 255).all()


def test_a_shaded_surface_is_clear_where_there_is_none():
    shade, cover = np.tile(np.linspace(0, 1, 8), (3, 1)), np.array([[0.0], [0.5], [1.0]]) * np.ones((3, 8))
    pixels = unpack(png.shades_uri(shade, cover, (1.0, 0.5, 0.25)))
    assert pixels[:, 0, 3].tolist() == [0, 128, 255]
    np.testing.assert_allclose(pixels[2, :, 0], shade[2] * 255, atol=2)
    np.testing.assert_allclose(pixels[2, :, 1], shade[2] * 127.5, atol=2)


def test_large_images_are_made_smaller_by_means():
    image = np.arange(200 * 300, dtype=np.float32).reshape(200, 300, 1) / 60000
    small = page.pictures.smaller(image)
    assert max(small.shape) <= 96
    assert small.mean() == pytest.approx(image.mean(), rel=0.02)
    assert page.pictures.smaller(image[:3]).shape[0] >= 1


# --- every kind of set ---


def test_without_the_source_inrs_are_shown_alone(digits, capsys, monkeypatch):
    monkeypatch.setattr(page, "open_dataset_source", lambda *_: (None, "the images are gone"))
    text = report(digits)
    assert "Without the sources: the images are gone" in words(text)
    assert "without the sources" in capsys.readouterr().err
    assert text.count('alt="INR of') == 20
    assert 'alt="source of' not in text


def test_other_data_of_the_same_name_are_no_sources(digits, tmp_path, monkeypatch):
    genuine = dataset_source.open_source

    def other(*arguments, **settings):
        source = genuine(*arguments, **settings)
        object.__setattr__(source, "fingerprint", "f" * 16)
        return source

    monkeypatch.setattr(dataset_source, "open_source", other)
    assert "was begun with other digits data" in words(report(digits))


def test_shards_that_say_no_size_have_no_pictures(root):
    seen = words(report(root))
    assert "No pictures: the shards do not say the height and width of their images" in seen
    assert "57 INRs" in seen


@pytest.mark.parametrize(
    "spec", [SirenSpec(2, 2, hidden_dim=4), SirenSpec(1, 1, hidden_dim=4), SirenSpec(4, 1, hidden_dim=4)]
)
def test_inrs_of_other_things_have_no_pictures(tmp_path, spec):
    make_set(tmp_path / "set", spec=spec)
    assert "neither images nor surfaces" in words(report(tmp_path / "set"))


def test_pictures_that_can_be_drawn_are_not_refused(digits):
    manifest = load_manifest(digits)
    can_draw(digits, manifest, [(manifest.shards[0], 0)])


def test_a_set_of_which_a_part_is_missing_says_what(tmp_path):
    make_set(tmp_path / "set", unfitted=[("train", 1, 2), ("val", 0, 1)])
    seen = words(report(tmp_path / "set"))
    assert "Not complete: 2 of 18 shards are missing" in seen
    assert "data/train-view001-00002.h5" in seen


def test_one_view_has_no_distances_and_says_how_to_have_them(tmp_path):
    make_set(tmp_path / "set", views=1)
    assert "no two views of one object yet" in words(report(tmp_path / "set"))


def test_one_class_and_an_empty_split(tmp_path):
    make_set(tmp_path / "set", classes=("only",), objects={"train": 6, "val": 0})
    seen = words(report(tmp_path / "set"))
    assert "in 1 class," in seen
    assert "only 41.2 dB 18 INRs" in seen


def test_a_set_in_which_all_is_in_quarantine(tmp_path):
    make_set(tmp_path / "set", views=1, objects={"train": 3}, quarantine=[(f"train-{n}", 0) for n in range(3)])
    seen = words(report(tmp_path / "set"))
    assert "There is no INR to show" in seen
    assert "3 fits have no row" in seen
    assert "train-2 0 test" in seen


def test_a_set_that_has_just_begun(tmp_path):
    make_set(tmp_path / "set", views=1, objects={"train": 3}, unfitted=[("train", 0, 0)])
    assert "There is no INR to measure" in words(report(tmp_path / "set"))


def test_two_inrs_are_enough(tmp_path):
    make_set(tmp_path / "set", views=2, objects={"train": 1})
    assert "too few INRs for a map" in words(report(tmp_path / "set"))


def test_a_damaged_shard_is_named(digits, tmp_path, capsys):
    import shutil

    root = shutil.copytree(digits, tmp_path / "set")
    victim = next((root / "data").glob("train-view000*.h5"))
    content = bytearray(victim.read_bytes())
    content[:8] = b"not HDF5"
    victim.write_bytes(content)
    assert run(["report", str(root)]) == 4
    assert victim.name in capsys.readouterr().err


def test_what_is_no_set_has_no_report(tmp_path, capsys):
    assert run(["report", str(tmp_path)]) == 2
    assert "no data set in" in capsys.readouterr().err


# --- playground ---


def playground_of(text):
    return json.loads(re.search(r"window.PLAYGROUND = (.*);\n", text)[1])


def inr_of(fields, weights):
    flat = torch.from_numpy(np.frombuffer(b64decode(weights), "<f4").copy())[None]
    return INRBatch.from_flat(SirenSpec.from_dict(fields["spec"]), flat)


def test_the_page_has_weights_of_the_set_of_different_classes_and_their_pixels(digits):
    made = playground_of(report(digits))
    stored = np.concatenate(
        [page.pictures.ShardReader(digits, e).column("weights") for e in load_manifest(digits).shards]
    )
    shown = [inr_of(one, one["weights"]).flatten().numpy() for one in made["inrs"]]
    assert all((stored == weights).all(axis=1).any() for weights in shown)
    assert len({one["name"] for one in made["inrs"]}) == play.MOST_IMAGES
    assert {unpack(one["source"]).shape for one in made["inrs"]} == {(8, 8, 4)}
    assert made["obstacle"] is None


def test_aligned_copies_show_the_same_and_lie_nearer(digits):
    views, objects = playground_of(report(digits))["pairs"]
    assert "one object" in views["title"]
    assert " to " in objects["title"]
    for pair in (views, objects):
        plain, signed, phase = (inr_of(pair, way["weights"]) for way in pair["ways"])
        for copy in (signed, phase):
            torch.testing.assert_close(copy.images(8, 8), plain.images(8, 8), atol=1e-4, rtol=0)
        first = inr_of(pair, pair["weights"])
        distances = [
            float((first.flatten() - b.flatten()).norm() / first.flatten().norm()) for b in (plain, signed, phase)
        ]
        assert distances == sorted(distances, reverse=True)
        assert [way["distance"] for way in pair["ways"]] == pytest.approx(distances, rel=1e-4)


def small_images(root, monkeypatch, **options):
    """A playground of a small set as if it were of 3 x 5 images."""
    manifest = make_set(root, **options)
    column = page.pictures.ShardReader.column
    sizes = {"height": 3, "width": 5}
    monkeypatch.setattr(
        page.pictures.ShardReader,
        "column",
        lambda shard, name: np.full(len(shard), sizes[name]) if name in sizes else column(shard, name),
    )
    names = page.pictures.ShardReader.column_names.fget
    monkeypatch.setattr(page.pictures.ShardReader, "column_names", property(lambda shard: (*names(shard), *sizes)))
    rows = read_rows(root, manifest.shards, seed=0)
    return play.make_playground(root, manifest, rows.locations(np.arange(len(rows))), None)


def test_relu_inrs_are_aligned_by_permutations_alone(tmp_path, monkeypatch):
    made = small_images(tmp_path, monkeypatch, spec=SirenSpec(2, 3, hidden_dim=4, activation="relu", start="linear"))
    assert [[way["match"] for way in pair["ways"]] for pair in made["pairs"]] == 2 * [["as fitted", "permutation"]]
    assert [one["name"] for one in made["inrs"]][:3] == ["low", "mid", "high"]
    assert {(one["height"], one["width"], one["source"]) for one in made["inrs"]} == {(3, 5, None)}


def test_one_view_leaves_a_pair_of_two_objects_and_one_object_no_pair(tmp_path, monkeypatch):
    assert len(small_images(tmp_path / "a", monkeypatch, views=1)["pairs"]) == 1
    assert small_images(tmp_path / "b", monkeypatch, views=1, objects={"train": 1})["pairs"] == []


def test_the_numbers_in_a_page_are_bounded(tmp_path, monkeypatch):
    def numbers(made):
        parts = [*made["inrs"], *made["pairs"], *(way for pair in made["pairs"] for way in pair["ways"])]
        return sum(len(b64decode(part["weights"])) // 4 for part in parts)

    for inrs, size in ((1, 1), (5, 5), (9, 5), (40, 16)):
        monkeypatch.setattr(play, "MOST_NUMBERS", inrs * SPEC.num_parameters)
        made = small_images(tmp_path / str(inrs), monkeypatch)
        assert numbers(made) == size * SPEC.num_parameters
    monkeypatch.setattr(play, "MOST_NUMBERS", SPEC.num_parameters - 1)
    made = small_images(tmp_path / "0", monkeypatch)
    assert (made["inrs"], made["pairs"]) == ([], [])
    assert made["obstacle"] == f"an INR of {SPEC.num_parameters} numbers is too large for a page"


@pytest.mark.parametrize("spec", [SirenSpec(2, 2, hidden_dim=4), SirenSpec(1, 1, hidden_dim=4), SPEC])
def test_what_is_neither_image_nor_shape_has_a_sentence_for_a_playground(tmp_path, spec):
    make_set(tmp_path / "set", spec=spec)
    text = report(tmp_path / "set")
    assert "No playground: " in words(text)
    assert 'class="playground"' not in text


def test_pictures_beyond_the_limit_are_left_out_ordinary_ones_first(digits, monkeypatch):
    monkeypatch.setattr(page, "MOST_TEXT", len(json.dumps(playground_of(report(digits)))) + 8_000)
    text = report(digits)
    assert 4 <= text.count('class="picture"') < 20
    assert text.index("The worst first") > 0
    monkeypatch.setattr(page, "MOST_TEXT", 1)
    assert report(digits).count('class="picture"') == 1


def test_a_page_is_smaller_than_two_megabytes_whatever_it_shows():
    scripts = sum(len((page.Path(page.__file__).parent / f"playground.{kind}").read_bytes()) for kind in ("js", "css"))
    assert page.MOST_TEXT + scripts < 2_000_000 - 150_000


# --- cost ---


def write_log(root, name, *lines):
    (root / LOG_FOLDER).mkdir(exist_ok=True)
    (root / LOG_FOLDER / f"{name}.log").write_text("".join(json.dumps(line) + "\n" for line in lines))


START = {"time": "2026-01-02T03:04:05.678+00:00", "event": "start", "backend": "ray", "device": "cuda", "workers": 3}


def test_cost_is_what_the_logs_say(root):
    manifest = load_manifest(root)
    write_log(root, "1", START, {"event": "death"}, {"event": "end", "ending": "stopped", "made": 10, "seconds": 4.0})
    write_log(root, "2", START, {"event": "end", "ending": "complete", "made": 8, "seconds": 2.0})
    runs = summary.read_runs(root)
    assert [run.how for run in runs] == ["ray, cuda, 3 workers, 1 workers died", "ray, cuda, 3 workers"]
    assert summary.inrs_per_second(runs, manifest) == pytest.approx(57 / 6)
    assert "2026-01-02 03:04" in report(root)


def test_a_pace_is_not_told_where_logs_do_not_stand_for_every_shard(root):
    manifest = load_manifest(root)
    write_log(root, "1", START, {"event": "end", "ending": "complete", "made": 8, "seconds": 2.0})
    assert summary.inrs_per_second(summary.read_runs(root), manifest) is None
    write_log(root, "2", START)
    assert summary.inrs_per_second(summary.read_runs(root), manifest) is None
    assert "pace not recorded" in words(report(root))


def test_logs_that_are_cut_short_or_strange_are_passed_over(root):
    write_log(root, "1", START)
    whole = (root / LOG_FOLDER / "1.log").read_text()
    (root / LOG_FOLDER / "1.log").write_text(whole + '{"event": "en')
    write_log(root, "2", ["a list"], 7)
    (root / LOG_FOLDER / "3.log").write_bytes(b"\xff\xfe")
    assert [run.ending for run in summary.read_runs(root)] == ["no end recorded"]
    report(root)


# --- shapes ---


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A set of four primitives, small and badly fitted, and its cache."""
    folder = tmp_path_factory.mktemp("shapes")
    source = {"collection": "primitives", "num_points": 300, "num_truth": 100, "num_surface": 50, "per_class": 1}
    fields = {
        "name": "shapes", "source": source, "limit": 4, "views": 1, "spec": {"hidden_dim": 8},
        "fit": {"steps": 20, "floor_psnr": -99, "lanes": 8},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INR_FACTORY_CACHE", str(folder / "cache"))
        patch.setattr(page.pictures, "RESOLUTION", 16)
        patch.setattr(page.pictures, "FRAME_SIDE", 32)
        fit_dataset(check_recipe(fields, origin="test"), folder / "set", backend="local", workers=1)
        yield folder / "set"


def strips(text):
    """The pictures behind each turning shape: what -> (frames, side, side, 4)."""
    for style in re.findall(r'class="orbit"[^>]*style="([^"]*)"', text):
        pictures = [unpack(uri) for uri in re.findall(r"--strip\d:url\(([^)]*)\)", style)]
        yield [np.stack(np.split(picture, picture.shape[1] // picture.shape[0], axis=1)) for picture in pictures]


def test_shapes_are_shown_from_all_around_beside_their_sources(shapes):
    text = report(shapes)
    shown = list(strips(text))
    assert len(shown) == 4
    for source, inr in shown:
        assert source.shape == inr.shape == (24, 32, 32, 4)
        assert 0.02 < (source[:, :, :, 3] == 255).mean() < 0.9
    assert any(np.abs(source[0].astype(int) - source[6]).max() > 100 for source, _ in shown)
    seen = words(text)
    assert "Shapes, from all around" in seen
    assert re.search(r"IoU 0\.\d+ · F-score \d\.\d+ · \S+ dB", seen)
    assert "F-score at 1 %" in seen
    assert "IoU by class" in seen


def test_shapes_without_their_sources_are_shown_alone(shapes, monkeypatch):
    monkeypatch.setattr(page, "open_dataset_source", lambda *_: (None, "no shapes here"))
    text = report(shapes)
    assert [len(pictures) for pictures in strips(text)] == [1] * 4
    assert "Without the sources: no shapes here" in words(text)
