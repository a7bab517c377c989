"""Public API: `import inr_factory as inr` has everything, loads nothing heavy, and refuses wrong arguments in one line."""

import ast
import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from support.paths import PACKAGE

import inr_factory as inr

DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images / 16)[:60], DIGITS.target[:60]
QUICK = {"hidden_dim": 8, "steps": 60, "learning_rate": 5e-3, "floor_psnr": 0}
NAMES = [name for name in dir(inr) if not name.startswith("_")]


@pytest.fixture(scope="module")
def fitted():
    return inr.fit(IMAGES, views=2, **QUICK)


@pytest.fixture(scope="module")
def dataset(fitted, tmp_path_factory):
    out = tmp_path_factory.mktemp("public") / "mine"
    fitted.save(out, labels=LABELS, classes=[str(name) for name in DIGITS.target_names])
    return out


def test_the_import_loads_nothing_and_knows_its_names():
    code = "import inr_factory as inr, sys; print(inr.__version__, len(dir(inr)), *sys.modules)"
    _, count, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(count) > 60
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "numpy", "h5py", "ray", "pydantic", "typer"}


def test_reading_a_set_by_the_public_names_loads_nothing_of_fitting():
    code = "from inr_factory import INRDataset, INRLoader, open; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.partition(".")[0] for name in loaded} & {"ray", "trimesh", "torchvision", "matplotlib", "rich"}
    assert not any(name.startswith("inr_factory.generation.fitting") for name in loaded)


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"inr_factory.{module}" for name, module in inr._HOMES.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_and_typed(name):
    value = getattr(inr, name)
    assert inspect.getdoc(value), name
    if inspect.isfunction(value):
        parameters = inspect.signature(value).parameters.values()
        untyped = [p.name for p in parameters if p.annotation is p.empty]
        assert not untyped
        assert all(heading in value.__doc__ for heading in (["Args:"] if parameters else []) + ["Returns:"]), name


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="did you mean 'fit_dataset'"):
        _ = inr.fit_datset


def test_the_example_of_the_readme_runs(tmp_path, dataset, fitted):
    assert len(fitted) == 120
    assert fitted.psnr.shape == (120,)
    assert fitted.images(16, 16).shape == (120, 16, 16, 1)
    assert len(fitted[0]) == 1

    data = inr.open(dataset, split="train", views=2)
    transform = inr.parse_transform("rotate2d|scale")
    loader = inr.INRLoader(data, batch_size=16, transform=transform, mixup=inr.MixUp(match="phase"))
    inrs, targets = next(iter(loader))
    assert inrs(inr.pixel_grid(8, 8)).shape == (16, 64, 1)
    assert targets.shape == (16, 10)

    a, b = fitted[:60], fitted[60:]
    aligned = inr.align(b, a, match="phase")
    assert inr.mix(a, aligned, 0.5).images(8, 8).shape == (60, 8, 8, 1)
    assert inr.rotate2d(a, degrees=30).images(8, 8).shape == (60, 8, 8, 1)
    assert inr.psnr(fitted.images(8, 8)[0, ..., 0], IMAGES[0]) == pytest.approx(fitted.psnr[0], abs=0.05)

    run = inr.train(dataset, model="parity", mixup="mixup:match=phase", epochs=1, out=tmp_path / "run")
    assert 0 <= run.evaluate().accuracy <= 1
    assert len(run.predict(dataset, split="val").labels) == len(inr.open(dataset, split="val"))


def test_a_saved_fit_is_the_set_that_a_source_of_the_same_arrays_makes(fitted, tmp_path):
    from inr_factory.generation.sources.memory import image_source

    fitted.save(tmp_path / "saved", name="mine", shard_objects=25)
    recipe = inr.Recipe.model_validate(
        {"name": "mine", "source": {"collection": "own"}, "views": 2, "shard_objects": 25, "spec": {"hidden_dim": 8},
         "fit": {"steps": 60, "learning_rate": 5e-3, "floor_psnr": 0}}
    )  # fmt: skip
    source, _ = image_source(IMAGES)
    inr.fit_dataset(recipe, tmp_path / "made", source=source, backend="local", workers=1)
    shards = {path.name: path.read_bytes() for path in (tmp_path / "saved/data").iterdir()}
    assert shards == {path.name: path.read_bytes() for path in (tmp_path / "made/data").iterdir()}
    report = inr.verify_dataset(tmp_path / "saved")
    assert (report.faults, report.missing) == ((), ())


def test_saving_twice_completes_and_another_set_is_refused(fitted, tmp_path):
    first = fitted.save(tmp_path / "set")
    assert first.name == "set"
    assert fitted.save(tmp_path / "set", name="arrays").shards == first.shards
    with pytest.raises(inr.IntegrityError, match="another --out"):
        inr.fit(IMAGES[:9], **QUICK).save(tmp_path / "set")


