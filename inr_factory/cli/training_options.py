"""Options that `train`, `pretrain`, `evaluate` and `predict` share, and the lists below their help."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import known_names
from inr_factory.cli.known_names import meanings
from inr_factory.errors import UsageError, shorten

_ENCODERS = {
    "Models (--model)": meanings(known_names.MODELS),
    "Transforms (--augment), with defaults; join them by + or |": meanings(known_names.TRANSFORMS, defaults=True),
}
CHOICES = {
    "pretrain": _ENCODERS,
    "edit": {
        "Filters (--filter), with defaults": meanings(known_names.FILTERS, defaults=True),
        "Transforms (--augment), with defaults; join them by + or |": meanings(known_names.TRANSFORMS, defaults=True),
    },
    "train": {
        **_ENCODERS,
        "Mixing (--mixup)": known_names.MIXUPS,
        "Perturbations (--perturb)": meanings(known_names.PERTURBATIONS, defaults=True),
        "Weights of examples (--reweigh)": meanings(known_names.REWEIGHINGS, defaults=True),
    },
}
"""What stands below the options of a verb."""

NETWORK = "network, with settings as in ng_t:num_layers=2; listed below"
Model = Annotated[str, typer.Option(help=NETWORK, metavar="NAME")]
Augment = Annotated[
    list[str] | None,
    typer.Option(
        help="transform of the weights, as rotate2d or noise:scale=0.1; repeatable, listed below",
        show_default=False,
        metavar="NAME",
    ),
]
FirstViews = Annotated[int | None, typer.Option(help="use the first N views; else all", show_default=False)]
Canonical = Annotated[
    bool,
    typer.Option(help="bring INRs to canonical form, without signs and phases of neurons"),
]
LearningRate = Annotated[float, typer.Option("--learning-rate", "--lr", help="after the warm-up")]
Schedule = Annotated[str, typer.Option(help="constant or cosine, both after the warm-up")]
WeightDecay = Annotated[float, typer.Option(help="of AdamW")]
WarmupSteps = Annotated[
    int,
    typer.Option(min=0, help="steps in which the learning rate rises, at most a tenth of all"),
]
Bf16 = Annotated[bool, typer.Option("--bf16", help="train in bfloat16 where that is safe")]
Compile = Annotated[bool, typer.Option("--compile", help="pass the model to torch.compile")]
Seed = Annotated[int, typer.Option(min=0, help="of initialization, batches and augmentation")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Track = Annotated[
    str | None, typer.Option(help="also send figures to wandb, mlflow or wandb,mlflow", show_default=False)
]
Split = Annotated[str, typer.Option(help="train, val or test")]
Runs = Annotated[
    list[Path],
    typer.Argument(help="folder of a run, or a checkpoint; several are averaged", show_default=False, metavar="RUN..."),
]
Run = Annotated[Path, typer.Argument(help="folder of a run, or a checkpoint", show_default=False, metavar="RUN")]
Features = Annotated[
    str,
    typer.Argument(
        help=f"folder of a run, or a checkpoint; or {', '.join(known_names.UNTRAINED)}, which need no training",
        show_default=False,
        metavar="RUN",
    ),
]

Fresh = Annotated[
    str | None,
    typer.Option(
        help="fit new views while training and show each REUSE times: a number, or auto, so that training never waits",
        show_default=False,
        metavar="REUSE",
    ),
]
Keep = Annotated[
    Path | None, typer.Option(help="set in this folder that keeps the views of --fresh", show_default=False)
]
Fitters = Annotated[
    int | None,
    typer.Option(min=1, help="processes that fit for --fresh", show_default="the cores that training leaves"),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster that fits for --fresh; its nodes see the run's folder", show_default=False),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="folder of the source's files, for --fresh", show_default="where they were for fit"),
]


def check_fresh(fresh: str | None, **others: object) -> int | str | None:
    """What --fresh says, as a number or "auto"; UsageError for something else, and for options that need it."""
    if fresh is None:
        for name, value in others.items():
            if value is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes with --fresh auto; add that, or leave it out")
        return None
    if fresh != "auto" and not (fresh.isascii() and fresh.isdigit() and int(fresh)):
        raise UsageError(f"--fresh must be auto or a number of times to show each INR, got {shorten(fresh)}")
    return fresh if fresh == "auto" else int(fresh)
