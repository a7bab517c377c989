"""Tracking: sends the records of a run to TensorBoard, spreadsheets, Weights & Biases and MLflow.

The only module that imports wandb and mlflow (extra `tracking`), and only where a run asks for them.
"""

import contextlib
import csv
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

from inr_factory.errors import IntegrityError, needs_extra, one_line, require_extra, skip_without_extra
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.learning.training.run_config import BEST_BY
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.manifest import check_inside
from inr_factory.storage.nested_mappings import flatten

IDS = "tracking.json"  # in a run's folder
MAX_IDS_BYTES = 2**20
PROJECT = "inr-factory"  # where neither $WANDB_PROJECT nor $MLFLOW_EXPERIMENT_NAME names another
PATIENCE = 30  # seconds for a server that does not answer
STREAMED = ("fresh", "replaced", "fits_per_second", "waiting", "idle")  # of runs on fresh views
COLUMNS = ("epoch", "step", "train_loss", "val_loss", "val_accuracy", "lr", "seconds")

Record = Mapping[str, float]


def metrics_csv(history: Sequence[Record]) -> str:
    """The records of a run as a table: the same first columns in every run, a line per epoch."""
    columns = [*COLUMNS, *sorted({name for record in history for name in record} - set(COLUMNS))]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()


@contextlib.contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[Record], None]]:
    """A function that adds a record to the TensorBoard log of a run's folder, or does nothing without TensorBoard."""
    writer: Any = None
    with skip_without_extra("TensorBoard log"), needs_extra("report"):
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        check_inside(folder, folder / "tensorboard")
        writer = SummaryWriter(str(folder / "tensorboard"))

    def add(record: Record) -> None:
        for name in ("train_loss", "val_loss", *BEST_BY, "lr", *STREAMED):
            if name in record:
                writer.add_scalar(name, record[name], int(record["epoch"]))
        writer.flush()

    try:
        yield add if writer is not None else lambda record: None
    finally:
        if writer is not None:
            writer.close()


class Tracker(Protocol):
    """A run in a tracker: new where `run_id` is None, else the one of this id."""

    id: str
    location: str  # where people find it

    def __init__(self, folder: Path, run_id: str | None, settings: Mapping[str, Any]) -> None: ...
    def log(self, figures: Record, epoch: int) -> None: ...
    def summarize(self, figures: Record, epoch: int) -> None: ...
    def close(self, complete: bool) -> None: ...


class WandbRun:
    """A run in Weights & Biases. $WANDB_MODE=offline keeps it in the run's folder, for `wandb sync`."""

    def __init__(self, folder: Path, run_id: str | None, settings: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run_id,
            name=None if run_id else folder.name,
            config=None if run_id else dict(settings),
            resume="allow" if run_id else None,
            reinit="create_new",  # next to one of the user's
            dir=folder,
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, init_timeout=PATIENCE, finish_timeout=PATIENCE
            ),
        )  # fmt: skip
        self.id = self.run.id
        self.location = (
            f"offline, to upload: wandb sync {folder}/wandb/offline-run-*" if self.run.offline else str(self.run.url)
        )

    def log(self, figures: Record, epoch: int) -> None:
        self.run.log(dict(figures), step=epoch)

    def summarize(self, figures: Record, epoch: int) -> None:
        self.run.summary.update(dict(figures))

    def close(self, complete: bool) -> None:
        self.run.finish(exit_code=0 if complete else 1)


