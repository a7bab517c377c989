"""Environment check: what works on this machine, and a remedy for what does not."""

import pytest
from packaging.requirements import Requirement

from inr_factory.cli import environment_check


@pytest.fixture
def found(monkeypatch):
    """Findings by name, without Ray, whose start takes seconds and is tested in test_cli."""
    monkeypatch.setattr(environment_check, "_ray", lambda: iter(()))
    return lambda out: {finding.what: finding for finding in environment_check.check_environment(out).findings}


def test_this_machine_is_ready_and_nothing_is_left_behind(found, tmp_path):
    findings = found(tmp_path / "not" / "there")
    assert not [finding for finding in findings.values() if finding.good is False]
    assert str(tmp_path) in findings["file system"].found
    assert list(tmp_path.iterdir()) == []


def findings_of(line):
    """Findings of one requirement, of the core or of an extra that needs it."""
    requirements = [Requirement(line)]
    extras = [finding for finding in environment_check._extras(requirements) if finding.found]
    return [*environment_check._core(requirements), *extras]


@pytest.mark.parametrize(
    ("line", "good", "found"),
    [
        ("no-such-package>=2.0", False, "not installed"),
        ("no-such-package>=2.0; extra == 'hub'", None, "not installed"),
        ("psutil>=5.10", True, ""),
        ("torch>=999.1", False, "needs >=999.1"),
        ("torch>=2.6", True, ""),
        ("ray[default]>=2.40", True, ""),
        ("numpy; python_version >= '3'", True, ""),
    ],
)
def test_packages_are_compared_with_what_this_one_needs(line, good, found):
    (finding,) = findings_of(line)
    assert finding.good is good
    assert found in finding.found
    assert good or "pip install" in finding.remedy


@pytest.mark.parametrize("line", ["torch; sys_platform == 'plan9'", "inr-factory[hub]; extra == 'all'"])
def test_a_requirement_of_other_machines_or_of_an_extra_of_this_package_is_left_out(line):
    assert findings_of(line) == []


def test_every_dependency_is_looked_at(found, tmp_path, monkeypatch):
    monkeypatch.setattr(
        environment_check.metadata, "requires", lambda _: ["torch>=2.6", "no-such-package; extra == 'hub'"]
    )
    findings = found(tmp_path)
    assert {"torch", "extra hub"} <= findings.keys()


def test_no_finding_comes_without_a_remedy():
    with pytest.raises(AssertionError):
        environment_check.Finding("memory", None, "little")


def test_small_shared_memory_and_few_open_files_are_notes(monkeypatch):
    usage = type("Usage", (), {"total": 64_000_000})
    monkeypatch.setattr(environment_check.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4096))
    shared, files = environment_check._limits()
    assert (shared.good, files.good) == (None, None)
    assert "--shm-size" in shared.remedy
    assert "ulimit -n" in files.remedy


@pytest.mark.parametrize("fault", ["refused", "given twice"])
def test_a_file_system_without_locks_is_a_note(tmp_path, monkeypatch, fault):
    def lock(self, *_, **__):
        if fault == "refused":
            raise OSError(95, "Operation not supported")
        return self

    assert environment_check._locks(tmp_path).good is True
    monkeypatch.setattr(environment_check.FileLock, "acquire", lock)
    finding = environment_check._locks(tmp_path)
    assert finding.good is None
    assert "one run at a time" in finding.remedy


def test_a_home_that_cannot_be_written_is_a_note_with_what_to_set(found, tmp_path, monkeypatch):
    monkeypatch.setattr(environment_check.os, "access", lambda *_: False)
    finding = found(tmp_path)["HOME"]
    assert finding.good is None
    assert "RAY_AUTH_TOKEN" in finding.remedy


def test_an_engine_that_was_not_compiled_is_a_note_with_the_reason(found, tmp_path, monkeypatch):
    monkeypatch.setattr(environment_check.fused_cpu, "_library", lambda: "no compiler was there")
    finding = found(tmp_path)["fitting engine"]
    assert finding.good is None
    assert "no compiler was there" in finding.found


def test_a_file_system_that_cannot_be_written_is_a_fault(found, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(environment_check, "write_atomically", refuse)
    finding = found(tmp_path)["file system"]
    assert finding.good is False
    assert "another --out" in finding.remedy


def test_a_ray_that_does_not_start_is_a_fault_that_names_the_way_without(monkeypatch):
    from inr_factory.errors import ResourceError
    from inr_factory.generation.execution import ray_pool

    def refuse(*_, **__):
        raise ResourceError("Ray cannot start here")

    monkeypatch.setattr(ray_pool, "connected", refuse)
    (finding,) = environment_check._ray()
    assert finding.good is False
    assert "--backend local" in finding.remedy


def test_a_gpu_that_ray_hides_is_a_fault(monkeypatch):
    from contextlib import contextmanager

    from inr_factory.generation.execution import ray_pool

    class Blind:
        """A cluster whose worker sees no GPU."""

        def remote(self, *_):
            return self

        options = remote

        def get(self, *_, **__):
            return None

    @contextmanager
    def connected(*_, **__):
        yield Blind()

    monkeypatch.setattr(ray_pool, "connected", connected)
    monkeypatch.setattr(Blind, "options", lambda self, **_: self)
    monkeypatch.setattr(environment_check.torch.cuda, "is_available", lambda: True)
    (finding,) = environment_check._ray()
    assert finding.good is False
    assert "does not see the GPU" in finding.found


def test_without_ray_the_check_notes_it_and_names_the_extra(monkeypatch):
    monkeypatch.setattr(environment_check, "find_spec", lambda _: None)
    (finding,) = environment_check._ray()
    assert finding.good is None
    assert 'pip install "inr-factory[ray]"' in finding.remedy
