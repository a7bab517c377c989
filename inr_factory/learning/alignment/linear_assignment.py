"""Assignments: many small linear assignment problems at once, by linear_assignment.c where it was compiled.

Shape letters: N problems of H rows and H columns.
"""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from inr_factory.inr.compiled_library import load_library

SOURCE = Path(__file__).with_name("linear_assignment.c")
LIBRARY = SOURCE.with_name("_linear_assignment.so")


def supports(gain_NHH: Tensor) -> bool:
    """Whether linear_assignment.c can solve these: float32, on any device."""
    return gain_NHH.dtype == torch.float32 and _library() is not None


def solve(gain_NHH: Tensor) -> Tensor:
    """(N, H) on the CPU: for each row the column given to it, so that the N assignments have the largest total gain.

    Gains are finite. Shortest augmenting paths (Jonker and Volgenant 1987) in double precision, exact, from prices that
    a few Sinkhorn iterations guess. Raises MemoryError.
    """
    library, gains = _library(), gain_NHH.detach().cpu().contiguous()
    assert library is not None
    columns = torch.empty(gains.shape[:2], dtype=torch.int64)
    if library.solve_assignments(gains.data_ptr(), columns.data_ptr(), len(gains), gains.shape[1]):
        raise MemoryError(f"no memory to match {gains.shape[1]} neurons")
    return columns


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    library = load_library(SOURCE, LIBRARY, "built_from")
    if isinstance(library, str):
        return None
    library.solve_assignments.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.solve_assignments.restype = ctypes.c_int
    return library
