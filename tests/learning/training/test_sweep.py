"""Sweep: every point of the grid is run once, completed runs stay, and the table has their accuracies."""

import csv
import json
import os
import sys
import time
from dataclasses import replace

import pytest
import yaml
from support.paths import ROOT
from support.small_sets import make_set

from inr_factory.cli.main import program
from inr_factory.errors import FactoryError, IntegrityError, UsageError
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import parse_mixup
from inr_factory.learning.models.registry import build_encoder
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.example_reweighting import parse_reweighting
from inr_factory.learning.training.sweep import Row, make_runs, rows_of, write_tables
from inr_factory.learning.training.sweep import sweep as run_sweep
from inr_factory.learning.training.sweep_config import SweepConfig, SweepRun, command_of, load_sweep, runs_of
from inr_factory.learning.training.weight_perturbation import parse_perturbation
from inr_factory.learning.transforms.compose import parse_transforms

GRID = {"model": ["mlp:hidden_dim=4", "mlp:hidden_dim=8"], "mixup": ["none", "mixup"], "seed": [0, 1]}


def write(path, **fields):
    path.write_text(yaml.safe_dump({"dataset": str(path.parent / "set"), "grid": GRID, **fields}, sort_keys=False))
    return path


def done(run_, accuracy, **cost):
    run_.folder.mkdir(parents=True)
    best = {"val_accuracy": 0.5, "epoch": 3}
    (run_.folder / "result.json").write_text(json.dumps({"test": {"accuracy": accuracy}, "best": best, **cost}))


@pytest.fixture
def sweep(tmp_path):
    return load_sweep(write(tmp_path / "grid.yaml", published={"mlp:hidden_dim=4 | none": 12.5}))


def test_every_point_has_a_run_and_the_seeds_come_one_after_the_other(sweep, tmp_path):
    runs = runs_of(sweep, tmp_path)

    assert len({run_.folder for run_ in runs}) == len(runs) == 8
    assert [run_.values["seed"] for run_ in runs] == [0] * 4 + [1] * 4
    assert runs[1].row(sweep.options) == ("mlp:hidden_dim=4", "mixup")


def test_a_run_is_a_command_of_train(tmp_path):
    sweep = SweepConfig(
        dataset=tmp_path, train={"epochs": 2, "canonical": False, "bf16": True}, grid={"augment": [["flip", "noise"]]}
    )
    run_ = SweepRun({"augment": ["flip", "noise"], "mixup": "none", "seed": 3}, tmp_path / "x", sweep.train)

    observed = command_of(sweep, run_)

    assert observed[:5] == ["train", str(tmp_path), "--out", str(tmp_path / "x"), "--json"]
    assert observed[5:] == ["--epochs", "2", "--no-canonical", "--bf16", "--augment", "flip", "--augment", "noise", "--seed", "3"]  # fmt: skip


def test_runs_of_other_targets_are_tabulated_by_their_figure(sweep, tmp_path):
    runs = runs_of(sweep, tmp_path)
    for run_, r2 in zip(runs[:2], (0.9, -0.125), strict=True):
        run_.folder.mkdir(parents=True)
        figures = {"test": {"r2": r2, "mae": 1.0}, "best": {"val_r2": 0.8, "epoch": 1}}
        (run_.folder / "result.json").write_text(json.dumps(figures))

    rows = write_tables(sweep, runs, tmp_path)

    assert [row.mean for row in rows] == [0.9, -0.125]
    assert (tmp_path / "table.md").read_text().startswith("| model | mixup | test R² | seeds |")
    lines = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [(line["test R²"], line["val R²"]) for line in lines] == [("0.9", "0.8"), ("-0.125", "0.8")]


def test_trackers_get_every_run_and_are_no_part_of_what_it_is(tmp_path):
    file, jobs = write(tmp_path / "grid.yaml"), []

    def executor(todo):
        jobs.extend(todo)
        for index, (arguments, folder) in enumerate(todo):
            done(SweepRun({}, folder), 0.5)
            (folder / "command.json").write_text(json.dumps(arguments))
            yield index, ""

    report = run_sweep(file, tmp_path / "out", executor=executor, track="wandb,mlflow")

    assert all(arguments[-2:] == ["--track", "wandb,mlflow"] for arguments, _ in jobs)
    assert (len(jobs), report.num_runs) == (8, 8)
    assert run_sweep(file, tmp_path / "out", executor=executor).num_runs == len(jobs), "complete runs are made again"
    with pytest.raises(UsageError, match="--track: expected wandb or mlflow"):
        run_sweep(file, tmp_path / "out", executor=executor, track="comet")


