"""Pre-training an encoder on a data set from end to end: what the command `pretrain` does.

Shape letters: N INRs, F features.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import check_flags, check_hooks
from inr_factory.inr.device import choose_device
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import initialize_from
from inr_factory.learning.models.contrastive import Contrastive, build_contrastive
from inr_factory.learning.models.decoder import Decoding, build_decoding
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import encoder_class
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.begun_run import as_begun
from inr_factory.learning.training.checks_before_training import log_gaps, log_warmup
from inr_factory.learning.training.contrastive import ContrastiveTrainer
from inr_factory.learning.training.decoding import (
    DecodingTrainer,
    Reconstructions,
    reconstruct,
    reconstruction_psnr,
)
from inr_factory.learning.training.defaults import BATCH_SIZE, PRETRAIN_MODEL, PROJECTION_DIM
from inr_factory.learning.training.probes import features_of, linear_accuracy, neighbour_accuracy
from inr_factory.learning.training.run_config import (
    BEST,
    OBJECTIVES,
    POSITIVES,
    OnEpoch,
    OnStep,
    PretrainConfig,
    TrainReport,
    check_config,
)
from inr_factory.learning.training.run_data import evaluation_loader, has_split, plain_batches, write_run_file
from inr_factory.learning.training.tracking import Tracking, require_trackers
from inr_factory.learning.training.train_classifier import parse_augmentation
from inr_factory.learning.transforms.canonical import Canonicalize, is_default
from inr_factory.learning.transforms.compose import Compose, WeightTransform, check_transform
from inr_factory.storage.locations import Location

DEFAULTS = PretrainConfig(positives="views")


@dataclass(frozen=True)
class PretrainReport:
    """The outcome of pre-training.

    Attributes:
        train: The run's folder, and the records of its epochs.
        split: The split on which features were probed: test, or val where there is no test.
        pretrained: Accuracies in [0, 1] of the best epoch's features, by "neighbours" and "linear" probe.
        untrained: The same of the initial encoder.
        chance: Accuracy of guessing.
        features: Features (N, F) of the probed INRs.
        labels: Their labels (N,).
        classes: Names of the classes.
        dataset: Name of the data set.
        psnr: Of the objective "decode": what is decoded, against what the INRs of the split render, in dB.
        reconstructions: Of the objective "decode": some of both, for images and shapes.
    """

    train: TrainReport
    split: str
    pretrained: Mapping[str, float]
    untrained: Mapping[str, float]
    chance: float
    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    dataset: str
    psnr: float | None = None
    reconstructions: Reconstructions | None = None


def pretrain(
    dataset: str | Location,
    model: str = PRETRAIN_MODEL,
    positives: str = DEFAULTS.positives,
    augment: str | WeightTransform | Sequence[str | WeightTransform] = (),
    views: int | None = None,
    canonical: bool = True,
    epochs: int = DEFAULTS.epochs,
    batch_size: int = BATCH_SIZE,
    temperature: float = DEFAULTS.temperature,
    projection_dim: int = PROJECTION_DIM,
    learning_rate: float = DEFAULTS.learning_rate,
    weight_decay: float = DEFAULTS.weight_decay,
    schedule: str = DEFAULTS.schedule,
    warmup_steps: int = DEFAULTS.warmup_steps,
    neighbours: int = DEFAULTS.neighbours,
    probe_epochs: int = DEFAULTS.probe_epochs,
    bf16: bool = DEFAULTS.bf16,
    compile: bool = DEFAULTS.compile,
    seed: int = DEFAULTS.seed,
    device: str = DEFAULTS.device,
    out: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    log: Callable[[str], None] | None = None,
    track: str | None = None,
    objective: str = DEFAULTS.objective,
) -> PretrainReport:
    """Pre-train an encoder without labels, or resume the run in `out`.

    By the objective "contrast" it learns which INRs show one object (SimCLR, Chen et al. 2020), by "decode" to render
    each INR from its features.

    Labels of train and val are used to monitor it, and those of test in the end. `train(init=...)` continues from it.

    Args:
        dataset: Path or URL of a data set with the splits train and val.
        model: See `train`.
        positives: What shows one object: "augment" (one INR, augmented twice), "views" (two fits) or "both".
        augment: Transforms of the weights, as "rotate2d" or "noise:scale=0.1"; needed but for "views". For "decode" they
            change the INR and so its target.
        views: Train on the first views of each object; by default on all.
        canonical: Bring INRs to their canonical form, so that signs and phases of neurons do not count; not those of ReLU.
        epochs: At least 1; an epoch has every object once.
        batch_size: Objects of a batch, at least 2; each has two rows.
        temperature: Of the loss of "contrast", above 0.
        projection_dim: Width of the projections that "contrast" compares, at least 2.
        learning_rate: Above 0.
        weight_decay: Of AdamW.
        schedule: "constant" or "cosine", both after the warm-up.
        warmup_steps: Steps over which the learning rate rises, at most a tenth of all steps.
        neighbours: Number of nearest neighbours that vote.
        probe_epochs: Probe the features after each this many epochs.
        bf16: Train in bfloat16 where that is safe.
        compile: Pass the encoder to torch.compile.
        seed: Of initial parameters, batches, augmentation and dropout.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: Folder of the run; by default runs/SET-pretrain-MODEL-SEED.
        on_epoch: Called with the record of each epoch.
        on_step: Called after each step.
        log: Called with notes in one line.
        track: See `train`.
        objective: "contrast" or "decode"; positives, temperature and projection_dim are of "contrast".

    Returns:
        The records of the run, and what its features are worth.

    Raises:
        UsageError: An option, the data set or the folder does not suit.
        FactoryError: Training diverged.
        ResourceError: The device is missing or the disk is full.
    """
    check_flags(canonical=canonical)
    check_hooks(on_epoch=on_epoch, on_step=on_step, log=log)
    note, log = log, log or (lambda line: None)
    name, options = parse_model(model)
    augmentation = parse_augmentation(augment)
    if positives not in POSITIVES:
        raise UsageError(f"--positives must be {', '.join(POSITIVES[:-1])} or {POSITIVES[-1]}, got {positives!r}")
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective must be {' or '.join(OBJECTIVES)}, got {objective!r}")
    decode = objective == "decode"
    if not decode and positives != "views" and not augmentation:
        raise UsageError(
            f"--positives {positives} needs --augment, as rotate2d or noise:scale=0.1; or take --positives views"
        )
    config = check_config(
        PretrainConfig, epochs=epochs, learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule,
        warmup_steps=warmup_steps, positives=positives, temperature=temperature, neighbours=neighbours,
        probe_epochs=probe_epochs, bf16=bf16, compile=compile, seed=seed, device=device,
        track=track, objective=objective,
    )  # fmt: skip
    require_trackers(config.track)
    training, validation = INRDataset(dataset, "train", views=views), INRDataset(dataset, "val", views=1)
    per_object = config.views_per_object
    if per_object > len(training.chosen_views):
        raise UsageError(
            f"--positives {positives} needs two views of an object, the data set or --views has "
            f"{len(training.chosen_views)}; fit more views, or take --positives augment"
        )
    if training.objects.max() > 0 and (len(np.unique(training.labels)) < 2 or training.labels.min() < 0):
        raise UsageError(
            f"{training.manifest.name} has no two classes to train on; pretrain learns without them, but its probes choose "
            "and measure the encoder by them: give labels"
        )
    log_gaps(log, training, validation)
    folder = as_path(out, "the run") if out else Path("runs") / f"{training.manifest.name}-pretrain-{name}-{seed}"
    config, options = as_begun(config, name, options, folder)
    canonical = canonical and is_default(training.spec) and not encoder_class(name).function_only
    transform = Compose(((Canonicalize(),) if canonical else ()) + augmentation)
    check_transform(transform, training.spec)
    loader = INRLoader(
        training, batch_size * per_object, seed=seed, views_per_object=per_object, grouped=per_object > 1,
        device=choose_device(device),
    )  # fmt: skip
    if loader.sampler.num_left_out:
        log(f"{loader.sampler.num_left_out} objects have a single view and are left out")
    normalizer = Normalizer.fit(training.spec, plain_batches(training, canonical))
    encoder: Contrastive | Decoding
    build = build_decoding if decode else partial(build_contrastive, projection_dim=projection_dim)
    encoder = build(name, training.spec, normalizer, seed=seed, canonical=canonical, **options)
    if isinstance(encoder, Decoding):
        encoder.decoder.standardize(next(plain_batches(training, canonical)))
    untrained = copy.deepcopy(encoder)
    meta: dict[str, Any] = {
        "classes": list(training.classes), "train": training.describe(), "val": validation.describe(),
        "augment": str(transform), "batch_size": batch_size,
    }  # fmt: skip
    parameters = sum(parameter.numel() for parameter in encoder.encoder.parameters())
    log(
        f"{encoder.encoder.name}, {parameters:,} parameters, {'decoding' if decode else f'positives {positives}'}, on {training}; run in {folder}"
    )
    log_warmup(log, config, len(loader))
    known = evaluation_loader(INRDataset(dataset, "train", views=1, check=False), device)
    kind: Any = DecodingTrainer if decode else ContrastiveTrainer
    trainer = kind(
        encoder, loader, known, evaluation_loader(validation, device), transform if augmentation else None,
        config, folder, meta,
    )  # fmt: skip
    settings = {"model": trainer.model.describe(), **config.model_dump(exclude={"track"}), **trainer.meta}
    with Tracking(folder, config.track, settings, note) as tracking:
        report = trainer.fit(on_epoch, on_step=on_step, tracking=tracking)
        write_run_file(folder, training, trainer.meta)
        initialize_from(encoder, folder / BEST)
        split = "test" if has_split(training.manifest, "test") else "val"
        queries = evaluation_loader(INRDataset(dataset, split, views=1), device)
        probe = partial(_probe, known=known, queries=queries, neighbours=neighbours)
        (features, labels), pretrained = probe(encoder.to(choose_device(device)))
        _, initial = probe(untrained.to(choose_device(device)))
        figures = {f"{split}_{name}_accuracy": value for name, value in pretrained.items()}
        decoded: dict[str, Any] = {}
        if isinstance(encoder, Decoding):
            decoded["psnr"] = reconstruction_psnr(encoder, encoder.decoder, queries)
            decoded["reconstructions"] = reconstruct(encoder.eval(), queries)
            figures[f"{split}_psnr"] = decoded["psnr"]
        tracking.finish(report.history, {"best_epoch": report.best["epoch"], **figures})
    return PretrainReport(
        train=report, split=split, pretrained=pretrained, untrained=initial, chance=1 / training.num_classes,
        features=features, labels=labels, classes=tuple(training.classes), dataset=training.manifest.name,
        **decoded,
    )  # fmt: skip


def _probe(
    encoder: NormalizedEncoder, known: INRLoader, queries: INRLoader, neighbours: int
) -> tuple[tuple[Tensor, Tensor], dict[str, float]]:
    """Features and labels of the queries, and accuracies in [0, 1] on them, learned from one view of each known object."""
    of_known, of_queries = features_of(encoder, known), features_of(encoder, queries)
    return of_queries, {
        "neighbours": neighbour_accuracy(*of_known, *of_queries, neighbours),
        "linear": linear_accuracy(*of_known, *of_queries),
    }
