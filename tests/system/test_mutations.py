"""A thousand damaged files: each is read as other programs read it, or refused in one line, soon and in little memory."""

import pytest
from support.faults import Tally, make_whole, small
from support.file_mutations import mutate_files, subjects
from support.mutations import mutate_manifests

pytestmark = pytest.mark.faults


def test_damaged_images_meshes_clouds_and_checkpoints_are_read_right_or_refused(tmp_path):
    tally = Tally()

    mutate_files(tally, tmp_path, 900)

    assert not tally.wrong, "\n".join(tally.wrong)
    assert sum(tally.counts.values()) == 900
    for kind in {subject.kind for subject in subjects(tmp_path)}:
        assert tally.counts[f"mutated {kind} files refused"] > 0
    assert all(tally.counts[f"mutated {kind} files read right"] > 50 for kind in ("image", "mesh", "cloud"))


def test_damaged_manifests_are_named_and_give_no_wrong_row(tmp_path):
    tally = Tally()
    make_whole(small(), tmp_path / "whole")

    mutate_manifests(tally, tmp_path / "whole", tmp_path, 100, seed=1)

    assert not tally.wrong, "\n".join(tally.wrong)
