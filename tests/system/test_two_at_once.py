"""Two writers at once, logs that are torn, names that are no text, shards cut short: one line, one complete result."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.maintenance import merge
from inr_factory.interop import export
from inr_factory.interop.export import export_dataset
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.reporting.html.run_summary import read_runs
from inr_factory.storage.manifest_file import replace_manifest
from inr_factory.storage.run_log import RunLog
from inr_factory.storage.shards import ShardReader, row_checksums

pytestmark = pytest.mark.faults


def test_a_second_merge_of_the_same_file_leaves_no_temporary(tmp_path: Path) -> None:
    """Renaming one of two hard links of a file to the other does nothing."""
    source, target = tmp_path / "source.h5", tmp_path / "target.h5"
    source.write_bytes(b"x")
    merge._link_or_copy(source, target, copy=False)
    merge._link_or_copy(source, target, copy=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.h5", "target.h5"]


def exported_meanwhile(root: Path, out: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another process make the export in `out` just before this one renames its own."""
    genuine, other = os.rename, out.with_name("other")
    export_dataset(root, to, other, views=1)

    def rename(source: object, target: object) -> None:
        if other.exists():
            genuine(other, out)
        genuine(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(export.os, "rename", rename)


def test_the_loser_of_two_equal_exports_finds_it_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(tmp_path / "set")
    exported_meanwhile(tmp_path / "set", tmp_path / "out", "multiview", monkeypatch)
    export_dataset(tmp_path / "set", "multiview", tmp_path / "out", views=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_the_loser_of_two_other_exports_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(tmp_path / "set")
    exported_meanwhile(tmp_path / "set", tmp_path / "out", "multiview", monkeypatch)
    with pytest.raises(UsageError, match="not this export"):
        export_dataset(tmp_path / "set", "dwsnets-fmnist", tmp_path / "out", views=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


LOGS = {
    "torn": b'{"event": "start", "part": [0, 1]}\n{"event": "e',
    "nested": b"[" * 10**6,
    "binary": bytes(range(256)) * 1000,
    "other values": b"3\n[]\nnull\n",
    "odd fields": b'{"event": "start", "workers": {"a": 1}, "time": 3}\n{"event": "end", "made": 1e308, "seconds": "x"}',
    "a key twice": b'{"event": "start", "event": "end"}',
    "NaN": b'{"event": "start"}\n{"event": "end", "seconds": NaN}',
    "empty": b"",
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_of_any_kind_stops_no_run_and_no_report(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path / "set")
    (tmp_path / "set/logs").mkdir()
    (tmp_path / "set/logs/20260101T000000.000000Z-elsewhere-17.log").write_bytes(LOGS[name])
    assert RunLog(tmp_path / "set", (0, 1)).others() in ([], ["elsewhere-17"])
    assert len(read_runs(tmp_path / "set")) <= 2
    assert run(["report", str(tmp_path / "set"), "-q"]) == 0, capsys.readouterr().err


def test_a_shard_that_is_cut_short_is_named_before_the_next_epoch(tmp_path: Path) -> None:
    make_set(tmp_path / "set")
    loader = INRLoader(INRDataset(tmp_path / "set"), 4)
    assert len(list(loader)) == len(loader)
    path = next((tmp_path / "set/data").glob("train-*.h5"))
    os.truncate(path, 1500)
    with pytest.raises(IntegrityError, match="cut to 1,500 bytes"):
        next(iter(loader))


def test_names_that_are_no_utf_8_are_found_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_set(tmp_path / "set")
    entry = manifest.shards[0]
    path = tmp_path / "set" / entry.path
    content = path.read_bytes()
    shard = ShardReader(tmp_path / "set", entry)
    columns = {name: np.array(shard.column(name)) for name in shard.column_names if name != "checksum"}
    names = columns["object_id"].copy()
    names[0] = b"\xff" + names[0][1:]
    old, new = np.array(shard.column("checksum")), row_checksums({**columns, "object_id": names})
    content = content.replace(columns["object_id"].tobytes(), names.tobytes()).replace(old.tobytes(), new.tobytes())
    path.write_bytes(content)
    changed = entry.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    replace_manifest(tmp_path / "set", manifest.with_entries([changed]))
    assert run(["verify", str(tmp_path / "set")]) == 4
    assert "not UTF-8" in "".join(capsys.readouterr())
