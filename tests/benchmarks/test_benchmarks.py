"""Benchmarks: every candidate has a rate, baselines compute the same, and nothing is left. Never how fast."""

import json
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.small_benchmarks import SPEC, make_quick, run_and_check

from inr_factory.benchmarks import fit, fixtures
from inr_factory.benchmarks.align import match_pair, mix_pair, permuted, stack, state_dicts
from inr_factory.benchmarks.augment import PerItem, flip_item, permute_item
from inr_factory.benchmarks.fit import Problem, peak_bytes, work_of_step
from inr_factory.benchmarks.fitting_baselines import compiled_fit, fit_by_autograd, fit_in_loop, has_jax, jax_fit
from inr_factory.benchmarks.fixtures import fit_digits, scratch_folder, write_random_set
from inr_factory.benchmarks.harness import BenchmarkSettings, Candidate, describe_machine, measure, repeat
from inr_factory.benchmarks.load import (
    opened_shards,
    read_shards,
    read_state_dicts,
    read_table,
    write_state_dicts,
    write_table,
)
from inr_factory.benchmarks.run_benchmark import BENCHMARKS
from inr_factory.cli.main import run
from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.reference import fit_reference
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.threads import one_thread
from inr_factory.learning.alignment.weight_matching import align, match_neurons, relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.models.registry import ENCODERS
from inr_factory.learning.transforms.compose import TRANSFORMS
from inr_factory.learning.transforms.neuron_ops import change_layer
from inr_factory.learning.transforms.symmetries import PermuteNeurons
from inr_factory.storage.manifest import ViewKey
from inr_factory.storage.shards import ShardReader

SETTINGS = BenchmarkSettings(rows=60, batch_size=4, seconds=1e-3, on_step=lambda line: None)
CANDIDATES = {
    "load": {
        "array in RAM, X[rows]",
        "INRLoader, memory maps",
        "h5py, one file, sorted",
        "h5py, same shards, sorted",
        "one .pth an INR",
    },
    "augment": {"gather", *TRANSFORMS},
    "align": {"published way, pair by pair", "match=permutation", "match=signed", "match=phase"},
    "mixup": {"gather", "match=none", "match=permute", "match=permutation", "match=signed", "match=phase"},
    "read": {"ng_t over all pairs", *ENCODERS},
}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def quick(tmp_path, monkeypatch):
    make_quick(monkeypatch, tmp_path)
    return tmp_path


@pytest.mark.parametrize("what", sorted(CANDIDATES))
def test_a_benchmark_tells_the_rate_of_every_candidate_and_leaves_nothing_behind(what, quick, capsys):
    run_and_check(what, CANDIDATES[what], quick, capsys)


def test_readers_are_compared_with_what_they_read_and_their_cost_in_training_and_in_forward_passes(quick, capsys):
    models = ["--model", "mlp:hidden_dim=4", "--model", "probes:num_probes=3"]
    assert run(["benchmark", "read", *models, "--batch-size", "4", "--seconds", "0.001", "--json"]) == 0

    tables = json.loads(capsys.readouterr().out)["tables"]
    flops = 2 * (SPEC.num_parameters * 4 + 2 * 4 * 4 + 4 * 10)

    assert [(table["name"], table["yardstick"]) for table in tables] == [
        ("read", "mlp:hidden_dim=4"), ("read, forward", "mlp:hidden_dim=4"),
    ]  # fmt: skip
    for table in tables:
        rows = {row["name"]: row for row in table["contenders"]}
        assert list(rows) == models[1::2]
        assert [row["facts"]["reads"] for row in rows.values()] == ["weights", "function"]
        assert rows[models[1]]["facts"]["MFLOPs"] == pytest.approx(1e-6 * flops)
        assert all(row["facts"]["ms an INR"] == pytest.approx(1e3 / row["per_second"]) for row in rows.values())


