"""Sweeps on Ray: runs are processes of their own, one that fails does not end the others, and completed ones stay."""

import json

import yaml
from support.small_sets import make_set

from inr_factory.cli.main import run


def write(path, **fields):
    path.write_text(yaml.safe_dump({"dataset": str(path.parent / "set"), **fields}, sort_keys=False))
    return path


def test_a_sweep_on_ray_resumes(tmp_path, capsys):
    make_set(tmp_path / "set", objects={"train": 14, "val": 5, "test": 6}, views=1)
    train = {"epochs": 1, "batch_size": 4, "device": "cpu"}
    small = {"model": ["mlp:hidden_dim=4", "mlp:hiden_dim=4"], "seed": [0]}
    file = write(tmp_path / "grid.yaml", grid=small, train=train)
    arguments = ["sweep", str(file), "--out", str(tmp_path / "out"), "--backend", "ray", "--workers", "2", "--json"]

    assert run(arguments) == 1  # one of the two cannot be
    captured = capsys.readouterr()
    assert "did you mean 'hidden_dim'?" in captured.err
    observed = json.loads(captured.out)
    assert (observed["runs"], len(observed["rows"]), observed["failed"]) == (2, 1, ["mlp_hiden_dim=4-0"])
    assert (tmp_path / "out" / "table.png").read_bytes().startswith(b"\x89PNG")

    write(file, grid=small | {"model": ["mlp:hidden_dim=4"]}, train=train)
    before = (tmp_path / "out/runs/mlp_hidden_dim=4-0/last.pt").stat().st_mtime_ns
    assert run(arguments) == 0
    assert "1 runs, 0 to do" in capsys.readouterr().err
    assert (tmp_path / "out/runs/mlp_hidden_dim=4-0/last.pt").stat().st_mtime_ns == before
