"""Known names: the choices that help and completion show are those that the modules behind them implement."""

from inr_factory.benchmarks.run_benchmark import BENCHMARKS
from inr_factory.cli import completion, known_names
from inr_factory.interop.conventions import CONVENTIONS
from inr_factory.interop.export import FORMATS
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.alignment.weight_matching import Match
from inr_factory.learning.models.registry import ENCODERS
from inr_factory.learning.training.example_reweighting import MultiplicativeReweighting
from inr_factory.learning.training.run_config import POSITIVES
from inr_factory.learning.training.weight_perturbation import PERTURBATIONS
from inr_factory.learning.transforms.compose import TRANSFORMS
from inr_factory.reporting.weight_statistics import PUBLISHED
from inr_factory.storage.manifest import SPLITS


def test_the_choices_are_those_of_the_modules_that_implement_them():
    assert set(known_names.MODELS) == set(ENCODERS)
    assert set(known_names.TRANSFORMS) == set(TRANSFORMS)
    assert set(known_names.MATCHES) == set(Match.__args__)
    assert known_names.SPLITS == SPLITS
    assert set(known_names.BENCHMARKS) == set(BENCHMARKS)
    assert tuple(FORMATS) == known_names.FORMATS
    assert tuple(CONVENTIONS) == known_names.CONVENTIONS
    assert tuple(PUBLISHED) == known_names.PUBLISHED


def test_completion_offers_the_choices_of_modules():
    words = {name: set(choices()) for name, choices in completion.WORDS.items()}
    assert words["mixup"] == {MixUp.name}
    assert words["positives"] == set(POSITIVES)
    assert words["perturb"] == set(PERTURBATIONS)
    assert words["reweigh"] == {MultiplicativeReweighting.name}
