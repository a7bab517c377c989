"""`edit`: an editor that changes what INRs show by their weights, and the set of its edits."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.option_checks import check_editing
from inr_factory.cli.progress_bars import RunProgress, ShardProgress
from inr_factory.cli.shared_options import Config, DatasetFolder, Json, fetch_dataset_option
from inr_factory.errors import skip_without_extra
from inr_factory.learning.training import defaults

PICTURE = "edits.png"
COLUMNS = {
    "train_loss": ("loss", ".5f"), "val_mse": ("MSE on val", ".5f"), "val_psnr": ("dB on val", ".2f"),
    "lr": ("lr", ".1e"), "seconds": ("seconds", ".1f"),
}  # fmt: skip


def edit(
    dataset: DatasetFolder,
    filter: Annotated[
        str | None, typer.Option(help="what edits do to the images, as dilate; listed below", show_default=False)
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            help="instead, folder or URL of a set of the same objects, whose INRs show what edits have to",
            show_default=False,
            parser=str,
            callback=fetch_dataset_option,
            metavar="DATASET",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="parity, dws or ng_gnn, with settings as in dws:hidden_dim=32; else parity:points=true",
            show_default=False,
            metavar="NAME",
        ),
    ] = None,
    augment: options.Augment = None,
    views: options.FirstViews = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="pixels a side; else those of the fitted images", show_default=False)
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the INRs")] = defaults.EDIT_EPOCHS,
    batch_size: Annotated[int, typer.Option(min=2, help="INRs of a batch")] = defaults.EDIT_BATCH_SIZE,
    learning_rate: options.LearningRate = defaults.EDIT_LEARNING_RATE,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    config_file: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; else runs/SET-edit-FILTER-MODEL-SEED", show_default=False)
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(help="then store the edits of all INRs as a set in this folder", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train an editor, weights in and weights out, and store the edits of a set. Run it again to resume.

    Edits have to show what a filter makes of the INRs' own images, or what the INRs of another set show.
    """
    check_editing(dataset, filter, model, augment or ())

    from inr_factory.learning.training.edit import edit as train_editor
    from inr_factory.reporting.image_grid import draw_edits
    from inr_factory.storage.manifest_file import load_manifest

    with RunProgress(epochs, COLUMNS) as progress:
        run = train_editor(
            dataset, filter, target, model, augment or (), views, size, epochs, batch_size, learning_rate, seed, device,
            out, on_epoch=progress.epoch, on_step=progress.step, log=terminal.log_info,
        )  # fmt: skip
    report, manifest = run.evaluate(device=device), load_manifest(dataset)
    with skip_without_extra("picture"):
        shown = run.examples(split=report.split)
        names = [manifest.classes[label] if manifest.classes else "" for label in shown.labels.tolist()]
        title = f"{manifest.name}, {report.split}: INRs edited by {run.filter or 'target'}, {report.psnr:.2f} dB"
        images = [images.numpy() for images in (shown.before, shown.wanted, shown.after)]
        draw_edits(images, names, run.folder / PICTURE, title)
    if apply is not None:
        with ShardProgress("edit", len(manifest.shards)) as shards:
            run.apply(dataset, apply, device, shards)
    best = int(run.best["epoch"])
    if as_json:
        result: dict[str, Any] = {"run": str(run.folder), "best": dict(run.best), "epochs": len(run.history)}
        terminal.print_json({**result, **vars(report), **({"applied": str(apply)} if apply is not None else {})})
        return
    terminal.print_result(f"best epoch {best + 1} of {len(run.history)}, {report.count:,} INRs of {report.split}:\n")
    rows = [
        ("edited", f"{report.mse:.5f}", f"{report.psnr:.2f}"),
        ("as they are", f"{report.trivial_mse:.5f}", f"{report.trivial_psnr:.2f}"),
    ]
    terminal.print_table(["INRs", "MSE", "dB"], rows)
    picture = run.folder / PICTURE
    ending = f"the edited set is {apply}" if apply is not None else "--apply OUT stores the edits of the set"
    terminal.print_result(f"\n{f'picture: {picture}; ' if picture.is_file() else ''}{ending}")
