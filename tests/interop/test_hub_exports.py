"""Hub exports: an export to Parquet arrives with its card, among no other files, and takes no others of this machine along."""

import pytest
from support.small_sets import make_set
from support.stand_in_hub import used_hub

import inr_factory as inr
from inr_factory.cli.main import run

pytest.importorskip("huggingface_hub", reason="huggingface_hub (the extra hub) is not installed")
pytest.importorskip("pyarrow", reason="pyarrow (the extra exchange) is not installed")
constants = pytest.importorskip("huggingface_hub.constants")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "someone/rows"


@pytest.fixture
def hub(monkeypatch):
    with used_hub(monkeypatch) as hub:
        yield hub


@pytest.fixture
def export(tmp_path):
    """Two views of nineteen objects."""
    make_set(tmp_path / "set", views=2)
    inr.export_dataset(tmp_path / "set", "parquet", tmp_path / "rows")
    return tmp_path / "rows"


def test_an_export_arrives_with_its_card_and_its_sidecar_last(hub, export, capsys):
    assert run(["push", str(export), REPO, "--json"]) == 0
    assert f"{hub.url}/" in capsys.readouterr().out
    assert hub.files(REPO) == {path.name: path.read_bytes() for path in export.iterdir()}
    assert hub.commits[-1] == ["README.md", "inr_factory.json"]
    lines = []
    inr.push_export(export, REPO, on_step=lines.append)
    assert lines == ["12 of 12 files sent"]


def test_an_export_is_not_pushed_among_files_of_another(hub, export):
    inr.push_export(export, REPO)
    inr.export_dataset(export.parent / "set", "parquet", export.parent / "less", views=1)
    with pytest.raises(inr.UsageError, match=r"someone/rows has \S+view001\S+, which \S+less has not"):
        inr.push_export(export.parent / "less", REPO)
    assert "view001" in "".join(hub.files(REPO))


def test_what_is_incomplete_or_no_export_is_refused(hub, export):
    inr.export_dataset(export.parent / "set", "safetensors", export.parent / "other")
    for folder in (export.parent / "other", export.parent / "set", export.parent / "nothing"):
        with pytest.raises(inr.UsageError, match="is no export to Parquet"):
            inr.push_export(folder, REPO)
    min(export.glob("*.parquet")).unlink()
    assert run(["push", str(export), REPO]) == 4
    assert hub.repos == {}


def test_a_sidecar_cannot_have_other_files_of_this_machine_uploaded(hub, export):
    (export.parent / "secret").write_text("a key")
    sidecar = export / "inr_factory.json"
    name = min(export.glob("*.parquet")).name
    sidecar.write_text(sidecar.read_text().replace(f'"{name}"', '"../secret"'))
    with pytest.raises(inr.IntegrityError, match="leads out of"):
        inr.push_export(export, REPO)
    assert hub.log == []
