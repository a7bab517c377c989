"""Run card: README.md of a trained run: what it reads, what it was trained on and how, and how good it is."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inr_factory.errors import UsageError
from inr_factory.inr.regular_files import read_regular
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.training.metrics import EvaluationReport
from inr_factory.learning.training.run_config import metric_of
from inr_factory.learning.training.run_cost import run_cost
from inr_factory.learning.training.run_data import has_split
from inr_factory.learning.training.trained_run import TrainedRun, open_run
from inr_factory.learning.training.value_metrics import ValueReport
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.card_readme import markdown_line, yaml_value
from inr_factory.storage.dataset_card import ALTERNATE_NAMES, MAX_CARD_BYTES, README, is_unedited, marker, with_checksum
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.manifest_file import load_manifest

METRICS = {"val_accuracy": "accuracy", "val_r2": "R²", "val_map": "mean average precision"}
LOCAL = ("device", "save_steps", "tensorboard", "track", "rules")  # settings that say nothing about the model
SETS = ("train", "val")


def write_run_card(run: str | Path | TrainedRun) -> Path:
    """Write README.md of a run's folder. Where the set that it was trained on is on this machine, it is evaluated on split test.

    Args:
        run: Folder of a run, or what `train` returned.

    Returns:
        The file; where a user has edited README.md it stays, and this is README.inr-factory.md.

    Raises:
        UsageError: There is no run with a classifier or predictor.
        IntegrityError: Its checkpoint is damaged.
    """
    opened = run if isinstance(run, TrainedRun) else open_run(run)
    lines = "\n".join([*_head(opened), *_body(opened, _test_report(opened))])
    text = with_checksum(f"{lines}\n<!-- inr-factory card: {marker(fingerprint(lines))}{'0' * 16} -->\n")
    path = opened.folder / README
    if path.is_file() and not is_unedited(read_regular(path, MAX_CARD_BYTES).decode("utf-8", "replace")):
        path = opened.folder / ALTERNATE_NAMES[README]
    write_atomically(path, text.encode())
    return path


def _test_report(run: TrainedRun) -> EvaluationReport | ValueReport | None:
    """Metrics on split test; None where the set is elsewhere, or has no such split."""
    try:
        location = dataset_location(run.dataset)
        tested = has_split(load_manifest(location), "test")
    except UsageError:
        return None
    return run.evaluate(location) if tested else None


def _head(run: TrainedRun) -> Iterator[str]:
    """The YAML that hubs read."""
    yield "---"
    yield "library_name: inr-factory"
    yield f"tags: {json.dumps(['implicit-neural-representations', 'weight-space-learning', run.model('cpu').encoder.name])}"
    yield f"siren_spec: {yaml_value(run.model('cpu').spec.to_dict())}"
    yield "---"


def _body(run: TrainedRun, test: EvaluationReport | ValueReport | None) -> Iterator[str]:
    saved, model, cost = load_checkpoint(run.checkpoint), run.model("cpu"), run_cost(run)
    meta, config = _part(saved, "meta"), _part(saved, "config")
    learned = f"the target {markdown_line(run.target)}" if run.target else f"{len(run.classes)} classes"
    yield f"\n# {markdown_line(run.folder.absolute().name)}\n"
    yield (
        f"A network (`{model.encoder.name}`) that takes the {cost['reads']} of implicit neural representations as input, and "
        f"predicts {learned}. Made by INR Factory.\n"
    )
    yield "| | |\n|---|---|"
    yield f"| reads | {cost['reads']} of INRs {markdown_line(str(model.spec))} |"
    for name in SETS:
        if facts := _part(meta, name):
            yield f"| split {name} | {_describe(facts)} |"
    best = run.best if run.history else {}
    if (metric := metric_of(best)) is not None:
        yield f"| {METRICS.get(metric, metric)} on split val | {best[metric]:.4f}, epoch {int(best['epoch']) + 1} of {len(run.history)} |"
    if test is not None:
        yield f"| on split test | {markdown_line(test.headline)} of {test.count:,} INRs |"
    yield f"| parameters | {sum(each.numel() for each in model.parameters()):,} |"
    yield f"| FLOPs of a forward pass | {cost['flops_per_inr']:,} an INR |\n"
    if run.classes:
        yield f"Classes: {', '.join(map(markdown_line, run.classes))}.\n"
    yield "## How to load\n"
    yield "```python\nimport inr_factory as inr\n"
    yield 'model = inr.load_model(".")  # the run\'s folder; or "hf://OWNER/NAME"'
    yield 'run = inr.open_run(".")'
    yield 'print(run.evaluate("DATASET"))  # a set of INRs of the same spec\n```\n'
    yield "## How it was trained\n\n| setting | value |\n|---|---|"
    settings = {key: value for key, value in meta.items() if key not in ("classes", "target", *SETS)} | config
    for key, value in settings.items():
        if key not in LOCAL and value is not None:
            yield f"| {markdown_line(str(key))} | {markdown_line(str(value))} |"
    options = _part(_part(saved, model.kind), "options")
    yield "".join(
        f"| model: {markdown_line(str(key))} | {markdown_line(str(value))} |\n" for key, value in options.items()
    )
    yield "The objects that it was trained on have a licence, which the card of their set names.\n"


def _part(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of a checkpoint; empty where it has none."""
    part = saved.get(name)
    return part if isinstance(part, dict) else {}


def _describe(facts: Mapping[str, Any]) -> str:
    name, rows, views, digest = (markdown_line(str(facts.get(key))) for key in ("name", "rows", "views", "fingerprint"))
    return f"{name}: {rows} INRs, views {views}, fingerprint {digest}"
