"""Sweep configuration: the YAML file of a sweep, the runs of its grids, and the command of each."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inr_factory.errors import UsageError, validation_message
from inr_factory.learning.training import defaults
from inr_factory.learning.training.run_config import RULES
from inr_factory.storage.yaml_files import load_yaml

MAX_RUNS = 10_000  # of one sweep; a few lines can ask for billions

FORMER_OPTIONS = {
    "--model": defaults.FORMER_MODEL, "--epochs": str(defaults.EPOCHS), "--batch-size": str(defaults.BATCH_SIZE),
    "--learning-rate": str(defaults.LEARNING_RATE), "--schedule": "constant",
}  # fmt: skip
"""Defaults of training, for every model, until rules 3 of run_config. A sweep that began under them keeps them."""

FORMER_TEXTS = {"mixup:match=none": "mixup"}
"""What sweeps of rules 1 to 3 call the values of options that have a longer text since."""

Value = str | int | float | bool | None | list[str]


class Grid(BaseModel):
    """Options of `inr-factory train`, each with its values, "none" to leave it out; `train` has those that are the same
    for all points of this grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Value] = {}
    axes: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _axes(cls, fields: Any) -> Any:
        """In the file, the axes are next to `train`."""
        if not isinstance(fields, dict) or "axes" in fields:
            return fields
        axes = {name: values for name, values in fields.items() if name != "train"}
        return {"axes": axes, **({"train": fields["train"]} if "train" in fields else {})}


class SweepConfig(BaseModel):
    """Contents of a sweep's YAML file. `train` holds options of `inr-factory train` without their dashes, `grid` those
    that vary, in one grid or several, each of which may have its own `train`. `dataset` may be one of them.
    `published` holds figures to compare with, in percent, by the values of a row joined by " | " in the order of the
    table, without the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Path | None = None
    train: dict[str, Value] = {}
    grid: list[Grid] = Field(min_length=1)
    published: dict[str, float] = {}

    @field_validator("grid", mode="before")
    @classmethod
    def _several(cls, grid: Any) -> Any:
        return [grid] if isinstance(grid, dict) else grid

    @model_validator(mode="after")
    def _names_its_sets(self) -> "SweepConfig":
        if self.dataset is None and not all("dataset" in grid.axes for grid in self.grid):
            raise ValueError("dataset is missing, of the file or of a grid")
        return self

    @property
    def options(self) -> list[str]:
        """The options that vary, as columns of a table have them, without the seed."""
        return [name for name in dict.fromkeys(name for grid in self.grid for name in grid.axes) if name != "seed"]


@dataclass(frozen=True)
class SweepRun:
    """One point of a grid: its values by option, its folder, and the values of all other options."""

    values: Mapping[str, Value]
    folder: Path
    train: Mapping[str, Value] = field(default_factory=dict)
    rules: int = RULES  # of run_config, under which the sweep began

    def row(self, options: Sequence[str]) -> tuple[str, ...]:
        """The names of its row of the table: its values of these options."""
        return tuple(str(self.values.get(name, "-")) for name in options)


def load_sweep(path: Path) -> SweepConfig:
    """Load a sweep's YAML file. Raises UsageError for a file that is no sweep."""
    try:
        return SweepConfig.model_validate(load_yaml(path, str(path)))
    except ValidationError as error:
        reason = validation_message(error, ignored=("axes", 0))
        raise UsageError(f"{path}: {reason}; a sweep has dataset, train and grid") from None


def runs_of(sweep: SweepConfig, out: Path, rules: int = RULES) -> list[SweepRun]:
    """All points of all grids, the first option the slowest but for the seed, which is slower than all: each row of a
    table gets its first figure early. Raises UsageError for two points of one name."""
    count = sum(math.prod(map(len, grid.axes.values())) for grid in sweep.grid)
    if count > MAX_RUNS:
        raise UsageError(f"the grid has {count:,} points, at most {MAX_RUNS:,} are run")
    by_seed: list[tuple[int, SweepRun]] = []
    for grid in sweep.grid:
        for point in itertools.product(*(enumerate(values) for values in grid.axes.values())):
            values = {name: value for name, (_, value) in zip(grid.axes, point, strict=True)}
            seed_index = next((index for name, (index, _) in zip(grid.axes, point, strict=True) if name == "seed"), 0)
            folder = out / "runs" / _slug(map(str, values.values()))
            former = out / "runs" / _slug(FORMER_TEXTS.get(str(value), str(value)) for value in values.values())
            folder = former if rules < 4 and former.is_dir() else folder
            by_seed.append((seed_index, SweepRun(values, folder, {**sweep.train, **grid.train}, rules)))
    runs = [run for _, run in sorted(by_seed, key=lambda pair: pair[0])]
    if len({run.folder for run in runs}) < len(runs):
        raise UsageError("two points of the grid have the same values; name each value once")
    return runs


def _slug(texts: Iterable[str]) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.=]+", "_", text).strip("_") or "x" for text in texts)


def command_of(sweep: SweepConfig, run: SweepRun) -> list[str]:
    """The arguments of `inr-factory` that make a run; given again, they resume it."""
    settings = {**run.train, **run.values}
    arguments = ["train", str(settings.pop("dataset", sweep.dataset)), "--out", str(run.folder), "--json"]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value == "none":
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option[2:]}")
        else:
            for part in value if isinstance(value, list) else [value]:
                arguments += [option, str(part)]
    given = options_of(arguments)
    if run.rules < 3:
        for option, text in FORMER_OPTIONS.items():
            arguments += [] if option in given else [option, text]
    return [*arguments, "--rules", "3"] if run.rules < RULES and "--mixup" in given else arguments


def options_of(arguments: Sequence[str], rules: int = RULES) -> dict[str, list[str]]:
    """What identifies a run: its data set, and the values of each option, without folder, trackers and rules; with
    FORMER_OPTIONS where the rules have them."""
    options: dict[str, list[str]] = {"dataset": []}
    option = "dataset"
    for word in arguments[1:]:
        if word.startswith("--"):
            option = {"--lr": "--learning-rate"}.get(word, word)
            options.setdefault(option, [])
        else:
            options[option].append(FORMER_TEXTS.get(word, word) if rules < 4 else word)
    for option in ("--out", "--track", "--rules"):
        options.pop(option, None)
    return {**{option: [text] for option, text in FORMER_OPTIONS.items() if rules < 3}, **options}
