"""Known names: the choices that help and completion show are those that the modules behind them implement."""

import inspect
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from inr_factory.benchmarks.run_benchmark import BENCHMARKS
from inr_factory.cli import completion, known_names
from inr_factory.cli.commands.edit import edit as edit_command
from inr_factory.cli.commands.pretrain import pretrain as pretrain_command
from inr_factory.cli.commands.train import train as train_command
from inr_factory.interop.conventions import CONVENTIONS
from inr_factory.interop.export import FORMATS
from inr_factory.learning.alignment.mixup import MixUp, parse_mixup
from inr_factory.learning.alignment.weight_matching import Match
from inr_factory.learning.models.registry import ENCODERS, FORMER_NAMES
from inr_factory.learning.training.edit import edit
from inr_factory.learning.training.example_reweighting import MultiplicativeReweighting
from inr_factory.learning.training.feature_kinds import UNTRAINED
from inr_factory.learning.training.image_filters import FILTERS
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.run_config import POSITIVES
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.weight_perturbation import PERTURBATIONS
from inr_factory.learning.transforms.compose import TRANSFORMS
from inr_factory.reporting.weight_statistics import PUBLISHED
from inr_factory.storage.manifest import SPLITS


def described(option):
    """An option as known_names writes it: all settings with their defaults, and all words that one takes."""
    hints, text = get_type_hints(option), str(option())
    for key, hint in hints.items():
        default = getattr(option, key, None)
        if get_origin(hint) is Literal:
            words = [default, *(word for word in get_args(hint) if word != default)]
            text = text.replace(f"{key}={default}", f"{key}={'|'.join(words)}")
    return text


def test_the_choices_are_those_of_the_modules_that_implement_them():
    assert set(known_names.MATCHES) == set(Match.__args__)
    assert known_names.SPLITS == SPLITS
    assert known_names.UNTRAINED == UNTRAINED
    assert set(known_names.BENCHMARKS) == set(BENCHMARKS)
    assert tuple(FORMATS) == known_names.FORMATS
    assert tuple(CONVENTIONS) == known_names.CONVENTIONS
    assert tuple(PUBLISHED) == known_names.PUBLISHED
    assert known_names.FORMER_MODELS == FORMER_NAMES


@pytest.mark.parametrize(
    ("choices", "options"),
    [
        (known_names.TRANSFORMS, TRANSFORMS),
        (known_names.PERTURBATIONS, PERTURBATIONS),
        (known_names.REWEIGHINGS, {"mr": MultiplicativeReweighting}),
        ([known_names.MIXUP_SETTINGS], {"mixup": MixUp}),
    ],
    ids=["transforms", "perturbations", "reweighings", "mixing"],
)
def test_choices_have_the_settings_of_their_options(choices, options):
    assert set(choices) == set(map(described, options.values()))


def test_models_have_the_settings_of_their_encoders():
    texts = set()
    for name, encoder in ENCODERS.items():
        settings = list(inspect.signature(encoder).parameters.values())[1:]
        words = {"set_layer": "attention|deepsets"}
        values = [f"{one.name}={words.get(one.name, str(one.default).lower())}" for one in settings]
        texts.add(f"{name}:{','.join(values)}")
        assert all(one.default == words[one.name].split("|")[0] for one in settings if one.name in words)
    assert set(known_names.MODELS) == texts


def test_filters_have_their_settings_and_editors_their_defaults():
    assert {known_names.with_defaults(choice) for choice in known_names.FILTERS} == {
        str(kind()) for kind in FILTERS.values()
    }
    defaults = {name: one.default for name, one in inspect.signature(edit).parameters.items()}
    options = {name: one.default for name, one in inspect.signature(edit_command).parameters.items()}
    shared = options.keys() & defaults.keys() - {"dataset", "augment"}
    assert len(shared) > 8
    assert {name: options[name] for name in shared} == {name: defaults[name] for name in shared}


def test_completion_offers_the_choices_of_modules():
    words = {name: list(choices()) for name, choices in completion.WORDS.items()}
    assert {parse_mixup(text).match for text in words["mixup"]} == set(get_args(get_type_hints(MixUp)["match"]))
    assert set(words["model"]) == set(ENCODERS)
    assert set(words["augment"]) == set(TRANSFORMS)
    assert set(words["positives"]) == set(POSITIVES)
    assert set(words["perturb"]) == set(PERTURBATIONS)
    assert words["reweigh"] == [MultiplicativeReweighting.name]


@pytest.mark.parametrize(
    ("command", "function"), [(train_command, train), (pretrain_command, pretrain)], ids=["train", "pretrain"]
)
def test_options_of_training_have_the_defaults_of_the_functions(command, function):
    defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()}
    options = inspect.signature(command).parameters
    shared = {name: one.default for name, one in options.items() if name in defaults and name != "augment"}
    assert len(shared) > 15
    assert shared == {name: defaults[name] for name in shared}
    assert options["compiled"].default == defaults["compile"]
