"""Source checks: what a Source written in Python may not be, refused in one line before or while it is fitted."""

import random
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from support.tiny_recipes import LOCAL, tiny

from inr_factory.cli.main import run
from inr_factory.errors import UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.signal_stack import stack_signals
from inr_factory.generation.signals import Item, Signal, SignalError, Truth
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.storage.manifest_file import load_manifest

pytestmark = pytest.mark.faults


class Ramps:
    """Six images of 4x4 pixels, in three splits."""

    name, version, licence, fingerprint = "ramps", "1", "CC0", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("up", "down")

    def __init__(self):
        self.items = [Item(f"ramp {number}", number % 2, ("train", "val", "test")[number // 2]) for number in range(6)]

    def signal(self, index, view=0):
        return Signal(pixel_grid(4, 4), torch.linspace(0, 1, 16)[:, None] * (index + 1) / 6)


def fit(source, out):
    return fit_dataset(tiny(source={"collection": "own"}, limit=None, views=1), out, source=source, **LOCAL)


def test_a_source_written_in_python_is_fitted(tmp_path):
    assert fit(Ramps(), tmp_path / "set").manifest.rows == 6


def test_status_extends_such_a_set_by_a_call_in_python(tmp_path, capsys):
    fit(Ramps(), tmp_path / "set")
    assert run(["status", str(tmp_path / "set")]) == 0
    expected = f"to extend it: in Python: inr_factory.fit_dataset({str(tmp_path / 'set')!r}, source=..., views=2)"
    assert expected in capsys.readouterr().err.splitlines()


def items(*more, **first):
    """Six items, of which the first is changed, and more of them."""
    return lambda source: setattr(source, "items", [replace(source.items[0], **first), *source.items[1:], *more])


def member(name, value):
    return lambda source: setattr(source, name, value)


class Shuffled(Ramps):
    """Items in another order at each call."""

    calls = 0

    @property
    def items(self):
        type(self).calls += 1
        return self.listed if self.calls % 2 else self.listed[::-1]

    @items.setter
    def items(self, items):
        self.listed = items


class Fewer(list):
    """A list that claims more objects than it has."""

    def __len__(self):
        return super().__len__() + 1


class Failing(Ramps):
    @property
    def fingerprint(self):
        raise KeyError("no network")


class Changing(Ramps):
    @property
    def fingerprint(self):
        return f"{random.random()}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: 5, "source must be a Source, got int without name, version"),
        (lambda source: source.items.append("ramp"), r"source.items\[6\] must be an Item, got str"),
        (lambda source: source.items.append(source.items[0]), "2 objects named ramp 0; each needs a name of its own"),
        (
            lambda source: source.items.append(Item("x", 2, None)),
            "object x has the label 2, source.classes has 2 names",
        ),
        (lambda source: source.items.append(Item("x", 1, "dev")), "object x has the split 'dev', expected train, val"),
        (lambda source: source.items.clear(), "the source has no objects"),
        (items(Item("ramp 0", 0, "test")), "2 objects named ramp 0; each needs a name of its own"),
        *(
            (items(label=label), "object ramp 0 has the label .*whole numbers")
            for label in (0.9, 1.0, -1, True, "0", None)
        ),
        *((items(label=label), "object ramp 0 has the label") for label in (np.float32(0), np.bool_(True), 2**40, [0])),
        *(
            (items(object_id=name), r"source.items\[0\] has the object_id .*expected 1 to")
            for name in (
                "",
                "x\0",
                "a\nb",
                "\x1b[31m",
                "\x85",
                "\u2028",
                "\ud800",
                "x" * 5000,
                7,
                None,
                b"x",
            )
        ),
        *((items(split=split), "object ramp 0 has the split") for split in ("", "Train", "validation", 0, True)),
        *(
            (member("classes", classes), r"source.classes.* must be")
            for classes in (
                "ab",
                ("up", 1),
                ("up", ""),
                ("up", "a\nb"),
                ("up", "\ud800"),
                2,
                None,
            )
        ),
        (member("classes", ("up", "up")), "source.classes has 2 classes named 'up'"),
        *((member("name", name), "source.name must be a line of text") for name in ("", "a\nb", 5, None)),
        *((member("licence", text), "source.licence must be text, got") for text in (None, "\ud800")),
        *((member("fingerprint", text), "source.fingerprint must be a line of text") for text in ("", 5, "a\0")),
        *(
            (member("in_dim", dim), "source.in_dim must be a whole number from 1")
            for dim in (0, 2.0, True, "2", -1, 65)
        ),
        (member("items", None), "source.items must be a list or tuple of Items, got NoneType"),
        (lambda source: Shuffled(), "source.items differs from call to call"),
        (lambda source: setattr(source, "items", Fewer(source.items)), "source.items differs from call to call"),
        (lambda source: Failing(), "source.fingerprint raised KeyError: 'no network'"),
        (lambda source: Changing(), "source.fingerprint differs from call to call"),
    ],
)
def test_a_source_that_cannot_be_fitted_is_refused_before_anything_is_written(tmp_path, change, message):
    source = Ramps()
    changed = change(source)

    with pytest.raises(UsageError, match=message) as caught:
        fit(source if changed is None else changed, tmp_path / "set")

    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("text", ["cannot read caf\udce9.png", "", "x" * 100_000])
def test_the_reasons_of_a_source_never_make_the_manifest_unreadable(tmp_path, text):
    source, good = Ramps(), Ramps().signal

    def signal(index, view=0):
        if index == 0:
            raise SignalError(text)
        return good(index, view)

    source.signal = signal
    fit(source, tmp_path / "set")

    reasons = {row.reason for row in load_manifest(tmp_path / "set").quarantine}
    assert reasons == {text.replace("\udce9", "\\udce9")[:2000] or "it has no signal"}


def test_objects_and_numbers_of_numpy_are_taken(tmp_path):
    source = Ramps()
    source.items = np.array(source.items, dtype=object)
    source.in_dim, source.out_dim = np.int64(source.in_dim), np.int32(source.out_dim)

    assert fit(source, tmp_path / "set").inrs == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (items(label=1), "has ramp 0 with the label 0, the source now has the label 1"),
        (items(object_id="other"), "has ramp 0 with the label 0, the source now has no such object"),
        (lambda source: source.items.pop(), "was begun with 6 objects, the source now gives 5"),
        (
            lambda source: source.items.append(Item("new", 0, "train")),
            "was begun with 6 objects, the source now gives 7",
        ),
        (member("classes", ("down", "up")), r"has the classes \('up', 'down'\), the source now \('down', 'up'\)"),
    ],
)
def test_objects_that_change_under_one_fingerprint_are_refused_when_a_set_continues(tmp_path, change, message):
    fit(Ramps(), tmp_path / "set")
    source = Ramps()
    change(source)

    recipe = tiny(source={"collection": "own"}, limit=None, views=2)
    with pytest.raises(UsageError, match=message):
        fit_dataset(recipe, tmp_path / "set", source=source, **LOCAL)
    assert fit_dataset(recipe, tmp_path / "set", source=Ramps(), **LOCAL).manifest.rows == 12


