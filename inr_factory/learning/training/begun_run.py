"""Begun runs: what a command need not repeat, since the run in its folder, or the one that it starts from, has it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import MixUp, ThoroughMixUp
from inr_factory.learning.alignment.weight_matching import finest_match
from inr_factory.learning.data.loader import Mixing
from inr_factory.learning.models.checkpoint import former_options, load_checkpoint, saved_encoder
from inr_factory.learning.training.defaults import DEFAULT_MODEL, FORMER_MODEL
from inr_factory.learning.training.run_config import LAST, RULES, ConfigT, RunConfig, default_schedule


def as_begun(
    config: ConfigT, name: str, options: Mapping[str, Any], folder: Path, init: Path | None = None
) -> tuple[ConfigT, dict[str, Any]]:
    """The settings and the encoder's options under which the run in a folder began, or as they are where there is none.

    A run of an earlier version keeps its rules, and options that its version did not have keep the values of that time
    unless they are given. The same holds for options of the encoder that a run starts from.
    """
    begun = folder / LAST if (folder / LAST).is_file() else None
    if begun is not None:
        config = config.model_copy(update={"rules": _rules(begun)})
    return config, {**former_options(begun or init, name), **options}


def choose_encoder(
    folder_of: Callable[[str], Path], init: Path | None, log: Callable[[str], None]
) -> tuple[str, dict[str, Any], Path]:
    """The encoder's name and options, and the folder, of a command that names none.

    They are those of the run in the folder, else of the checkpoint `init`, else the default. A run that began under the
    former default model, in the folder of that time, is resumed where the folder of the default has none.
    """
    name, options = (DEFAULT_MODEL, {}) if init is None else saved_encoder(init)
    folder, former = folder_of(name), folder_of(FORMER_MODEL)
    if init is None and not (folder / LAST).is_file() and (former / LAST).is_file() and _rules(former / LAST) < 3:
        log(f"{former} has a run of the former default model, which resumes; --model {DEFAULT_MODEL} begins another")
        folder = former
    if (folder / LAST).is_file():
        name, options = saved_encoder(folder / LAST)
    return name, options, folder


def choose_match(mixing: Mixing | None, spec: SirenSpec, rules: int) -> Mixing | None:
    """The mixing of a run with the match that "auto" stands for: under former rules it was none, and matches thorough."""
    if not isinstance(mixing, MixUp):
        return mixing
    auto, kind = ("none", ThoroughMixUp) if rules < 4 else (finest_match(spec), MixUp)
    return kind(**{**vars(mixing), "match": auto if mixing.match == "auto" else mixing.match})


def choose_schedule(
    given: Mapping[str, Any], folder: Path, model: str, rows: int, mixed: bool = False
) -> dict[str, Any]:
    """epochs, batch_size, learning_rate and schedule: as given, not None, else those of the run in the folder, else the
    defaults of the model for a number of rows an epoch, mixed or not."""
    known = {**_begun_schedule(folder), **{setting: value for setting, value in given.items() if value is not None}}
    return {**default_schedule(model, rows, known.get("batch_size"), mixed)._asdict(), **known}


def _begun_schedule(folder: Path) -> dict[str, Any]:
    if not (folder / LAST).is_file():
        return {}
    saved = load_checkpoint(folder / LAST)
    stored, meta = saved.get("config"), saved.get("meta")
    if not isinstance(stored, Mapping) or not isinstance(meta, Mapping):
        return {}  # the trainer refuses such a run and says why
    names = ("epochs", "learning_rate", "schedule")
    try:
        config = RunConfig.model_validate({name: stored[name] for name in names if name in stored})
    except ValidationError:
        return {}
    size = meta.get("batch_size")
    batch = {"batch_size": size} if isinstance(size, int) and size > 0 else {}
    return {**{name: getattr(config, name) for name in names}, **batch}


def _rules(checkpoint: Path) -> int:
    stored = load_checkpoint(checkpoint).get("config")
    rules = stored.get("rules", 1) if isinstance(stored, Mapping) else RULES
    return rules if isinstance(rules, int) else RULES
