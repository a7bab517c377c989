"""Audited faults of making (section 4 of the audit), each through the command line or the public Python names."""

import os
import re
import shutil
import socket
import sys
from collections import Counter
from importlib.machinery import PathFinder

import h5py
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from support.command_line import failure, outcome
from support.images import FOLDERS, IDX_FILES, put, tree

import inr_factory as inr

pytestmark = pytest.mark.faults

LOCAL = ["--backend", "local", "--workers", "1"]
NO_FIT = ["--set", "fit.engine=none", "--set", "fit.floor_psnr=-999", "--set", "spec.hidden_dim=4"]
QUICK = [
    "--set",
    "fit.steps=3",
    "--set",
    "fit.floor_psnr=-999",
    "--set",
    "spec.hidden_dim=4",
    "--set",
    "fit.attempts=1",
]


def digits(out, limit, *words):
    return ["fit", "digits", "--limit", limit, "--views", 1, "--out", out, *LOCAL, *words]


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        (["spec.hidden_dim=64", "spec.num_hidden=3", "spec.omega_0=60"], 8e-3 / 3),
        (["spec.num_hidden=6"], 8e-3 / 3),
        (["spec.hidden_dim=256"], 1e-3),
    ],
    ids=["64x3", "32x6", "256x2"],
)
def test_the_rate_of_sprint_follows_the_net(settings, rate):
    assert inr.load_recipe("fashion_mnist_40db", settings).fit.learning_rate == pytest.approx(rate)


def test_the_steps_of_sprint_follow_the_target():
    steps = [inr.load_recipe("fashion_mnist_40db", [f"fit.target_psnr={db}"]).fit.steps for db in (40, 45, 50)]
    assert steps[0] == 80 < steps[1] < steps[2]


@pytest.mark.parametrize(("hidden_dim", "num_hidden", "omega_0"), [(64, 3, 60), (32, 6, 30)])
def test_deep_nets_reach_40_db_by_the_default_rate(hidden_dim, num_hidden, omega_0):
    """They ended at 12.5 and 9 dB."""
    small = torch.as_tensor(load_digits().images[:4, None] / 16).float()
    images = torch.nn.functional.interpolate(small, (28, 28), mode="bicubic").clip(0, 1)[:, 0]
    net = {"hidden_dim": hidden_dim, "num_hidden": num_hidden, "omega_0": omega_0}
    fitted = inr.fit(images.numpy(), optimizer="sprint", target_psnr=40, floor_psnr=-999, attempts=1, **net)
    assert float(np.median(fitted.psnr)) > 40


def test_the_reason_in_quarantine_says_what_to_try(tmp_path, capsys):
    code, _, err = outcome(capsys, *digits(tmp_path / "set", 6, "--set", "fit.steps=3", "--set", "fit.floor_psnr=40"))
    assert code == 3
    quarantined = [line for line in err.splitlines() if line.startswith("quarantine: ")]
    assert quarantined
    assert all(re.search(r"asked for: .* dB in 3 steps.*try .*--set fit\.", line) for line in quarantined)
    assert re.search(r"try .*--set fit\.", err.strip().splitlines()[-1]), "exit 3 names the commonest reason"


DRY_RUN = {
    "share at the target": r"quality +\d+% of the probe reach the target; median",
    "start": r"time +.*start and end included",
    "core-hours": r"core-hours +about",
}


@pytest.mark.parametrize("told", DRY_RUN)
def test_a_dry_run_tells(told, tmp_path, capsys):
    code, out, _ = outcome(capsys, *digits(tmp_path / "set", 6, *QUICK, "--dry-run"))
    assert code == 0
    assert re.search(DRY_RUN[told], out)


def test_a_dry_run_does_not_refuse_because_the_default_folder_is_taken(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "digits", "--limit", 6, *LOCAL, *NO_FIT]
    assert outcome(capsys, *words)[0] == 0
    code, out, err = outcome(capsys, *words, "--seed", 7, "--dry-run")
    assert code == 0
    assert "another --out" in out + err


def test_unsigned_distances_are_fitted_to_what_they_reach():
    """40 dB of the clamp was asked for, and every fit took all its steps."""
    for name, settings in (("point_folder", []), ("mesh_folder", ["source.field=udf"])):
        assert inr.load_recipe(name, [*settings, "fit.optimizer=sprint"]).fit.target_psnr == 26
        assert inr.load_recipe(name, settings).fit.target_psnr is None  # nothing is asked for


def test_a_larger_limit_goes_into_the_same_set(tmp_path, capsys):
    assert outcome(capsys, *digits(tmp_path / "set", 20, *NO_FIT))[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("set/data/*.h5")}
    code, out, err = outcome(capsys, *digits(tmp_path / "set", 40, *NO_FIT))
    assert code == 0, out + err
    assert sum(len(inr.open(tmp_path / "set", split)) for split in ("train", "val", "test")) == 40
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("more", [["--dry-run"], []], ids=["dry run", "fit"])
def test_a_small_validation_split_is_named(more, tmp_path, capsys):
    code, out, err = outcome(capsys, *digits(tmp_path / "set", 30, "--set", "splits.val=10", *NO_FIT), *more)
    assert code == 0
    assert re.search(r"objects in val: \d+, fewer than 200", out + err)