def test_a_dry_run_refuses_the_same_sources(tmp_path):
    source = Ramps()
    source.items[3] = Item("ramp 3", 0.9, None)

    with pytest.raises(UsageError, match=r"object ramp 3 has the label 0\.9"):
        estimate(tiny(source={"collection": "own"}, limit=None), tmp_path / "set", source=source, backend="local")


def test_names_that_differ_in_case_or_normalisation_stay_two_objects(tmp_path):
    source = Ramps()
    names = ["caf\u00e9", "cafe\u0301", "a", "A", "x", "x "]
    source.items = [Item(name, np.int64(index % 2), "train") for index, name in enumerate(names)]

    splits = {"val": 0, "test": 0}
    recipe = tiny(source={"collection": "own"}, limit=None, views=1, splits=splits)
    fit_dataset(recipe, tmp_path / "set", source=source, **LOCAL)

    with h5py.File(tmp_path / "set/data/train-view000-00000.h5") as shard:
        assert [name.decode() for name in shard["object_id"][:]] == names
        assert shard["label"][:].tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (lambda good: good.targets.numpy(), r"ramps: signal\(\) of ramp \d must be a Signal, got ndarray"),
        (lambda good: replace(good, targets=np.zeros((16, 3), np.float32)), "2 coordinates and 3 values a point"),
        (lambda good: replace(good, coords=torch.zeros(16, 3)), "3 coordinates and 1 values a point"),
        (lambda good: replace(good, coords=2 * good.coords), r"of ramp \d has coords up to 2 from 0"),
        *(
            (lambda good, peak=peak: replace(good, peak=peak), r"of ramp \d has the peak")
            for peak in (
                0,
                -1.0,
                float("nan"),
                float("inf"),
                "1",
                None,
            )
        ),
        *(
            (lambda good, name=name: replace(good, facts={name: 1}), r"of ramp \d has a fact .*column of every shard")
            for name in ("weights", "label", "view", "psnr", "object_id", "checksum", "steps", "iou", "chamfer")
        ),
        *(
            (lambda good, name=name: replace(good, facts={name: 1}), r"of ramp \d has a fact .*names of facts are text")
            for name in ("", "a/b", ".", "a\nb", 5, "x" * 300, "\ud800")
        ),
        *(
            (lambda good, fact=fact: replace(good, facts={"pitch": fact}), r"of ramp \d has the fact pitch")
            for fact in (float("nan"), float("inf"), "high", None, 2**31, [1], 1j)
        ),
        (lambda good: replace(good, facts=["pitch"]), r"of ramp \d has the facts .'pitch'., expected numbers by"),
        *(
            (lambda good, field=field: replace(good, field=field), r"of ramp \d has the field .*, expected one of")
            for field in ("SDF", None, ["sdf"])
        ),
        *(
            (lambda good, truth=truth: replace(good, field="sdf", truth=truth), r"of ramp \d has the truth .* in space")
            for truth in (5, Truth(torch.zeros(4, 2), torch.zeros(4, 1), torch.zeros(4, 2)))
        ),
    ],
)
def test_a_signal_that_does_not_fit_its_source_stops_the_fit(tmp_path, signal, message):
    source, good = Ramps(), Ramps().signal(0)
    source.signal = lambda index, view=0: signal(good)

    with pytest.raises(UsageError, match=message) as caught:
        fit(source, tmp_path / "set")

    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "set").glob("data/*"))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (lambda index: {"pitch": 1.5} if index != 4 else {}, "ramp 4 has the facts none, the first object has pitch"),
        (lambda index: {"pitch": 1} | ({"extra": 2} if index == 5 else {}), "ramp 5 has the facts extra, pitch"),
        (lambda index: {"pitch": 3 if index < 3 else 3.5}, "ramp 3 has the fact pitch = 3.5, the first object a whole"),
    ],
)
def test_facts_that_differ_among_objects_are_refused_in_any_shard(tmp_path, facts, message):
    source = Ramps()
    signal_of = source.signal
    source.signal = lambda index, view=0: replace(signal_of(index), facts=facts(index))

    with pytest.raises(UsageError, match=message):
        fit(source, tmp_path / "set")


