"""Recipes: what a file, its base and overrides say, what they may not say, and what the fingerprint covers."""

import json
import re
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from inr_factory.errors import UsageError
from inr_factory.generation import recipe as module
from inr_factory.generation.recipe import (
    Recipe,
    all_settings,
    builtin_recipes,
    check_recipe,
    load_recipe,
    recorded_recipe,
    summarize_recipes,
)
from inr_factory.storage.yaml_files import load_yaml

MINIMAL = {"name": "tiny", "source": {"collection": "digits"}}
FOLDER = {"name": "tiny", "source": {"collection": "image_folder"}}
FREE = {"name", "views", "quarantine_threshold"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Built-in recipes of these tests alone."""
    recipes = {
        "tiny": MINIMAL,
        "small": {"base": "tiny", "fit": {"steps": 7, "lanes": 4}, "source": {"size": [8, 6]}},
        "smaller": {"base": "small", "fit": {"steps": 5}, "source": {"size": None}},
        "hen": {"base": "egg"},
        "egg": {"base": "hen"},
    }
    for name, fields in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({k: v for k, v in fields.items() if k != "name"}))
    monkeypatch.setattr(module, "recipe_folder", lambda: tmp_path)
    return tmp_path


def leaves(fields, prefix=""):
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def refusal(fields, **changes):
    with pytest.raises(UsageError) as caught:
        check_recipe({**fields, **changes}, origin="mine.yaml")
    message = str(caught.value)
    assert message.startswith("recipe mine.yaml: ")
    assert "\n" not in message
    return message


def test_the_recipes_that_are_built_in_load():
    for name in builtin_recipes():
        assert load_recipe(name).name == name


def test_summaries_of_built_in_recipes_have_views_and_the_first_comment():
    summaries = {summary.name: summary for summary in summarize_recipes()}

    assert summaries.keys() == builtin_recipes().keys()
    assert summaries["mnist_10view"].views == 10
    assert summaries["mnist_1view"].about == "MNIST, one view an object."
    assert all(len(summary.about) > 20 for summary in summaries.values())


@pytest.mark.parametrize(
    ("name", "fingerprints"),
    [
        ("mnist_40db", ("670fdab5f9ae9261", "46edb90bfb07ebbf")),
        ("cifar10_40db", ("b2a35767dfabed15", "840fb139696fdd59")),
        ("dwsnets_mnist", ("6466847e8a746b3c", "0b099aab8e0ef314")),
    ],
)
def test_recipes_of_40_db_make_the_shards_that_the_short_names_made(name, fingerprints):
    """Figures of the recipes mnist and cifar10 before they changed their meaning."""
    assert tuple(load_recipe(name, version=version).fingerprint for version in (1, 2)) == fingerprints


def test_sets_of_dwsnets_fashion_mnist_that_began_with_omega_0_20_are_continued_so():
    former = [load_recipe("dwsnets_fashion_mnist", ["spec.omega_0=20"], version=version) for version in (1, 2)]
    assert [recipe.fingerprint for recipe in former] == ["ba217a26e65d13d8", "8b3f61a80c257d06"]


def test_the_recipes_of_published_inrs_have_their_omega_0():
    for name in ("dwsnets_mnist", "dwsnets_fashion_mnist", "mnist_40db", "fashion_mnist_40db"):
        assert load_recipe(name).spec.omega_0 == 30.0, name


def test_built_in_recipes_are_the_yaml_files_of_their_folder(folder):
    (folder / "README.md").write_text("no recipe")

    assert sorted(builtin_recipes()) == ["egg", "hen", "small", "smaller", "tiny"]
    assert load_recipe("tiny") == check_recipe(MINIMAL, "here")
    assert load_recipe(str(folder / "tiny.yaml")) == load_recipe("tiny")


def test_a_recipe_begins_from_its_base_and_changes_what_it_says(folder):
    small, smaller = load_recipe("small"), load_recipe("smaller")

    assert (small.name, small.fit.steps, small.fit.lanes, small.source.size) == ("small", 7, 4, (8, 6))
    assert (smaller.name, smaller.fit.steps, smaller.fit.lanes, smaller.source.size) == ("smaller", 5, 4, None)
    assert smaller.source.collection == "digits"
    assert load_recipe("tiny").fit.steps == 1000, "a base was changed by those that begin from it"


def test_recipes_that_begin_from_each_other_are_refused(folder):
    with pytest.raises(UsageError, match=r"hen inherits from itself: hen -> egg -> hen$"):
        load_recipe("hen")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("fit.steps=500", "fit.steps", 500),
        ("fit.learning_rate=1e-3", "fit.learning_rate", 0.001),
        ("fit.target_psnr=null", "fit.target_psnr", None),
        ("fit.tf32=true", "fit.tf32", True),
        ("source.size=[28, 20]", "source.size", (28, 20)),
        ("source.size=28", "source.size", 28),
        ("splits.val=0.25", "splits.val", 0.25),
        ("splits={val: 3, test: 4}", "splits.test", 4),
        ("source.mode=rgb", "source.mode", "rgb"),
        ("name=other", "name", "other"),
        (" views = 3", "views", 3),
    ],
)
def test_overrides_lie_over_the_file(folder, override, key, value):
    found = load_recipe("small", [override])

    before = load_recipe("small")
    for part in key.split("."):
        found, before = getattr(found, part), getattr(before, part)
    assert found == value
    assert type(found) is type(value)
    assert before != value, "the override says what stood there"


def test_the_last_override_wins_and_its_neighbours_stay(folder):
    recipe = load_recipe("small", ["fit.steps=1", "fit.attempts=2", "fit.steps=3"])

    assert (recipe.fit.steps, recipe.fit.attempts, recipe.fit.lanes) == (3, 2, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit.steps", "takes key=value, got 'fit.steps'"),
        ("=5", "takes key=value"),
        ("fit.stpes=5", "no key 'fit.stpes': did you mean 'fit.steps'"),
        ("steps=5", "no key 'steps': did you mean 'fit.steps'"),
        ("fitt=5", "no key 'fitt': did you mean 'fit'"),
        ("fit.steps=[1", "--set fit.steps=.1 is not YAML"),
        ("fit.steps=2024-13-45", "is not YAML: month must be"),
        ("fit.steps=!!python/name:os.system", "is not YAML"),
        ("name.inner=5", "name holds a value, not keys"),
        ("fit=5", "fit: input should be"),
        ("views=", "views: input should be a valid integer, got None"),
        ("spec.widths=[0]", "spec.widths.0: input should be greater than or equal to 1, got 0"),
        ("spec.widths=[]", "spec.widths: list should have at least 1 item, not 0"),
        ("spec.widths=8", "spec.widths: input should be a valid list, got 8"),
        ("spec.widths=[8, x]", "spec.widths.1: input should be a valid integer"),
        ("spec.activation=selu", "spec.activation: unknown value 'selu'; did you mean 'relu'"),
        ("spec.coordinates=false", "spec: coordinates must be true, or false for INRs with frequencies"),
        (
            "spec={activation: tanh, first_omega_0: 300}",
            "spec: first_omega_0 must be positive, and None for INRs of other",
        ),
        ("spec.frequencies=33", "spec.frequencies: input should be less than or equal to 32, got 33"),
        ("spec.first_frequency=0", "spec.first_frequency: input should be greater than"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(folder, override, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe("small", [override])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smal", "no recipe 'smal': did you mean 'small'"),
        ("zzz", "known: egg, hen, small, smaller, tiny"),
        ("nowhere.yaml", "no recipe file or data set nowhere.yaml"),
        ("./nowhere", "no recipe file or data set ./nowhere"),
    ],
)
def test_an_unknown_recipe_names_the_nearest(folder, name, message):
    with pytest.raises(UsageError, match=message):
        load_recipe(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b: c", "bad.yaml is not YAML: mapping values"),
        (b"- a\n- b\n", "must be a mapping of keys to values, got list"),
        (b"", "must be a mapping of keys to values, got NoneType"),
        (b"name: \xff\xfe", "bad.yaml cannot be read"),
        (b"base: smal", "did you mean 'small'"),
        (b"source: {collection: digits}\nfit: {1: 2}", "fit.1: keys should be strings"),
        (
            b"fit: {steps: 1}\nviews: 2\nfit: {steps: 2}",
            r'found duplicate key "fit" in line 3, column 1',
        ),
        (b"fit: {steps: 1, steps: 1}", 'found duplicate key "steps"'),
    ],
)
def test_a_file_that_is_no_recipe_is_told_in_one_line(folder, content, message):
    (folder / "bad.yaml").write_bytes(content)

    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(str(folder / "bad.yaml"))

    assert "\n" not in str(caught.value)


def test_what_is_merged_in_may_be_overruled_again_and_again(folder):
    (folder / "merged.yaml").write_text(
        "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\nd: {<<: *b, y: 4}\n"
    )
    found = load_yaml(folder / "merged.yaml", "it")
    assert found == {"a": {"x": 1, "y": 1}, "b": {"x": 2, "y": 1}, "c": {"x": 3, "y": 1}, "d": {"x": 2, "y": 4}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": {"steps": 0}}, "fit.steps: input should be greater than or equal to 1, got 0"),
        ({"fit": {"steps": "many"}}, "fit.steps: input should be a valid integer"),
        ({"fit": {"lanes": 1}}, "fit.lanes: input should be greater than or equal to 2"),
        ({"fit": {"learning_rate": float("nan")}}, "fit.learning_rate: "),
        ({"fit": {"target_psnr": float("inf")}}, "fit.target_psnr: input should be a finite number"),
        ({"fit": None}, "fit: input should be"),
        ({"spec": {"start": "sirn"}}, "spec.start: unknown value 'sirn'; did you mean 'siren'"),
        ({"source": {"collection": "digit"}}, "unknown value 'digit'; did you mean 'digits'"),
        ({"source": {"collection": ["digits"]}}, "unknown value"),
        ({"source": {}}, "the key 'source.collection' is missing"),
        ({"source": {"collection": "digits", "size": [0, 2]}}, "source.size"),
        ({"source": FOLDER["source"] | {"background": None}}, "source.background: .*'#rrggbb' in quotes"),
        ({"source": FOLDER["source"] | {"background": 255}}, "source.background: .*a grey from 0 to 1, .*got 255"),
        ({"source": FOLDER["source"] | {"background": [0, 0, 255]}}, "source.background: .*got .0, 0, 255."),
        ({"source": FOLDER["source"] | {"background": True}}, "source.background: .*got True"),
        ({"source": FOLDER["source"] | {"background": "#fff000f"}}, "source.background: .*got '#fff000f'"),
        ({"source": FOLDER["source"] | {"value_range": [4095, 0]}}, "source.value_range: .*low below high"),
        ({"source": FOLDER["source"] | {"value_range": [0, float("inf")]}}, "source.value_range: "),
        ({"source": FOLDER["source"] | {"value_range": 4095}}, "source.value_range: "),
        ({"source": {"collection": "digits", "background": "black"}}, "background is for image_folder"),
        ({"source": {"collection": "mnist", "value_range": [0, 1]}}, "value_range is for image_folder"),
        ({"fit": {"floor_explained": 1.0}}, "fit.floor_explained: input should be less than 1"),
        ({"splits": {"val": 1.5}}, "splits.val: .*got 1.5"),
        ({"splits": {"test": -0.1}}, "splits.test: .*got -0.1"),
        ({"name": "../outside"}, "name: .*got '../outside'"),
        ({"name": ""}, "name: "),
        ({"views": 0}, "views: .*got 0"),
        ({"seed": 2**63}, "seed: "),
        ({"colour": 1}, "no key 'colour'"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(changes, message):
    assert re.search(message, refusal(MINIMAL, **changes))


def test_the_first_missing_key_is_named():
    assert "the key 'source' is missing" in refusal({"name": "tiny"})


def test_a_recipe_cannot_change():
    recipe = check_recipe(MINIMAL, "here")

    with pytest.raises(ValidationError, match="frozen"):
        recipe.views = 2
    with pytest.raises(ValidationError, match="frozen"):
        recipe.fit.steps = 2


OTHER_VALUES = {
    "name": "else", "version": 1, "views": 9, "limit": 5, "seed": 1, "shard_objects": 7, "quarantine_threshold": 0.5,
    "source.collection": "mnist", "source.size": 8, "source.mode": "rgb", "source.max_pixels": 9, "source.max_points": 9,
    "source.background": "black", "source.value_range": [0.0, 4095.0], "fit.floor_explained": 0.5,
    "spec.hidden_dim": 8, "spec.num_hidden": 3, "spec.omega_0": 7.0, "spec.output_bias": 0.0, "spec.start": "linear",
    "spec.activation": "relu", "fit.engine": "reference", "fit.learning_rate": 1e-3, "fit.steps": 5,
    "fit.target_psnr": None, "fit.floor_psnr": 1.0, "fit.attempts": 1, "fit.lanes": 4, "fit.tf32": True,
    "fit.optimizer": "sprint", "fit.ridge": 0.5, "fit.batch_points": 7, "fit.scope": 0.1,
    "fit.scope_std": [1.0], "fit.target_error": 0.1,
    "splits.val": 3, "splits.test": 3,
}  # fmt: skip


def test_every_setting_has_another_value_in_these_tests():
    keys = set(leaves(check_recipe(MINIMAL, "here").model_dump(mode="json")))

    assert keys == set(OTHER_VALUES)


@pytest.mark.parametrize("key", sorted(OTHER_VALUES))
def test_the_fingerprint_covers_what_decides_the_shards_and_nothing_else(key):
    recipe = check_recipe(FOLDER if key in ("source.background", "source.value_range") else MINIMAL, "here")
    fields = recipe.model_dump(mode="json")
    *sections, leaf = key.split(".")
    inner = fields
    for section in sections:
        inner = inner[section]
    inner[leaf] = OTHER_VALUES[key]

    changed = check_recipe(fields, "there")

    assert changed != recipe
    assert (changed.fingerprint == recipe.fingerprint) == (key in FREE)
    assert recipe.difference(changed).startswith("nothing" if key in FREE else f"{key} is ")


def test_the_fingerprint_does_not_hang_on_how_a_value_is_written():
    one = check_recipe({**MINIMAL, "spec": {"omega_0": 30, "hidden_dim": 32}}, "here")
    two = check_recipe({"spec": {"hidden_dim": 32.0, "omega_0": 30.0}, **dict(reversed(MINIMAL.items()))}, "here")

    assert one.fingerprint == two.fingerprint == check_recipe(MINIMAL, "here").fingerprint
    assert len(one.fingerprint) == 16


@pytest.mark.parametrize("size", [None, 8, (8, 6)])
def test_a_recipe_goes_through_a_manifests_json(size):
    recipe = check_recipe({**MINIMAL, "source": {"collection": "digits", "size": size}, "splits": {"val": 0}}, "here")

    back = check_recipe(json.loads(json.dumps(recipe.model_dump(mode="json"))), "there")

    assert back == recipe
    assert back.fingerprint == recipe.fingerprint
    assert back.difference(recipe) == "nothing"


def test_every_section_forbids_unknown_keys_and_changes():
    sections = [entry.annotation for entry in Recipe.model_fields.values()]
    parts = [part for section in sections for part in (get_args(section) or [section])]
    models = [Recipe, *[part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]]

    assert len(models) == 8
    for model in models:
        assert model.model_config["frozen"]
        assert model.model_config["extra"] == "forbid"


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0, "limit: input should be greater than or equal to 1, got 0"),
        ({"train": 0}, "limit.train: input should be greater than or equal to 1, got 0"),
        ({"trial": 3}, "no key 'limit.trial': did you mean 'limit.train'?"),
    ],
)
def test_a_bad_limit_is_named_by_its_key(limit, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        check_recipe({**MINIMAL, "limit": limit}, "here")


@pytest.mark.parametrize(
    ("settings", "rate", "steps"),
    [
        ([], 8e-3, 80),
        (["version=1", "spec.hidden_dim=64", "spec.num_hidden=3", "fit.target_psnr=50"], 8e-3, 80),
        (["spec.hidden_dim=64", "spec.num_hidden=3"], 8e-3 / 3, 80),
        (["spec.num_hidden=6"], 8e-3 / 3, 80),
        (["spec.hidden_dim=256"], 1e-3, 80),
        (["spec.hidden_dim=8", "fit.target_psnr=20"], 1.6e-2, 120),
        (["fit.target_psnr=50"], 8e-3, 220),
        (["source.collection=cifar10", "fit.target_psnr=35"], 8e-3, 450),
        (["spec.hidden_dim=64", "fit.learning_rate=5e-3", "fit.steps=70"], 5e-3, 70),
    ],
)
def test_the_rate_and_the_steps_of_sprint_follow_the_net_and_the_target(settings, rate, steps):
    """Faults, section 4: 8e-3 and 80 steps for every net put 64x3 and 32x6 into quarantine."""
    fit = load_recipe("fashion_mnist_40db", settings).fit
    assert fit.learning_rate == pytest.approx(rate)
    assert fit.steps == steps


def test_settings_over_a_recipe_choose_its_defaults_again():
    recipe = load_recipe("fashion_mnist_40db")
    assert load_recipe(recipe, ["spec.hidden_dim=64"]).fit.learning_rate == pytest.approx(4e-3)
    assert recipe.fit.learning_rate == 8e-3
    given = load_recipe(recipe, ["fit.learning_rate=6e-3"])
    assert load_recipe(given, ["spec.hidden_dim=64"]).fit.learning_rate == 6e-3


def test_unsigned_distances_are_fitted_to_26_db_of_their_clamp_in_new_sets():
    by_sprint = ["fit.optimizer=sprint"]
    assert load_recipe("mesh_folder", [*by_sprint, "source.field=udf"]).fit.target_psnr == 26
    assert load_recipe("point_folder", version=2).fit.target_psnr == 26
    assert load_recipe("point_folder", version=1).fit.target_psnr == 40
    assert load_recipe("mesh_folder", by_sprint).fit.target_psnr == 40
    assert load_recipe("mesh_folder", ["source.field=udf", "fit.target_psnr=30"]).fit.target_psnr == 30
    assert load_recipe("mesh_folder").fit.target_psnr is None


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("mesh_folder", "166c00bc3d2a52b7"),
        ("modelnet40_10view", "36096256a429ed26"),
        ("point_folder", "519073e069c770ea"),
        ("primitives", "80775a06e1473240"),
        ("shrec11", "166c00bc3d2a52b7"),
    ],
)
def test_a_set_of_version_2_goes_on_by_the_recipe_of_its_time(name, fingerprint):
    before = load_recipe(name, version=2)
    assert before.fingerprint == fingerprint == load_recipe(name, ["version=2"]).fingerprint
    assert load_recipe(name).fingerprint != fingerprint
    assert load_recipe(name, ["fit.steps=7"], version=2).fit.steps == 7


def test_shapes_by_muon_have_a_first_layer_of_twice_the_frequency():
    firsts = {
        " ".join(settings): load_recipe("primitives", settings).spec.first_omega_0
        for settings in (
            [],
            ["spec.omega_0=5"],
            ["spec.first_omega_0=7"],
            ["spec.first_omega_0=null"],
            ["fit.optimizer=sprint"],
            ["spec.activation=relu", "spec.frequencies=4"],
        )
    }
    assert list(firsts.values()) == [20, 10, 7, None, None, None]
    assert load_recipe("digits", ["fit.optimizer=muon"]).spec.first_omega_0 is None


def test_versions_from_3_on_are_of_shapes_alone():
    assert (load_recipe("digits").version, load_recipe("digits", ["version=3"]).version) == (2, 2)
    assert load_recipe("primitives").version == 4


def test_former_settings_that_are_none_are_an_unknown_key(tmp_path):
    (tmp_path / "own.yaml").write_text("base: primitives\nearlier: sprint\n")
    with pytest.raises(UsageError, match="earlier"):
        load_recipe(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    "key", ["fit.steps", "fit.learning_rate", "limit", "spec.omega_0", "shard_objects", "splits.val"]
)
@pytest.mark.parametrize("value", ["1e400", ".nan", ".inf", "true", "99999999999999999999999", "-1", "words"])
def test_odd_numbers_are_refused_in_one_line(key, value):
    """Faults, section 2: fit.steps=99999999999999999999 was an internal error."""
    with pytest.raises(UsageError, match=key.replace(".", r"\.")) as caught:
        load_recipe("digits", [f"{key}={value}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["fit.starts=shared", "fit.order=shared"])
def test_how_fits_start_is_part_of_what_a_set_is_and_sets_of_before_do_not_name_it(setting: str) -> None:
    plain, set_ = load_recipe("digits"), load_recipe("digits", [setting])
    key = setting.split("=")[0].split(".")[1]
    assert plain.fingerprint != set_.fingerprint
    assert key not in plain.model_dump(mode="json")["fit"]
    assert set_.model_dump(mode="json")["fit"][key] == "shared"
    assert load_recipe(set_).fingerprint == set_.fingerprint
    assert f"fit.{key} is None here, shared there" in plain.difference(set_)


@pytest.mark.parametrize(
    ("settings", "defaults"),
    [
        (["spec.activation=gauss"], ("linear", 10.0)),
        (["spec.activation=tanh"], ("linear", 30.0)),
        (["spec.activation=finer"], ("finer", 30.0)),
        (["spec.activation=relu"], ("siren", 30.0)),
        (["spec.frequencies=4"], ("siren", 30.0)),
        (["spec.activation=relu", "spec.frequencies=4"], ("linear", 30.0)),
        (["spec.activation=tanh", "spec.start=siren", "spec.omega_0=5"], ("siren", 5.0)),
    ],
)
def test_start_and_omega_0_follow_the_activation_unless_they_are_given(settings, defaults):
    spec = load_recipe(check_recipe(MINIMAL, "here"), settings).spec

    assert (spec.start, spec.omega_0) == defaults


@pytest.mark.parametrize("widths", [[16, 4, 8], [16, 16, 16]])
def test_widths_stay_when_settings_lie_over_a_recipe(widths):
    recipe = load_recipe(check_recipe(MINIMAL, "here"), [f"spec.widths={widths}"])

    assert recipe.spec.spec(2, 1).hidden_dims == tuple(widths)
    assert load_recipe(recipe, ["fit.steps=5"]).spec == recipe.spec
    equal = load_recipe(check_recipe(MINIMAL, "here"), ["spec.hidden_dim=16", "spec.num_hidden=3"])
    assert (recipe.fingerprint == equal.fingerprint) == (len(set(widths)) == 1)


def test_a_lowest_frequency_without_an_encoding_changes_nothing():
    plain = check_recipe(MINIMAL, "here")

    assert load_recipe(plain, ["spec.first_frequency=1"]).fingerprint == plain.fingerprint


def test_new_sets_of_signed_distances_follow_curvature_and_sets_of_before_do_not_name_it():
    recipe = load_recipe("mesh_folder")
    assert (recipe.source.curvature, recipe.source.num_truth) == (0.25, 5_000)
    assert load_recipe("mesh_folder", ["source.field=udf"]).source.curvature == 0
    assert load_recipe(recipe, ["source.field=udf"]).source.curvature == 0, "a default is chosen again"
    assert load_recipe("point_folder").source.curvature == 0
    never = load_recipe("mesh_folder", ["source.curvature=0"])
    assert recorded_recipe(never.model_dump(mode="json"), "set") == never
    before = load_recipe("mesh_folder", version=2)
    assert (before.source.curvature, before.source.num_truth) == (None, 10_000)
    assert "curvature" not in before.model_dump(mode="json")["source"]


def test_all_settings_has_the_keys_that_manifests_leave_out():
    recipe = check_recipe(MINIMAL, "here")
    fields = all_settings(recipe)

    assert (fields["spec"]["widths"], fields["spec"]["coordinates"], fields["fit"]["starts"]) == (
        None,
        True,
        "independent",
    )
    assert "widths" not in recipe.model_dump(mode="json")["spec"]
    assert check_recipe(fields, "again") == recipe
    assert "start_inrs" not in fields["fit"], "the content of a file, which no user writes"


def test_a_dict_is_read_as_a_file_of_the_same_keys_is(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINIMAL | {"views": 3}))
    assert load_recipe(MINIMAL | {"views": 3}) == load_recipe(tmp_path / "mine.yaml")
    with pytest.raises(UsageError, match=r"^recipe tiny: no key 'veiws': did you mean 'views'\?$"):
        load_recipe(MINIMAL | {"veiws": 3})
    with pytest.raises(UsageError, match=r"^recipe of a dict: the key 'name' is missing$"):
        load_recipe({"views": 3})


def test_a_dict_may_inherit(tmp_path):
    (tmp_path / "digits.yaml").write_text("base: digits\nviews: 3\n")
    inherited = {"base": "digits", "views": 3}
    assert load_recipe(inherited) == load_recipe(tmp_path / "digits.yaml")
    assert inherited == {"base": "digits", "views": 3}
