"""Doctor: says what works, and what does not with what to do about it."""

import pytest

from inr_factory import doctor


@pytest.fixture
def found(monkeypatch):
    """Findings by name, of everything but Ray, whose start takes seconds and is tested in test_cli."""
    monkeypatch.setattr(doctor, "_ray", lambda: iter(()))
    return lambda out: {finding.what: finding for finding in doctor.examine(out)}


def test_this_machine_is_ready_and_nothing_is_left_behind(found, tmp_path):
    findings = found(tmp_path / "not" / "there")
    assert not [finding for finding in findings.values() if finding.good is False]
    assert str(tmp_path) in findings["file system"].found
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_a_fault_with_a_remedy(found, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    finding = found(tmp_path)["no-such-package"]
    assert finding.good is False
    assert "pip install" in finding.found


def test_an_engine_that_was_not_compiled_is_a_note_with_the_reason(found, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.fused_cpu, "_library", lambda: "no compiler was there")
    finding = found(tmp_path)["fitting engine"]
    assert finding.good is None
    assert "no compiler was there" in finding.found


def test_a_file_system_that_cannot_be_written_is_a_fault(found, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor, "write_atomically", refuse)
    finding = found(tmp_path)["file system"]
    assert finding.good is False
    assert "another --out" in finding.found


def test_a_ray_that_does_not_start_is_a_fault_that_names_the_way_without(monkeypatch):
    from inr_factory import ray_pool
    from inr_factory.errors import ResourceError

    def refuse(*_, **__):
        raise ResourceError("Ray cannot start here")

    monkeypatch.setattr(ray_pool, "connected", refuse)
    (finding,) = doctor._ray()
    assert finding.good is False
    assert "--backend local" in finding.found
