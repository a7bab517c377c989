"""Many INRs in quarantine are summed up by their reasons; `status --quarantine` lists each, as a result."""

import pytest
from support.command_line import outcome
from support.small_sets import make_set

from inr_factory.storage.manifest_file import load_manifest, replace_manifest

OPEN = "{}% of it is open (of its edges {}% with one face)"


@pytest.fixture
def refused(tmp_path):
    """A set with seven INRs in quarantine: five are open, two are sheets."""
    root = tmp_path / "set"
    names = [f"train-{number}" for number in range(7)]
    make_set(root, views=1, objects={"train": 8}, quarantine=[(name, 0) for name in names])
    manifest = load_manifest(root)
    reasons = {name: OPEN.format(30 + number, number) for number, name in enumerate(names)}
    reasons |= dict.fromkeys(names[:2], "it is a sheet")
    shards = [
        entry.model_copy(
            update={
                "quarantine": tuple(
                    row.model_copy(update={"reason": reasons[row.object_id]}) for row in entry.quarantine
                )
            }
        )
        for entry in manifest.shards
    ]
    replace_manifest(root, manifest.model_copy(update={"shards": tuple(shards)}))
    return root


def test_reasons_are_counted(refused, capsys):
    _, out, err = outcome(capsys, "status", refused)
    lines = [line for line in err.splitlines() if line.startswith("quarantine: ")]
    assert lines == [
        "quarantine: 5 INRs, as train-2, view 0: " + OPEN.format(32, 2),
        "quarantine: 2 INRs, as train-0, view 0: it is a sheet",
    ]
    assert "all 7 of them: inr-factory status DATASET --quarantine" in err
    assert "quarantine:" not in out


def test_the_list_is_a_result(refused, capsys):
    _, out, err = outcome(capsys, "status", refused, "--quarantine")
    lines = [line for line in out.splitlines() if line.startswith("quarantine: ")]
    assert [line.split(",")[0] for line in lines] == [f"quarantine: train-{number}" for number in range(7)]
    assert "quarantine" not in err
