"""`train`, `evaluate` and `predict`: fit a classifier or another reader to the weights of a set, measure it, and apply it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.commands.evaluate import draw_report, note_missing
from inr_factory.cli.option_checks import check_training
from inr_factory.cli.progress_bars import RunProgress
from inr_factory.cli.shared_messages import optional_pictures
from inr_factory.cli.shared_options import Config, DatasetFolder, Json
from inr_factory.learning.training import defaults

if TYPE_CHECKING:
    from inr_factory.learning.training.metrics import EvaluationReport
    from inr_factory.learning.training.trained_run import TrainedRun
    from inr_factory.learning.training.value_metrics import ValueReport
    from inr_factory.streaming.fresh_dataset import FreshDataset

COSINE = ", ".join(defaults.COSINE_RATES)
CURVES, PICTURE, DRAWN = "curves.png", "test.png", "drawn.png"
# Columns of the progress table.
COLUMNS = {
    "train_loss": ("train loss", ".4f"), "val_loss": ("val loss", ".4f"), "val_accuracy": ("val accuracy", ".2%"),
    "val_r2": ("val R²", ".4f"), "val_map": ("val mAP", ".2%"), "lr": ("lr", ".1e"), "seconds": ("seconds", ".1f"),
    "fresh": ("new INRs", ",.0f"), "fits_per_second": ("fits/s", ".0f"), "waiting": ("waiting", ".0%"),
    "idle": ("fitters idle", ".0%"),
}  # fmt: skip


def train(
    dataset: DatasetFolder,
    views: options.FirstViews = None,
    views_per_object: Annotated[
        int | None,
        typer.Option(help="views of each object in an epoch, drawn at random; else all", show_default=False),
    ] = None,
    labels_per_class: Annotated[
        int | None,
        typer.Option(help="train on N objects of each class, drawn by the seed", show_default=False),
    ] = None,
    label_noise: Annotated[
        float,
        typer.Option(help="share of the training objects that get a wrong label", min=0, max=1),
    ] = 0.0,
    target: Annotated[
        str | None,
        typer.Option(
            help="what to predict: one of the set's targets, psnr, or facts.NAME",
            show_default="the classes",
            metavar="NAME",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=options.NETWORK,
            metavar="NAME",
            show_default=f"{defaults.DEFAULT_MODEL}, or that of --init",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="start from the encoder and normalizer of this run or checkpoint", show_default=False),
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="do not train the encoder: a linear probe")] = False,
    canonical: options.Canonical = True,
    normalize: Annotated[bool, typer.Option(help="scale weights by statistics of the training split")] = True,
    augment: options.Augment = None,
    mixup: Annotated[
        str | None,
        typer.Option(
            help="mixing of INRs and targets, mixup or as mixup:alpha=0.5; listed below",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="passes over the training set",
            show_default=f"{COSINE} {' to '.join(map(str, defaults.COSINE_EPOCHS))} by the size of the set; others {defaults.EPOCHS}; with --mixup times {defaults.MIXED_EPOCHS}",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="INRs of a batch",
            show_default=f"{COSINE} {defaults.COSINE_BATCH_SIZE}, others {defaults.BATCH_SIZE}",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="after the warm-up",
            show_default=f"{', '.join(f'{model} {rate:g}' for model, rate in defaults.COSINE_RATES.items())}, others {defaults.LEARNING_RATE}",
        ),
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw, adam with L2 decay, or muon")] = "adamw",
    weight_decay: options.WeightDecay = defaults.WEIGHT_DECAY,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="constant or cosine, both after the warm-up", show_default=f"{COSINE} cosine, others constant"
        ),
    ] = None,
    warmup_steps: options.WarmupSteps = defaults.WARMUP_STEPS,
    label_smoothing: Annotated[float, typer.Option(help="share of each target spread over all classes")] = 0.0,
    perturb: Annotated[
        str | None,
        typer.Option(
            help="gradients at perturbed weights, as damp:sigma=0.2; listed below", show_default=False, metavar="NAME"
        ),
    ] = None,
    reweigh: Annotated[
        str | None,
        typer.Option(help="less weight for examples with a high loss: mr:eta=0.01", show_default=False, metavar="NAME"),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="decay of a running average of the weights, as 0.999", show_default=False),
    ] = None,
    decode: Annotated[
        float | None,
        typer.Option(help="weight of a second loss: render the INRs from the features; try 1", show_default=False),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="of targets that are numbers: mse or huber", show_default="mse")
    ] = None,
    fresh: options.Fresh = None,
    keep: options.Keep = None,
    fitters: options.Fitters = None,
    address: options.Address = None,
    data_root: options.DataRoot = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(help="stop after N epochs without a better figure on val", show_default=False),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    bf16: options.Bf16 = False,
    compiled: options.Compile = False,
    track: options.Track = None,
    rules: Annotated[
        int | None,
        typer.Option(help="defaults of an earlier version, for sweeps that began with it", show_default=False),
    ] = None,
    config_file: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; else runs/SET-MODEL-SEED", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on the weights, or with --target a reader of other values; the epoch that is best on val is measured on test. Run it again to resume."""
    from inr_factory.learning.training.run_config import TrainConfig, check_config

    check_training(dataset, model, augment or (), mixup, perturb, reweigh, init)
    settings = {"epochs": epochs, "learning_rate": learning_rate, "schedule": schedule, "optimizer": optimizer}
    settings |= {
        "weight_decay": weight_decay,
        "label_smoothing": label_smoothing,
        "ema": ema,
        "track": track,
        "decode": decode,
        "loss": loss,
        "rules": rules,
    }
    check_config(TrainConfig, **{name: value for name, value in settings.items() if value is not None})
    reuse = options.check_fresh(fresh, keep=keep, fitters=fitters, address=address, data_root=data_root)

    from inr_factory.learning.training.distributed import is_first_rank
    from inr_factory.learning.training.run_cost import run_cost
    from inr_factory.learning.training.run_data import has_split
    from inr_factory.learning.training.train_classifier import train as train_classifier
    from inr_factory.reporting.plots import draw_training
    from inr_factory.storage.manifest_file import load_manifest

    columns = COLUMNS if decode is None else COLUMNS | {"val_psnr": ("dB on val", ".2f")}
    with RunProgress(epochs, columns) as progress:
        opened: dict[str, Any] = {
            "views": views, "labels_per_class": labels_per_class, "label_noise": label_noise, "target": target,
        }  # fmt: skip
        data: Path | FreshDataset = dataset
        if reuse is not None:
            from inr_factory.streaming.stream import stream

            noise = (label_noise, seed) if label_noise else None
            data = stream(
                dataset, reuse=reuse, fitters=fitters, keep=keep, data_root=data_root, address=address, device=device,
                label_seed=seed, on_wait=progress.wait, **opened | {"label_noise": noise},
            )  # fmt: skip
            opened = {"target": target}
        run = train_classifier(
            data, model, augment or (), mixup or None, views_per_object=views_per_object, init=init, freeze=freeze,
            canonical=canonical, normalize=normalize, epochs=epochs, optimizer=optimizer, batch_size=batch_size,
            learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule, warmup_steps=warmup_steps,
            label_smoothing=label_smoothing, perturb=perturb, reweigh=reweigh, ema=ema, bf16=bf16, compile=compiled,
            early_stopping=early_stopping, seed=seed, device=device, out=out, on_epoch=progress.epoch,
            on_step=progress.step, on_start=progress.start, log=terminal.log_info, track=track,
            decode=decode, loss=loss, rules=rules, **opened,  # type: ignore[arg-type]
        )  # fmt: skip
    if not is_first_rank():
        return
    if reuse is not None:
        _note_fresh(run)
    manifest, folder, best = load_manifest(dataset), run.folder, run.best
    test = run.evaluate(dataset, device=device) if has_split(manifest, "test") else None
    if test is not None:
        note_missing(test)
    if as_json:
        terminal.print_json({
            "run": str(folder), "best": dict(best), "epochs": len(run.history),
            "test": None if test is None else test.metrics(), **run_cost(run),
        })  # fmt: skip
    else:
        _print_result(run, test)
    with optional_pictures():  # after the results, which no picture may cost
        heading = f"{manifest.name}: training of {run.model(device).encoder.name}, seed {seed}"
        chance = 1 / len(run.classes) if run.classes else None
        draw_training(run.history, folder / CURVES, heading, chance)
        if test is not None:
            draw_report(test, folder / PICTURE, run, dataset, device)
        if decode is not None:
            _draw_pictures(run, folder / DRAWN, device)
    if manifest.views == 1 and fresh is None:
        terminal.log_info(
            "the set has one view of each object; a classifier gains most from more: fit with --views 5, or train with --fresh auto"
        )
    pictures = [path for path in (folder / CURVES, folder / PICTURE, folder / DRAWN) if path.is_file()]
    if pictures and not as_json:
        terminal.print_result(f"pictures: {', '.join(map(str, pictures))}")


