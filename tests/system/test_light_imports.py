"""Imports stay light: a module of sources loads no library of images or geometry before it opens a collection."""

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
