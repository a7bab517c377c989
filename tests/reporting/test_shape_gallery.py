"""Showing shapes: pictures, distances and files of INRs whose surfaces are known."""

import dataclasses
import json
import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.mesh_files import mesh_content, read_mesh
from inr_factory.generation.geometry.primitives import KINDS
from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.reporting.shape_gallery import ROWS, ShapeComparison, field_of, surfaces_and_sources, write_surface
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader, write_shard

# An octahedron |x - 10| + |y - 20| + |z - 30| = 1.5; its signal has it at the origin with |x| + |y| + |z| = 0.5.
SCALE, CENTER, SIZE = 3.0, np.array([10.0, 20.0, 30.0]), 0.5
CORNERS = np.concatenate([np.eye(3), -np.eye(3)])
FACES = np.array([(x, y, z) if (x + y + z) % 2 == 1 else (x, z, y) for x in (0, 3) for y in (1, 4) for z in (2, 5)])
SOURCE = {"collection": "mesh_folder", "radius": SIZE, "num_points": 100, "num_truth": 50, "num_surface": 20}


def write_octahedron(path):
    vertices = CORNERS * SIZE * SCALE + CENTER
    lines = ["OFF", "6 8 0", *(" ".join(map(str, row)) for row in vertices), *(f"3 {a} {b} {c}" for a, b, c in FACES)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INR_FACTORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of two octahedra, ReLU INRs with room for them, and its sources."""
    folder = tmp_path_factory.mktemp("octahedra")
    for name in "ab":
        write_octahedron(folder / f"meshes/{name}/1.off")
    recipe = {
        "source": SOURCE, "shard_objects": 10, "splits": {"val": 0, "test": 0},
        "spec": {"hidden_dim": 6, "num_hidden": 1, "output_bias": 0, "activation": "relu", "start": "linear"},
        "fit": {"engine": "reference", "steps": 2, "floor_psnr": -99},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    arguments = ["--out", str(folder / "set"), "--backend", "local", "--workers", "1"]
    assert run(["fit", str(folder / "recipe.yaml"), "--data-root", str(folder / "meshes"), *arguments]) == 0
    return folder


@pytest.fixture
def octahedra(made, tmp_path):
    """A copy of the set with INRs that are exactly |x| + |y| + |z| - level, for a level of each object."""
    import shutil

    def with_levels(*levels):
        root = Path(shutil.copytree(made / "set", tmp_path / "set"))
        manifest = load_manifest(root)
        (entry,) = manifest.shards
        shard = ShardReader(root, entry)
        columns = {name: np.array(shard.column(name)) for name in shard.column_names if name != "checksum"}
        columns["object_id"] = np.array(shard.object_ids, dtype=object)
        exact = np.concatenate([CORNERS.reshape(-1), np.zeros(6), np.ones(6)])
        by_object = dict(zip(sorted(shard.object_ids), levels, strict=True))
        columns["weights"] = np.array([[*exact, -by_object[name]] for name in shard.object_ids], np.float32)
        extra = {name: str(shard.attributes[name]) for name in ("fingerprint", "engine", "device", "field")}
        update_manifest(root, manifest, [write_shard(root, shard.key, shard.spec, columns, (), extra)])
        return root

    return with_levels


def outcome(capsys, *arguments):
    """Exit code, stdout and stderr of a command."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def shown_of(capsys, root, made, *arguments):
    """What `show --json` says of each object, and its exit code."""
    everything = ["--data-root", made / "meshes", "--resolution", 41, "--out", root / "a.png", "--json", *arguments]
    code, out, _ = outcome(capsys, "show", root, *everything)
    return {row["object_id"]: row for row in json.loads(out)["shapes"]}, code


# --- distances ---


def test_distances_are_right_in_the_units_of_the_file(capsys, made, octahedra):
    shown, code = shown_of(capsys, octahedra(SIZE, SIZE + 0.1), made)

    assert code == 0
    same, larger = shown["a/1.off"], shown["b/1.off"]
    assert max(same["to_source"], same["to_inr"], same["chamfer"]) < 0.01
    apart = SCALE * 0.1 / math.sqrt(3)  # of two parallel faces
    assert larger["to_inr"] == pytest.approx(apart, rel=0.02)
    assert apart < larger["to_source"] < 1.5 * apart, "its edges lie further off"
    assert larger["chamfer"] == pytest.approx((larger["to_source"] + larger["to_inr"]) / 2)


def test_the_table_says_what_json_says(capsys, made, octahedra):
    root = octahedra(SIZE, SIZE + 0.1)
    shown, _ = shown_of(capsys, root, made)
    arguments = ["--data-root", made / "meshes", "--resolution", 41, "--out", root / "a.png"]
    code, out, _ = outcome(capsys, "show", root, *arguments)

    assert code == 0
    for name, row in shown.items():
        (line,) = (line for line in out.splitlines() if line.startswith(name))
        assert line.split()[-3:] == [f"{row[key]:.4g}" for key in ("to_source", "to_inr", "chamfer")]
        assert line.split()[3] == f"{row['psnr']:.2f}"
        assert line.split()[4:6] == [f"{row[key]:.4g}" for key in ("explained", "iou")]
    assert "units of" in out


def test_without_the_sources_inrs_are_shown_alone(capsys, made, octahedra, tmp_path):
    root = octahedra(SIZE, SIZE)
    both, _ = shown_of(capsys, root, made)
    tall = height(root / "a.png")

    code, out, err = outcome(capsys, "show", root, "--data-root", tmp_path, "--resolution", 20, "--json")

    assert code == 0
    assert "without the sources: " in err
    shown = json.loads(out)["shapes"]
    assert len(shown) == len(both) == 2
    assert all(row["chamfer"] is None for row in shown)
    assert height(root / "preview.png") < 0.7 * tall


def test_other_files_of_the_same_names_are_no_sources(capsys, octahedra, tmp_path):
    for name in "ab":
        write_octahedron(tmp_path / f"other/{name}/1.off")
        with open(tmp_path / f"other/{name}/1.off", "a") as file:
            file.write("\n# another")
    root = octahedra(SIZE, SIZE)

    code, out, err = outcome(capsys, "show", root, "--data-root", tmp_path / "other", "--resolution", 20, "--json")

    assert code == 0
    assert "without the sources: " in err
    assert json.loads(out)["shapes"][0]["chamfer"] is None


def test_a_source_that_cannot_be_read_is_named_and_the_others_go_on(made, octahedra, tmp_path):
    root = octahedra(SIZE, SIZE)
    write_octahedron(tmp_path / "meshes/a/1.off")
    (tmp_path / "meshes/b").mkdir()
    (tmp_path / "meshes/b/1.off").write_text("")
    source = open_shapes(ShapeSource(**SOURCE), tmp_path / "meshes")
    manifest = load_manifest(root)
    chosen = [(manifest.shards[0], row) for row in range(2)]

    shown = {one.object_id: one for one in surfaces_and_sources(root, manifest, chosen, source, 20)}

    assert shown["a/1.off"].chamfer < 0.1
    assert math.isnan(shown["b/1.off"].chamfer)
    assert "empty" in shown["b/1.off"].remark


# --- pictures ---


def height(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.height


def one_shape(**changes):
    shown = ShapeComparison(
        "a/1.off", "a", 0, 30.0, {"iou": 0.9}, Mesh(CORNERS * SIZE, FACES), Mesh(CORNERS * SIZE, FACES),
        SCALE, CENTER, 0.0, 0.0, None,
    )  # fmt: skip
    return dataclasses.replace(shown, **changes)


def test_source_and_inr_are_drawn_in_the_same_frame():
    pictures = one_shape().pictures
    apart = one_shape(surface=Mesh(CORNERS * SIZE * 2, FACES)).pictures

    assert tuple(pictures) == ROWS
    for source, inr in zip(ROWS[0::2], ROWS[1::2], strict=True):
        masks = [(pictures[row] < 1).any(axis=2) for row in (source, inr)]
        assert np.array_equal(*masks)
        small, large = ((apart[row] < 1).any(axis=2).sum() for row in (source, inr))
        assert large == pytest.approx(4 * small, rel=0.1)


def test_clouds_are_drawn_as_points_and_nothing_as_nothing():
    empty = Mesh(np.empty((0, 3)), np.empty((0, 3), np.int64))

    pictures = one_shape(source=CORNERS * SIZE, surface=empty).pictures

    assert (pictures[ROWS[0]] < 1).any()
    assert (pictures[ROWS[1]] == 1).all()
    assert tuple(one_shape(source=None).pictures) == ROWS[1::2]


def test_a_caption_says_how_good_an_inr_is():
    shown = one_shape(quality={"iou": 0.9123, "distance_error": 0.00321})

    assert shown.measures == ("30.0 dB", "IoU 0.912", "distance error 0.0032")
    assert one_shape(quality={}).measures == ("30.0 dB",)


# --- files ---


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
@pytest.mark.parametrize("far", [1.0, 1e6])
def test_a_written_surface_comes_back_the_same(suffix, far):
    mesh = KINDS["torus"](lambda low, high: high)
    placed = mesh.vertices * SCALE + CENTER * far

    content = mesh_content(mesh, SCALE, CENTER * far, suffix)

    theirs = trimesh.load_scene(BytesIO(content), file_type=suffix[1:], process=False).to_mesh()
    ours = read_mesh(f"a{suffix}", content, max_faces=10_000)
    for vertices, faces in ((theirs.vertices, theirs.faces), (ours.vertices, ours.faces)):
        assert np.allclose(vertices, placed, rtol=0, atol=1e-6)
        assert np.array_equal(faces, mesh.faces)
    assert theirs.is_watertight


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_surfaces_are_written_in_the_units_of_their_objects(capsys, made, octahedra, tmp_path, suffix):
    shown, code = shown_of(
        capsys, octahedra(SIZE, SIZE + 0.1), made, "--mesh", tmp_path / "out", "--format", suffix
    )  # fmt: skip

    assert code == 0
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(
        Path(row["mesh"]) for row in shown.values()
    )
    for name, level in (("a/1.off", SIZE), ("b/1.off", SIZE + 0.1)):
        path = Path(shown[name]["mesh"])
        assert path == tmp_path / "out" / f"{name}_view0.{suffix}"
        mesh = trimesh.load_scene(path, process=False).to_mesh()
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(4 / 3 * (level * SCALE) ** 3, rel=0.02), "inside out, or in other units"
        assert np.allclose(np.abs(mesh.vertices - CENTER).sum(axis=1), level * SCALE, atol=1e-5)


def test_an_inr_without_a_surface_is_named_and_the_others_are_written(capsys, made, octahedra, tmp_path):
    root = octahedra(SIZE, 9.0)
    arguments = ["--data-root", made / "meshes", "--resolution", 20, "--out", tmp_path / "a.png"]

    code, out, err = outcome(capsys, "show", root, *arguments, "--json")
    assert code == 0
    assert [row["chamfer"] is None for row in json.loads(out)["shapes"]] == [False, True]
    assert "no surface: the INR of b/1.off, view 0" in err
    code, out, err = outcome(capsys, "show", root, *arguments, "--mesh", tmp_path / "out")

    assert code == 1
    assert "1 of 2 INRs have no surface to write: b/1.off, view 0" in err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["1.off_view0.ply"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../x", "..", "a\0b", "./a//b"])
def test_no_name_of_an_object_leads_out_of_the_folder(name, tmp_path):
    path = write_surface(one_shape(object_id=name), tmp_path / "out", ".ply")

    assert path.resolve().is_relative_to((tmp_path / "out").resolve())
    assert path.is_file()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [path]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))

    with pytest.raises(OSError, match="disk is full"):
        write_surface(one_shape(), tmp_path, ".ply")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- sets ---


def test_sources_give_the_shapes_that_their_signals_are_of(made, tmp_path):
    write_octahedron(tmp_path / "meshes/a/1.off")
    cloud = np.random.default_rng(0).normal(size=(50, 3)) + 5
    (tmp_path / "clouds/a").mkdir(parents=True)
    np.save(tmp_path / "clouds/a/1.npy", cloud)
    few = {"num_points": 50, "num_truth": 50, "num_surface": 20}

    octahedron = open_shapes(ShapeSource(**SOURCE), tmp_path / "meshes").geometry(0)
    assert np.allclose(octahedron.vertices, CORNERS * SIZE * SCALE + CENTER)
    assert np.array_equal(open_shapes(ShapeSource(collection="point_folder"), tmp_path / "clouds").geometry(0), cloud)
    source = open_shapes(ShapeSource(collection="primitives", per_class=1, **few), tmp_path)
    facts = source.signal(3).facts
    mesh = source.geometry(3)
    center = np.array([facts[f"center_{axis}"] for axis in "xyz"])
    assert np.linalg.norm((mesh.vertices - center) / facts["scale"], axis=1).max() == pytest.approx(0.9)


def test_show_draws_a_set_of_primitives(capsys, tmp_path):
    recipe = {
        "source": {"collection": "primitives", "num_points": 500, "per_class": 1, "num_truth": 200, "num_surface": 100},
        "spec": {"hidden_dim": 16, "output_bias": 0, "omega_0": 10},
        "fit": {"engine": "reference", "steps": 30, "learning_rate": 3e-3, "floor_psnr": 0},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    fit = [
        "fit",
        tmp_path / "small.yaml",
        "--limit",
        6,
        "--out",
        tmp_path / "set",
        "--backend",
        "local",
        "--workers",
        1,
    ]
    assert outcome(capsys, *fit)[0] == 0

    arguments = ["show", tmp_path / "set", "--resolution", 24]
    code, out, _ = outcome(capsys, *arguments, "--count", 2, "--out", tmp_path / "two.png", "--json")
    result = json.loads(out)
    assert (code, result["inrs"], result["picture"]) == (0, 2, str(tmp_path / "two.png"))
    code, out, _ = outcome(capsys, *arguments, "--count", 6)
    assert code == 0
    assert "preview.png: 6 INRs" in out

    from PIL import Image

    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "set/preview.png") as six:
        assert six.width > two.width
        assert two.convert("L").getextrema()[0] < 60, "the picture is empty"


def test_images_have_no_surface(capsys, tmp_path):
    small = ["--limit", 10, "--backend", "local", "--workers", 1, "--set", "fit.steps=2", "--set", "fit.floor_psnr=-99"]
    assert outcome(capsys, "fit", "digits", "--views", 1, "--out", tmp_path / "set", *small)[0] == 0

    code, _, err = outcome(capsys, "show", tmp_path / "set", "--mesh", tmp_path / "out")

    assert code == 2
    assert "--mesh is for sets of shapes" in err
    assert not (tmp_path / "out").exists()


def test_a_field_that_is_not_known_and_inrs_of_several_values_are_refused(octahedra):
    root = octahedra(SIZE, SIZE)
    manifest = load_manifest(root)
    shard = ShardReader(root, manifest.shards[0])
    assert field_of(shard) == "sdf"
    shard.attributes["field"] = "density"
    with pytest.raises(IntegrityError, match="field 'density', expected one of values, sdf"):
        field_of(shard)

    colored = manifest.model_copy(update={"spec": {**manifest.spec, "out_dim": 3}})
    with pytest.raises(UsageError, match="only INRs of one value"):
        next(surfaces_and_sources(root, colored, [], None, 8))
