"""`pretrain`: an encoder that learns from weights without labels, and what its features are worth."""

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.commands.train import (
    RUN,
    checked,
    evaluation_loader,
    has_split,
    loader_device,
    parse_model,
    plain_batches,
)
from inr_factory.cli.progress_bars import RunProgress
from inr_factory.cli.shared_options import Config, DatasetFolder, Json
from inr_factory.errors import UsageError, skip_without_extra

if TYPE_CHECKING:
    from inr_factory.learning.data.loader import INRLoader
    from inr_factory.learning.models.normalized_encoder import NormalizedEncoder

PICTURE = "pretraining.png"
# What is shown of an epoch while it trains.
COLUMNS = {
    "train_loss": ("loss", ".4f"), "val_accuracy": ("neighbours on val", ".2%"), "lr": ("lr", ".1e"),
    "seconds": ("seconds", ".1f"),
}  # fmt: skip


def pretrain(
    dataset: DatasetFolder,
    model: Annotated[
        str, typer.Option(help="parity, dws, mlp, ng_gnn, ng_t or scalegmn; options as ng_t:num_layers=2")
    ] = "dws",
    positives: Annotated[
        str, typer.Option(help="what shows one object: augment (one INR, augmented twice), views (two fits) or both")
    ] = "views",
    augment: Annotated[
        list[str] | None,
        typer.Option(help="transform of the weights, as rotate2d or noise:scale=0.1; repeatable", show_default=False),
    ] = None,
    views: Annotated[
        int | None, typer.Option(help="learn from the first N views; else all", show_default=False)
    ] = None,
    canonical: Annotated[
        bool, typer.Option(help="read INRs in their canonical form: signs and phases of neurons do not count")
    ] = True,
    epochs: Annotated[int, typer.Option(min=1, help="an epoch has every object once")] = 50,
    batch_size: Annotated[int, typer.Option(min=2, help="objects a batch; each has two rows")] = 128,
    temperature: Annotated[float, typer.Option(help="of the contrastive loss")] = 0.2,
    projection_dim: Annotated[int, typer.Option(min=2, help="numbers that the loss compares")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = 1e-3,
    weight_decay: Annotated[float, typer.Option()] = 5e-4,
    schedule: Annotated[str, typer.Option(help="constant or cosine, both after the warm-up")] = "cosine",
    warmup_steps: Annotated[int, typer.Option(min=0)] = 100,
    neighbours: Annotated[int, typer.Option(min=1, help="nearest ones that vote")] = 20,
    probe_epochs: Annotated[int, typer.Option(min=1, help="ask the neighbours every so many epochs")] = 1,
    bf16: Annotated[bool, typer.Option("--bf16", help="train in bfloat16 where that is safe")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="hand the encoder to torch.compile")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    config_file: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; else runs/SET-pretrain-MODEL-SEED", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Pre-train an encoder by which INRs show one object, without labels. Run it again to go on.

    Labels of train and val are used to watch it, and those of test in the end. `train --init RUN` goes on from it.
    """
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.learning.data.loader import INRLoader
    from inr_factory.learning.models.checkpoint import initialize_from
    from inr_factory.learning.models.contrastive import build_contrastive
    from inr_factory.learning.models.normalizer import Normalizer
    from inr_factory.learning.training.contrastive import POSITIVES, PretrainConfig
    from inr_factory.learning.training.contrastive import pretrain as pretrain_model
    from inr_factory.learning.training.trainer import BEST
    from inr_factory.learning.transforms.canonical import Canonicalize
    from inr_factory.learning.transforms.compose import Compose, parse_transforms
    from inr_factory.storage.atomic_files import write_atomically

    name, options = parse_model(model)
    augmentation = parse_transforms(augment or [])
    if positives not in POSITIVES:
        raise UsageError(f"--positives must be {', '.join(POSITIVES[:-1])} or {POSITIVES[-1]}, got {positives!r}")
    if positives != "views" and not augmentation.transforms:
        raise UsageError(
            f"--positives {positives} needs --augment, as rotate2d or noise:scale=0.1; or take --positives views"
        )
    config = checked(
        PretrainConfig, epochs=epochs, learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule,
        warmup_steps=warmup_steps, positives=positives, temperature=temperature, neighbours=neighbours,
        probe_epochs=probe_epochs, bf16=bf16, compile=compiled, seed=seed, device=device,
    )  # fmt: skip
    training, validation = INRDataset(dataset, "train", views=views), INRDataset(dataset, "val", views=1)
    if config.views_per_object > len(training.chosen_views):
        raise UsageError(
            f"--positives {positives} needs two views of an object, {len(training.chosen_views)} is there or asked for; "
            "fit more views, or take --positives augment"
        )
    for part in (training, validation):
        if part.incomplete:
            terminal.log_info(
                f"{part.incomplete} shards of {part.split} are missing; the run learns from what there is"
            )
    canonical = canonical and training.spec.activation == "sine"
    transform = Compose(((Canonicalize(),) if canonical else ()) + augmentation.transforms)
    per_object = config.views_per_object
    loader = INRLoader(
        training, batch_size * per_object, seed=seed, views_per_object=per_object, grouped=per_object > 1,
        device=loader_device(device),
    )  # fmt: skip
    if loader.sampler.num_left_out:
        terminal.log_info(f"{loader.sampler.num_left_out} objects have a single view and are left out")
    normalizer = Normalizer.fit(training.spec, plain_batches(training, canonical))
    encoder = build_contrastive(
        name, training.spec, normalizer, seed=seed, canonical=canonical, projection_dim=projection_dim, **options
    )
    untrained = copy.deepcopy(encoder)
    out = out or Path("runs") / f"{training.manifest.name}-pretrain-{name}-{seed}"
    meta = {
        "classes": list(training.classes), "train": training.describe(), "val": validation.describe(),
        "augment": str(transform), "batch_size": batch_size,
    }  # fmt: skip
    parameters = sum(parameter.numel() for parameter in encoder.encoder.parameters())
    terminal.log_info(f"{name}, {parameters:,} parameters, positives {positives}, on {training}; run in {out}")
    first_view = INRDataset(dataset, "train", views=1, check=False)
    known = evaluation_loader(first_view, device)
    with RunProgress(epochs, COLUMNS, best_by="val_accuracy") as progress:
        result = pretrain_model(
            encoder, loader, known, evaluation_loader(validation, device), transform if transform.transforms else None,
            config, out, meta, on_epoch=progress.epoch, on_step=progress.step,
        )  # fmt: skip
    write_atomically(out / RUN, json.dumps({"dataset": str(dataset.absolute()), "meta": meta}, indent=2).encode())
    initialize_from(encoder, out / BEST)
    encoder, untrained = encoder.to(loader_device(device)), untrained.to(loader_device(device))
    split = "test" if has_split(training, "test") else "val"
    asked = evaluation_loader(INRDataset(dataset, split, views=1), device)
    figures = {"pretrained": _probe(encoder, known, asked, neighbours)}
    figures["untrained"] = _probe(untrained, known, asked, neighbours)
    chance = 1 / training.num_classes
    _draw(
        encoder,
        asked,
        result.history,
        out / PICTURE,
        f"{training.manifest.name}, {name}, positives {positives}, {split}",
    )
    best = dict(result.best)
    if as_json:
        terminal.print_json({
            "run": str(out), "best": best, "epochs": len(result.history), "split": split, **figures, "chance": chance,
        })  # fmt: skip
        return
    terminal.print_result(f"best epoch {int(best['epoch']) + 1} of {len(result.history)}, accuracy on {split}:\n")
    rows = [(row, f"{at['neighbours']:.2%}", f"{at['linear']:.2%}") for row, at in figures.items()]
    columns = ["encoder", f"{neighbours} nearest neighbours", "linear probe"]
    terminal.print_table(columns, [*rows, ("chance", *[f"{chance:.2%}"] * 2)])
    picture = f"picture: {out / PICTURE}; " if (out / PICTURE).is_file() else ""
    terminal.print_result(f"\n{picture}inr-factory train {dataset} --model {model} --init {out} starts from it")


def _probe(encoder: "NormalizedEncoder", known: "INRLoader", asked: "INRLoader", neighbours: int) -> dict[str, float]:
    """Accuracies, in [0, 1], on one view of each object, learned from one view of each object of train."""
    from inr_factory.learning.training.probes import features_of, linear_accuracy, neighbour_accuracy

    there, here = features_of(encoder, known), features_of(encoder, asked)
    return {
        "neighbours": neighbour_accuracy(*there, *here, neighbours),
        "linear": linear_accuracy(*there, *here),
    }


def _draw(encoder: "NormalizedEncoder", asked: "INRLoader", history: Any, path: Path, heading: str) -> None:
    from inr_factory.learning.training.probes import features_of, plane
    from inr_factory.reporting.plots import draw_pretraining

    features, labels = features_of(encoder, asked)
    with skip_without_extra("picture"):
        draw_pretraining(history, plane(features), labels.tolist(), asked.dataset.classes, path, heading)
