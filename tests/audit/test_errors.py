"""Audited errors, security and geometry (sections 1 to 3 of the audit), through the command line and public names."""

import os
import socket
import threading

import h5py
import numpy as np
import pytest
from support.command_line import failure, outcome
from support.images import tree
from support.shapes import box, source_of, sphere
from support.small_sets import make_set

from inr_factory.generation.geometry.mesh import Mesh

pytestmark = pytest.mark.faults

QUICK = ["--backend", "local", "--workers", "1", "--set", "fit.steps=2", "--set", "fit.floor_psnr=-999"]


def test_d10_a_vertex_that_only_a_face_without_area_uses_does_not_set_the_scale(tmp_path):
    ball = sphere()
    far = Mesh(
        np.concatenate([ball.vertices, [[50.0, 0, 0]]]), np.concatenate([ball.faces, [[0, 0, len(ball.vertices)]]])
    )
    assert source_of(tmp_path, far).signal(0).facts["scale"] == pytest.approx(1 / 0.9, rel=1e-3)


def test_d11_a_closed_surface_with_half_of_its_faces_turned_keeps_its_inside(tmp_path):
    ball = sphere()
    turned = np.random.default_rng(0).random(len(ball.faces)) < 0.5
    mixed = Mesh(ball.vertices, np.where(turned[:, None], ball.faces[:, ::-1], ball.faces))
    sound, signal = (source_of(tmp_path / str(number), mesh).signal(0) for number, mesh in enumerate((ball, mixed)))
    inside = np.linalg.norm(signal.coords.numpy(), axis=1) * signal.facts["scale"] < 0.99
    assert ((signal.targets.numpy()[:, 0] < 0)[inside]).mean() > 0.99
    shares = [float((each.targets < 0).float().mean()) for each in (sound, signal)]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_shapes_tell_their_sheets_and_buried_parts(tmp_path):
    facts = source_of(tmp_path, box()).signal(0).facts
    assert (facts["sheet"], facts["buried"]) == (0, 0)


def test_the_stored_chamfer_of_a_good_fit_lies_below_the_floor_of_sampling(tmp_path, capsys):
    """The true surface itself scored 0.0155 to 0.0203."""
    words = ["fit", "primitives", "--limit", 1, "--views", 2, "--out", tmp_path / "set", "--backend", "local"]
    code, _, err = outcome(capsys, *words, "--workers", 1, "--set", "splits.val=0", "--set", "splits.test=0")
    assert code == 0, err
    first, later = sorted(tmp_path.glob("set/data/*.h5"))
    with h5py.File(first, locking=False) as shard, h5py.File(later, locking=False) as unmeasured:
        assert shard["chamfer"][:].max() < 0.01
        assert np.isnan(unmeasured["chamfer"][:]).all()
        assert unmeasured["iou"][:].min() > 0.5


def test_objects_that_a_failing_disk_put_into_quarantine_are_fitted_again(tmp_path, capsys, monkeypatch):
    from inr_factory.generation.signals import SignalError
    from inr_factory.generation.sources import image_folder

    data = tree(tmp_path / "data", "a/0.png", "a/1.png", "b/2.png", "b/3.png")
    words = ["fit", "image_folder", "--data-root", data, "--out", tmp_path / "set", *QUICK, "--set", "splits.val=0"]
    read = image_folder.file_signal

    def failing(path, *rest):
        if path.name == "2.png":
            raise SignalError("cannot be read: Input/output error")
        return read(path, *rest)

    monkeypatch.setattr(image_folder, "file_signal", failing)
    outcome(capsys, *words, "--set", "splits.test=0", "--set", "quarantine_threshold=1")
    monkeypatch.undo()
    code, out, err = outcome(capsys, "repair", tmp_path / "set", "--data-root", data, "--retry-quarantine")
    assert code == 0, err
    assert "1 INR" in out + err or "left the quarantine" in out + err
    with h5py.File(next(tmp_path.glob("set/data/*.h5")), locking=False) as shard:
        assert len(shard["weights"]) == 4


@pytest.fixture
def ray_fails(monkeypatch):
    """Ray that does not start, and says in which mode it was asked to."""
    import ray

    def init(*arguments, **options):
        raise RuntimeError(f"mode {os.environ.get('RAY_AUTH_MODE')}")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_d17_a_token_is_used_where_one_is_given(tmp_path, capsys, monkeypatch, ray_fails):
    """Without RAY_AUTH_MODE a cluster with tokens was "no cluster"."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # so that it is unset again after this test
    monkeypatch.delenv("RAY_AUTH_MODE")
    with socket.create_server(("", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(33)
                connection.sendall(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]))  # as servers of gRPC begin

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        words = ["fit", "digits", "--limit", 6, "--out", tmp_path / "set", "--backend", "ray", "--address", address]
        assert "mode token" in failure(capsys, *words)[1]


CONTROL = "\x1b[31mred\u202e"


def test_control_characters_of_class_names_reach_no_terminal_card_or_report(tmp_path, capsys):
    make_set(tmp_path / "set", classes=(CONTROL, "b", "c"), objects={"train": 14, "val": 5, "test": 6})
    said = "".join(map(str, outcome(capsys, "status", tmp_path / "set")))
    run = ["--model", "mlp", "--epochs", 1, "--batch-size", 4, "--device", "cpu", "--out", tmp_path / "run"]
    said += "".join(map(str, outcome(capsys, "train", tmp_path / "set", *run)))
    assert outcome(capsys, "report", tmp_path / "set")[0] == 0
    assert outcome(capsys, "card", tmp_path / "set")[0] == 0
    pages = [path.read_text() for path in (tmp_path / "set").iterdir() if path.suffix in (".md", ".html")]
    assert len(pages) == 2
    assert not any({"\x1b", "\u202e"} & set(text) for text in (said, *pages))


def test_reasons_of_a_manifest_reach_no_terminal_raw(tmp_path, capsys):
    make_set(tmp_path / "set", quarantine=[("train-1", 0)])
    manifest = tmp_path / "set/manifest.json"
    text = manifest.read_text()
    assert '"reason": "test"' in text
    manifest.write_text(text.replace('"reason": "test"', '"reason": "\\u001b[31mred\\u202e"'))
    for verb in ("status", "verify"):
        said = "".join(map(str, outcome(capsys, verb, tmp_path / "set")))
        assert not {"\x1b", "\u202e"} & set(said)


@pytest.mark.parametrize("url", ["s3+none://user:hunter2@host/set", "memory://user:hunter2@host/set"])
def test_passwords_of_urls_are_not_echoed(url, capsys):
    said = "".join(map(str, outcome(capsys, "status", url)))
    assert said.strip()
    assert "hunter2" not in said
