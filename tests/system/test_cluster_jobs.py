"""Cluster jobs: the scripts parse, their commands exist, and what can run here runs."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from support.paths import ROOT
from support.tiny_recipes import LOCAL, files, tiny

from inr_factory.cli import main as cli
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import builtin_recipes

JOBS = ROOT / "pipelines" / "cluster"
SCRIPTS = sorted(path for path in JOBS.rglob("*") if path.suffix in (".sh", ".sbatch"))
RAYJOB = JOBS / "kuberay" / "rayjob.yaml"
VALUES = {
    "RECIPE": "digits", "OUT": "set", "DATA_ROOT": "data", "SLURM_CPUS_PER_TASK": "2", "SLURM_ARRAY_TASK_ID": "0",
    "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_JOB_NUM_NODES": "8", "head": "node0",
}  # fmt: skip


def code(path):
    """A script without comments, its continued lines joined and its variables given values."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"\$\{?(\w+)\}?", lambda name: VALUES.get(name[1], "1"), "\n".join(lines))


def commands(text, program):
    """The arguments of every call of a program, up to the end of its command."""
    for found in re.finditer(rf"\b{program} ([^\n;&|'>#`]*)", text):
        yield [word for word in shlex.split(found[1].strip(), posix=True) if word != "then"]


def inr_factory_calls():
    for path in [*SCRIPTS, RAYJOB]:
        for arguments in commands(code(path), "inr-factory"):
            yield pytest.param(arguments, id=f"{path.parent.name}/{path.name}: {arguments[0]}")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_parses(path):
    shell = path.read_text().partition("\n")[0].removeprefix("#!")
    assert subprocess.run([shell, "-n", path], capture_output=True).stderr == b""


@pytest.mark.parametrize("arguments", list(inr_factory_calls()))
def test_every_command_in_a_job_is_one_that_there_is(arguments, capsys):
    assert cli.run([*arguments, "--help"]) == 0, capsys.readouterr().err
    if arguments[0] == "fit":
        assert arguments[1] in builtin_recipes()


def test_a_command_that_is_not_there_would_be_found(capsys):
    assert cli.run(["fit", "digits", "--cores", "3", "--help"]) == 2
    assert list(commands("a; inr-factory fit x --out 'y' && b", "inr-factory")) == [["fit", "x", "--out"]]


def test_the_options_of_ray_are_those_it_has():
    from ray.job_submission import JobSubmissionClient  # noqa: F401  # ray[default] is there
    from ray.scripts.scripts import cli as ray

    (run,) = commands(code(JOBS / "slurm_ray" / "job.sbatch"), "ray symmetric-run")
    known = {option for each in ray.commands["symmetric-run"].params for option in each.opts}
    known |= {option for each in ray.commands["start"].params for option in each.opts}
    assert {word for word in run[: run.index("--")] if word.startswith("--")} <= known
    assert list(commands(code(JOBS / "ray_job" / "submit.sh"), "ray job submit"))


def test_the_rayjob_has_the_fields_that_end_it_and_judge_it():
    job = yaml.safe_load(RAYJOB.read_text())
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] > 0
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert f"ray=={cluster['rayVersion']}" in (JOBS.parents[1] / "constraints.txt").read_text()
    (group,) = cluster["workerGroupSpecs"]
    cores = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    asked = int(re.search(r"--workers (\d+)", spec["entrypoint"])[1])
    assert group["maxReplicas"] * cores == asked
    assert subprocess.run(["sh", "-nc", spec["entrypoint"]], capture_output=True).returncode == 0


def test_every_way_has_a_short_readme_and_success_is_what_the_set_says():
    for folder in (path for path in JOBS.iterdir() if path.is_dir()):
        assert len((folder / "README.md").read_text().splitlines()) <= 22
        text = "\n".join(path.read_text() for path in folder.iterdir())
        assert "inr-factory status" in text, folder
        assert "inr-factory verify" in text, folder


def test_the_array_and_its_finish_make_the_set(tmp_path):
    whole, out, recipe = tmp_path / "whole", tmp_path / "set", tmp_path / "tiny.yaml"
    fit_dataset(tiny(), whole, **LOCAL)
    recipe.write_text(yaml.safe_dump(tiny().model_dump(mode="json")))
    program = tmp_path / "inr-factory"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from inr_factory.cli.main import main; main()' \"$@\"\n")
    program.chmod(0o755)
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": python_path, "OUT": str(out),
        "RECIPE": str(recipe), "SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_COUNT": "3",
    }  # fmt: skip
    array, finish = JOBS / "slurm_array" / "array.sbatch", JOBS / "slurm_array" / "finish.sbatch"

    parts = [subprocess.Popen(["bash", array], env=env | {"SLURM_ARRAY_TASK_ID": str(part)}) for part in (0, 1)]
    assert [part.wait(120) for part in parts] == [0, 0]
    assert len(list((out / "data").iterdir())) == 7, "the third task died"

    done = subprocess.run(["bash", finish], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert files(out) == files(whole)

    next((out / "data").iterdir()).write_bytes(b"damaged")
    assert cli.run(["status", str(out)]) == 75
