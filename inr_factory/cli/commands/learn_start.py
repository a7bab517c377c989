"""`learn-start`: learn an INR from which fits need few steps."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.progress_bars import RowProgress
from inr_factory.cli.shared_options import DataRoot, Json


def learn_start(
    recipe: Annotated[str, typer.Argument(help="a built-in recipe or a YAML file: its training objects count")],
    out: Annotated[Path, typer.Option(help="the file, NAME.npz")] = Path("start.npz"),
    steps: Annotated[int, typer.Option(help="steps of a fit that it is learned for", min=1)] = 10,
    iterations: Annotated[int, typer.Option(help="steps of the learning", min=1)] = 1000,
    batch_size: Annotated[int, typer.Option(help="objects of each", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="of first weights and choices of objects", min=0)] = 0,
    data_root: DataRoot = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable", show_default=False)
    ] = None,
    device: options.Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn an INR, and rates of its weights, from which few steps fit any object (MAML with learned rates).

    `fit --set fit.starts=start.npz` starts fits from it.
    """
    from inr_factory.generation.learned_start import learn_start as learn

    with RowProgress("learn-start", "iterations") as progress:
        report = learn(
            recipe, out, steps=steps, iterations=iterations, batch_size=batch_size, seed=seed, device=device,
            data_root=data_root, settings=settings or (), on_progress=progress,
        )  # fmt: skip
    if as_json:
        terminal.print_json(
            {"file": str(report.path), "spec": report.spec.to_dict(), "steps": report.steps, "objects": report.objects,
             "psnr": report.psnr}
        )  # fmt: skip
        return
    terminal.print_result(
        f"{report.path}: learned on {report.objects:,} training objects; others reach a median of {report.psnr:.1f} dB in "
        f"{report.steps} steps"
    )
    terminal.log_info(
        f"fit by it: inr-factory fit {recipe} --views 1 --set fit.starts={report.path} --set fit.steps={report.steps}"
    )
