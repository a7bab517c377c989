"""Encoders of users: a class with a name is trained, loaded and compared like those of the package."""

import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch
from support.small_sets import make_set

import inr_factory as inr
from inr_factory.cli.option_checks import check_training
from inr_factory.learning.models import encoder as encoders
from inr_factory.learning.models import registry
from inr_factory.learning.models.checkpoint import load_classifier
from inr_factory.learning.models.registry import build_encoder

SPEC = inr.SirenSpec(2, 1, 8, 2, 20)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(encoders, "NAMED", dict(encoders.NAMED))
    monkeypatch.setattr(registry, "NAMED", encoders.NAMED)


def tiny(name="tiny", width=None, keeps=True, sets=True):
    class Tiny(inr.Encoder):
        def __init__(self, spec, *, hidden_dim=8):
            super().__init__(spec, **({"hidden_dim": hidden_dim} if keeps else {}))
            self.mix = torch.nn.Linear(spec.hidden_dim, hidden_dim)
            if sets:
                self.features = hidden_dim

        def forward(self, inrs, original=None):
            return self.mix(inrs.weights[-1][:, 0])[:, :width]

    return type(name.title(), (Tiny,), {"name": name, "__module__": __name__})


def test_it_is_trained_evaluated_and_loaded_by_its_name(tmp_path):
    tiny()
    make_set(tmp_path / "set")

    run = inr.train(tmp_path / "set", model="tiny:hidden_dim=4", epochs=2, out=tmp_path / "run")

    assert run.evaluate(split="val").count > 0
    model = load_classifier(tmp_path / "run" / "best.pt")
    assert (model.encoder.name, model.encoder.options, model.head.in_features) == ("tiny", {"hidden_dim": 4}, 4)
    again = inr.train(tmp_path / "set", model="tiny:hidden_dim=4", epochs=3, out=tmp_path / "run")
    assert len(again.history) == 3


def test_a_checkpoint_names_an_encoder_that_is_not_imported(tmp_path):
    tiny()
    make_set(tmp_path / "set")
    inr.train(tmp_path / "set", model="tiny", epochs=1, out=tmp_path / "run")
    del encoders.NAMED["tiny"]

    with pytest.raises(inr.UsageError, match=r"best.pt: no encoder is called 'tiny'; .*its module is imported") as e:
        load_classifier(tmp_path / "run" / "best.pt")

    assert "\n" not in str(e.value)


def test_an_installed_package_names_one_by_an_entry_point(monkeypatch, tmp_path):
    (tmp_path / "readers_of_mine.py").write_text(
        "import inr_factory as inr\n"
        "class Mine(inr.Encoder):\n"
        "    name = 'mine'\n"
        "    def __init__(self, spec):\n"
        "        super().__init__(spec)\n"
        "        self.features = spec.out_dim\n"
        "    def forward(self, inrs, original=None):\n"
        "        return inrs.biases[-1]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints(
        EntryPoint(name, value, "inr_factory.encoders")
        for name, value in [
            ("mine", "readers_of_mine:Mine"),
            ("lost", "readers_of_mine:Lost"),
            ("bad", "bad_readers:Bad"),
            ("json", "json:dumps"),
        ]
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))

    make_set(tmp_path / "set")
    check_training(tmp_path / "set", "mine", [])
    with pytest.raises(inr.UsageError, match="unknown model 'mines'"):
        check_training(tmp_path / "set", "mines", [])
    assert "readers_of_mine" not in sys.modules  # the first check imports nothing
    assert type(build_encoder("mine", SPEC)).__name__ == "Mine"
    with pytest.raises(
        inr.UsageError, match=r"entry point lost = readers_of_mine:Lost cannot be imported: module .* has no"
    ):
        build_encoder("lost", SPEC)
    (tmp_path / "bad_readers.py").write_text("1 / 0\n")
    with pytest.raises(inr.UsageError, match="entry point bad = bad_readers:Bad cannot be imported: division by zero"):
        build_encoder("bad", SPEC)
    with pytest.raises(inr.UsageError, match=r"entry point json = json:dumps is no inr.Encoder with the name 'json'"):
        build_encoder("json", SPEC)


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (
            {"keeps": False},
            r"tiny does not keep hidden_dim; give all options to super\(\).__init__\(spec, hidden_dim=...\)",
        ),
        ({"sets": False}, "tiny must set self.features, a whole number"),
    ],
)
def test_what_it_must_have_is_said_in_one_line(faults, words):
    tiny(**faults)
    with pytest.raises(inr.UsageError, match=words):
        build_encoder("tiny", SPEC, hidden_dim=4)


def test_features_of_another_width_are_refused(tmp_path):
    tiny(width=3)
    make_set(tmp_path / "set")
    with pytest.raises(
        inr.UsageError, match=r"tiny must return \(\d+, 8\) features, as its `features` says; got \(\d+, 3\)"
    ):
        inr.train(tmp_path / "set", model="tiny", epochs=1, out=tmp_path / "run")


def test_a_name_is_taken_once_but_a_cell_can_run_again():
    first, second = tiny(), tiny()
    assert registry.encoder_class("tiny") is second is not first
    with pytest.raises(inr.UsageError, match=r"ParityEncoder is called 'parity' already; take another name"):
        tiny("parity")
    with pytest.raises(inr.UsageError, match="'forward' is an earlier name of parity; take another name"):
        tiny("forward")
    with pytest.raises(inr.UsageError, match="the name of an encoder starts with a small letter"):
        tiny("my:net")
