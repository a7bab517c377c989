"""Push in a process of its own, configured by the environment alone."""

import os
import subprocess
import sys

import pytest
from support.small_sets import make_set
from support.stand_in_hub import StandInHub, hub_environment

pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")


def test_the_environment_names_hub_and_token(tmp_path):
    root = tmp_path / "set"
    make_set(root)
    program = [sys.executable, "-c", "from inr_factory.cli.main import main; main()"]
    with StandInHub() as hub:
        names = hub_environment(hub, tmp_path / "home")
        done = subprocess.run(
            [*program, "push", str(root), "someone/small"], env=os.environ | names, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert hub.files("someone/small") == files
