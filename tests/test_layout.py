"""Layout: imports go down only, heavy dependencies have one home each, and an import stays light."""

import ast
import subprocess
import sys
from functools import cache

import pytest
from support.paths import PACKAGE

PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# From the bottom up. A module imports its own floor's package and what is below; packages of one floor do not see each other.
FLOORS = (
    ("errors",),
    ("inr",),
    ("storage",),
    ("generation", "learning"),
    ("interop", "reporting", "streaming"),
    ("benchmarks",),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
# The commands that training and fitting start again in processes of their own are named in strings, not imported.

HOMES = {
    "h5py": {
        "storage.hdf5_layout",
        "storage.shards",
        "generation.sources.hdf5_point_clouds",
        "interop.hdf5_files",
        "benchmarks",
    },  # a baseline
    "safetensors": {"interop.table_files"},
    "pyarrow": {"interop.table_files", "storage.target_tables"},
    "torch_geometric": {"interop.pyg"},
    "ray": {"generation.execution.ray_pool"},
    "fsspec": {"storage.locations"},
    "scipy": {
        "learning.alignment",
        "generation.augmentation",
        "generation.geometry.orientation",
        "generation.geometry.surface_metrics",
        "learning.training.value_metrics",
        "benchmarks",
    },
    "sklearn": {"generation.sources.image_collections", "learning.training.probes", "learning.training.value_metrics"},
    "torchvision": {"generation.sources.torchvision_images"},
    "PIL": {f"generation.sources.image_{part}" for part in ("files", "formats", "values")}
    | {"reporting.html", "interop.previews"},
    "trimesh": {"generation.geometry.mesh_files"},
    "igl": {"generation.geometry.distances"},
    "triton": {"generation.fitting.fused_triton"},
    "skimage": {"generation.geometry.level_set"},
    "matplotlib": {"reporting.figures"},
    "wandb": {"learning.training.tracking"},
    "mlflow": {"learning.training.tracking"},
    "jinja2": {"reporting.html"},
    "markupsafe": {"reporting.html"},
    "huggingface_hub": {"interop.hugging_face_hub"},
    "yaml": {"storage.yaml_files", "cli.commands"},
    "typer": {"cli"},
    "rich": {"cli.terminal", "cli.progress_bars"},
}


@cache
def imports(module):
    """Dotted names of all modules that a module imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def imports_within(module):
    """Modules of this package that a module imports."""
    found = {name.removeprefix("inr_factory.") for name in imports(module) if name.startswith("inr_factory.")}
    return {name if name in PATHS else name.rpartition(".")[0] for name in found} & set(PATHS)


def package_of(module):
    return module.partition(".")[0]


def upward_imports(edges):
    """(module, imported) of every import that does not go down."""
    return [
        (module, other)
        for module, others in edges.items()
        for other in others
        if package_of(module) != package_of(other) and FLOOR_OF[package_of(other)] >= FLOOR_OF[package_of(module)]
    ]


def circle(edges):
    """Modules that import each other in a circle, or none."""
    state = {}

    def visit(module, path):
        state[module] = "open"
        for other in sorted(edges.get(module, ())):
            if state.get(other) == "open":
                return [*path[path.index(other) :], other] if other in path else [module, other]
            if other not in state and (found := visit(other, [*path, other])):
                return found
        state[module] = "done"
        return None

    for module in sorted(edges):
        if module not in state and (found := visit(module, [module])):
            return found
    return None


EDGES = {module: imports_within(module) - {module} for module in PATHS}


def test_every_package_has_a_floor():
    assert {package_of(module) for module in PATHS} <= set(FLOOR_OF)


def test_the_package_has_nine_folders_and_at_most_four_files():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 13  # py.typed, an empty marker, is one of them


def test_imports_go_down_only():
    assert upward_imports(EDGES) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(EDGES) is None


def test_the_tests_of_imports_can_fail():
    assert upward_imports({"inr.spec": {"storage.manifest"}, "learning.models": {"generation.recipe"}}) == [
        ("inr.spec", "storage.manifest"),
        ("learning.models", "generation.recipe"),
    ]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_dependency_is_imported_in_its_home_only(library):
    found = {module for module in PATHS if any(name.split(".")[0] == library for name in imports(module))}
    assert all(any(f"{module}.".startswith(f"{home}.") for home in HOMES[library]) for module in found), found


def test_no_module_is_for_odds_and_ends():
    assert not {module.rpartition(".")[2] for module in PATHS} & {"utils", "util", "helpers", "common", "base", "misc"}


def test_every_module_says_its_purpose_first():
    assert [module for module in PATHS if not ast.get_docstring(ast.parse(PATHS[module].read_text()))] == []


def test_files_are_short():
    lengths = sorted(len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py") if "triton" not in path.name)
    assert lengths[len(lengths) // 2] <= 150
    assert lengths[-1] <= 400


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
    "wandb",
    "mlflow",
    "triton",
    "typer",
    "rich",
}


def test_reading_a_set_loads_nothing_heavy():
    assert not loaded_by("import inr_factory.learning.data.dataset, inr_factory.learning.data.loader") & HEAVY


def test_the_test_of_light_imports_can_fail():
    assert loaded_by("import inr_factory.learning.data.dataset, ray") & HEAVY == {"ray"}


def test_fitting_loads_without_triton():
    assert "triton" not in loaded_by("import inr_factory.generation.fitting.fit_views")


def test_a_finished_set_is_seen_to_be_finished_without_torch():
    assert not loaded_by("import inr_factory.cli.main, inr_factory.cli.commands.fit") & {"torch", "h5py", "scipy"}


def test_fitting_and_training_load_without_ray():
    assert "ray" not in loaded_by(
        "import inr_factory.generation.execution.fit_dataset, inr_factory.learning.training.classification, "
        "inr_factory.cli.main"
    )