def test_coordinates_and_values_are_fitted():
    coords = np.linspace(-1, 1, 50)[:, None]
    values = np.stack([np.sin(3 * coords), np.cos(2 * coords)]) * 5 + 100
    fitted = inr.fit(coords=coords, values=values, hidden_dim=16, omega_0=10, learning_rate=3e-3, target_psnr=35)
    assert (fitted.psnr >= 35).all()
    torch.testing.assert_close(fitted(coords), torch.from_numpy(values).float(), atol=1.0, rtol=0)


def test_uint8_and_tensors_are_the_same_images(fitted):
    bytes_N = (IMAGES[:5] * 16 / 16 * 255).round().astype(np.uint8)
    one = inr.fit(bytes_N, **QUICK).inrs.flatten()
    two = inr.fit(torch.from_numpy(bytes_N)[..., None], **QUICK).inrs.flatten()
    assert torch.equal(one, two)


def test_progress_counts_every_inr():
    calls = []
    inr.fit(IMAGES[:40], on_progress=lambda done, total: calls.append((done, total)), **QUICK)
    assert calls[-1] == (40, 40)
    assert sorted(calls) == calls


def test_failed_fits_are_named():
    with pytest.warns(UserWarning, match="3 of 3 INRs failed"):
        fitted = inr.fit(IMAGES[:3], hidden_dim=8, steps=2, floor_psnr=60, attempts=1)
    assert len(fitted) == 0
    assert [row.object_id for row in fitted.failures] == ["000000", "000001", "000002"]


