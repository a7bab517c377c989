"""Imports stay light: modules load heavy libraries only when they use them."""

import subprocess
import sys

import pytest

LIGHT = "import sys, inr_factory.generation.sources.image_collections; print([m for m in ('torchvision', 'PIL', 'sklearn') if m in sys.modules])"


@pytest.mark.parametrize(("first", "loaded"), [("", "[]"), ("import PIL; ", "['PIL']")])
def test_importing_image_collections_loads_no_image_library(first, loaded):
    found = subprocess.run([sys.executable, "-c", first + LIGHT], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == loaded


def test_importing_shape_collections_loads_no_geometry_library():
    code = "import inr_factory.generation.sources.shape_collections, inr_factory.generation.geometry.surface_metrics, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"trimesh", "igl", "skimage", "h5py", "scipy", "PIL"} & set(loaded)


def test_importing_training_loads_nothing_heavy_and_no_generation():
    code = "import sys, inr_factory.learning.training.classification; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "inr_factory.learning.models.classifier" in loaded
    assert not {"ray", "trimesh", "h5py", "tensorboard", "scipy", "matplotlib"} & set(loaded)
    prefixes = ("inr_factory.generation", "inr_factory.learning.data", "inr_factory.learning.alignment")
    assert not [name for name in loaded if name.startswith(prefixes)]


@pytest.mark.parametrize("module", ["learning.training.run_config", "cli.commands.train", "cli.commands.pretrain"])
def test_settings_and_commands_of_training_load_no_torch(module):
    code = f"import sys, inr_factory.{module}; print({{'torch', 'h5py', 'matplotlib', 'sklearn'}} & sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert loaded == "set()"
