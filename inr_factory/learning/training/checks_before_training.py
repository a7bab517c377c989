"""Checks before training: targets that leave nothing to learn are refused, and what a user should know is logged."""

from collections.abc import Callable

import numpy as np

from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.run_config import RunConfig, TrainConfig, few_objects
from inr_factory.storage.manifest import Manifest

DEFAULTS = TrainConfig()


def check_target(training: INRDataset, validation: INRDataset, config: TrainConfig, label_noise: float) -> None:
    """Raise UsageError for a target that leaves nothing to learn, and for options that do not go with it."""
    target, name = training.target, training.manifest.name
    if training.values is None or target is None:
        if training.num_classes < 2 and target is None:
            known = [column.name for column in training.manifest.targets.columns] if training.manifest.targets else []
            listed = ", ".join(known) or "psnr, or one that inr-factory targets takes from a table"
            raise UsageError(
                f"a classifier needs at least two classes, got {training.num_classes} in {name}; give another --target: {listed}"
            )
        if config.loss is not None:
            raise UsageError("--loss is for targets that are numbers; classes take cross-entropy, leave it out")
        return
    given = {"--label-smoothing": config.label_smoothing, "--reweigh": config.reweigh, "--label-noise": label_noise}
    if target.kind == "labels":
        given["--loss"] = config.loss
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} does not go with the target {target.name}, {target.kind}; leave it out")
    for data in (training, validation):
        values = data.values
        assert values is not None, "both splits have the target"
        constant = (values == values[0]).all(0)
        names = target.names or [target.name] * values.shape[1]
        if target.is_numeric and constant.any():
            at = int(np.flatnonzero(constant)[0])
            raise UsageError(
                f"{target.name} of {name} is constant: {names[at]} is {values[0, at]:g} in all {len(values)} rows of "
                f"{data.split}; there is nothing to predict"
            )
        if target.kind == "labels" and not values.any():
            raise UsageError(
                f"{target.name} of {name}: no row of {data.split} has any label; there is nothing to predict"
            )


def log_gaps(log: Callable[[str], None] | None, training: INRDataset, validation: INRDataset) -> None:
    """Report missing shards, classes without INRs to learn from, and a validation split that says little."""
    log = log or (lambda line: None)
    for part in (training, validation):
        if part.incomplete:
            log(f"{part.incomplete} shards of {part.split} are missing; the run trains on the others")
    if training.values is not None:
        return
    if few := few_objects("val", len(np.unique(validation.objects))):
        log(few)
    lacking = np.isin(validation.labels, training.labels, invert=True)
    if lacking.any():
        names = sorted({validation.classes[label] for label in validation.labels[lacking]})
        log(
            f"the training INRs lack {len(names)} classes of val, as {names[0]!r}, so that {lacking.mean():.0%} of the "
            "validation INRs cannot be right"
        )


def shares_weights(manifest: Manifest) -> bool:
    """Whether the INRs of a set started alike, or were aligned to one of them."""
    aligned = manifest.derived is not None and manifest.derived.how.startswith("align:")
    return aligned or manifest.recipe.get("fit", {}).get("starts", "independent") != "independent"


def log_warmup(log: Callable[[str], None], config: RunConfig, steps_per_epoch: int) -> None:
    """Report a requested warm-up that is cut; the default one is cut without a word."""
    num_steps = config.epochs * steps_per_epoch
    requested = config.warmup_steps != DEFAULTS.warmup_steps
    if (warmup := config.warmup(num_steps)) < config.warmup_steps and requested:
        log(f"the warm-up has {warmup} steps instead of {config.warmup_steps}, a tenth of the run's {num_steps}")
