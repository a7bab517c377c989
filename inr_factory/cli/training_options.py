"""Options that `train`, `pretrain`, `evaluate` and `predict` share."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli.known_names import MODELS

Model = Annotated[str, typer.Option(help=f"{', '.join(MODELS[:-1])} or {MODELS[-1]}; options as in ng_t:num_layers=2")]
Augment = Annotated[
    list[str] | None,
    typer.Option(help="transform of the weights, as in rotate2d or noise:scale=0.1; repeatable", show_default=False),
]
FirstViews = Annotated[int | None, typer.Option(help="use the first N views; else all", show_default=False)]
Canonical = Annotated[bool, typer.Option(help="bring INRs to canonical form, without signs and phases of neurons")]
LearningRate = Annotated[float, typer.Option("--learning-rate", "--lr", help="of AdamW, after the warm-up")]
WeightDecay = Annotated[float, typer.Option(help="of AdamW")]
Schedule = Annotated[str, typer.Option(help="constant or cosine, both after the warm-up")]
WarmupSteps = Annotated[int, typer.Option(min=0, help="steps in which the learning rate rises linearly")]
Bf16 = Annotated[bool, typer.Option("--bf16", help="train in bfloat16 where that is safe")]
Compile = Annotated[bool, typer.Option("--compile", help="pass the model to torch.compile")]
Seed = Annotated[int, typer.Option(min=0, help="seed of initialization, batches and augmentation")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Split = Annotated[str, typer.Option(help="train, val or test")]
Run = Annotated[Path, typer.Argument(help="folder of a run, or a checkpoint", show_default=False, metavar="RUN")]
