"""Training a classifier, or a predictor of other targets, on a data set from end to end: what the command `train` does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.arguments import check_flags, check_hooks, check_whole
from inr_factory.inr.device import choose_device
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.alignment.mixup import parse_mixup
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader, Mixing
from inr_factory.learning.models.checkpoint import initialize_from
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.decoder import Decoder, PictureDecoder, build_decoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.predictor import Predictor, build_predictor
from inr_factory.learning.models.registry import encoder_class
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.begun_run import as_begun, choose_encoder, choose_match, choose_schedule
from inr_factory.learning.training.checks_before_training import check_target, log_gaps, log_warmup, shares_weights
from inr_factory.learning.training.classification import ClassifierTrainer
from inr_factory.learning.training.distributed import join_process_group
from inr_factory.learning.training.run_config import (
    BEST,
    Loss,
    OnEpoch,
    OnStep,
    TrainConfig,
    check_config,
    checkpoint_of,
    metric_of,
)
from inr_factory.learning.training.run_data import evaluation_loader, has_split, plain_batches, write_run_file
from inr_factory.learning.training.tracking import Tracking, require_trackers
from inr_factory.learning.training.trained_run import TrainedRun
from inr_factory.learning.training.value_metrics import ValueReport
from inr_factory.learning.training.value_prediction import PredictorTrainer
from inr_factory.learning.transforms.canonical import Canonicalize, is_default
from inr_factory.learning.transforms.compose import Compose, WeightTransform, parse_transform
from inr_factory.storage.locations import Location

DEFAULTS = TrainConfig()


def train(
    dataset: str | Location | INRDataset,
    model: str | None = None,
    augment: str | WeightTransform | Sequence[str | WeightTransform] = (),
    mixup: str | Mixing | None = None,
    views: int | None = None,
    views_per_object: int | None = None,
    init: str | Path | TrainedRun | None = None,
    freeze: bool = False,
    labels_per_class: int | None = None,
    canonical: bool = True,
    normalize: bool = True,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str = DEFAULTS.optimizer,
    weight_decay: float = DEFAULTS.weight_decay,
    schedule: str | None = None,
    warmup_steps: int = DEFAULTS.warmup_steps,
    label_smoothing: float = DEFAULTS.label_smoothing,
    perturb: str | None = DEFAULTS.perturb,
    reweigh: str | None = DEFAULTS.reweigh,
    label_noise: float = 0.0,
    ema: float | None = DEFAULTS.ema,
    bf16: bool = DEFAULTS.bf16,
    compile: bool = DEFAULTS.compile,
    early_stopping: int | None = DEFAULTS.early_stopping,
    seed: int = DEFAULTS.seed,
    device: str = DEFAULTS.device,
    out: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    on_start: Callable[[TrainConfig], None] | None = None,
    log: Callable[[str], None] | None = None,
    track: str | None = None,
    decode: float | None = DEFAULTS.decode,
    target: str | None = None,
    loss: Loss | None = DEFAULTS.loss,
    rules: int | None = None,
) -> TrainedRun:
    """Train a classifier on the weights of a data set, or a predictor of its targets, or resume the run in `out`.

    The epoch with the highest accuracy on the validation split counts; of numbers the highest R², of labels the highest mean
    average precision. The same call resumes an interrupted run: model,
    epochs, batch_size, learning_rate and schedule that are not given are those of the run. New runs take the model of
    `init`, else "parity", and the schedule of `run_config.default_schedule`, which depends on model and number of INRs.

    Args:
        dataset: Path or URL of a data set with the splits train and val, or its open training split.
        model: "parity", "dws", "mlp", "ng_gnn", "ng_t" or "scalegmn", which read weights, "probes", which reads the
            function at learned points, or "render", which reads pixels; with options as "ng_t:num_layers=2".
        augment: Transforms of the weights, as "flip" or "noise:scale=0.3".
        mixup: Mixing of INRs and their targets, as "mixup" or "mixup:alpha=0.5,match=signed".
        views: Train on the first views of each object; by default on all.
        views_per_object: Views of each object per epoch, drawn for each epoch; by default all.
        init: Start with the encoder and normalizer of this run or checkpoint, as of `pretrain`.
        freeze: Keep the encoder of `init` as it is: a linear probe.
        labels_per_class: Train on this number of objects of each class, drawn by the seed.
        canonical: Bring INRs to their canonical form, so that signs and phases of neurons do not count; not those of ReLU.
            "probes" and "render", for which they never count, take INRs as fitted.
        normalize: Scale each layer's weights and biases by statistics of the training split; not for these two.
        epochs: At least 1; for "parity", "probes" and "render" by default 20, but 600 to 20,000 steps, for others 100; with
            mixup three times as many.
        batch_size: At least 2; for these three by default 64, for others 128.
        learning_rate: Above 0; by default 5e-3 for "parity", 2e-3 for "probes" and "render", 1e-3 for others.
        optimizer: "adamw", with amsgrad, "adam", whose weight decay is a part of the gradient (L2), or "muon", which updates
            hidden linear layers by Muon and all else by AdamW.
        weight_decay: Of the optimizer.
        schedule: "constant" or "cosine", both after the warm-up; by default "cosine" for these three,
            else "constant".
        warmup_steps: Steps over which the learning rate rises, at most a tenth of all steps.
        label_smoothing: Share of each target that is spread over all classes, in [0, 1).
        perturb: Take gradients at perturbed weights: "damp:sigma=0.2", "asam:rho=0.5" or "wat:sigma=0.2".
        reweigh: Give examples whose loss stays high less weight: "mr:eta=0.01".
        label_noise: Share of training objects that get a wrong label, in [0, 1].
        ema: Decay of a running average of the weights, such as 0.999.
        bf16: Train in bfloat16 where that is safe.
        compile: Pass the encoder to torch.compile.
        early_stopping: Stop after this number of epochs without a gain.
        seed: Of initial parameters, batches, augmentation and dropout.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: Folder of the run; by default runs/SET-MODEL-SEED.
        on_epoch: Called with the record of each epoch.
        on_step: Called after each step.
        on_start: Called once with all settings of the run, before its first step.
        log: Called with notes in one line: missing shards, and the run's size and folder.
        track: Also send the records of the run to "wandb" or "mlflow", or to both: "wandb,mlflow".
        decode: Weight of a second loss: a decoder has to render each INR, as augmented and mixed, from its features.
        target: What is learned: a column of the set's targets, see `add_targets`, "psnr", or a fact of the rows as
            "facts.NAME"; by default the set's classes. Numbers are standardised by the training split.
        loss: Of numbers: "mse", the squared error, by default; or "huber", which outliers move less (Huber 1964).
        rules: Take defaults of an earlier version, for sweeps that began with it; see `run_config.RULES`.

    Returns:
        The run, which evaluates and predicts.

    Raises:
        UsageError: An option, the data set or the folder does not suit.
        FactoryError: Training diverged.
        ResourceError: The device is missing or the disk is full.
    """
    check_flags(freeze=freeze, canonical=canonical, normalize=normalize)
    check_hooks(on_epoch=on_epoch, on_step=on_step, on_start=on_start, log=log)
    given = None if model is None else parse_model(model)
    augmentation = parse_augmentation(augment)
    mixing = parse_mixup(mixup) if isinstance(mixup, str) else mixup
    scheduled = {"epochs": epochs, "learning_rate": learning_rate, "schedule": schedule}
    config = check_config(
        TrainConfig,
        **{setting: value for setting, value in {**scheduled, "rules": rules}.items() if value is not None},
        weight_decay=weight_decay, seed=seed, warmup_steps=warmup_steps, label_smoothing=label_smoothing,
        early_stopping=early_stopping, device=device, optimizer=optimizer, perturb=perturb, reweigh=reweigh, ema=ema,
        bf16=bf16, compile=compile, track=track, decode=decode, loss=loss,
    )  # fmt: skip
    require_trackers(config.track)
    if batch_size is not None:
        check_whole(1, 2**31 - 1, batch_size=batch_size)
    if mixing is not None and config.reweigh is not None:
        raise UsageError("--reweigh weighs examples by their own losses, --mixup mixes them; use one of the two")
    if freeze and init is None:
        raise UsageError("--freeze keeps an encoder as it is; name its run by --init")
    if freeze and decode is not None:
        raise UsageError("--freeze keeps an encoder as it is, --decode trains it; use one of the two")
    noise = (label_noise, seed) if label_noise else None
    if isinstance(dataset, INRDataset):
        training = _check_training_split(dataset, views, labels_per_class, noise, target)
    else:
        training = INRDataset(
            dataset, "train", views=views, labels_per_class=labels_per_class, label_seed=seed, label_noise=noise, target=target,
        )  # fmt: skip
    learned = None if training.target is None else training.target.name
    validation = INRDataset(training.location, "val", views=1, target=learned)
    check_target(training, validation, config, label_noise)
    log_gaps(log, training, validation)
    checkpoint = (
        None
        if init is None
        else init.checkpoint
        if isinstance(init, TrainedRun)
        else checkpoint_of(as_path(init, "a run"))
    )

    def folder_of(name: str) -> Path:
        return as_path(out, "the run") if out else Path("runs") / f"{training.manifest.name}-{name}-{seed}"

    name, options = given or ("", {})
    if given is None:
        name, options, folder = choose_encoder(folder_of, checkpoint, log or (lambda line: None))
    else:
        folder = folder_of(name)
    config, options = as_begun(config, name, options, folder, checkpoint)
    kind = encoder_class(name)
    canonical = canonical and is_default(training.spec) and not kind.function_only
    if canonical and log is not None and shares_weights(training.manifest):
        log(
            "the INRs have one start, or one template, in common, which their canonical form gives up; --no-canonical reads "
            "them as they are"
        )
    mixing = choose_match(mixing, training.spec, config.rules)
    transform = Compose(((Canonicalize(),) if canonical else ()) + augmentation)
    # The model brings INRs to their canonical form; those that are changed or mixed are in it before that, too.
    prepare = transform if augmentation or (canonical and mixing is not None) else None
    with join_process_group(choose_device(device)) as (ranks, rank_device):
        rows = len(training)
        if isinstance(views_per_object, int):
            rows = min(rows, views_per_object * len(np.unique(training.objects)))
        chosen = choose_schedule(
            {**scheduled, "batch_size": batch_size}, folder, kind.name, rows // ranks.size,
            mixed=mixing is not None and config.rules >= 4,
        )  # fmt: skip
        batch_size = int(chosen.pop("batch_size"))
        config = config.model_copy(update={**chosen, "device": str(rank_device)})
        loader = INRLoader(
            training, batch_size, seed=seed, transform=prepare, mixup=mixing,
            device=rank_device, views_per_object=views_per_object, rank=ranks.rank, world_size=ranks.size,
        )  # fmt: skip
        batches = plain_batches(training, canonical)
        normalizer = (
            Normalizer.fit(training.spec, batches)
            if normalize and not kind.function_only
            else Normalizer(training.spec)
        )
        classifier: Classifier | Predictor
        built = {"normalizer": normalizer, "seed": seed, "canonical": canonical, **options}
        if training.values is None or training.target is None:
            classifier = build_classifier(name, training.spec, training.num_classes, **built)
        else:
            known = training.target.describe()
            classifier = build_predictor(name, training.spec, known, training.values.shape[1], **built)
            classifier.standardize(torch.from_numpy(training.values))
        meta: dict[str, Any] = {
            "classes": list(training.classes), "train": training.describe(), "val": validation.describe(),
            "augment": str(transform), "mixup": str(mixing), "batch_size": batch_size,
            "views_per_object": views_per_object, **({"ranks": ranks.size} if ranks.size > 1 else {}),
            **({} if normalize else {"normalize": False}),
            **({} if training.target is None else {"target": training.target.describe()}),
        }  # fmt: skip
        if checkpoint is not None:
            meta |= {"init": initialize_from(classifier, checkpoint), "freeze": freeze}
        if freeze:
            classifier.freeze()
        if log is not None and ranks.first:
            parameters = sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
            together = f" by {ranks.size} ranks" if ranks.size > 1 else ""
            log(
                f"{classifier.encoder.name}, {parameters:,} parameters, on {training}; {config.epochs} epochs of "
                f"{len(loader)} steps, batch {loader.sampler.rows_per_batch}{together}, learning rate "
                f"{config.learning_rate:g}, {config.schedule}; run in {folder}"
            )
            log_warmup(log, config, len(loader))
        examples = evaluation_loader(training, str(rank_device)) if config.reweigh is not None else None
        decoder: Decoder | PictureDecoder | None = None
        if config.decode is not None and classifier.encoder.picture is not None:
            decoder = PictureDecoder(classifier.encoder.picture)
        elif config.decode is not None:
            first = next(plain_batches(training, canonical))
            decoder = build_decoder(training.spec, classifier.encoder.features, first, seed)
        measured, rest = evaluation_loader(validation, str(rank_device)), (ranks, decoder)
        trainer = (
            ClassifierTrainer(classifier, loader, measured, config, folder, meta, examples, *rest)
            if isinstance(classifier, Classifier)
            else PredictorTrainer(classifier, loader, measured, config, folder, meta, *rest)
        )
        if on_start is not None and ranks.first:
            on_start(config)
        training.prepare(folder, ranks.first)
        run = TrainedRun(folder, folder / BEST)
        settings = {"model": trainer.model.describe(), **config.model_dump(exclude={"track"}), **trainer.meta}
        with Tracking(folder, config.track, settings, log) as tracking:
            complete = False
            try:
                trainer.fit(on_epoch, on_step=on_step, tracking=tracking)
                complete = True
            finally:
                training.finish(complete)
            if ranks.first:
                write_run_file(folder, training, trainer.meta)
                if tracking.active:
                    tracking.finish(trainer.progress.history, _final_figures(run, training, device))
    return run


def _final_figures(run: TrainedRun, training: INRDataset, device: str) -> dict[str, float]:
    """The best epoch, and the metrics of the test split where there is one."""
    metric = metric_of(run.best) or "val_accuracy"
    best = {f"best_{name}": run.best[name] for name in ("epoch", metric)}
    if not has_split(training.manifest, "test"):
        return best
    target = None if training.target is None else training.target.name
    test = run.evaluate(INRDataset(training.location, "test", views=1, target=target), device=device)
    if isinstance(test, ValueReport):
        figures = {
            "test_loss": test.loss,
            "test_r2": test.r2,
            "test_mae": test.mae,
            "test_map": test.mean_average_precision,
        }
        return {**best, **{name: value for name, value in figures.items() if value is not None}}
    return {
        **best, "test_accuracy": test.accuracy, "test_loss": test.loss,
        "test_calibration_error": test.calibration_error,
    }  # fmt: skip


def parse_augmentation(augment: str | WeightTransform | Sequence[str | WeightTransform]) -> tuple[WeightTransform, ...]:
    """One or several transforms, each a transform or its text, as a tuple of transforms."""
    parts = list(augment) if isinstance(augment, Sequence) and not isinstance(augment, str) else [augment]
    for part in parts:
        if not isinstance(part, str) and not callable(part):
            raise UsageError(f"augment takes transforms or their texts, such as 'noise:scale=0.1', got {part!r}")
    return tuple(parse_transform(part) if isinstance(part, str) else part for part in parts)


def _check_training_split(
    dataset: INRDataset, views: Any, labels_per_class: Any, label_noise: Any, target: Any
) -> INRDataset:
    own = None if dataset.target is None else dataset.target.name
    if target not in (None, own):
        raise UsageError(f"the open data set has the target {own}, got {shorten(target)}; open it with that target")
    if dataset.split != "train" or any(option is not None for option in (views, labels_per_class, label_noise)):
        raise UsageError(
            f"an open data set must be the split train, and is not narrowed further; got split {dataset.split}, views "
            f"{views}, labels_per_class {labels_per_class}; open it with these options, or pass its path"
        )
    return dataset
