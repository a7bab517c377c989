"""Help: the panels and the short types of options, and the lists of choices below them.

Plain text, since the tables of rich take a quarter of a second, and cut names on narrow terminals.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from inr_factory.cli.terminal import can_show_bold

OPTION_PANELS = {
    "fit": {"Data": "views out data_root limit seed settings"},
    "train": {
        "Data": "views views_per_object labels_per_class label_noise target",
        "Model": "model init freeze canonical normalize",
        "Augmentation": "augment mixup",
        "Optimisation": "epochs batch_size learning_rate optimizer weight_decay schedule warmup_steps label_smoothing "
        "perturb reweigh ema decode loss early_stopping",
    },
    "pretrain": {
        "Data": "views",
        "Model": "model canonical",
        "Augmentation": "augment",
        "Optimisation": "objective positives epochs batch_size temperature projection_dim learning_rate weight_decay schedule warmup_steps",
    },
    "sweep": {},
}
"""Panels of options of the verbs that have many, in the order of the options; `Run` holds all others."""
HELP = ["-h", "--help"]
METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
Panels = Mapping[str, Mapping[str, str]]
"""Headings, each with rows of names and what they mean."""


class Verb(TyperCommand):
    """A verb, whose help has its options in OPTION_PANELS and `choices` below them."""

    choices: Panels

    def format_options(self, ctx: Any, formatter: Any) -> None:
        listed = OPTION_PANELS.get(self.name or "")
        panel_of = {name: panel for panel, names in (listed or {}).items() for name in names.split()}
        rest = "Options" if listed is None else "Run"
        panels: dict[str, dict[str, str]] = {"Arguments": {}, **{panel: {} for panel in panel_of.values()}, rest: {}}
        for param in self.get_params(ctx):
            name, about = param.get_help_record(ctx) or ("", "")
            if isinstance(param, TyperArgument):
                panels["Arguments"][param.metavar or name] = about
            else:
                panels[panel_of.get(param.name or "", rest)][name] = about
        _write({**panels, **self.choices}, formatter)


class Program(TyperGroup):
    """The program, whose help has its verbs in `panels`."""

    panels: Mapping[str, list[str]]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        about = {name: inspect.cleandoc(verb.help or "").split("\n\n")[0] for name, verb in self.commands.items()}
        width = max(map(len, about))
        verbs = {panel: {f"{name:{width}}": about[name] for name in names} for panel, names in self.panels.items()}
        options = dict(record for param in self.get_params(ctx) if (record := param.get_help_record(ctx)))
        _write({**verbs, "Options": options}, formatter)


def _write(panels: Panels, formatter: Any) -> None:
    for title, rows in panels.items():
        if rows:
            with formatter.section(typer.style(title, bold=True) if can_show_bold() else title):
                formatter.write_dl(list(rows.items()))


def add_options(verb: Any, options: list[Any]) -> None:
    """Let a verb take options that are read before it runs."""
    for option in map(copy.copy, options):
        option.expose_value = False
        verb.params.append(option)


def shorten_types(verb: Any, function: Callable[..., Any]) -> None:
    """Show N in place of <int range> [x>=1] and so on: names of options then fit 80 columns. Ranges are still checked."""
    annotations = {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
    for param in verb.get_params(typer.Context(verb, help_option_names=HELP)):
        if param.metavar is None:
            kind = METAVARS.get(_plain(annotations.get(param.name)))
            param.metavar = "" if getattr(param, "is_flag", False) else kind
            if isinstance(param, TyperArgument):
                param.metavar = param.name.upper()
        param.min = param.max = None
        if getattr(param, "is_flag", False) and param.default is None:
            param.default = False  # typer loads pydantic to convert None


def _plain(annotation: Any) -> Any:
    """int of Annotated[int | None, ...], str of list[str]."""
    while arguments := [part for part in get_args(annotation) if part is not NoneType]:
        annotation = arguments[0]
    return annotation
