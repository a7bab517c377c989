"""Shape samples: the same in every process."""

import os
import subprocess
import sys


def test_samples_are_the_same_in_another_process(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from inr_factory.generation.recipe import ShapeSource\n"
        "from inr_factory.generation.sources.shape_collections import open_shapes\n"
        "source = open_shapes(ShapeSource(collection='primitives', num_points=50), pathlib.Path(sys.argv[1]))\n"
        "print(source.signal(3).coords.double().sum().item(), source.signal(3).targets.double().sum().item())\n"
    )
    results = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "INR_FACTORY_CACHE": str(tmp_path / seed)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(results) == 1
