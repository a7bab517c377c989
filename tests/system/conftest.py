"""What several system tests share: a browser, and the built documentation."""

import os
import subprocess
import sys

import pytest
from support.browser import open_browser
from support.paths import ROOT


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the documentation, built as `make docs` does."""
    pytest.importorskip("mkdocs", reason="building the site needs the docs extra")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder
