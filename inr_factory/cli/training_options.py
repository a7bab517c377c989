"""Options that `train`, `pretrain`, `evaluate` and `predict` share, and the lists below their help."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import known_names
from inr_factory.cli.known_names import meanings

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
