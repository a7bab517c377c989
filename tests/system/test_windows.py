"""Windows has no fcntl: the package is imported without it."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
sys.modules["fcntl"] = None
PACKAGES = ("inr_factory.inr", "inr_factory.storage", "inr_factory.learning", "inr_factory.errors")
import inr_factory
for module in pkgutil.walk_packages(inr_factory.__path__, "inr_factory."):
    if "._" not in module.name and module.name.startswith(PACKAGES):
        importlib.import_module(module.name)
try:
    import fcntl
except ImportError:
    print("blocked")
"""


def test_a_set_can_be_opened_and_trained_on_without_fcntl():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "blocked\n"
