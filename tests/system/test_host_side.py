"""The study of the host side runs, and its stages are those of the present code."""

import json
import os
import subprocess
import sys
from pathlib import Path

STUDY = Path(__file__).parents[2] / "pipelines" / "studies" / "host_side.py"


def test_every_stage_of_the_host_side_is_measured():
    command = [sys.executable, STUDY, "--measure", "inr_factory.generation.fitting", "sprint", "--count", "20"]
    environment = os.environ | {"PYTHONPATH": str(STUDY.parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    stages = json.loads(done.stdout)
    assert len(stages) == 10
    assert all(microseconds > 0 for microseconds in stages.values()), stages
