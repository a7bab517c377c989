"""Layout: imports go one way, heavy dependencies have one home each, and reading a set stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "inr_factory"
ROOMS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

HALL = {
    "inr",
    "spec",
    "signals",
    "recipe",
    "yaml_files",
    "manifest",
    "shards",
    "errors",
    "metrics",
    "options",
    "compiled",
    "places",
    "torch_files",
    "card",
    "croissant",
    "readme",
}
MAKE = {
    "sources", "images", "image_files", "image_folder", "official_images", "class_folders",
    "shapes", "shape_samples", "shape_metrics", "sample_cache", "primitives", "distances", "meshes", "mesh_files",
    "mesh_text", "ply_files", "polygons", "point_files", "point_blocks", "quality",
    "blocks", "worker", "ahead", "crew", "driver", "local_pool", "ray_pool", "ledger", "run_log", "factory", "jobs", "repair", "merge", "audit", "gallery", "shape_gallery", "shading",
    "interop", "interop.conventions", "interop.state_dicts", "interop.pyg", "interop.members", "interop.splits",
    "interop.trees", "interop.tables", "interop.foreign_hdf5", "interop.foreign_tables", "interop.peer_statistics",
    "interop.sidecar", "interop.layouts", "interop.import_options", "interop.foreign_set", "interop.exports", "interop.imports", "interop.listing", "interop.rendering_check",
    "fitting", "fitting.lanes", "fitting.reference", "fitting.schedule", "fitting.starts", "fitting.scope",
    "fitting.fused_cpu", "fitting.fused_cuda", "fitting.fused_kernel",
}  # fmt: skip
LEARN = {
    "aligned_copy", "augment_report", "comparison",
    "dataset", "rows", "batch_plan", "loader", "transforms", "symmetries", "warps", "tones", "noise", "canonical",
    "moves", "assignments", "alignment", "mixup", "training", "runs", "pretraining", "probes", "perturbation",
    "reweighting", "label_noise", "ranks",
    "models", "models.checkpoint", "models.contrastive", "models.dws", "models.encoder", "models.forward", "models.mlp", "models.set_layers", "models.graph",
    "models.ng_gnn", "models.ng_t", "models.pair_attention", "models.scalegmn",
}  # fmt: skip
FRONT = {"cli", "commands", "benchmarks", "sweep", "terminal", "doctor", "report", "page", "hub", "__init__"}

HOMES = {
    "h5py": {"shards", "point_blocks", "interop.foreign_hdf5", "benchmarks"},  # there as a rival
    "safetensors": {"interop.foreign_tables"},
    "pyarrow": {"interop.foreign_tables"},
    "torch_geometric": {"interop.pyg"},
    "ray": {"ray_pool"},
    "fsspec": {"places"},
    "scipy": {"alignment", "benchmarks"},
    "sklearn": {"images", "probes"},
    "torchvision": {"official_images"},
    "PIL": {"image_files", "page"},
    "trimesh": {"mesh_files"},
    "igl": {"distances"},
    "triton": {"fitting.fused_kernel"},
    "skimage": {"shape_metrics"},
    "matplotlib": {"report"},
    "jinja2": {"page"},
    "markupsafe": {"page"},
    "huggingface_hub": {"hub"},
    "yaml": {"yaml_files", "commands"},
    "typer": {"cli", "commands"},
    "rich": {"terminal"},
}


def imports(path):
    """Dotted names of all modules that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def rooms_of(path):
    """Rooms of this package that a file imports."""
    return {name.removeprefix("inr_factory.") for name in imports(path) if name.startswith("inr_factory.")}


def within(room, rooms):
    """Whether a room is one of these, or in one that is a folder of rooms."""
    return room in rooms or room.partition(".")[0] in rooms


def test_every_room_is_in_one_wing_or_the_hall_and_none_is_listed_that_is_gone():
    wings = (HALL, MAKE, LEARN, FRONT)
    for room in ROOMS:
        assert sum(within(room, wing) for wing in wings) == 1, room
    assert set().union(*wings) <= set(ROOMS)


@pytest.mark.parametrize("room", sorted(HALL))
def test_the_hall_knows_no_wing(room):
    assert rooms_of(ROOMS[room]) <= HALL


@pytest.mark.parametrize("room", sorted(MAKE | LEARN))
def test_the_wings_never_import_each_other(room):
    own = MAKE if room in MAKE else LEARN
    front = {"report"} if room == "gallery" else set()  # the pictures that it lays out
    for other in rooms_of(ROOMS[room]):
        assert within(other, HALL | own | front), f"{room} imports {other}"


@pytest.mark.parametrize("room", ["training", "pretraining", "runs"])
def test_training_is_handed_its_data_and_transforms(room):
    assert not rooms_of(ROOMS[room]) & {"dataset", "loader", "transforms", "mixup"}


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_dependency_is_imported_in_its_home_only(library):
    found = {room for room, path in ROOMS.items() if any(name.split(".")[0] == library for name in imports(path))}
    assert all(within(room, HOMES[library]) or room in HOMES[library] for room in found), found


def test_there_is_no_room_for_odds_and_ends():
    assert not {room.rpartition(".")[2] for room in ROOMS} & {"utils", "util", "helpers", "common", "base", "misc"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_room_says_its_purpose_first(room):
    if room == "__init__":
        return
    assert ast.get_docstring(ast.parse(ROOMS[room].read_text())), room


def loaded_by(statement):
    """Top-level modules in memory after a statement, in a fresh process."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


HEAVY = {
    "ray",
    "trimesh",
    "igl",
    "skimage",
    "matplotlib",
    "torchvision",
    "sklearn",
    "PIL",
    "tensorboard",
    "triton",
    "typer",
    "rich",
}


def test_reading_a_set_loads_nothing_heavy():
    assert not loaded_by("import inr_factory.dataset, inr_factory.loader") & HEAVY


def test_the_test_of_light_imports_can_fail():
    assert loaded_by("import inr_factory.dataset, ray") & HEAVY == {"ray"}


def test_fitting_loads_without_triton():
    assert "triton" not in loaded_by("import inr_factory.fitting")


def test_a_finished_set_is_seen_to_be_finished_without_torch():
    assert not loaded_by("import inr_factory.cli, inr_factory.commands.fit") & {"torch", "h5py", "scipy"}


def test_fitting_and_training_load_without_ray():
    assert "ray" not in loaded_by("import inr_factory.factory, inr_factory.training, inr_factory.cli")