GRID = inr.pixel_grid(4, 4)
WRONG = {
    "one image": (lambda: inr.fit(IMAGES[0]), r"images\[None\]"),
    "channels first": (lambda: inr.fit(np.zeros((9, 3, 16, 16))), "channels last"),
    "integers": (lambda: inr.fit(DIGITS.images[:3].astype(int)), "uint8"),
    "values to 16": (lambda: inr.fit(DIGITS.images[:3]), "from 0 to 1"),
    "NaN": (lambda: inr.fit(np.full((1, 4, 4), np.nan)), "NaN"),
    "text": (lambda: inr.fit(np.array([["a"]])), "array of numbers"),
    "nothing": (lambda: inr.fit(), "got neither"),
    "coords alone": (lambda: inr.fit(coords=GRID), "coords alone"),
    "both": (lambda: inr.fit(IMAGES, coords=GRID, values=np.zeros((1, 16, 1))), "got both"),
    "coords and values do not pair": (
        lambda: inr.fit(coords=GRID, values=np.zeros((2, 9, 1))),
        "coords must have the shape",
    ),
    "coords in pixels": (lambda: inr.fit(coords=GRID * 9, values=np.zeros((2, 16, 1))), r"\[-1, 1\]"),
    "constant values": (lambda: inr.fit(coords=GRID, values=np.zeros((2, 16, 1))), "nothing to fit"),
    "views": (lambda: inr.fit(IMAGES, views=0), "views"),
    "optimizer": (lambda: inr.fit(IMAGES, optimizer="sgd"), "optimizer"),
    "steps": (lambda: inr.fit(IMAGES, steps=0), "steps"),
    "device": (lambda: inr.fit(IMAGES, device="gpu"), "device"),
    "no set": (lambda: inr.open("/nowhere"), "no data set"),
    "psnr shapes": (lambda: inr.psnr(IMAGES[0], IMAGES[:2]), "shape"),
    "model": (lambda: inr.build_classifier("party", inr.SirenSpec(2, 1), 3), "parity"),
    "location": (lambda: inr.verify_dataset(7), "path or a URL"),
    "recipe": (lambda: inr.fit_dataset("didgits"), "digits"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_line(case):
    call, text = WRONG[case]
    with pytest.raises(inr.UsageError, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


BATCH_WRONG = {
    "align arrays": (lambda a: inr.align(a.flatten(), a), "INRBatch"),
    "match": (lambda a: inr.align(a, a, match="phases"), "phase"),
    "mix": (lambda a: inr.mix(a, a, 2.0), r"\[0, 1\]"),
    "rotate what": (lambda a: inr.rotate2d("a", degrees=3), "INRBatch"),
    "labels": (lambda a: FITTED_LABELS(a), "labels"),
    "index": (lambda a: a[1000], "1000"),
    "coords": (lambda a: a(np.zeros((4, 3))), r"\(P, 2\)"),
    "coords of activations": (lambda a: list(a.activations(None)), "coords must be an array of numbers"),
    "sweeps": (lambda a: inr.align(a, a, max_sweeps=1.5), "max_sweeps must be a whole number"),
    "matches": (lambda a: inr.align(a, a, match=np.array(["signed", "phase"])), "match must be one of"),
    "slice": (lambda a: a[1.5:2], "slices of whole numbers"),
    "masked index": (lambda a: a[np.ma.array([0, 1], mask=[0, 1])], "indexed by whole numbers"),
    "type": (lambda a: a.to(torch.int32), "a device or a floating type"),
    "device": (lambda a: a.to("gpu"), "a device or a floating type"),
    "file": (lambda a: a.save(None), "text or a Path"),
    "surrogates": (lambda a: inr.INRBatch.load("\ud800"), "text or a Path"),
    "array": (lambda a: np.asarray(a), r"flatten\(\)"),
    "transforms": (lambda a: inr.Compose(np.array(1))(a), "list of transforms"),
    "activation": (lambda a: inr.SirenSpec(2, 1, activation=np.zeros(2)), "activation must be one of"),
}
LOADER_WRONG = {
    "rank": (None, "rank must be a whole number"),
    "views_per_object": ("2", "views_per_object must be a whole number"),
    "shuffle": (np.zeros(2), "shuffle must be True or False"),
    "drop_last": (1, "drop_last must be True or False"),
    "num_workers": (10**30, "num_workers must be a whole number from 0 to 1,024"),
    "dataset": (torch.zeros(3), "INRLoader needs an INRDataset"),
}


@pytest.mark.parametrize("option", LOADER_WRONG)
def test_wrong_arguments_of_a_loader_are_one_line(option, dataset):
    value, text = LOADER_WRONG[option]
    with pytest.raises(inr.UsageError, match=text):
        inr.INRLoader(**{"dataset": inr.open(dataset), "batch_size": 4, option: value})


def test_a_batch_is_indexed_backwards(fitted):
    assert torch.equal(fitted.inrs[4:1:-2].flatten(), fitted.inrs[[4, 2]].flatten())


def FITTED_LABELS(fitted):
    return fitted.save("never", labels=[0, 1])


@pytest.mark.parametrize("case", BATCH_WRONG)
def test_wrong_arguments_of_batches_are_one_line(case, fitted):
    call, text = BATCH_WRONG[case]
    with pytest.raises(inr.UsageError, match=text) as caught:
        call(fitted if case == "labels" else fitted.inrs)
    assert "\n" not in str(caught.value)


WRONG_VALUES = {
    "None": None,
    "text": "nonsense",
    "numpy": np.zeros((2, 3)),
    "shape": torch.zeros(7, 5, 3),
    "spec": inr.INRBatch.from_flat(
        inr.SirenSpec(3, 3, hidden_dim=4, activation="relu", start="linear"), torch.zeros(3, 51)
    ),
    "absent": "/absent/path",
    "number": -3,
    "nan": float("nan"),
    "object": object(),
    "list": ["a"],
}
# What is no function of a user's values, asks other machines, or is checked elsewhere (recipes by pydantic).
OTHERS = {"push_dataset", "pull_dataset", "check_environment", "benchmark", "builtin_recipes", "Recipe", "Source"}
GOOD = {"inrs": inr.INRBatch.from_flat(inr.SirenSpec(2, 1, hidden_dim=4), torch.rand(3, 37))}
GOOD |= dict.fromkeys(("a", "b", "moving", "fixed"), GOOD["inrs"])
GOOD |= {"spec": GOOD["inrs"].spec, "name": "mlp", "num_classes": 3, "degrees": 30, "factor": 1.1, "offset": 0.1}


@pytest.mark.parametrize("name", sorted({*NAMES} - OTHERS - {error for error in NAMES if error.endswith("Error")}))
def test_wrong_arguments_of_every_public_name_are_refused_in_one_line(name, tmp_path, monkeypatch):
    """Faults, section 5: they ended in AttributeErrors of internals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    function = getattr(inr, name)
    parameters = inspect.signature(function).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    optional = [p.name for p in parameters if p.default is not p.empty]
    messages = []
    for wrong in WRONG_VALUES.values():
        calls = [dict.fromkeys(required, wrong)]
        if {*required} <= {*GOOD}:
            good = {key: GOOD[key] for key in required}
            keys = [key for key in (*required, *optional) if key not in ("on_epoch", "on_step", "log", "out")]
            calls += [{**good, key: wrong} for key in keys]
        for call in calls:
            try:
                function(**call)  # some values are right: a number for an angle, None for a default
            except (inr.FactoryError, inr.SignalError) as error:
                messages.append(str(error))
    assert not [message for message in messages if "\n" in message or len(message) > 500]


def test_labels_may_be_names_of_classes(fitted, tmp_path):
    words = np.array(["cat", "dog"])[LABELS % 2]
    numbers = fitted.save(tmp_path / "numbers", labels=LABELS % 2, classes=["cat", "dog"])
    names = fitted.save(tmp_path / "names", labels=words.tolist())
    assert names.classes == ("cat", "dog")
    assert names.fingerprint == numbers.fingerprint
    assert fitted.save(tmp_path / "order", labels=words, classes=["dog", "cat"]).classes == ("dog", "cat")
    with pytest.raises(inr.UsageError, match="labels has 'dog', which is not in classes"):
        fitted.save(tmp_path / "x", labels=words, classes=["cat"])


def test_two_classes_of_one_name_are_refused(fitted, tmp_path):
    with pytest.raises(inr.UsageError, match="2 classes named 'a'; each needs a name of its own"):
        fitted.save(tmp_path / "x", labels=LABELS % 2, classes=["a", "a"])