class MlflowRun:
    """A run in MLflow, in the store that $MLFLOW_TRACKING_URI names, else MLflow's own choice."""

    def __init__(self, folder: Path, run_id: str | None, settings: Mapping[str, Any]) -> None:
        import mlflow
        from mlflow.entities import Param

        self.client = mlflow.MlflowClient()
        if run_id:
            self.client.update_run(run_id, status="RUNNING")
        else:
            run_id = self.client.create_run(self._experiment(), run_name=folder.name).info.run_id
            texts = {name: str(value)[:500] for name, value in flatten(settings).items()}
            params = [Param(name, text) for name, text in texts.items()]
            for start in range(0, len(params), 100):  # as many as MLflow takes at once
                self.client.log_batch(run_id, params=params[start : start + 100])
        self.id, self.location = run_id, f"run {run_id} in {mlflow.get_tracking_uri()}"

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        if (known := self.client.get_experiment_by_name(name)) is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another run of a sweep has made it meanwhile
                if (known := self.client.get_experiment_by_name(name)) is None:
                    raise
        return str(known.experiment_id)

    def log(self, figures: Record, epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(
            self.id, metrics=[Metric(name, float(value), now, epoch) for name, value in figures.items()]
        )

    summarize = log

    def close(self, complete: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if complete else "KILLED")


KINDS: Mapping[str, type[Tracker]] = {"wandb": WandbRun, "mlflow": MlflowRun}


class Tracking:
    """Sends the records of the run in a folder to trackers. A context manager.

    tracking.json in the folder has the run's id in each tracker and the number of records sent, so that a run that
    resumes continues there and sends what is missing. A tracker that fails is left out, with a line; training continues.

    Args:
        folder: The run's folder.
        names: Trackers, separated by commas.
        settings: What a new run in a tracker records of its settings.
        note: Called with a line per tracker: where the run is, or why it is not tracked; without it, the latter warns.
    """

    def __init__(
        self, folder: Path, names: str | None, settings: Mapping[str, Any], note: Callable[[str], None] | None = None
    ) -> None:
        self.folder, self.settings, self.note = folder, settings, note
        self.active = names.split(",") if names else []
        self.runs: dict[str, Tracker] = {}
        self.complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self.runs]:
            self._attempt(name, lambda name: self.runs[name].close(self.complete))

    def send(self, history: Sequence[Record]) -> None:
        """Send the records that a tracker does not have yet. The first call begins or resumes the run there."""
        for name in [*self.active]:
            self._attempt(name, self._send, history)

    def finish(self, history: Sequence[Record], figures: Record) -> None:
        """Send the figures of a completed run, such as its test accuracy."""
        self.complete = True
        for name in [*self.active]:
            self._attempt(name, self._send, history, figures)

    def _send(self, name: str, history: Sequence[Record], figures: Record | None = None) -> str:
        """Returns where the run is, the first time."""
        sent = self.sent.get(name, {"id": None, "epochs": 0, "complete": False})
        new, location = history[sent["epochs"] :], ""
        if not new and sent["complete"]:
            return ""
        if name not in self.runs:
            self.runs[name] = KINDS[name](self.folder, sent["id"], self.settings)
            location = self.runs[name].location
        run = self.runs[name]
        for record in new:
            run.log({key: value for key, value in record.items() if key != "epoch"}, int(record["epoch"]))
        if figures is not None:
            run.summarize(figures, len(history) - 1)
        self.sent[name] = {"id": run.id, "epochs": len(history), "complete": figures is not None}
        write_atomically(self.folder / IDS, json.dumps(self.sent, indent=2).encode())
        return location

    def _attempt(self, name: str, action: Callable[..., str | None], *arguments: Any) -> None:
        """Call action(name, ...). Where the tracker fails, say so, and leave it out from then on."""
        try:
            with _quiet():
                location = action(name, *arguments)
        except Exception as error:  # whatever a tracker raises must not cost the training
            self.runs.pop(name, None)
            self.active.remove(name)
            line = f"{name} failed ({one_line(error)}); training continues, and the same command sends the rest later"
            (self.note or warnings.warn)(line)
        else:
            if location and self.note is not None:
                self.note(f"tracked by {name}: {location}")

    @cached_property
    def sent(self) -> dict[str, dict[str, Any]]:
        """By tracker: the run's id, the number of epochs sent, and whether the final figures are."""
        check_inside(self.folder, path := self.folder / IDS)
        try:
            saved = parse_json_object(read_regular(path, MAX_IDS_BYTES))
        except FileNotFoundError:
            return {}
        kinds = {"id": str, "epochs": int, "complete": bool}
        for name, fields in saved.items():
            if not isinstance(fields, dict) or {key: type(value) for key, value in fields.items()} != kinds:
                raise IntegrityError(f"{path} is damaged at {name!r}; remove it to begin another run there")
        return saved


def require_trackers(names: str | None) -> None:
    """Raise MissingExtraError where the package of a tracker is not installed."""
    for name in names.split(",") if names else []:
        require_extra("tracking", name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep trackers from printing, from asking for a login, and MLflow from trying for four minutes."""
    retries = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        if retries not in os.environ:
            os.environ[retries] = "3"
            stack.callback(os.environ.pop, retries)
        yield
