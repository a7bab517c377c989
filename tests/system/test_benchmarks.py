"""Benchmarks that start processes: fits on all cores, and complete runs by Ray and without it."""

import pytest
from support.small_benchmarks import make_quick, run_and_check

CANDIDATES = {
    "fit": {
        "one INR at a time, PyTorch loop",
        "inr-factory, reference",
        "torch.compile of the step",
        "inr-factory, sprint, 80 steps",
        "1 process",
    },
    "pipeline": {"fit by sprint, local", "without fitting, local", "fit by sprint, ray", "without fitting, ray"},
}


@pytest.fixture
def quick(tmp_path, monkeypatch):
    make_quick(monkeypatch, tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", sorted(CANDIDATES))
def test_a_benchmark_tells_the_rate_of_every_candidate_and_leaves_nothing_behind(what, quick, capsys):
    run_and_check(what, CANDIDATES[what], quick, capsys)
