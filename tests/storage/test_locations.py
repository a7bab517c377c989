"""Locations: sets in a store are the same as in a folder, and survive a store that fails."""

import json
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from support.tiny_recipes import LOCAL, files, tiny

from inr_factory.cli import main as cli
from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage import locations
from inr_factory.storage.locations import RemoteLocation, fetch_tree, parse_location
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest


class FlakyStore(LocalFileSystem):
    """A store over local folders, flaky://PATH. Its next `failures` writes fail, after half of the bytes."""

    protocol = "flaky"
    cachable = False
    failures = 0
    puts: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("flaky://"))

    def pipe_file(self, path, value, mode="overwrite", **how):
        if FlakyStore.failures:
            FlakyStore.failures -= 1
            Path(self._strip_protocol(path)).write_bytes(value[: len(value) // 2])
            raise ConnectionResetError("the store went away")
        FlakyStore.puts.append(path)
        return super().pipe_file(path, value, mode, **how)


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    """Registers the stores, and keeps copies of remote files in the test's folder."""
    monkeypatch.setattr(locations, "RETRY_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("inr_factory.storage.manifest_file.SETTLING_SECONDS", (0.0,))
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(FlakyStore, "failures", 0)
    monkeypatch.setattr(FlakyStore, "puts", [])
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    return FlakyStore


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


def remote(path):
    return parse_location(f"flaky://{path}")


def test_a_folder_stays_a_path_and_a_url_becomes_remote(tmp_path):
    assert parse_location("inrs/x") == Path("inrs/x")
    assert parse_location(f"file://{tmp_path}") == tmp_path
    assert parse_location("memory://a/b/") == RemoteLocation("memory://a/b")
    assert str(RemoteLocation("memory://a") / "data/x.h5") == "memory://a/data/x.h5"
    with pytest.raises(UsageError, match="no store sss://"):
        parse_location("sss://bucket/x")


@pytest.mark.parametrize("url", ["flaky", "memory"])
def test_a_set_in_a_store_has_the_same_bytes(whole, tmp_path, url):
    out = parse_location(f"{url}://{tmp_path}/remote")
    report = fit_dataset(tiny(), out, **LOCAL)
    assert (report.made, report.missing) == (10, 0)
    names = {name: size for name, size in out.sizes().items() if not name.startswith("logs/")}
    assert names == {name: len(content) for name, content in files(whole).items()}
    assert all((out / name).read_bytes() == content for name, content in files(whole).items())
    again = fit_dataset(tiny(), out, **LOCAL)
    assert (again.made, again.recovered, again.missing) == (0, 0, 0)
    if url == "memory":
        fsspec.filesystem("memory").rm(str(tmp_path), recursive=True)


def test_a_store_that_fails_twice_is_retried(whole, store, tmp_path):
    store.failures = 2
    fit_dataset(tiny(), remote(tmp_path / "set"), **LOCAL)
    assert files(tmp_path / "set") == files(whole)


def test_a_store_that_is_gone_ends_the_run_by_a_resource_error_and_the_next_run_completes_the_set(
    whole, store, tmp_path, monkeypatch
):
    out, put = tmp_path / "set", FlakyStore.pipe_file

    def fail_later(self, path, value, mode="overwrite", **how):
        if len(store.puts) == 6:
            store.failures = 99
        return put(self, path, value, mode, **how)

    monkeypatch.setattr(FlakyStore, "pipe_file", fail_later)
    with pytest.raises(
        ResourceError, match=r"flaky://.* the store failed \(ConnectionResetError: the store went away\)"
    ):
        fit_dataset(tiny(), remote(out), **LOCAL)
    monkeypatch.setattr(FlakyStore, "pipe_file", put)
    store.failures = 0
    made = [name for name in files(out) if name.endswith(".h5")]
    assert 0 < len(made) < 10
    assert files(out).items() - files(whole).items() <= {(MANIFEST, (out / MANIFEST).read_bytes())}, "a part was left"

    report = fit_dataset(tiny(), remote(out), **LOCAL)

    assert report.made + report.recovered >= 10 - len(made)
    assert report.missing == 0
    assert files(out) == files(whole)


def test_a_file_gets_its_name_when_it_is_complete_but_where_a_put_is_atomic_at_once(store, tmp_path, monkeypatch):
    (remote(tmp_path) / "a").write_bytes(b"1")
    monkeypatch.setattr(locations, "ATOMIC_PROTOCOLS", {"flaky"})
    (remote(tmp_path) / "b").write_bytes(b"2")
    assert [Path(path).name[:3] for path in store.puts] == [".a.", "b"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_a_data_set_is_read_from_a_store_and_only_what_is_asked_for_is_fetched(whole, tmp_path):
    here, there = INRDataset(whole, "test", views=1), INRDataset(f"flaky://{whole}", "test", views=1)
    assert there.fingerprint == here.fingerprint
    assert (there[0][0] == here[0][0]).all()
    assert [path.name for path in (tmp_path / "cache").rglob("*.h5")] == ["test-view000-00000.h5"]


def test_a_copy_that_was_changed_is_fetched_again_and_a_changed_original_refused(whole, tmp_path):
    here = INRDataset(whole, "test", views=1)
    url = f"flaky://{whole}"
    INRDataset(url, "test", views=1)
    (copy,) = (tmp_path / "cache").rglob("*.h5")
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert INRDataset(url, "test", views=1).fingerprint == here.fingerprint
    broken = tmp_path / "broken"
    fit_dataset(tiny(), broken, **LOCAL)
    victim = broken / "data/test-view000-00000.h5"
    victim.write_bytes(content)
    with pytest.raises(IntegrityError, match="not what was recorded"):
        INRDataset(f"flaky://{broken}", "test", views=1)


def test_status_and_verify_look_at_the_store_itself(whole, tmp_path, capsys):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    url = f"flaky://{out}"
    assert cli.run(["status", url]) == 0
    assert cli.run(["verify", url, "--json"]) == 0
    assert not (tmp_path / "cache").exists()
    assert cli.run(["show", url, "--out", str(tmp_path / "x.png"), "--count", "2"]) == 0
    assert list((tmp_path / "cache").rglob(MANIFEST))
    victim = out / "data/val-view001-00000.h5"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    (out / "data/train-view009-00000.h5").write_bytes(content)
    capsys.readouterr()
    assert cli.run(["verify", url, "--json"]) == 4
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert sorted(fault["path"] for fault in faults) == ["data/train-view009-00000.h5", "data/val-view001-00000.h5"]
    victim.unlink()
    assert cli.run(["status", url]) == 75
    assert cli.run(["verify", url]) == 4
    assert cli.run(["status", "flaky:///nowhere/set"]) == 2


def test_images_in_a_store_are_copied_once_and_give_the_same_set(store, tmp_path, monkeypatch):
    from PIL import Image

    for number in range(10):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number * 20).save(folder / f"{number}.png")
    recipe = tiny(source={"collection": "image_folder", "mode": "grey"}, limit=None, views=1)
    near, far = tmp_path / "near", tmp_path / "far"
    fit_dataset(recipe, near, backend="local", workers=1, data_root=tmp_path / "images")
    fit_dataset(recipe, far, backend="local", workers=1, data_root=remote(tmp_path / "images"))
    assert files(near) == files(far)
    monkeypatch.setattr(locations, "fetch_file", lambda *_: pytest.fail("it was fetched again"))
    assert len(list(fetch_tree(remote(tmp_path / "images")).rglob("*.png"))) == 10
    monkeypatch.undo()
    Image.new("L", (4, 4), 255).save(tmp_path / "images/a/0.png")  # of the size of the black one
    assert (fetch_tree(remote(tmp_path / "images")) / "a/0.png").read_bytes() == (
        tmp_path / "images/a/0.png"
    ).read_bytes()
    with pytest.raises(UsageError, match="has no files"):
        fetch_tree(remote(tmp_path / "nothing"))


def test_a_file_that_would_lie_outside_the_copy_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(RemoteLocation, "infos", lambda self: {"../../x": {"size": 3}})
    with pytest.raises(UsageError, match="outside"):
        fetch_tree(remote(tmp_path))


def test_an_estimate_of_a_set_in_a_store_knows_no_free_disk(tmp_path, capsys):
    assert estimate(tiny(), remote(tmp_path / "set"), **LOCAL).free is None
    assert cli.run(["fit", "digits", "--out", f"flaky://{tmp_path}/set", "--limit", "20", "--dry-run"]) == 0
    assert "free disk" not in capsys.readouterr().out


def test_a_folder_knows_nothing_of_fsspec(whole, monkeypatch, tmp_path):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_: pytest.fail("fsspec was called"))
    fit_dataset(tiny(), tmp_path / "set", **LOCAL)
    assert load_manifest(tmp_path / "set").rows == 48


def test_a_store_that_is_down_is_no_store_without_a_set(whole, store, tmp_path, monkeypatch, capsys):
    down = []

    def info(self, path, **how):
        if down:
            raise ConnectionResetError("the store went away")
        return LocalFileSystem.info(self, path, **how)

    monkeypatch.setattr(FlakyStore, "info", info)
    there = remote(whole)
    assert (there / MANIFEST).exists()
    assert not (there / "nothing").exists()
    down.append(True)
    with pytest.raises(ResourceError, match="the store failed"):
        (there / MANIFEST).exists()
    assert cli.run(["status", str(there)]) == 5
    assert "the store failed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["memory://", "memory:///", "file://"])
def test_a_store_without_a_folder_is_refused(text):
    with pytest.raises(UsageError, match="no folder in it"):
        parse_location(text)
