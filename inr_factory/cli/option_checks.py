"""Option checks: typing errors in the values of training options, found before anything that takes seconds is loaded.

The modules behind the options check them again, with the ranges of numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from inr_factory.cli import known_names
from inr_factory.learning.option_strings import own_encoders, parse_model, read_joined, read_settings, split_pairs


def check_training(
    dataset: Path,
    model: str | None,
    augment: Sequence[str],
    mixup: str | None = None,
    perturb: str | None = None,
    reweigh: str | None = None,
    init: Path | None = None,
) -> None:
    """Raise UsageError for a missing data set or start, and for unknown names and settings, with the nearest known ones."""
    from inr_factory.learning.training.run_config import checkpoint_of
    from inr_factory.storage.manifest_file import load_manifest

    load_manifest(dataset)
    if init is not None:
        checkpoint_of(init)
    if model is not None:
        _check_model(model)
    _check_augmentation(augment)
    for given, choices, what in (
        (mixup, [known_names.MIXUP_SETTINGS], "mixing"),
        (perturb, known_names.PERTURBATIONS, "perturbation"),
        (reweigh, known_names.REWEIGHINGS, "reweighting"),
    ):
        if given:
            _check(given, choices, what)


def check_editing(dataset: Path, filter: str | None, model: str | None, augment: Sequence[str]) -> None:
    """Raise UsageError for a missing data set, and for unknown names and settings, with the nearest known ones."""
    from inr_factory.storage.manifest_file import load_manifest

    load_manifest(dataset)
    if filter is not None:
        _check(filter, known_names.FILTERS, "filter")
    if model is not None:
        _check_model(model)
    _check_augmentation(augment)


def _check_augmentation(augment: Sequence[str]) -> None:
    for text in augment:
        read_joined(text, lambda part: _check(part, known_names.TRANSFORMS, "transform"), *[lambda *_: None] * 3)


def _check_model(text: str) -> None:
    name, options = parse_model(text)
    pairs = ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in options.items()
    )
    name = known_names.FORMER_MODELS.get(name, name)
    if name not in {split_pairs(choice)[0] for choice in known_names.MODELS} and name in own_encoders().names:
        return
    _check(f"{name}:{pairs}" if pairs else name, known_names.MODELS, "model")


def _check(text: str, choices: Any, what: str) -> None:
    known = {split_pairs(choice)[0]: choice for choice in choices}
    read_settings(text, known, what, _types_of, lambda choice: known_names.with_defaults(choice))


def _types_of(choice: str) -> dict[str, Any]:
    """The types of the settings of a choice of known_names, by their defaults."""
    return {key: _type_of(default) for key, _, default in split_pairs(choice)[2]}


def _type_of(default: str) -> Any:
    if "|" in default:
        return Literal[tuple(default.split("|"))]
    if default in ("true", "false"):
        return bool
    return float if "." in default else int
