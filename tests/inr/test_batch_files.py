"""Batch files: what was saved is loaded, bit by bit; what is damaged or something else is refused in one line."""

import errno
import io
import json
import os

import numpy as np
import pytest
import torch

from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.batch_files import FORMAT
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

SPEC = SirenSpec(2, 1, hidden_dim=4, omega_0=7.0, output_bias=0.5)


@pytest.fixture
def inrs():
    return initialize(SPEC, range(3))


def test_what_was_saved_is_loaded(tmp_path, inrs):
    for batch in (inrs, inrs[:0], inrs.to(torch.float64)):
        batch.save(tmp_path / "inrs.npz")
        back = INRBatch.load(str(tmp_path / "inrs.npz"))
        assert back.spec == SPEC
        assert torch.equal(back.flatten(), batch.flatten().float())
    assert os.listdir(tmp_path) == ["inrs.npz"]


def test_numpy_reads_the_file_without_pickle(tmp_path, inrs):
    inrs.save(tmp_path / "inrs.npz")

    with np.load(tmp_path / "inrs.npz", allow_pickle=False) as file:
        assert str(file["format"]) == FORMAT
        assert json.loads(str(file["spec"])) == SPEC.to_dict()
        assert np.array_equal(file["weights"], inrs.flatten().numpy())


def test_a_loaded_batch_can_be_changed_in_memory_alone(tmp_path, inrs):
    inrs.save(tmp_path / "a")
    INRBatch.load(tmp_path / "a").weights[0].zero_()

    assert torch.equal(INRBatch.load(tmp_path / "a").flatten(), inrs.flatten())


def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(tmp_path, inrs):
    inrs.biases[0][1, 0] = torch.nan
    with pytest.raises(UsageError, match="NaN or infinite"):
        inrs.save(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.npz").write_bytes(archive(**parts(weights=inrs.flatten().numpy())))
    with pytest.raises(IntegrityError, match="NaN or infinite"):
        INRBatch.load(tmp_path / "a.npz")


def test_every_flipped_byte_that_matters_is_noticed(tmp_path, inrs):
    path = tmp_path / "inrs.npz"
    inrs.save(path)
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        try:
            assert torch.equal(INRBatch.load(path).flatten(), inrs.flatten())
        except IntegrityError:
            refused += 1
    assert refused > len(content) / 7 / 2


def archive(compress=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


def parts(**changes):
    weights = np.zeros((2, SPEC.num_parameters), np.float32)
    return {"format": FORMAT, "spec": json.dumps(SPEC.to_dict()), "weights": weights, **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a zip file"),
        (b"text", "not a zip file"),
        (archive(**parts())[:-30], ""),
        (archive(weights=np.zeros(3)), "no item named 'format.npy'"),
        (archive(**parts(format="inr-factory batch 2")), "its format is not"),
        (archive(**parts(spec="{")), ""),
        (archive(**parts(spec='{"in_dim": 2}')), "out_dim"),
        (archive(**parts(spec="[" * 100_000)), ""),
        (archive(**parts(weights=np.zeros((2, 3), np.float32))), r"its weights are float32 \(2, 3\)"),
        (archive(**parts(weights=np.zeros((2, SPEC.num_parameters)))), "its weights are float64"),
        (archive(**parts(weights=np.array([{}], dtype=object))), "is stored as object"),
        (archive(compress=True, **parts()), "format is compressed"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_something_else_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "x.npz").write_bytes(content)

    with pytest.raises(IntegrityError, match=f"is no complete file of INRBatch.save: .*{message}") as caught:
        INRBatch.load(tmp_path / "x.npz")

    assert "\n" not in str(caught.value)


def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path):
    content = archive(**parts())
    claimed = content.replace(b"(2, ", b"(9, ", 1)
    assert claimed != content
    (tmp_path / "x.npz").write_bytes(claimed)

    with pytest.raises(IntegrityError):
        INRBatch.load(tmp_path / "x.npz")


def test_files_that_cannot_be_read_or_written_are_named(tmp_path, inrs, monkeypatch):
    with pytest.raises(UsageError, match=r"no file .*nothing.npz"):
        INRBatch.load(tmp_path / "nothing.npz")
    with pytest.raises(UsageError, match="no file"):
        INRBatch.load(tmp_path)
    with pytest.raises(UsageError, match="is no folder; make it first"):
        inrs.save(tmp_path / "no" / "x.npz")
    with pytest.raises(UsageError, match="is a URL"):
        inrs.save("memory://x/y.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        inrs.save(tmp_path / "folder")

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match=r"the disk is full: .* needs [0-9,]+ bytes"):
        inrs.save(tmp_path / "x.npz")
    assert os.listdir(tmp_path) == ["folder"]
