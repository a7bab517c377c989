"""The Triton kernel of the fused engine, run by Triton's interpreter on the CPU."""

import importlib.util
from pathlib import Path

import pytest

from inr_factory.generation.fitting import fused_cuda

KERNEL = Path(fused_cuda.__file__).with_name("fused_triton.py")


def interpreted(path=KERNEL):
    """A module bound to the interpreter, under another name, so that who imports it gets the compiled one."""
    import triton.language.standard  # before the variable is set, so that triton's own functions stay as they are

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        module_spec = importlib.util.spec_from_file_location("fused_triton_interpreted", path)
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    module.add = triton.language.standard._sum_combine  # which the interpreter knows as numpy's sum: much quicker
    return module
