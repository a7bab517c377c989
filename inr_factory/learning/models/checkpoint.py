"""Checkpoints: models on disk, complete enough to build them again, or to initialize a model from their encoders."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from inr_factory.errors import IntegrityError, UsageError, blame_machine, brief, one_line, shorten
from inr_factory.inr.regular_files import as_path
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.contrastive import Contrastive
from inr_factory.learning.models.decoder import Decoding
from inr_factory.learning.models.editor import Editor
from inr_factory.learning.models.encoder import FORMER_NAMES, NAMED
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.models.registry import build_encoder, encoder_class
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.torch_files import DAMAGE, load_plain

CHECKPOINT_KIND = "inr-factory checkpoint"
CHECKPOINT_VERSION = 1
KINDS: Mapping[str, type[Classifier] | type[Predictor] | type[Contrastive] | type[Decoding] | type[Editor]] = {
    kind.kind: kind for kind in (Classifier, Predictor, Contrastive, Decoding, Editor)
}


def save_checkpoint(path: Path, model: NormalizedEncoder, sections: Mapping[str, Any]) -> None:
    """Write a model's description and state, and any sections of plain values and tensors, atomically.

    Temporary name, fsync, rename. Raises ResourceError where the disk is full; the file that was there stays.
    """
    header = {"kind": CHECKPOINT_KIND, "version": CHECKPOINT_VERSION, model.kind: model.describe()}
    buffer = io.BytesIO()
    torch.save({**header, "model": model.state_dict(), **sections}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the contents of a checkpoint, on the CPU: one of KINDS (its description), model (its state), and
    from training config, meta and progress; last.pt has optimizer, loader and generators, too.

    Loads with weights_only, so that a stranger's file runs no code. An encoder has its present name and all options,
    whichever are saved. Raises UsageError where there is no file or it is of another version, IntegrityError where it is
    broken or something else.
    """
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}; training writes best.pt and last.pt into its folder")
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected the file of a checkpoint; name {path / 'best.pt'}")
    try:
        saved = load_plain(path)
    except ValueError as error:
        raise IntegrityError(
            f"{path} is damaged or is not a checkpoint: {error}; train again into another folder"
        ) from None
    if not isinstance(saved, dict) or saved.get("kind") != CHECKPOINT_KIND:
        raise IntegrityError(f"{path} is not a checkpoint of inr-factory")
    if saved.get("version") != CHECKPOINT_VERSION:
        raise UsageError(
            f"{path} has checkpoint version {shorten(saved.get('version'))}, this program reads {CHECKPOINT_VERSION}; "
            "train again, or install a newer inr-factory"
        )
    try:
        _check_sections(saved)
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}; train again into another folder") from None
    try:
        encoder_class(_description(saved)["encoder"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return saved


def _check_sections(saved: dict[str, Any]) -> None:
    """Check the sections that every checkpoint has, and give the encoder its present name and options. ValueError names the first
    that is not as `save_checkpoint` writes it."""
    kinds = [kind for kind in KINDS if kind in saved]
    if len(kinds) != 1:
        raise ValueError(f"it describes {' and '.join(kinds) or 'no model'}, expected one model")
    description = saved[kinds[0]]
    if not isinstance(description, dict) or not isinstance(name := description.get("encoder"), str):
        raise ValueError("the description of its model is none")
    name = FORMER_NAMES.get(name, name)
    options, former = description.get("options"), NAMED[name].former_options if name in NAMED else {}
    description = {**description, "options": {**former, **options}} if isinstance(options, dict) else description
    saved[kinds[0]] = {**description, "encoder": name}
    if not isinstance(description.get("canonical"), bool):
        raise ValueError(f"its setting canonical is {shorten(description.get('canonical'))}, expected true or false")
    for setting in ("num_classes", "projection_dim", "num_outputs"):
        if type(description.get(setting, 2)) is not int:
            raise ValueError(f"its {setting} is {shorten(description[setting])}, expected a whole number")
    state = saved.get("model")
    if not isinstance(state, dict) or not state:
        raise ValueError("it has no weights of its model")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"its weights {shorten(key)} are {type(value).__name__}, expected a tensor")
        if not bool(value.isfinite().all()):
            raise ValueError(f"its weights {key} have values that are NaN or infinite")


def _description(saved: Mapping[str, Any]) -> Any:
    """The mapping that describes the model of a loaded checkpoint, see `NormalizedEncoder.describe`."""
    return next(saved[kind] for kind in KINDS if kind in saved)


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """As `module.load_state_dict`, but ValueError for a tensor of another type or shape, which torch would convert."""
    expected = module.state_dict()
    for name, value in state.items():
        if name in expected and (value.dtype, value.shape) != (expected[name].dtype, expected[name].shape):
            raise ValueError(
                f"{name} is {value.dtype} {tuple(value.shape)}, expected {expected[name].dtype} "
                f"{tuple(expected[name].shape)}"
            )
    module.load_state_dict(state)


def former_options(path: Path | None, name: str) -> dict[str, Any]:
    """The options of a checkpoint's encoder that earlier versions did not have; none without a file or for another name.

    Who continues from the checkpoint takes them as defaults, so that a command of an earlier version still resumes.
    """
    if path is None or not path.is_file():
        return {}
    kind, saved = encoder_class(name), load_checkpoint(path)
    description = _description(saved)
    if description["encoder"] != kind.name:
        return {}
    options = description.get("options", {})
    return {option: options[option] for option in kind.former_options if option in options}


def saved_encoder(path: Path) -> tuple[str, dict[str, Any]]:
    """Name and options of a checkpoint's encoder. Raises IntegrityError where they describe one that the saved weights are
    not of, before it takes memory."""
    saved = load_checkpoint(path)
    description = _description(saved)
    name, options = description["encoder"], description.get("options")
    try:
        with _at_most(sum(value.numel() for value in saved["model"].values())), torch.random.fork_rng(devices=[]):
            build_encoder(name, SirenSpec.from_dict(description["spec"]), **options)
    except DAMAGE as error:
        raise _unreadable(path, "its description is of no encoder", error) from None
    return name, dict(options)


def _unreadable(path: Path, fault: str, error: Exception) -> IntegrityError:
    blame_machine(error, path)
    return IntegrityError(f"{path} is damaged, or of a newer inr-factory: {fault} ({one_line(error)})")


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """ValueError as soon as a module is given more parameters than that in all, before their memory is written to."""
    total = 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        total += 0 if parameter is None else parameter.numel()
        if total > count:
            raise ValueError(f"its description asks for more than the {count} numbers that it has")

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()


def load_classifier(path: str | Path) -> Classifier:
    """The classifier of a checkpoint with its weights and normalizer, in evaluation mode, on the CPU.

    Args:
        path: A checkpoint of a training run, such as runs/NAME/best.pt.

    Returns:
        The classifier.

    Raises:
        UsageError: There is no such file, or it is a checkpoint of pre-training or of a predictor of other targets.
        IntegrityError: The file is damaged, or its description and its weights do not fit each other.
    """
    model = load_reader(as_path(path, "a checkpoint"))
    if isinstance(model, Predictor):
        raise UsageError(f"{path} predicts {model.target['name']}, not classes; open_run(...).model() loads it")
    return model


def load_reader(path: Path) -> Classifier | Predictor:
    """The classifier or predictor of a checkpoint, as `load_classifier`. Raises UsageError for one of pre-training."""
    saved = load_checkpoint(path)
    if not {Classifier.kind, Predictor.kind} & set(saved):
        of = "an editor" if Editor.kind in saved else "pre-training"
        raise UsageError(f"{path} is of {of} and has no classifier yet; train one with --init {path.parent}")
    model = _build_model(path, saved)
    assert isinstance(model, Classifier | Predictor)
    return model


def load_editor(path: Path) -> Editor:
    """The editor of a checkpoint, in evaluation mode, on the CPU. Raises as `load_classifier`."""
    saved = load_checkpoint(path)
    if Editor.kind not in saved:
        raise UsageError(f"{path} is no editor; inr-factory edit trains one")
    model = _build_model(path, saved)
    assert isinstance(model, Editor)
    return model


def load_encoder(path: Path) -> NormalizedEncoder:
    """The model of a checkpoint, of a classifier or of pre-training, in evaluation mode, on the CPU. Raises as
    `load_classifier`, but takes both."""
    return _build_model(path, load_checkpoint(path))


def _build_model(path: Path, saved: Mapping[str, Any]) -> NormalizedEncoder:
    kind = next(kind for kind in KINDS if kind in saved)
    try:
        with _at_most(sum(value.numel() for value in saved["model"].values())):
            model = KINDS[kind].from_description(saved[kind])
        load_state(model, saved["model"])
    except DAMAGE as error:
        raise _unreadable(path, "its weights do not fit its description", error) from None
    return model.eval()


def initialize_from(model: NormalizedEncoder, path: Path) -> str:
    """Copy the encoder and the normalizer of a checkpoint, of pre-training or of a classifier, into a model; its head stays.

    Returns 16 hex digits of a hash of the copied numbers. Raises UsageError in one line for INRs of another spec,
    another encoder or other options of it, and as `load_checkpoint` does.
    """
    saved = load_checkpoint(path)
    saved_description, description = _description(saved), model.describe()
    for part in ("encoder", "canonical", "spec", "options"):
        requested, stored = description[part], saved_description.get(part)
        if requested != stored:
            if isinstance(requested, Mapping) and isinstance(stored, Mapping):
                name = next(name for name in {**stored, **requested} if requested.get(name) != stored.get(name))
                part, requested, stored = f"{part}.{name}", requested.get(name), stored.get(name)
            same = f"give --{'' if stored else 'no-'}canonical" if part == "canonical" else "ask for the same"
            raise UsageError(
                f"{path} has another {part} ({brief(stored)} there, {brief(requested)} here); {same}, or start from another run"
            )
    parts: list[Any] = []
    try:
        for name in ("encoder", "normalizer"):
            state = {
                key.partition(".")[2]: value for key, value in saved["model"].items() if key.startswith(f"{name}.")
            }
            load_state(getattr(model, name), state)
            for key, value in sorted(state.items()):
                parts += [f"{name}.{key}", value.contiguous().numpy()]
    except DAMAGE as error:
        raise _unreadable(path, "its weights do not fit its description", error) from None
    return fingerprint(*parts)