def test_rows_are_means_over_seeds_beside_what_was_published(sweep, tmp_path):
    runs = runs_of(sweep, tmp_path)
    for at, accuracy in ((0, 0.25), (4, 0.35), (1, 0.5)):
        done(runs[at], accuracy)

    rows = write_tables(sweep, runs, tmp_path)

    assert [(row.names[1], row.mean, row.published) for row in rows] == [("none", 0.3, 12.5), ("mixup", 0.5, None)]
    assert rows[0].spread == pytest.approx(0.0707, abs=1e-4)
    assert rows[1].spread is None
    table = (tmp_path / "table.md").read_text().splitlines()
    head = "| model | mixup | test accuracy | seeds | published | reads | MFLOPs an INR | ms an INR |"
    assert table[0] == head
    assert table[2] == "| mlp:hidden_dim=4 | none | 30.0 ± 7.1 | 2 | 12.5 | - | - | - |"
    with open(tmp_path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["seed"], line["test_accuracy"], line["best_epoch"]) for line in lines] == [
        ("0", "0.25", "4"), ("0", "0.5", "4"), ("1", "0.35", "4"),
    ]  # fmt: skip
    assert rows_of(sweep, runs[:0]) == []


def test_rows_have_what_their_runs_read_and_the_medians_of_their_cost(sweep, tmp_path):
    """Runs of earlier versions say nothing of it, and a damaged figure is none."""
    runs = runs_of(sweep, tmp_path)
    done(runs[0], 0.25)
    done(runs[4], 0.35, reads="weights", flops_per_inr=1_234_000, ms_per_inr=0.5)
    done(runs[1], 0.5, reads=7, flops_per_inr="many", ms_per_inr=None)

    rows = write_tables(sweep, runs, tmp_path)

    assert [row.cost for row in rows] == [("weights", "1.23", "0.5"), ("-", "-", "-")]
    with open(tmp_path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["flops_per_inr"] for line in lines] == ["", "many", "1234000"]


def test_a_sweep_names_small_splits_and_refuses_a_set_without_a_test_split_before_its_first_run(tmp_path):
    notes, jobs = [], []
    executor = lambda given: (jobs.append(job) for job in given)  # noqa: E731
    make_set(tmp_path / "set", objects={"train": 4, "val": 5})
    file = write(tmp_path / "grid.yaml")
    with pytest.raises(FactoryError, match="needs a set with a test split"):
        run_sweep(file, tmp_path / "out", executor=executor, log=notes.append)
    make_set(tmp_path / "set2", objects={"train": 4, "val": 5, "test": 1})
    with pytest.raises(TypeError):  # the stand-in yields no outcomes
        run_sweep(write(file, dataset=str(tmp_path / "set2")), tmp_path / "out", executor=executor, log=notes.append)
    assert [note for note in notes if note.startswith("small: objects in val: 5, so that")]
    assert len(jobs) == 1


def test_a_sweep_reports_what_failed_and_makes_only_what_is_missing(tmp_path):
    file = write(tmp_path / "grid.yaml", grid={"model": ["mlp", "dws"], "seed": [0]})
    made, notes = [], []

    def executor(jobs):
        for index, (arguments, folder) in enumerate(jobs):
            made.append(arguments)
            if "mlp" in arguments:
                result = {"test": {"accuracy": 0.25}, "best": {"val_accuracy": 0.5, "epoch": 3}}
                folder.mkdir(parents=True)
                (folder / "result.json").write_text(json.dumps(result))
            yield index, "" if "mlp" in arguments else "it diverged"

    report = run_sweep(file, tmp_path / "out", executor=executor, log=notes.append)

    assert (report.num_runs, [row.names for row in report.rows]) == (2, [("mlp",)])
    assert [run_.folder.name for run_ in report.failed] == ["dws-0"]
    assert notes[0].startswith("2 runs, 2 to do")
    assert notes[1:] == ["1 of 2  mlp-0  test accuracy 25.00%", "2 of 2  dws-0  failed: it diverged"]
    assert (tmp_path / "out" / "table.md").read_text().count("25.0") == 1
    run_sweep(str(file), str(tmp_path / "out"), executor=executor)
    assert ["dws" in arguments for arguments in made] == [False, True, True]


