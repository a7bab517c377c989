"""Ray of our own: reached from this machine alone, at our priority; where it does not start, one line says so."""

import os

import psutil
import pytest
from support.command_line import failure

from inr_factory.errors import ResourceError
from inr_factory.generation.execution.ray_pool import connected


def test_a_cluster_of_our_own_listens_on_the_loopback_alone_at_our_priority():
    before = os.nice(0)
    with connected(None, num_cpus=1) as ray:
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        sockets = [each for process in family for each in process.net_connections("inet")]
        listening = {each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == psutil.CONN_LISTEN}
        if ray._private.worker._global_node.head:  # not of a cluster that an earlier test started
            assert listening <= {"127.0.0.1", "::1"}
            assert listening
        assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == before


@pytest.mark.parametrize(
    "error", [Exception("The current node timed out during startup."), OSError("x"), KeyError("y")]
)
def test_d16_a_ray_that_does_not_start_is_one_line(monkeypatch, error):
    import ray

    def failing(**options):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", failing)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ResourceError, match=r"^Ray cannot start here: .*; use --backend local$"), connected(None, 1):
        pass


def test_d17_a_stale_variable_ends_the_command_with_2_and_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")

    code, line = failure(capsys, "-q", "fit", "digits", "--limit", "20", "--out", tmp_path / "set", "--backend", "ray")

    assert code == 2
    assert "no Ray cluster answers at 127.0.0.1:9 (from $RAY_ADDRESS)" in line
