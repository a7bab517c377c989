"""Environment check: what works on this machine, and a remedy for what does not."""

from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from inr_factory.cli import environment_check
from inr_factory.errors import ResourceError
from inr_factory.generation.fitting import fused_cuda
from inr_factory.generation.fitting.self_check import CheckReport


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
    assert "slower" in finding.found
    assert finding.remedy == "no compiler was there"


def test_a_file_system_that_cannot_be_written_is_a_fault(found, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(environment_check, "write_atomically", refuse)
    finding = found(tmp_path)["file system"]
    assert finding.good is False
    assert "another --out" in finding.remedy


def test_a_ray_that_does_not_start_is_a_fault_that_names_the_way_without(monkeypatch):
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


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs as torch describes them, the second an old one; `compare` of the self-check is the test's."""
    gpus = [
        SimpleNamespace(name="GPU X", total_memory=85e9, major=9, minor=0, shared_memory_per_multiprocessor=233_472),
        SimpleNamespace(name="GPU W", total_memory=8e9, major=7, minor=5, shared_memory_per_multiprocessor=65_536),
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpus[device.index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: gpus[device.index].name)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: (gpus[device.index].major, gpus[device.index].minor)
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(fused_cuda, "find_spec", lambda _: object())
    monkeypatch.setattr(fused_cuda, "triton_version", lambda: "3.6.0")
    fused_cuda._missing.cache_clear()

    def hardware(compare):
        monkeypatch.setattr(environment_check, "compare", compare)
        return {finding.what: finding for finding in environment_check._hardware()}

    yield hardware
    fused_cuda._missing.cache_clear()


def test_each_gpu_is_described_and_its_engines_are_compared_with_the_reference(two_gpus):
    asked = []

    def compare(engine, spec, config, device):
        asked.append((engine.__name__, str(device)))
        return CheckReport(3e-6, 1e-3, "")

    findings = two_gpus(compare)
    assert findings["GPU 0"].found == "GPU X, 85 GB, compute capability 9.0, triton 3.6.0"
    assert "by 3e-06 of their size, 0.001 is accepted" in findings["fused engine, GPU 0"].found
    assert findings["fused engine, GPU 1"].good is None
    assert "capability 8.0, which GPU W does not have" in findings["fused engine, GPU 1"].found
    assert findings["batched engine, GPU 1"].good
    assert asked == [("fit_fused", "cuda:0"), ("fit_batched", "cuda:0"), ("fit_batched", "cuda:1")]


def test_an_engine_that_fails_its_self_check_is_a_fault_with_the_reason(two_gpus):
    findings = two_gpus(lambda *_: CheckReport(float("nan"), 1e-3, "RuntimeError: Failed to find C compiler"))
    assert findings["fused engine, GPU 0"].good is False
    assert findings["fused engine, GPU 0"].found == "RuntimeError: Failed to find C compiler"
    assert "C compiler, TRITON_CACHE_DIR" in findings["fused engine, GPU 0"].remedy


def test_a_gpu_without_memory_is_a_fault(two_gpus):
    def compare(*_):
        raise ResourceError("cuda:0 has no memory for the fit")

    assert two_gpus(compare)["batched engine, GPU 0"].good is False


def test_without_a_gpu_the_check_says_what_one_needs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (finding,) = (each for each in environment_check._hardware() if each.what == "GPU")
    assert finding.good is None
    assert "triton" in finding.remedy


def test_without_ray_the_check_notes_it_and_names_the_extra(monkeypatch):
    monkeypatch.setattr(environment_check, "find_spec", lambda _: None)
    (finding,) = environment_check._ray()
    assert finding.good is None
    assert 'pip install "inr-factory[ray]"' in finding.remedy