FORMER = ["--model", "dws", "--epochs", "100", "--batch-size", "128", "--learning-rate", "0.001", "--schedule", "constant"]  # fmt: skip


def jobs_of(file, out):
    """The arguments of the runs that a sweep makes, without their folders, and its notes."""
    jobs, notes = [], []

    def executor(given):
        for index, (arguments, _) in enumerate(given):
            jobs.append([*arguments[:2], *arguments[4:]])
            yield index, "not made"

    run_sweep(file, out, executor=executor, log=notes.append)
    return jobs, notes


@pytest.mark.parametrize("recorded", [True, False])
def test_a_sweep_that_began_under_former_defaults_keeps_them_for_its_further_runs(recorded, tmp_path):
    """Else runs of dws and runs of parity would be means of one row."""
    make_set(tmp_path / "set", objects={"train": 4, "val": 5, "test": 1})
    file = write(tmp_path / "grid.yaml", train={"views": 1}, grid={"mixup": ["none", "mixup"], "seed": [0, 1]})
    sweep = load_sweep(file)
    run_ = runs_of(sweep, tmp_path / "out")[0]
    done(run_, 0.25)
    if recorded:
        arguments = command_of(sweep, run_)
        (run_.folder / "command.json").write_text(json.dumps([*arguments[:2], *arguments[4:]]))

    jobs, notes = jobs_of(file, tmp_path / "out")

    mixed = ["--rules", "3"]
    assert [job[-12:] for job in jobs if "--mixup" in job] == [[*FORMER, *mixed]] * 2
    assert [job[-10:] for job in jobs if "--mixup" not in job] == [FORMER]
    assert sum("began under former defaults (--model dws" in note for note in notes) == 1
    write(file, train={"views": 1, "epochs": 100, "lr": 1e-3}, grid={"mixup": ["none", "mixup"], "seed": [0, 1]})
    assert len(jobs_of(file, tmp_path / "out")[0]) == 3, "a file that states a former default is the same sweep"
    if recorded:
        write(file, train={"views": 1, "epochs": 99}, grid={"mixup": ["none", "mixup"], "seed": [0, 1]})
        with pytest.raises(UsageError, match="was run with other settings"):
            jobs_of(file, tmp_path / "out")


def test_a_sweep_that_began_when_mixup_meant_no_match_keeps_that_and_its_runs(tmp_path):
    """Its completed runs count, under the longer text too, and its further runs mix in the same way."""
    make_set(tmp_path / "set", objects={"train": 4, "val": 5, "test": 1})
    file = write(tmp_path / "grid.yaml", grid={"mixup": ["none", "mixup"], "seed": [0, 1]})
    sweep, out = load_sweep(file), tmp_path / "out"
    for run_ in runs_of(sweep, out)[:2]:
        done(run_, 0.25)
        (run_.folder / "command.json").write_text(json.dumps(command_of(sweep, run_)))
    (out / "sweep.json").write_text('{"rules": 3}')

    for text in ("mixup", "mixup:match=none"):
        write(file, grid={"mixup": ["none", text], "seed": [0, 1]})
        jobs, notes = jobs_of(file, out)
        assert [job[2:] for job in jobs] == [
            ["--json", "--seed", "1"],
            ["--json", "--mixup", text, "--seed", "1", "--rules", "3"],
        ]
        assert any(note.endswith("began under former defaults (--rules 3), which further runs keep") for note in notes)
    (out / "sweep.json").write_text('{"rules": 5}')
    with pytest.raises(IntegrityError, match=r"names no rules of 1 to 4; take another --out"):
        jobs_of(file, out)


