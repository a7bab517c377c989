"""`train` and `evaluate`: fit a classifier to the weights of a set, and measure it."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import RunProgress
from inr_factory.cli.shared_options import Config, DatasetFolder, Json, fetch_dataset_option
from inr_factory.errors import UsageError, describe_fault, skip_without_extra

if TYPE_CHECKING:
    import torch

    from inr_factory.inr.batch import INRBatch
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.learning.data.loader import INRLoader
    from inr_factory.learning.models.classifier import Classifier
    from inr_factory.learning.training.trainer import RunConfig

# What a run's folder says besides its checkpoints: where its data set lies, which may move.
RUN = "run.json"
CURVES, PICTURE = "curves.png", "test.png"
EVALUATION_BATCH = 512
# What is shown of an epoch while it trains.
COLUMNS = {
    "train_loss": ("train loss", ".4f"), "val_loss": ("val loss", ".4f"), "val_accuracy": ("val accuracy", ".2%"),
    "lr": ("lr", ".1e"), "seconds": ("seconds", ".1f"),
}  # fmt: skip


def train(
    dataset: DatasetFolder,
    model: Annotated[
        str, typer.Option(help="parity, dws, mlp, ng_gnn, ng_t or scalegmn; options as ng_t:num_layers=2")
    ] = "dws",
    augment: Annotated[
        list[str] | None,
        typer.Option(help="transform of the weights, as flip or noise:scale=0.3; repeatable", show_default=False),
    ] = None,
    mixup: Annotated[
        str | None, typer.Option(help="mixing, as mixup or mixup:alpha=0.2,match=signed", show_default=False)
    ] = None,
    views: Annotated[
        int | None, typer.Option(help="learn from the first N views; else all", show_default=False)
    ] = None,
    views_per_object: Annotated[
        int | None,
        typer.Option(help="an epoch takes so many views of an object, drawn afresh; else all", show_default=False),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="start with the encoder and normalizer of this run or checkpoint, as of pretrain", show_default=False
        ),
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="leave the encoder as it is: a linear probe")] = False,
    labels_per_class: Annotated[
        int | None, typer.Option(help="learn from N objects of each class, drawn by the seed", show_default=False)
    ] = None,
    canonical: Annotated[
        bool, typer.Option(help="read INRs in their canonical form: signs and phases of neurons do not count")
    ] = True,
    epochs: Annotated[int, typer.Option(min=1)] = 100,
    batch_size: Annotated[int, typer.Option(min=2)] = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr")] = 1e-3,
    weight_decay: Annotated[float, typer.Option()] = 5e-4,
    schedule: Annotated[str, typer.Option(help="constant or cosine, both after the warm-up")] = "constant",
    warmup_steps: Annotated[int, typer.Option(min=0)] = 100,
    label_smoothing: Annotated[float, typer.Option()] = 0.0,
    perturb: Annotated[
        str | None,
        typer.Option(
            help="gradients beside the weights: damp:sigma=0.2, asam:rho=0.5 or wat:sigma=0.2", show_default=False
        ),
    ] = None,
    reweigh: Annotated[
        str | None,
        typer.Option(help="let examples whose loss stays high count less: mr:eta=0.01", show_default=False),
    ] = None,
    label_noise: Annotated[
        float, typer.Option(help="give this share of the training objects a wrong label", min=0, max=1)
    ] = 0.0,
    ema: Annotated[
        float | None, typer.Option(help="decay of a running average of the weights, as 0.999", show_default=False)
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="train in bfloat16 where that is safe")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="hand the classifier to torch.compile")] = False,
    early_stopping: Annotated[
        int | None, typer.Option(help="stop after so many epochs without a gain", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    config_file: Config = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run; else runs/SET-MODEL-SEED", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on the weights; on test, its best epoch on val counts. Run it again to go on."""
    from inr_factory.learning.alignment.mixup import parse_mixup
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.learning.data.loader import INRLoader
    from inr_factory.learning.models.checkpoint import build_from_checkpoint, initialize_from
    from inr_factory.learning.models.classifier import build_classifier
    from inr_factory.learning.models.normalizer import Normalizer
    from inr_factory.learning.training.classification import TrainConfig
    from inr_factory.learning.training.classification import train as train_model
    from inr_factory.learning.training.distributed import join_process_group
    from inr_factory.learning.training.trainer import BEST
    from inr_factory.learning.transforms.canonical import Canonicalize
    from inr_factory.learning.transforms.compose import Compose, parse_transforms
    from inr_factory.storage.atomic_files import write_atomically

    name, options = parse_model(model)
    augmentation = parse_transforms(augment or [])
    mixing = parse_mixup(mixup) if mixup else None
    config = checked(
        TrainConfig,
        epochs=epochs, learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule, seed=seed,
        warmup_steps=warmup_steps, label_smoothing=label_smoothing, early_stopping=early_stopping, device=device,
        perturb=perturb, reweigh=reweigh, ema=ema, bf16=bf16, compile=compiled,
    )  # fmt: skip
    if mixing is not None and config.reweigh is not None:
        raise UsageError("--reweigh weighs examples by their own losses, --mixup mixes them; use one of the two")
    if freeze and init is None:
        raise UsageError("--freeze leaves an encoder as it is; say by --init which one")
    training = INRDataset(
        dataset, "train", views=views, labels_per_class=labels_per_class, label_seed=seed,
        label_noise=(label_noise, seed) if label_noise else None,
    )  # fmt: skip
    validation = INRDataset(dataset, "val", views=1)
    canonical = canonical and training.spec.activation == "sine"
    transform = Compose(((Canonicalize(),) if canonical else ()) + augmentation.transforms)
    for part in (training, validation):
        if part.incomplete:
            terminal.log_info(
                f"{part.incomplete} shards of {part.split} are missing; the run learns from what there is"
            )
    with join_process_group(loader_device(device)) as (ranks, place):
        config = config.model_copy(update={"device": str(place)})
        loader = INRLoader(
            training, batch_size, seed=seed, transform=transform if transform.transforms else None, mixup=mixing,
            device=place, views_per_object=views_per_object, rank=ranks.rank, world_size=ranks.size,
        )  # fmt: skip
        normalizer = Normalizer.fit(training.spec, plain_batches(training, canonical))
        classifier = build_classifier(
            name, training.spec, training.num_classes, normalizer, seed=seed, canonical=canonical, **options
        )
        out = out or Path("runs") / f"{training.manifest.name}-{name}-{seed}"
        meta = {
            "classes": list(training.classes), "train": training.describe(), "val": validation.describe(),
            "augment": str(transform), "mixup": str(mixing), "batch_size": batch_size,
            "views_per_object": views_per_object, **({"ranks": ranks.size} if ranks.size > 1 else {}),
        }  # fmt: skip
        if init is not None:
            meta |= {"init": initialize_from(classifier, checkpoint_of(init)), "freeze": freeze}
        if freeze:
            classifier.freeze()
        parameters = sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
        if ranks.first:
            together = f" by {ranks.size} ranks" if ranks.size > 1 else ""
            terminal.log_info(f"{name}, {parameters:,} parameters, on {training}; run in {out}{together}")
        out.mkdir(parents=True, exist_ok=True)
        with RunProgress(epochs, COLUMNS, best_by="val_accuracy") as progress:
            result = train_model(
                classifier, loader, evaluation_loader(validation, str(place)), config, out, meta,
                on_epoch=progress.epoch, on_step=progress.step,
                examples=evaluation_loader(training, str(place)) if config.reweigh is not None else None,
                ranks=ranks,
            )  # fmt: skip
    if not ranks.first:
        return
    write_atomically(out / RUN, json.dumps({"dataset": str(dataset.absolute()), "meta": meta}, indent=2).encode())
    from inr_factory.reporting.plots import draw_training

    with skip_without_extra("pictures"):
        draw_training(result.history, out / CURVES, f"{training.manifest.name}, {name}, seed {seed}")
    best = build_from_checkpoint(out / BEST)
    figures = _measure(best, INRDataset(dataset, "test", views=1), device) if has_split(training, "test") else None
    if figures is not None:
        with skip_without_extra("pictures"):
            _draw(figures, training, "test", out / PICTURE)
    if as_json:
        terminal.print_json(
            {"run": str(out), "best": dict(result.best), "epochs": len(result.history), "test": figures}
        )
        return
    epoch, val = int(result.best["epoch"]), result.best["val_accuracy"]
    terminal.print_result(f"best epoch {epoch + 1} of {len(result.history)}: validation accuracy {val:.2%}")
    if figures is not None:
        terminal.print_result(
            f"test accuracy {figures['accuracy']:.2%} of {figures['count']:,} INRs (chance {1 / training.num_classes:.2%})"
        )
    pictures = [str(path) for path in (out / CURVES, out / PICTURE) if path.is_file()]
    if pictures:
        terminal.print_result(f"pictures: {', '.join(pictures)}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="folder of a run, or a checkpoint", show_default=False, metavar="RUN")],
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="another set of the same INRs; else the one it was trained on",
            show_default=False,
            parser=str,
            callback=fetch_dataset_option,
            metavar="DATASET",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test")] = "test",
    views: Annotated[int, typer.Option(help="the first N views", min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    picture: Annotated[
        Path | None, typer.Option(help="draw confusion and calibration into this PNG", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained classifier: accuracy, loss, accuracy a class and the confusion matrix."""
    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.learning.models.checkpoint import build_from_checkpoint

    checkpoint = checkpoint_of(run)
    model = build_from_checkpoint(checkpoint)
    data = INRDataset(dataset or _dataset_of(checkpoint.parent), split, views=views)
    figures = _measure(model, data, device)
    if picture is not None:
        _draw(figures, data, split, picture)
        terminal.log_info(f"picture in {picture}")
    if as_json:
        terminal.print_json({"run": str(run), "split": split, "classes": list(data.classes), **figures})
        return
    terminal.print_result(
        f"{split} accuracy {figures['accuracy']:.2%}, loss {figures['loss']:.4f}, calibration error "
        f"{figures['calibration_error']:.3f}, of {figures['count']:,} INRs\n"
    )
    rows = []
    for number, (name, share) in enumerate(zip(data.classes, figures["per_class_accuracy"], strict=True)):
        counts = figures["confusion"][number]
        wrong = {data.classes[at]: count for at, count in enumerate(counts) if at != number and count}
        taken = max(wrong, key=lambda other: wrong[other], default="")
        worst = f"{taken} ({wrong[taken]})" if taken else "-"
        rows.append((name, sum(counts), "-" if share is None else f"{share:.1%}", worst))
    terminal.print_table(["class", "INRs", "accuracy", "most often taken for"], rows)


def predict(
    run: Annotated[Path, typer.Argument(help="folder of a run, or a checkpoint", show_default=False, metavar="RUN")],
    dataset: DatasetFolder,
    split: Annotated[str, typer.Option(help="train, val or test")] = "test",
    views: Annotated[int | None, typer.Option(help="the first N views; else all", show_default=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="CSV to write; else the table goes to stdout", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """What a trained classifier says of each INR: a CSV of object, view, class, predicted class and its probability."""
    import torch

    from inr_factory.learning.data.dataset import INRDataset
    from inr_factory.learning.models.checkpoint import build_from_checkpoint
    from inr_factory.storage.atomic_files import write_atomically

    model = build_from_checkpoint(checkpoint_of(run)).to(loader_device(device))
    data = INRDataset(dataset, split, views=views)
    saved = json.loads((run / RUN).read_text())["meta"]["classes"] if (run / RUN).is_file() else list(data.classes)
    if len(saved) != model.num_classes:
        raise UsageError(f"{run} tells {model.num_classes} classes apart, {dataset} has {len(saved)}; name its own set")
    table, at = io.StringIO(), 0
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("object_id", "view", "class", "predicted", "probability"))
    with torch.no_grad():
        for inrs, _ in evaluation_loader(data, device):
            probability, predicted = model(inrs).softmax(1).max(1)
            for chance, number in zip(probability.tolist(), predicted.tolist(), strict=True):
                own = data.object_ids[at], data.views[at], data.classes[data.labels[at]]
                writer.writerow((*own, saved[number], f"{chance:.4f}"))
                at += 1
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, table.getvalue().encode())
    if as_json:
        rows = list(csv.DictReader(io.StringIO(table.getvalue())))
        terminal.print_json({"run": str(run), "split": split, "out": out and str(out), "predictions": rows})
    else:
        terminal.print_result(table.getvalue().rstrip("\n") if out is None else f"{out}: {at:,} INRs")


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `name` or `name:key=value,key=value`; values are numbers, true, false or words."""
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(f"--model takes name:key=value,key=value, got {text!r}")
        try:
            options[key] = json.loads(value.lower())
        except json.JSONDecodeError:
            options[key] = value
    return name.strip(), options


def evaluation_loader(dataset: "INRDataset", device: str) -> "INRLoader":
    """All rows in order, once."""
    from inr_factory.learning.data.loader import INRLoader

    return INRLoader(dataset, EVALUATION_BATCH, shuffle=False, drop_last=False, device=loader_device(device))


def checkpoint_of(run: Path) -> Path:
    """The best checkpoint of a run's folder, or the file itself."""
    from inr_factory.learning.training.trainer import BEST

    checkpoint = run / BEST if run.is_dir() else run
    if not checkpoint.is_file():
        raise UsageError(
            f"no checkpoint {checkpoint}; name the folder of a run that inr-factory train or pretrain made"
        )
    return checkpoint


def _draw(figures: Mapping[str, Any], data: "INRDataset", split: str, path: Path) -> None:
    from inr_factory.reporting.plots import draw_evaluation

    heading = f"{data.manifest.name}, {split}: accuracy {figures['accuracy']:.1%} of {figures['count']:,} INRs"
    draw_evaluation(figures["confusion"], data.classes, figures["calibration"], path, heading)


def _measure(model: "Classifier", data: "INRDataset", device: str) -> dict[str, Any]:
    from inr_factory.learning.training.classification import evaluate as evaluate_model

    model = model.to(loader_device(device))
    return evaluate_model(model, evaluation_loader(data, device))


def plain_batches(dataset: "INRDataset", canonical: bool) -> "Iterator[INRBatch]":
    from inr_factory.learning.data.loader import INRLoader
    from inr_factory.learning.transforms.canonical import canonicalize

    for inrs, _ in INRLoader(dataset, EVALUATION_BATCH, shuffle=False, drop_last=False):
        yield canonicalize(inrs) if canonical else inrs


def has_split(dataset: "INRDataset", split: str) -> bool:
    return any(entry.split == split and entry.rows for entry in dataset.manifest.shards)


def loader_device(name: str) -> "torch.device":
    from inr_factory.inr.device import choose_device

    return choose_device(name)


ConfigT = TypeVar("ConfigT", bound="RunConfig")


def checked(kind: type[ConfigT], **settings: Any) -> ConfigT:
    """Settings of a kind of run. UsageError names the option that does not fit."""
    from pydantic import ValidationError

    try:
        return kind(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise UsageError(describe_fault(f"--{option}", fault)) from None


def _dataset_of(folder: Path) -> Path:
    try:
        return Path(json.loads((folder / RUN).read_text())["dataset"])
    except (OSError, ValueError, KeyError):
        raise UsageError(f"{folder} does not say which set it was trained on; name it by --dataset") from None
