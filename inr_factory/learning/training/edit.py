"""Editing the INRs of a data set from end to end: what the command `edit` does.

Shape letters: N INRs, O outputs, H height, W width.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import check_hooks, check_whole
from inr_factory.inr.device import choose_device
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.editor import build_editor
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import encoder_class
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training import defaults
from inr_factory.learning.training.begun_run import as_begun
from inr_factory.learning.training.edit_targets import FilterTargets, SetTargets, edited_size
from inr_factory.learning.training.edited_run import EditRun
from inr_factory.learning.training.editing import EditTrainer, Targets
from inr_factory.learning.training.image_filters import parse_filter
from inr_factory.learning.training.run_config import EditConfig, OnEpoch, OnStep, check_config
from inr_factory.learning.training.run_data import evaluation_loader, plain_batches, write_run_file
from inr_factory.learning.training.train_classifier import parse_augmentation
from inr_factory.learning.transforms.compose import Compose, WeightTransform
from inr_factory.storage.locations import Location

DEFAULTS = EditConfig()


def edit(
    dataset: str | Location,
    filter: str | None = None,
    target: str | Location | None = None,
    model: str | None = None,
    augment: str | WeightTransform | Sequence[str | WeightTransform] = (),
    views: int | None = None,
    size: int | None = None,
    epochs: int = DEFAULTS.epochs,
    batch_size: int = defaults.EDIT_BATCH_SIZE,
    learning_rate: float = DEFAULTS.learning_rate,
    seed: int = DEFAULTS.seed,
    device: str = DEFAULTS.device,
    out: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    log: Callable[[str], None] | None = None,
) -> EditRun:
    """Train an editor of the INRs of a data set, or resume the run in `out`: weights in, weights out.

    Its edits have to show what a filter makes of the INRs' own images, or what INRs of another set show. The epoch with
    the lowest error on the validation split counts.

    Args:
        dataset: Path or URL of a data set of images with the splits train and val.
        filter: "dilate", "erode" or "blur" ("dilate:size=3"), or an edit that is known exactly, to compare with:
            "contrast:factor=1.5", "invert" or "rotate:degrees=30".
        target: Instead of a filter, path or URL of a set of the same objects, whose INRs show the targets.
        model: "parity", "dws" or "ng_gnn", with options as "parity:hidden_dim=128"; by default "parity:points=true", for
            ReLU and Gaussian INRs "parity".
        augment: Transforms of the weights, as "rotate2d|reflect"; the filter is then applied to what the changed INRs show.
        views: Train on the first views of each object; by default on all.
        size: Height and width in pixels on which edits are compared; by default those of the fitted images.
        epochs: At least 1.
        batch_size: At least 2.
        learning_rate: Above 0; it rises in a warm-up and falls along a cosine. "parity" learns by Muon, others by AdamW.
        seed: Of initial parameters, batches and augmentation.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: Folder of the run; by default runs/SET-edit-FILTER-MODEL-SEED.
        on_epoch: Called with the record of each epoch.
        on_step: Called after each step.
        log: Called with notes in one line.

    Returns:
        The run, which measures edits, and edits INRs and whole sets.

    Raises:
        UsageError: An option, the data set or the folder does not suit.
        FactoryError: Training diverged.
        ResourceError: The device is missing or the disk is full.
    """
    check_hooks(on_epoch=on_epoch, on_step=on_step, log=log)
    log = log or (lambda line: None)
    if (filter is None) == (target is None):
        raise UsageError("edit takes either --filter, as dilate, or --target, a set of the same objects; got "
                         f"{'neither' if filter is None else 'both'}")  # fmt: skip
    chosen = None if filter is None else parse_filter(filter)
    augmentation = parse_augmentation(augment)
    if target is not None and augmentation:
        raise UsageError("--augment needs a --filter: the INRs of --target show their objects unchanged")
    check_whole(2, batch_size=batch_size)
    if size is not None:
        check_whole(1, 4096, size=size)
    config = check_config(EditConfig, epochs=epochs, learning_rate=learning_rate, seed=seed, device=device)
    training, validation = INRDataset(dataset, "train", views=views), INRDataset(dataset, "val", views=1)
    height, width = edited_size(training, size)
    name, options = parse_model(model or (defaults.EDIT_MODEL if training.spec.is_odd else "parity"))
    what = chosen.name if chosen is not None else "target"
    folder = as_path(out, "the run") if out else Path("runs") / f"{training.manifest.name}-edit-{what}-{name}-{seed}"
    config, options = as_begun(config, name, options, folder)
    if encoder_class(name).name == "parity":  # less error of dilation than by AdamW: docs/editing.md
        config = config.model_copy(update={"optimizer": "muon"})
    transform = Compose(augmentation) if augmentation else None
    loader = INRLoader(training, batch_size, seed=seed, transform=transform, device=choose_device(device))
    normalizer = Normalizer.fit(training.spec, plain_batches(training, False))
    editor = build_editor(name, training.spec, normalizer, seed, **options)
    meta: dict[str, Any] = {
        "classes": list(training.classes), "train": training.describe(), "val": validation.describe(),
        "augment": str(transform), "batch_size": batch_size, "filter": None if chosen is None else str(chosen),
        "size": [height, width],
    }  # fmt: skip
    targets: Targets
    validation_targets: Targets
    other = None
    if chosen is not None:
        targets = validation_targets = FilterTargets(chosen, height, width)
    else:
        assert target is not None
        other, other_validation = (INRDataset(target, split, check=False) for split in ("train", "val"))
        targets = SetTargets.of(training, other, height, width)
        validation_targets = SetTargets.of(validation, other_validation, height, width)
        meta["target"] = other.describe()
    parameters = sum(parameter.numel() for parameter in editor.parameters())
    log(
        f"{name}, {parameters:,} parameters, on {training}; {chosen or f'edits to {target}'}, {height} x {width} pixels, "
        f"{config.epochs} epochs of {len(loader)} steps; run in {folder}"
    )
    trainer = EditTrainer(
        editor, loader, evaluation_loader(validation, device), targets, validation_targets, config, folder, meta
    )
    trainer.fit(on_epoch, on_step=on_step)
    write_run_file(folder, training, trainer.meta, other)
    return EditRun(folder)