def test_without_json_there_is_a_table_and_progress_is_on_stderr(quick, capsys):
    assert run(["benchmark", "align", "--rows", "60", "--batch-size", "4", "--seconds", "0.001"]) == 0

    out, err = capsys.readouterr()
    assert "match=signed" in out
    assert "torch" in out
    assert "round 2 of 2" in err
    assert "round" not in out.partition("rate and time")[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lode"], "unknown benchmark 'lode'; did you mean 'load'?"),
        (["load", "--rows", "100"], "--rows must be at least the 512 of one batch, got 100"),
        (["load", "--batch-size", "1"], "--batch-size must be at least 2, got 1"),
        (["load", "--seconds", "0"], "--seconds must be above 0"),
        (["load", "--seconds", "nan"], "--seconds must be above 0"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys):
    assert run(["benchmark", *arguments]) == 2

    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_disk_without_room_is_refused_before_anything_is_written(scratch, capsys):
    with (
        pytest.raises(ResourceError, match=r"needs .* MB of disk in .*; make room, set TMPDIR"),
        scratch_folder(10**18),
    ):
        pass

    assert not list(scratch.iterdir())


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_the_temporary_set_is_removed_when_a_benchmark_fails(failure, quick, monkeypatch):
    there = []

    def fail(*_):
        there.extend(quick.rglob("*.h5"))
        raise failure

    monkeypatch.setattr("inr_factory.benchmarks.load.measure", fail)

    with pytest.raises(failure):
        BENCHMARKS["load"](SETTINGS)

    assert there
    assert not list(quick.iterdir())


def test_candidates_take_turns_and_are_closed_after_each(monkeypatch):
    monkeypatch.setattr("inr_factory.benchmarks.harness.ROUNDS", 2)
    events = []

    def candidate(name):
        def start():
            events.append(f"start {name}")
            try:
                yield from count()
            finally:
                events.append(f"end {name}")

        return Candidate(name, start, units=1, warm_up=2)

    measure([candidate("a"), candidate("b")], SETTINGS)

    assert events == ["start a", "end a", "start b", "end b"] * 2


def test_ratios_are_those_of_the_same_round(monkeypatch):
    rates = {"slow": [10.0, 1000.0, 10.0], "fast": [20.0, 2000.0, 20.0]}  # one round on a machine gone quiet
    monkeypatch.setattr("inr_factory.benchmarks.harness.ROUNDS", 3)
    monkeypatch.setattr("inr_factory.benchmarks.harness._rate", lambda candidate, _: rates[candidate.name].pop())

    slow, fast = measure([Candidate(name, repeat(list), units=1) for name in ("slow", "fast")], SETTINGS)

    assert (slow.ratio, fast.ratio_low, fast.ratio, fast.ratio_high, fast.cost) == (1, 2, 2, 2, 0.5)
    assert fast.per_second == 20


def test_threads_and_the_global_generator_are_as_before(monkeypatch):
    threads = []
    before, state = torch.get_num_threads(), torch.get_rng_state()

    def step():
        threads.append(torch.get_num_threads())
        return torch.rand(1)

    with one_thread():
        torch.set_num_threads(1)
    measure([Candidate("draws", repeat(step), units=1)], SETTINGS)

    assert set(threads) == {1}
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_machine_is_named():
    assert all(describe_machine()[fact] for fact in ("cpu", "cores", "torch"))


def test_the_random_set_is_a_sound_set_of_its_size(scratch, monkeypatch):
    monkeypatch.setattr(fixtures, "SHARD_ROWS", 25)
    written = write_random_set(scratch / "set", 60, lambda line: None, SPEC)

    for entry in written.shards:
        ShardReader(scratch / "set", entry).check_rows()
    dataset = INRDataset(scratch / "set")
    assert (len(dataset), len(written.shards), dataset.incomplete) == (60, 3, 0)
    assert len(np.unique(dataset.gather(np.arange(60))[0][:, 0])) == 60
    size = sum(path.stat().st_size for path in (scratch / "set").rglob("*.h5"))
    assert size < fixtures.set_bytes(60, SPEC) + 3 * 20_000


def test_the_files_of_baselines_hold_the_same_weights(tmp_path):
    table = initialize(SPEC, range(20)).flatten()
    rows = np.array([7, 3, 12])

    write_table(tmp_path / "rows.h5", table.numpy())
    paths = write_state_dicts(tmp_path / "files", table.numpy(), SPEC)

    weights, labels = read_state_dicts(paths, rows)
    assert torch.equal(weights, table[rows])
    assert labels.tolist() == [7, 3, 2]
    with h5py.File(tmp_path / "rows.h5") as file:
        np.testing.assert_array_equal(read_table(file["weights"], rows), table[np.sort(rows)].numpy())
    names = torch.load(paths[0]).keys()
    assert {"seq.0.weight", "seq.2.bias", "label"} <= names


def test_plain_h5py_reads_the_same_rows_from_the_shards(scratch, monkeypatch):
    monkeypatch.setattr(fixtures, "SHARD_ROWS", 25)
    monkeypatch.setattr("inr_factory.benchmarks.load.SHARD_ROWS", 25)
    write_random_set(scratch / "set", 60, lambda line: None, SPEC)
    rows = np.array([59, 3, 26, 2, 58])

    with opened_shards(scratch / "set") as shards:
        found = read_shards(shards, rows)

    ours, _ = INRDataset(scratch / "set").gather(np.sort(rows))
    np.testing.assert_array_equal(found, ours.numpy())


def test_permuting_and_flipping_an_item_is_what_ours_do(generator):
    inrs = initialize(SPEC, [5])
    weights, biases = [W[0] for W in inrs.weights], [b[0] for b in inrs.biases]
    orders = [torch.randperm(8, generator=generator) for _ in range(2)]
    signs = [torch.randn(8, generator=generator).sign() for _ in range(2)]

    theirs = flip_item(*permute_item(weights, biases, orders), signs)
    ours = inrs
    for layer in range(2):
        ours = change_layer(ours, layer, orders[layer][None])
    for layer in range(2):
        ours = change_layer(ours, layer, None, signs[layer][None], signs[layer][None])

    for tensors, batched in zip(theirs, (ours.weights, ours.biases), strict=True):
        assert all(torch.equal(tensor, batch[0]) for tensor, batch in zip(tensors, batched, strict=True))


def test_an_item_is_changed_by_a_shift_of_its_coordinates_alone(coords):
    inrs = initialize(SPEC, range(3))
    shown = PerItem(inrs.flatten(), SPEC)[1]
    moved = INRBatch(SPEC, tuple(W[None] for W in shown[0]), tuple(b[None] for b in shown[1]))

    # Undo the permutation and signs by the symmetric sum over neurons: the first layer's biases tell the shift.
    matched = align(moved, inrs.select(slice(1, 2)), "signed")
    offset = torch.linalg.lstsq(inrs.weights[0][1], (matched.biases[0] - inrs.biases[0][1])[0][:, None]).solution[:, 0]

    points = 2 * torch.rand(16, 2) - 1
    torch.testing.assert_close(moved(points)[0], inrs(points + offset)[1], atol=1e-4, rtol=0)
    assert 0 < float(offset.abs().max()) <= 0.25


def test_state_dicts_stack_to_the_batch_that_they_are_of():
    inrs = initialize(SPEC, range(4))

    assert torch.equal(stack(state_dicts(inrs), SPEC).flatten(), inrs.flatten())


def test_the_published_alignment_finds_what_ours_finds(generator):
    fixed = initialize(SPEC, range(6))
    moving = PermuteNeurons()(fixed, generator)

    ours = match_neurons(moving, fixed).permutations
    for at, (a, b) in enumerate(zip(state_dicts(fixed), state_dicts(moving), strict=True)):
        orders = match_pair(a, b)
        assert torch.equal(torch.stack([orders[0], orders[1]]), ours[at])
        assert all(torch.equal(permuted(b, orders)[name], a[name]) for name in a)
        mixed = mix_pair(a, b)
        assert all(torch.allclose(mixed[name], a[name], atol=1e-6) for name in a)


def test_the_published_alignment_is_as_near_as_ours_on_fitted_pairs():
    inrs = fit_digits(24, lambda line: None)
    partners = inrs.select(torch.arange(24).roll(1))

    pairs = zip(state_dicts(inrs), state_dicts(partners), strict=True)
    theirs = stack([permuted(b, match_pair(a, b)) for a, b in pairs], inrs.spec)
    ours = align(partners, inrs)

    near, nearer = relative_distance(theirs, inrs).mean(), relative_distance(ours, inrs).mean()
    assert float(relative_distance(partners, inrs).mean()) > 1.2
    assert float(near) == pytest.approx(float(nearer), rel=0.02)


def test_digits_are_fitted_each_its_own(monkeypatch):
    monkeypatch.setattr(fixtures, "FIT_STEPS", 1)
    inrs = fit_digits(3, lambda line: None, replace(SPEC, output_bias=0.5))

    assert len(inrs) == 3
    assert len(inrs.flatten().unique(dim=0)) == 3


@pytest.fixture
def problem():
    return Problem.make(SPEC, 6)


def trained(problem, steps):
    """Where the engine that is the baseline gets from the same start, (N, D)."""
    config = FitConfig(engine="reference", steps=steps, target_psnr=None, floor_psnr=-1000)
    rows = np.arange(len(problem.start))
    fits = FitTable(problem.spec, [ViewKey(str(row), 0) for row in rows], np.ones(len(rows)), config, run_seed=0)
    fits.seeds = rows
    fit_reference(problem.spec, FitBatch(rows, problem.signals(), True), config, torch.device("cpu"), fits)
    return fits.flat


def test_the_loop_fits_what_the_engines_fit(problem):
    theirs = [
        fit_in_loop(SPEC, flat, problem.coords, targets, 10)[0]
        for flat, targets in zip(problem.start, problem.targets, strict=True)
    ]

    torch.testing.assert_close(torch.stack(theirs), trained(problem, 10), atol=1e-4, rtol=1e-4)


def test_batched_autograd_fits_what_the_engines_fit(problem):
    theirs = fit_by_autograd(SPEC, problem.start, problem.coords, problem.targets, 10)
    torch.testing.assert_close(theirs, trained(problem, 10), atol=1e-4, rtol=1e-4)


def test_the_loop_stops_at_its_loss(problem):
    flat, steps = fit_in_loop(SPEC, problem.start[0], problem.coords, problem.targets[0], 500, stop=0.02)
    loss = (INRBatch.from_flat(SPEC, flat[None])(problem.coords)[0] - problem.targets[0]).square().mean()

    assert 0 < steps < 500
    assert float(loss) <= 0.02


def test_the_compiled_step_is_that_of_the_engines(problem, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)

    theirs = compiled_fit(SPEC)(problem.start, problem.coords, problem.targets, 10)

    torch.testing.assert_close(theirs, trained(problem, 10), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not has_jax(), reason="jax is not installed")
def test_jax_fits_what_the_engines_fit(problem):
    arrays = (part.numpy() for part in (problem.start, problem.coords, problem.targets))

    theirs = np.array(jax_fit(SPEC)(*arrays, 10))

    torch.testing.assert_close(torch.from_numpy(theirs), trained(problem, 10), atol=1e-4, rtol=1e-4)


def test_a_baseline_that_cannot_run_is_left_out_by_name(quick, monkeypatch):
    def broken(spec):
        def fit(*_):
            raise RuntimeError("no C++ compiler\nmore of it")

        return fit

    monkeypatch.setattr("inr_factory.benchmarks.fit.compiled_fit", broken)
    lines = []

    table = fit._steps(Problem.make(SPEC, 5), replace(SETTINGS, on_step=lines.append))

    assert "measured without torch.compile of the step: RuntimeError: no C++ compiler" in lines
    assert not any("compile" in row.name for row in table.candidates)


def test_a_step_is_counted_by_its_products_and_sines():
    flop, sines = work_of_step(SirenSpec(2, 3, hidden_dim=4, num_hidden=2), points=10)

    forward = 2 * 10 * (2 * 4 + 4 * 4 + 4 * 3)
    assert flop == 3 * forward - 2 * 10 * 2 * 4
    assert sines == 10 * 8


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory")
def test_the_peak_of_memory_is_that_of_the_step():
    small, large = peak_bytes(list), peak_bytes(lambda: bytearray(50_000_000).find(1))

    assert small < 5_000_000
    assert 45_000_000 < large < 60_000_000


def test_settings_that_make_no_batch_are_refused():
    with pytest.raises(UsageError, match="at least the 512"):
        BenchmarkSettings(rows=100)


def test_no_benchmark_writes_where_it_stands(quick, monkeypatch, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    BENCHMARKS["mixup"](SETTINGS)

    assert not list(Path().iterdir())