def test_small_splits_have_the_classes_in_proportion(tmp_path, capsys):
    assert outcome(capsys, *digits(tmp_path / "set", 300, "--set", "splits.val=100", *NO_FIT))[0] == 0
    counts = Counter(label_column(tmp_path / "set", "val"))
    assert len(counts) == 10
    assert max(counts.values()) - min(counts.values()) <= 1


def label_column(root, split):
    labels = []
    for path in sorted(root.glob(f"data/{split}-view000-*.h5")):
        with h5py.File(path, locking=False) as shard:
            labels += shard["label"][:].tolist()
    return labels


def test_a_short_run_takes_processes_of_this_machine_and_says_so(tmp_path, capsys, monkeypatch):
    import ray

    def start(*arguments, **options):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, out, err = outcome(capsys, "fit", "digits", "--limit", 6, "--out", tmp_path / "set", "--workers", 1, *NO_FIT)
    assert code == 0, err
    assert "processes of this machine make the shards" in out + err


def test_a_machine_without_ray_takes_processes_of_its_own_and_says_so(tmp_path, capsys, monkeypatch):
    find_spec = PathFinder.find_spec
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(PathFinder, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, out, err = outcome(capsys, "fit", "digits", "--limit", 6, "--out", tmp_path / "set", "--workers", 1, *NO_FIT)
    assert code == 0, err
    assert "processes of this machine make the shards" in out + err


def test_a_long_run_where_ray_does_not_start_takes_processes_and_says_so(tmp_path, monkeypatch):
    import ray

    class SaidError(Exception):
        pass

    def init(*arguments, **options):
        raise OSError("no port")

    def progress(state):
        if any("processes of this machine" in note for note in getattr(state, "notes", ())):
            raise SaidError

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    endless = ["fit.steps=10000000", "fit.target_psnr=null", "fit.engine=reference"]
    with pytest.raises(SaidError):
        inr.fit_dataset("digits", tmp_path / "set", limit=6, workers=1, settings=endless, on_progress=progress)


@pytest.fixture
def pictures(tmp_path, monkeypatch, capsys):
    """A set whose source is in no default place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INR_FACTORY_DATA", raising=False)
    tree(tmp_path / "pictures", "a/0.png", "a/1.png", "b/0.png", "b/1.png")
    words = ["fit", "image_folder", "--data-root", "pictures", "--out", "set", *LOCAL, *QUICK]
    words += ["--set", "splits.val=0", "--set", "splits.test=0"]
    assert outcome(capsys, *words)[0] == 0
    return tmp_path / "set"


@pytest.mark.parametrize("verb", [["verify", "--render"], ["show"], ["report"]], ids=lambda verb: verb[0])
def test_a_set_remembers_where_its_source_was(verb, pictures, capsys):
    code, out, err = outcome(capsys, verb[0], pictures, *verb[1:])
    assert code == 0, err
    assert "--data-root" not in out + err


@pytest.mark.parametrize("verb", [["verify", "--render"], ["show"], ["report"]], ids=lambda verb: verb[0])
def test_looking_at_a_set_never_downloads(verb, tmp_path, capsys, monkeypatch):
    """Its source is an official collection that is not there any more."""
    for name, content in IDX_FILES.items():
        put(tmp_path / "data" / FOLDERS["fashion_mnist"] / "raw" / name, content)
    words = ["fit", "fashion_mnist", "--data-root", tmp_path / "data", "--out", tmp_path / "set", "--limit", 6]
    assert outcome(capsys, *words, "--set", "splits.val=0", *LOCAL, *NO_FIT)[0] == 0
    shutil.rmtree(tmp_path / "data")
    tried = []

    def look_up(host, *rest, **more):
        tried.append(host)
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("INR_FACTORY_DATA", str(tmp_path / "nothing"))
    outcome(capsys, verb[0], tmp_path / "set", *verb[1:])
    assert tried == []
    assert not (tmp_path / "nothing").exists()


def test_fit_takes_the_folder_of_a_set_and_status_prints_the_command(pictures, capsys):
    _, out, err = outcome(capsys, "status", pictures)
    assert f"inr-factory fit {pictures}" in out + err
    code, out, err = outcome(capsys, "fit", pictures, "--views", 2, *LOCAL)
    assert code == 0, err
    assert len(inr.open(pictures)) == 8


def test_a_lost_manifest_points_to_repair(pictures, capsys):
    (pictures / "manifest.json").unlink()
    for verb in (["status"], ["train", "--model", "mlp", "--epochs", 1], ["verify"]):
        code, line = failure(capsys, verb[0], pictures, *verb[1:])
        assert code == 4
        assert "inr-factory repair" in line


def test_workers_of_a_ray_of_our_own_are_as_nice_as_the_command(tmp_path, monkeypatch, capsys):
    import ray

    def init(*arguments, **options):
        raise RuntimeError(f"niceness {dict(os.environ).get('RAY_worker_niceness')}")

    monkeypatch.setenv("RAY_worker_niceness", "")  # so that it is unset again after this test
    monkeypatch.delenv("RAY_worker_niceness")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    words = ["fit", "digits", "--limit", 6, "--out", tmp_path / "set", "--backend", "ray", *NO_FIT]
    code, line = failure(capsys, *words)
    assert code == 5
    assert "niceness 0" in line
