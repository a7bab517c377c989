"""`pretrain`: an encoder that learns from weights without labels, and what its features are worth."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.option_checks import check_training
from inr_factory.cli.progress_bars import RunProgress
from inr_factory.cli.shared_options import Config, DatasetFolder, Json
from inr_factory.errors import skip_without_extra
from inr_factory.learning.training import defaults

PICTURE, RENDERED = "pretraining.png", "reconstructions.png"
# Columns of the progress table.
COLUMNS = {
    "train_loss": ("loss", ".4f"), "val_accuracy": ("neighbours on val", ".2%"), "lr": ("lr", ".1e"),
    "seconds": ("seconds", ".1f"),
}  # fmt: skip
PSNR_COLUMN = {"val_psnr": ("dB on val", ".2f")}


def pretrain(
    dataset: DatasetFolder,
    views: options.FirstViews = None,
    model: options.Model = defaults.PRETRAIN_MODEL,
    canonical: options.Canonical = True,
    augment: options.Augment = None,
    objective: Annotated[
        str, typer.Option(help="contrast: find INRs of one object; decode: render each INR from its features")
    ] = "contrast",
    positives: Annotated[
        str,
        typer.Option(
            help="contrast: pairs that show one object: augment (one INR, augmented twice), views (two fits) or both"
        ),
    ] = "views",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the objects")] = defaults.PRETRAIN_EPOCHS,
    batch_size: Annotated[
        int, typer.Option(min=2, help="objects of a batch; by contrast, each has two rows")
    ] = defaults.BATCH_SIZE,
    temperature: Annotated[float, typer.Option(help="contrast: of the loss")] = defaults.TEMPERATURE,
    projection_dim: Annotated[
        int, typer.Option(min=2, help="contrast: width of the features that are compared")
    ] = defaults.PROJECTION_DIM,
    learning_rate: options.LearningRate = defaults.LEARNING_RATE,
    weight_decay: options.WeightDecay = defaults.WEIGHT_DECAY,
    schedule: options.Schedule = "cosine",
    warmup_steps: options.WarmupSteps = defaults.WARMUP_STEPS,
    neighbours: Annotated[
        int, typer.Option(min=1, help="k of the nearest neighbours that classify val")
    ] = defaults.NEIGHBOURS,
    probe_epochs: Annotated[int, typer.Option(min=1, help="epochs between two classifications of val")] = 1,
    bf16: options.Bf16 = False,
    compiled: options.Compile = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    track: options.Track = None,
    config_file: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; else runs/SET-pretrain-MODEL-SEED", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Pre-train an encoder without labels, by pairs of INRs of one object or by rendering. Run it again to resume.

    Labels of train and val are used to monitor it, and those of test in the end. `train --init RUN` continues from it.
    """
    from inr_factory.learning.training.run_config import PretrainConfig, check_config

    check_training(dataset, model, augment or ())
    check_config(
        PretrainConfig, epochs=epochs, learning_rate=learning_rate, schedule=schedule, track=track, objective=objective
    )

    from inr_factory.learning.training.pretrain_encoder import pretrain as pretrain_encoder
    from inr_factory.learning.training.probes import project_to_plane
    from inr_factory.reporting.image_grid import draw_reconstructions
    from inr_factory.reporting.plots import draw_pretraining

    decode = objective == "decode"
    table = COLUMNS | (PSNR_COLUMN if decode else {})
    with RunProgress(epochs, table) as progress:
        report = pretrain_encoder(
            dataset, model, positives, augment or (), views, canonical, epochs, batch_size, temperature, projection_dim,
            learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule, warmup_steps=warmup_steps,
            neighbours=neighbours, probe_epochs=probe_epochs, bf16=bf16, compile=compiled, seed=seed, device=device,
            out=out, on_epoch=progress.epoch, on_step=progress.step, log=terminal.log_info, track=track,
            objective=objective,
        )  # fmt: skip
    run, split, folder = report.train, report.split, report.train.out
    name, how = model.partition(":")[0].strip(), "decoding" if decode else f"positives {positives}"
    heading = f"{report.dataset}: pre-training of {name}, {how}; features of {split}"
    plane = project_to_plane(report.features)
    with skip_without_extra("picture"):
        draw_pretraining(
            run.history, plane, report.labels.tolist(), report.classes, folder / PICTURE, heading, report.chance
        )
        if (shown := report.reconstructions) is not None:
            captions = [report.classes[label] for label in shown.labels.tolist()]
            heading = (
                f"{report.dataset}, {split}: INRs, and what {name} decodes from its features, {report.psnr:.2f} dB"
            )
            draw_reconstructions(shown.rendered.numpy(), shown.decoded.numpy(), captions, folder / RENDERED, heading)
    accuracies = {"pretrained": dict(report.pretrained), "untrained": dict(report.untrained)}
    if as_json:
        terminal.print_json({
            "run": str(folder), "best": dict(run.best), "epochs": len(run.history), "split": split, **accuracies,
            "chance": report.chance, **({"psnr": report.psnr} if decode else {}),
        })  # fmt: skip
        return
    terminal.print_result(f"best epoch {int(run.best['epoch']) + 1} of {len(run.history)}, accuracy on {split}:\n")
    rows = [(row, f"{at['neighbours']:.2%}", f"{at['linear']:.2%}") for row, at in accuracies.items()]
    columns = ["encoder", f"{neighbours} nearest neighbours", "linear probe"]
    terminal.print_table(columns, [*rows, ("chance", *[f"{report.chance:.2%}"] * 2)])
    if decode:
        terminal.print_result(f"\nwhat is decoded, against what the INRs of {split} render: {report.psnr:.2f} dB")
    pictures = [path for path in (folder / PICTURE, folder / RENDERED) if path.is_file()]
    listed = f"pictures: {', '.join(map(str, pictures))}; " if pictures else ""
    terminal.print_result(f"\n{listed}inr-factory train {dataset} --init {folder} starts from it")
