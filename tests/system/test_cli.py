"""Command line: output and exit code of each verb."""

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from support.command_line import failure, outcome

from inr_factory.cli.main import run

PROGRAM = [sys.executable, "-m", "inr_factory"]
TINY = [
    "--limit", "24", "--backend", "local", "--workers", "1", "--set", "spec.hidden_dim=8", "--set", "fit.steps=40",
    "--set", "fit.floor_psnr=0", "--set", "shard_objects=10",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "digits"
    assert run(["fit", "digits", "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture
def copy(digits, tmp_path):
    """A copy of the set, free to be damaged."""
    return Path(shutil.copytree(digits, tmp_path / "copy"))


def test_fit_prints_what_it_made_and_then_that_nothing_is_to_do(capsys, tmp_path):
    first = outcome(capsys, "fit", "digits", "--out", tmp_path / "set", *TINY)
    assert first[0] == 0
    assert "made 48 INRs in 8 shards" in first[1]
    code, out, _ = outcome(capsys, "fit", "digits", "--out", tmp_path / "set", *TINY)
    assert (code, out.split(":")[0]) == (0, "nothing to do")


def test_fit_makes_its_folder_from_the_name_of_the_recipe(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert outcome(capsys, "fit", "digits", *TINY)[0] == 0
    assert (tmp_path / "inrs/digits/manifest.json").is_file()


def test_more_views_are_added(capsys, tmp_path):
    outcome(capsys, "fit", "digits", "--views", 1, "--out", tmp_path / "set", *TINY)
    code, out, _ = outcome(capsys, "fit", "digits", "--views", 2, "--out", tmp_path / "set", *TINY)
    assert code == 0
    assert "made 24 INRs" in out


def test_json_goes_to_stdout_alone(capsys, digits, tmp_path):
    for arguments in (
        ["fit", "digits", "--out", digits, *TINY], ["fit", "digits", "--out", tmp_path / "x", "--dry-run", *TINY],
        ["status", digits], ["verify", digits, "--render"], ["recipes"], ["recipes", "digits"],
        ["show", digits, "--out", tmp_path / "a.png"],
    ):  # fmt: skip
        code, out, _ = outcome(capsys, *arguments, "--json")
        assert code == 0, arguments
        assert json.loads(out), arguments


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(capsys, tmp_path):
    code, out, _ = outcome(capsys, "fit", "digits", "--out", tmp_path / "set", "--dry-run", *TINY)
    assert code == 0
    for word in ("objects, train", "INRs to fit", "48", "shards to write", "on disk", "free disk", "time", "probe"):
        assert word in out
    assert not (tmp_path / "set").exists()


def test_status_lists_every_split_and_view(capsys, digits):
    code, out, _ = outcome(capsys, "status", digits)
    assert code == 0
    assert "48 INRs" in out
    assert out.count("train") == 2
    assert "CC BY" in out


def test_status_of_a_set_with_a_missing_shard_is_partial(capsys, copy):
    next((copy / "data").glob("train*")).unlink()
    code, line = failure(capsys, "status", copy)
    assert code == 75
    assert "missing: 1 shard" in line


def test_verify_accepts_a_complete_set_and_renders_what_the_shards_record(capsys, digits):
    code, out, _ = outcome(capsys, "verify", digits, "--render")
    assert code == 0
    assert "8 of 8 shards are valid" in out
    assert "48 INRs rendered again" in out


@pytest.mark.parametrize("damage", ["cut", "edit", "delete", "stranger"])
def test_verify_names_a_damaged_shard_with_exit_code_4(capsys, copy, damage):
    path = sorted((copy / "data").glob("*.h5"))[2]
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "edit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "delete":
        path.unlink()
    else:
        (copy / "data/stranger.h5").write_bytes(content)
        path = copy / "data/stranger.h5"
    code, line = failure(capsys, "verify", copy)
    assert code == 4
    assert path.name in line


def test_verify_finds_inrs_that_do_not_give_their_source_although_all_checksums_fit(capsys, copy):
    import numpy as np

    from inr_factory.storage.manifest_file import load_manifest, update_manifest
    from inr_factory.storage.shards import ShardReader, write_shard

    manifest = load_manifest(copy)
    entry = manifest.shards[0]
    shard = ShardReader(copy, entry)
    columns = {name: np.array(shard.column(name)) for name in shard.column_names if name != "checksum"}
    columns["object_id"] = np.array(shard.object_ids, dtype=object)
    columns["weights"][3] += 0.05
    extra = {name: str(shard.attributes[name]) for name in ("fingerprint", "engine", "device")}
    forged = write_shard(copy, (entry.split, entry.view, entry.block), shard.spec, columns, (), extra)
    update_manifest(copy, manifest, [forged])

    assert outcome(capsys, "verify", copy)[0] == 0, "the forgery shows without rendering: this test shows nothing"
    code, _, err = outcome(capsys, "verify", copy, "--render")
    assert code == 4
    assert shard.object_ids[3] in err


def test_show_draws_a_picture_with_a_column_for_each_inr(capsys, digits, tmp_path):
    from PIL import Image

    code, out, _ = outcome(capsys, "show", digits, "--count", 4, "--out", tmp_path / "four.png")
    assert code == 0
    assert "4 INRs" in out
    outcome(capsys, "show", digits, "--count", 8, "--out", tmp_path / "eight.png")
    with Image.open(tmp_path / "four.png") as four, Image.open(tmp_path / "eight.png") as eight:
        assert eight.width / eight.height > 1.5 * four.width / four.height, "the page has one width, columns share it"
        assert four.convert("L").getextrema()[0] < 60, "the picture is empty"


def test_show_takes_all_views_of_an_object_that_is_named(capsys, digits, tmp_path):
    from inr_factory.storage.manifest_file import load_manifest
    from inr_factory.storage.shards import ShardReader

    name = ShardReader(digits, load_manifest(digits).shards[0]).object_ids[0]
    code, out, _ = outcome(capsys, "show", digits, "--object", name, "--out", tmp_path / "a.png")
    assert (code, "2 INRs" in out) == (0, True)
    code, line = failure(capsys, "show", digits, "--object", "nobody")
    assert (code, "'nobody'" in line) == (2, True)


def test_recipes_printed_in_full_are_recipes(capsys, tmp_path):
    _, out, _ = outcome(capsys, "recipes", "digits")
    (tmp_path / "mine.yaml").write_text(out)
    code, _, _ = outcome(capsys, "fit", tmp_path / "mine.yaml", "--out", tmp_path / "set", *TINY)
    assert code == 0


def test_every_built_in_recipe_is_listed(capsys):
    _, out, _ = outcome(capsys, "recipes", "--json")
    names = {row["name"] for row in json.loads(out)}
    views = {row["name"]: row["views"] for row in json.loads(out)}
    assert {"digits", "fashion_mnist_1view", "mnist_10view", "cifar10_1view", "image_folder"} <= names
    assert views["fashion_mnist_10view"] == "10"


BAD = {
    "an unknown verb": (["fti", "digits"], 2, "fti"),
    "an unknown recipe": (["fit", "fasion_mnist"], 2, "did you mean 'fashion_mnist'?"),
    "an unknown key": (["fit", "digits", "--set", "fit.step=5"], 2, "did you mean 'fit.steps'?"),
    "a value of the wrong kind": (["fit", "digits", "--set", "fit.steps=many"], 2, "fit.steps"),
    "a value out of range": (["fit", "digits", "--views", "0"], 2, "views"),
    "an unknown backend": (["fit", "digits", "--backend", "dask"], 2, "ray or local"),
    "a shard that is no part": (["fit", "digits", "--shard", "4/4"], 2, "counts from 0"),
    "no data set": (["status", "nowhere"], 2, "no data set in nowhere"),
    "no source": (["fit", "mnist", "--data-root", "nowhere"], 2, "nowhere"),
    "no run": (["evaluate", "nowhere"], 2, "no checkpoint"),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_bad_input_gets_one_line(capsys, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: (_ for _ in ()).throw(OSError("no network in tests")))
    arguments, code, words = BAD[what]
    got, line = failure(capsys, *arguments)
    assert got == code
    assert words in line


def test_another_recipes_folder_is_refused(capsys, digits):
    code, line = failure(capsys, "fit", "digits", "--out", digits, *TINY, "--set", "spec.omega_0=20")
    assert code == 2
    assert "spec.omega_0 is 20.0 here, 7.0 there" in line


def test_quarantine_above_its_threshold_leaves_exit_code_3(capsys, tmp_path):
    from PIL import Image

    for number in range(10):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number * 20).save(folder / f"{number}.png")
    (tmp_path / "images/b/1.png").write_bytes(b"")
    small = ["--backend", "local", "--set", "spec.hidden_dim=4", "--set", "fit.steps=2", "--set", "fit.floor_psnr=-99"]
    arguments = ["fit", "image_folder", "--data-root", tmp_path / "images", "--out", tmp_path / "set", *small]
    code, _, err = outcome(capsys, *arguments)
    assert code == 3
    assert "b/1.png" in err
    assert outcome(capsys, *arguments, "--set", "quarantine_threshold=0.2")[0] == 0


def test_an_interruption_leaves_exit_code_130(capsys, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("inr_factory.generation.execution.fit_dataset.fit_dataset", interrupt)
    code, line = failure(capsys, "fit", "digits", "--out", tmp_path / "set")
    assert code == 130
    assert "interrupted" in line


def test_training_and_evaluating_print_the_same_accuracy(capsys, digits, tmp_path):
    arguments = ["train", digits, "--model", "mlp:hidden_dim=16", "--epochs", 2, "--batch-size", 8, "--device", "cpu"]
    code, out, _ = outcome(
        capsys, *arguments, "--augment", "flip", "--mixup", "mixup", "--out", tmp_path / "run", "--json"
    )
    assert code == 0
    trained = json.loads(out)
    assert (trained["reads"], trained["flops_per_inr"] > 0, trained["ms_per_inr"] > 0) == ("weights", True, True)
    code, out, _ = outcome(capsys, "evaluate", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["accuracy"] == trained["test"]["accuracy"]
    code, out, _ = outcome(capsys, "evaluate", tmp_path / "run")
    assert "most often mistaken for" in out
    code, line = failure(capsys, *arguments, "--augment", "flipp", "--out", tmp_path / "other")
    assert (code, "did you mean 'flip'?" in line) == (2, True)
    code, line = failure(capsys, *arguments, "--out", tmp_path / "run")
    assert code == 2, "a run was continued with another augmentation"


def test_a_run_is_drawn_and_predicts(capsys, digits, tmp_path):
    run = tmp_path / "run"
    arguments = ["--model", "mlp:hidden_dim=16", "--epochs", 2, "--batch-size", 8, "--device", "cpu"]
    out = outcome(capsys, "train", digits, *arguments, "--out", run, "--json")[1]
    accuracy = json.loads(out)["test"]["accuracy"]
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in ("curves.png", "test.png"))

    code, out, _ = outcome(capsys, "predict", run, digits, "--views", 1, "--out", tmp_path / "written" / "p.csv")
    assert code == 0
    assert out.endswith(f" INRs, accuracy {accuracy:.2%}\n")
    with open(tmp_path / "written" / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["object_id"] for row in rows}) == len(rows)
    assert sum(row["class"] == row["predicted"] for row in rows) / len(rows) == pytest.approx(accuracy)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)
    _, out, err = outcome(capsys, "predict", run, digits, "--views", 1)
    assert out == (tmp_path / "written" / "p.csv").read_text(), "a remark is in the table"
    assert err == f"accuracy {accuracy:.2%}\n"
    printed = json.loads(outcome(capsys, "predict", run, digits, "--views", 1, "--json")[1])
    assert (printed["predictions"], printed["accuracy"]) == (rows, accuracy)
    assert outcome(capsys, "evaluate", run, "--picture", tmp_path / "own.png")[0] == 0
    assert (tmp_path / "own.png").exists()
    assert failure(capsys, "predict", tmp_path, digits)[0] == 2


def test_the_program_exits_with_the_code(tmp_path):
    result = subprocess.run([*PROGRAM, "status", tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_options_of_training_may_stand_in_a_file_and_those_on_the_command_line_count_more(capsys, digits, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: mlp:hidden_dim=8\nepochs: 3\nbatch-size: 8\naugment: [permute, 'noise:scale=0.1']\nmixup: mixup\n"
    )
    arguments = [
        "train",
        digits,
        "--config",
        config,
        "--epochs",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
        "--json",
    ]
    code, out, _ = outcome(capsys, *arguments)
    assert (code, json.loads(out)["epochs"]) == (0, 1)
    meta = json.loads((tmp_path / "run/run.json").read_text())["meta"]
    assert meta["augment"] == "canonical+permute+noise:scale=0.1"
    assert meta["batch_size"] == 8
    config.write_text("epoch: 3\n")
    code, line = failure(capsys, *arguments)
    assert (code, "did you mean 'epochs'?" in line) == (2, True)
    config.write_text("- 3\n")
    assert failure(capsys, *arguments)[0] == 2


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_with_130_and_no_process_behind(tmp_path, backend, number):
    arguments = ["fit", "digits", "--backend", backend, "--workers", "2", "--out", "set", "--set", "shard_objects=10"]
    arguments += ["--set", "fit.target_psnr=null", "--set", "fit.steps=3000"]  # some seconds a shard
    run = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # These tests may themselves run where SIGINT is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "set").glob("data/*.h5"))) < 3:
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err.splitlines()[-1].startswith("inr-factory: interrupted")
    deadline = time.monotonic() + 15
    while _session(run.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _session(run.pid)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def _session(leader):
    """Process ids of a session, without zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state != "Z":
                    found.append(int(folder.name))
    return found


def test_the_first_help_has_three_examples(capsys):
    assert run(["--help"]) == 0
    assert capsys.readouterr().out.count("  inr-factory ") == 3
