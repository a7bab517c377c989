"""Completion: the words that a shell offers for options and arguments, by the name of the parameter."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_args

from inr_factory.cli import known_names
from inr_factory.cli.known_names import meanings


def _recipes() -> Iterable[str]:
    from inr_factory.generation.recipe import builtin_recipes

    return builtin_recipes()


def _settings() -> list[str]:
    """`key=` of every value, not section, of a recipe."""
    from inr_factory.generation.recipe import recipe_keys

    keys = recipe_keys()
    return [f"{key}=" for key in keys if not any(other.startswith(f"{key}.") for other in keys)]


WORDS: dict[str, Callable[[], Iterable[str]]] = {
    "recipe": _recipes,
    "recipes.name": _recipes,
    "settings": _settings,
    "model": lambda: meanings(known_names.MODELS),
    "augment": lambda: meanings(known_names.TRANSFORMS),
    "mixup": lambda: known_names.MIXUPS,
    "match": lambda: known_names.MATCHES,
    "split": lambda: known_names.SPLITS,
    "benchmark.what": lambda: known_names.BENCHMARKS,
    "backend": lambda: ("auto", "ray", "local"),
    "device": lambda: ("auto", "cpu", "cuda"),
    "schedule": lambda: ("constant", "cosine"),
    "objective": lambda: ("contrast", "decode"),
    "positives": lambda: ("augment", "views", "both"),
    "perturb": lambda: meanings(known_names.PERTURBATIONS),
    "reweigh": lambda: meanings(known_names.REWEIGHINGS),
    "track": lambda: ("wandb", "mlflow"),
}


def offer_words(verb: Callable[..., Any]) -> None:
    """Let the parameters of a verb offer their WORDS, listed as NAME or VERB.NAME. For all others the shell offers files."""
    for parameter in inspect.signature(verb).parameters.values():
        words = WORDS.get(f"{verb.__name__}.{parameter.name}", WORDS.get(parameter.name))
        for option in get_args(parameter.annotation)[1:]:
            if words is not None and hasattr(option, "autocompletion"):
                option.autocompletion = _offer(words)


def _offer(words: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words() if word.startswith(incomplete)]

    return complete