def test_whole_numbers_among_floats_are_floats_in_every_shard(tmp_path):
    source = Ramps()
    signal_of = source.signal
    source.signal = lambda index, view=0: replace(signal_of(index), facts={"pitch": 3.5 if index < 2 else np.int64(3)})

    fit(source, tmp_path / "set")

    for path in (tmp_path / "set/data").iterdir():
        with h5py.File(path) as shard:
            assert shard["pitch"].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda stack: stack[: len(stack) - 1],
            "signal_stack.* of 2 objects must be a SignalStack of them, got 1 signals",
        ),
        (lambda stack: list(stack), "must be a SignalStack of them, got list"),
        (lambda stack: replace(stack, values=stack.values * float("nan")), "of ramp 0 has values that are NaN"),
        (lambda stack: replace(stack, coords=3 * stack.coords), "have.*|has coords up to 3"),
        (lambda stack: replace(stack, facts={"weights": 1}), "a fact weights"),
        (lambda stack: replace(stack, coords=stack.coords[1:]), "expected .P, I."),
    ],
)
def test_a_stack_of_signals_is_checked_too(tmp_path, change, message):
    source = Ramps()
    one = source.signal
    source.signal_stack = lambda indices, view=0: change(stack_signals([one(index) for index in indices], False))

    with pytest.raises(UsageError, match=message):
        fit(source, tmp_path / "set")