def _note_fresh(run: "TrainedRun") -> None:
    """Report how many fresh INRs a run has shown: with auto, a short run may end before there is one."""
    if shown := int(sum(record.get("fresh", 0) for record in run.history)):
        terminal.log_info(f"fresh INRs: {shown:,}")
    else:
        terminal.log_info(
            "the run showed no fresh INR: it ended before fitters had made any; --fresh 1 waits for them, or train longer"
        )


def _print_result(run: "TrainedRun", test: "EvaluationReport | ValueReport | None") -> None:
    from inr_factory.learning.training.run_config import metric_of

    best = run.best
    metric = metric_of(best) or "val_accuracy"
    what = {"val_accuracy": "accuracy", "val_r2": "R²", "val_map": "mean average precision"}[metric]
    terminal.print_result(
        f"best epoch {int(best['epoch']) + 1} of {len(run.history)}: validation {what} {best[metric]:{COLUMNS[metric][1]}}"
    )
    if test is not None:
        chance = f" (chance {1 / len(run.classes):.2%})" if run.classes else ""
        terminal.print_result(f"test {test.headline} of {test.count:,} INRs{chance}")


def _draw_pictures(run: "TrainedRun", path: Path, device: str) -> None:
    """Images as INRs show them, and below each what an encoder draws from the weights."""
    from inr_factory.learning.training.decoding import reconstruct
    from inr_factory.learning.training.run_data import evaluation_loader, open_split
    from inr_factory.reporting.image_grid import draw_reconstructions

    model = run.model(device)
    if model.encoder.picture is None:
        return
    data = open_split(run.dataset, "val", 1)
    if (shown := reconstruct(model, evaluation_loader(data, device))) is not None:
        captions = [data.classes[label] for label in shown.labels.tolist()]
        heading = f"{data.manifest.name}, val: INRs, and what {model.encoder.name} draws from their weights"
        draw_reconstructions(shown.rendered.numpy(), shown.decoded.numpy(), captions, path, heading)