def test_a_new_sweep_takes_todays_defaults_also_when_it_resumes(tmp_path):
    make_set(tmp_path / "set", objects={"train": 4, "val": 5, "test": 1})
    file = write(tmp_path / "grid.yaml", grid={"mixup": ["none"], "seed": [0, 1]})
    for _ in range(2):
        jobs, notes = jobs_of(file, tmp_path / "out")
        assert not [word for job in jobs for word in job if word in FORMER]
        assert not [note for note in notes if "former" in note]
        (tmp_path / "out" / "runs" / "none-0").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("dataset: x", "the key 'grid' is missing"),
        ("dataset: x\ngrid: {}\n", "grid: "),
        ("dataset: x\ngrid: {seed: [0]}\ntrian: {}\n", "no key 'trian'"),
        ("- a\n- b\n", "a sweep has dataset, train and grid"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_line(content, words, tmp_path):
    (tmp_path / "grid.yaml").write_text(content)

    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as error:
        load_sweep(tmp_path / "grid.yaml")

    assert "\n" not in str(error.value)


def test_values_are_named_once(tmp_path):
    with pytest.raises(UsageError, match="each value once"):
        runs_of(SweepConfig(dataset=tmp_path, grid={"seed": [0, 0]}), tmp_path)


def test_several_grids_make_one_table_and_each_has_settings_of_its_own(tmp_path):
    grids = [{"dataset": ["a", "b"], "model": ["dws"], "seed": [0, 1]},
             {"model": ["ng_t"], "mixup": ["mixup"], "seed": [0], "train": {"epochs": 3}}]  # fmt: skip
    sweep = SweepConfig(dataset="c", train={"epochs": 9, "lr": 1}, grid=grids)

    runs = runs_of(sweep, tmp_path)

    assert sweep.options == ["dataset", "model", "mixup"]
    assert [run_.row(sweep.options) for run_ in runs[:3]] == [
        ("a", "dws", "-"),
        ("b", "dws", "-"),
        ("-", "ng_t", "mixup"),
    ]
    assert [run_.values["seed"] for run_ in runs] == [0, 0, 0, 1, 1]
    observed = [command_of(sweep, run_) for run_ in runs[1:3]]
    assert [line[1] for line in observed] == ["b", "c"]
    assert [line[line.index("--epochs") + 1] for line in observed] == ["9", "3"]
    assert all("--dataset" not in line and "--lr" in line for line in observed)


def test_a_sweep_without_a_set_is_refused(tmp_path):
    (tmp_path / "grid.yaml").write_text("grid: {seed: [0]}")
    with pytest.raises(UsageError, match="dataset is missing"):
        load_sweep(tmp_path / "grid.yaml")


def test_what_ends_a_sweep_ends_its_runs_and_begins_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "slow"))
    (tmp_path / "slow").write_text("#!/bin/sh\necho $$ > $3\nexec sleep 60\n")
    (tmp_path / "slow").chmod(0o755)
    jobs = [([str(tmp_path / f"pid{number}")], tmp_path / str(number)) for number in range(4)]
    ended = make_runs([([str(tmp_path / "missing" / "pid")], tmp_path / "quick"), *jobs], 2)
    (tmp_path / "slow").write_text("#!/bin/sh\necho $$ > $3 || exit 1\nexec sleep 60\n")

    assert next(ended)[0] == 0
    while not any(path.read_text() for path in tmp_path.glob("pid*")):
        time.sleep(0.05)
    ended.close()

    pids = [int(path.read_text()) for path in tmp_path.glob("pid*") if path.read_text()]
    assert 1 <= len(pids) <= 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines" / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_tables_that_come_along_name_options_that_there_are(path, tmp_path):
    sweep = load_sweep(path)
    runs = runs_of(sweep, tmp_path)

    assert set(sweep.published) <= {" | ".join(run_.row(sweep.options)) for run_ in runs}
    train = program().commands["train"]
    assert all(
        set(command_of(sweep, replace(run_, rules=2))) <= {*command_of(sweep, run_), "--rules", "3"} for run_ in runs
    ), "state model, epochs, batch_size, lr and schedule, so that the table does not depend on defaults"
    for run_ in runs:
        values = train.make_context("train", ["x", *command_of(sweep, run_)[2:]], resilient_parsing=True).params
        model, options = parse_model(values["model"])
        build_encoder(model, SirenSpec(2, 1, hidden_dim=4), **options)
        parse_transforms(values["augment"] or [])
        for parse, name in ((parse_mixup, "mixup"), (parse_perturbation, "perturb"), (parse_reweighting, "reweigh")):
            if values[name]:
                parse(values[name])


def test_a_row_of_the_picture_is_named_by_what_sets_it_apart():
    from inr_factory.cli.commands.sweep import _label

    options = ["model", "views", "augment", "mixup", "canonical"]
    assert _label(options, Row(("dws", "4", "none", "mixup", "True"), (0.5,), None)) == "dws, views 4, mixup, canonical"
    assert _label(options[1:], Row(("1", "flip", "-", "False"), (0.5,), None)) == "views 1, flip, no canonical"
    assert _label(["augment"], Row(("none",), (0.5,), None)) == "none"
