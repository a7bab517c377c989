"""YAML files: YAML 1.2, the values of yesterday's recipes and sweeps, and one line for every fault."""

import math
from pathlib import Path

import pytest
import yaml as pyyaml

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import builtin_recipes, load_recipe
from inr_factory.storage.yaml_files import dump_yaml, load_yaml, parse_yaml

PIPELINES = Path(__file__).parents[2] / "pipelines"
FILES = sorted([*PIPELINES.glob("recipes/*.yaml"), *PIPELINES.glob("sweeps/*.yaml")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipes_and_sweeps_hold_the_values_that_pyyaml_read(path):
    assert load_yaml(path, "it") == pyyaml.safe_load(path.read_text())


def test_there_are_recipes_and_sweeps():
    assert {path.parent.name for path in FILES} == {"recipes", "sweeps"}


# What YAML 1.1, in PyYAML, read otherwise.
@pytest.mark.parametrize(
    ("text", "value", "before"),
    [
        ("5e-3", 0.005, "5e-3"),
        ("1e5", 1e5, "1e5"),
        ("no", "no", False),
        ("on", "on", True),
        ("Yes", "Yes", True),
        ("0777", 777, 511),
        ("0o17", 15, "0o17"),
        ("08", 8, "08"),
        ("1:30", "1:30", 90),
        ("1e400", math.inf, "1e400"),
    ],
)
def test_values_that_differ_do_so_on_purpose(text, value, before):
    assert pyyaml.safe_load(text) == before
    assert parse_yaml(text, "it") == value
    assert type(parse_yaml(text, "it")) is type(value)


@pytest.mark.parametrize(
    "text",
    ["5.0e-3", "1_000", ".5", "~", "null", "true", "False", "0x1F", ".inf", "2024-01-01", "'no'", "a: [1, {b: c}]", ""],
)
def test_all_other_values_are_as_before(text):
    assert parse_yaml(text, "it") == pyyaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", '^it is not YAML: found duplicate key "a" in line 3, column 1$'),
        ("a: {b: 1, b: 2}", 'found duplicate key "b" in line 1, column 11$'),
        ("a: b: c", "is not YAML: mapping values are not allowed here in line 1, column 5$"),
        ("a: !!python/name:os.system", "could not determine a constructor for the tag"),
        ("a: 2024-13-45", "is not YAML: month must be"),
        ("a: \x07", "special characters are not allowed"),
        ("---\na: 1\n---\nb: 2", "but found another document in line 3"),
        ("[" * 5000, "nested too deeply"),
        ("[" * 150 + "]" * 150, "nested too deeply"),
        ("&a [*a]", "nested too deeply, or within itself"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in ("bc", "cd", "de", "ef")
        ), "stand for more than 100,000 values"),
    ],
    ids=range(11),
)  # fmt: skip
def test_faults_are_one_line(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_yaml(text, "it")

    assert "\n" not in str(caught.value)


def test_merge_keys_may_be_overruled():
    assert parse_yaml("base: &b {a: 1, c: 2}\nnext: {<<: *b, a: 3}", "it")["next"] == {"a": 3, "c": 2}


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_recipe_that_was_written_is_read(name):
    fields = load_recipe(name).model_dump(mode="json")

    text = dump_yaml(fields)

    assert parse_yaml(text, "it") == fields
    assert list(parse_yaml(text, "it")) == list(fields), "the order of keys"
    assert pyyaml.safe_load(pyyaml.safe_dump(fields)) == fields


def test_a_small_number_is_written_so_that_it_is_read():
    fields = {"rate": 1e-05, "text": "no", "number": "5e-3", "none": None, "list": [1, 2.5], "empty": [], "map": {}}

    assert parse_yaml(dump_yaml(fields), "it") == fields
    assert dump_yaml({"b": [1], "a": "x"}) == "b:\n- 1\na: x\n"
