"""Fit arrays: INRs of images, or of coordinates and values, that are in memory; kept, rendered and saved as a data set.

Shape letters: N objects, V views, P points, I coordinates and O values of a point.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_plan import plan_fit
from inr_factory.generation.execution.fit_targets import source_targets, write_source_targets
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.execution.source_check import check_classes
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.tally import OnProgress
from inr_factory.generation.recipe import Recipe, check_recipe, check_views, with_starts
from inr_factory.generation.signal_stack import as_index
from inr_factory.generation.signals import Signal
from inr_factory.generation.sources.memory import MemorySource, check_labels, image_source, point_source, target_columns
from inr_factory.generation.start_file import resolve_starts
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.device import choose_device
from inr_factory.inr.threads import one_thread
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import Manifest, Quarantined, ViewKey
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.remarks import remarks_of, summarize_remarks
from inr_factory.storage.shards import STATUS

# INRs that one thread fits at a time: enough to hide the calls, few enough that all threads end together.
CHUNK = 32


@dataclass(frozen=True)
class FittedINRs:
    """INRs fitted to arrays: view 0 of all objects, then view 1, and so on. Failed fits are in `failures` only.

    Attributes:
        inrs: The INRs as one INRBatch, on the CPU.
        failures: Object, view and reason of every fit that failed.
    """

    inrs: INRBatch
    failures: tuple[Quarantined, ...]
    _fitted: FittedViews
    _source: MemorySource
    _recipe: Recipe
    _device: str

    @property
    def psnr(self) -> NDArray[np.float32]:
        """(M,): PSNR of each INR, in dB."""
        return self._fitted.psnr

    @property
    def explained(self) -> NDArray[np.float64]:
        """(M,): share of the variance of its object that each INR explains, 1 - MSE / variance; NaN for a constant."""
        return self._fitted.explained

    @property
    def steps(self) -> NDArray[np.int32]:
        """(M,): updates that made each INR."""
        return self._fitted.steps

    @property
    def objects(self) -> NDArray[np.int64]:
        """(M,): index of the object that each INR was fitted to."""
        return np.array([int(key.object_id) for key in self._fitted.keys], dtype=np.int64)

    @property
    def views(self) -> NDArray[np.int64]:
        """(M,): view of each INR, from 0."""
        return np.array([key.view for key in self._fitted.keys], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.inrs)

    def __getitem__(self, index: Any) -> INRBatch:
        """The INRs at an index, a slice or an array of indices, as an INRBatch."""
        return self.inrs[index]

    def __iter__(self) -> Iterator[INRBatch]:
        return iter(self.inrs)

    def __call__(self, coords: ArrayLike | Tensor) -> Tensor:
        """Values (M, P, O) at coords (P, I) or (M, P, I)."""
        return self.inrs(coords)

    def images(self, height: int, width: int) -> Tensor:
        """The INRs rendered on a grid of pixels: (M, height, width, O)."""
        return self.inrs.images(height, width)

    def __repr__(self) -> str:
        views, objects = self._recipe.views, len(self._source.values)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        median = f", median {np.median(self.psnr):.1f} dB" if len(self) else ""
        return f"FittedINRs({len(self)} INRs: {objects} objects x {views} views{median}{failed}; {self.inrs.spec})"

    def save(
        self,
        out: str | Location,
        labels: ArrayLike | Tensor | None = None,
        classes: Sequence[str] | None = None,
        *,
        name: str | None = None,
        targets: Mapping[str, Any] | None = None,
        target_units: Mapping[str, str] | None = None,
        licence: str = "unknown",
        val: int | float = 0.1,
        test: int | float = 0.2,
        shard_objects: int = 500,
    ) -> Manifest:
        """Write the INRs as a data set like any other: it can be verified, shown, trained on and published.

        Args:
            out: Folder or URL of the data set. A run that was interrupted is completed by the same call.
            labels: (N,) integers, the class of each object, or names of classes; by default all have one class.
            classes: Names of the classes; by default those in labels, sorted, or the numbers from 0 to the largest.
            name: Name of the data set: letters, digits and _.- inside; by default that of the folder.
            targets: What else the objects stand for, by name: N numbers, words (class), lists of words (labels), or
                lists of numbers (vector), such as an array (N, K).
            target_units: Units of numbers and vectors, by name of the target.
            licence: Licence of the objects, for the dataset card.
            val: Number of objects for validation, or their share if below 1.
            test: Number of objects for testing, or their share if below 1.
            shard_objects: Objects of one shard.

        Returns:
            The manifest of the data set.

        Raises:
            UsageError: Labels, classes or targets do not match the objects, or `out` holds another data set, or one with
                other values of a target.
        """
        location = parse_location(out)
        if name is None:
            name = re.sub(r"[^A-Za-z0-9_.-]+", "-", location.name).lstrip("_.-") or "arrays"
        numbers, names = check_labels(labels, classes, len(self._source.values))
        check_classes(names, "classes")
        columns = target_columns(targets, target_units, len(self._source.values))
        source = replace(self._source, labels=numbers, classes=names, name=name, licence=licence, targets=columns)
        fields = self._recipe.model_dump(mode="json")
        fields |= {"name": name, "splits": {"val": val, "test": test}, "shard_objects": shard_objects}
        plan = plan_fit(check_recipe(fields, "of save"), location, FitSettings(backend="local"), source)
        if plan.complete:
            return write_source_targets(plan.out, plan.manifest, source_targets(source))
        worker = _FittedWorker(
            plan.recipe, None, plan.out, self._device, source.fingerprint, source, fitted=self._fitted
        )
        with one_thread():
            entries = [worker.make(task) for task in plan.tasks]
        manifest = write_source_targets(plan.out, update_manifest(plan.out, plan.manifest, entries), plan.targets)
        update_card_if_complete(plan.out, manifest, manifest.missing(plan.out))
        return manifest


@dataclass
class _FittedWorker(Worker):
    """A worker whose INRs are fitted already."""

    fitted: FittedViews | None = None

    def fit(self, keys: Sequence[ViewKey], signals: Sequence[Signal], on_progress: OnProgress) -> FittedViews:
        assert self.fitted is not None
        return self.fitted.select(keys)


def fit(
    images: ArrayLike | Tensor | None = None,
    *,
    coords: ArrayLike | Tensor | None = None,
    values: ArrayLike | Tensor | None = None,
    value_range: tuple[float, float] | None = None,
    views: int = 1,
    seed: int = 0,
    device: str = "auto",
    hidden_dim: int = 32,
    num_hidden: int = 2,
    widths: Sequence[int] | None = None,
    omega_0: float | None = None,
    first_omega_0: float | None = None,
    output_bias: float | None = None,
    activation: str = "sine",
    start: str | None = None,
    frequencies: int = 0,
    first_frequency: float | None = None,
    coordinates: bool = True,
    starts: "str | INRBatch" = "independent",
    optimizer: str = "adam",
    learning_rate: float | None = None,
    steps: int | None = None,
    target_psnr: float | None = 40.0,
    floor_psnr: float = 20.0,
    floor_explained: float | None = None,
    attempts: int = 3,
    batch_points: int | None = None,
    engine: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> FittedINRs:
    """Fit one INR to each image, or to the values at given coordinates, several times from different initializations.

    Give either `images`, or `coords` and `values`. All cores work; a GPU does where there is one.

    Args:
        images: (N, H, W) or (N, H, W, C), numpy or torch; uint8 from 0 to 255, or floats from 0 to 1.
        coords: (P, I), the same for all objects, or (N, P, I); from -1 to 1.
        values: (N, P, O), finite numbers; their range over all objects is the peak of PSNR.
        value_range: lowest and highest possible value. Of images, of any real type, they become 0 and 1; of values,
            their distance is the peak of PSNR. No value may lie outside.
        views: Independent fits of each object.
        seed: Seed of all initializations.
        device: auto, cpu, cuda or cuda:N.
        hidden_dim: Neurons of a hidden layer.
        num_hidden: Hidden layers.
        widths: Neurons of each hidden layer, where they differ, in place of hidden_dim and num_hidden.
        omega_0: Frequency factor of the sines (Sitzmann et al., NeurIPS 2020), by default 30; of gauss 10, one over
            the standard deviation of the bells.
        first_omega_0: That of the first layer, for audio: 3,000 where omega_0 is 30; by default omega_0.
        output_bias: Constant added to the output; by default the middle of the range of the values.
        activation: sine, relu, tanh, gauss or finer, see `SirenSpec`.
        start: Initialization: siren, dwsnets, linear or finer, see `SirenSpec`; by default finer for finer, linear for tanh,
            gauss and ReLUs with frequencies, else siren.
        frequencies: Number of frequencies of a positional encoding (Mildenhall et al., ECCV 2020); 0 is none. ReLUs and
            tanhs need one to show details.
        first_frequency: The lowest of them, by default pi; each further one is twice as high.
        coordinates: Whether the coordinates come before their sines and cosines.
        starts: independent; shared: all objects of a view start from the same draw; or INRs, or a file of them, of which
            all objects of view v start from number v modulo their number.
        optimizer: adam, or sprint: Adam with betas 0.6 and 0.97, warm-up and square-root decay, and the last layer
            started at its ridge least-squares solution; or muon, for shapes and three and more hidden layers: the
            matrices between hidden layers move by Muon (Jordan et al. 2024).
        learning_rate: By default 5e-4 for adam; for sprint and muon the peak, by default 8e-3 * 32 / hidden_dim *
            min(1, 2 / num_hidden), and 4e-3 * sqrt(64 / hidden_dim) / (num_hidden - 1) * (10 / omega_0) ** 0.7.
        steps: Most updates of an INR; by default 1,000 for adam, 800 for muon, for sprint 80 or more, by target_psnr
            and net.
        target_psnr: Each INR stops at this PSNR, in dB; None makes all steps.
        floor_psnr: A fit that ends below this PSNR, in dB, begins again from another initialization.
        floor_explained: So does one that explains less than this share of its signal's variance; None asks for none.
        attempts: Fits of an INR before it counts as failed.
        batch_points: Points of each step; None takes all.
        engine: auto, fused, batched or reference.
        on_progress: Called as `on_progress(done, total)` while INRs are fitted.

    Returns:
        The fitted INRs, in the order view 0 of all objects, view 1 of all objects, and so on.

    Raises:
        UsageError: An argument has a wrong shape, type or range.
        ResourceError: The device does not exist.

    Warns:
        UserWarning: Some fits failed; `failures` names them. Or some show nothing of their object: it is constant, or
            nearly so that an INR of less than half of its variance reaches the target.
    """
    fields: dict[str, Any] = {
        "name": "arrays", "source": {"collection": "own"}, "views": views, "seed": seed,
        "spec": {"hidden_dim": hidden_dim, "num_hidden": num_hidden, "widths": widths, "activation": activation,
                 "first_omega_0": first_omega_0, "frequencies": frequencies, "coordinates": coordinates},
        "fit": {"optimizer": optimizer, "target_psnr": target_psnr, "floor_psnr": floor_psnr,
                "floor_explained": floor_explained, "attempts": attempts,
                "batch_points": batch_points, "engine": engine, "starts": starts},
    }  # fmt: skip
    fields, given = resolve_starts(fields)
    for section, key, value in (
        ("spec", "omega_0", omega_0), ("spec", "start", start), ("spec", "first_frequency", first_frequency),
        ("fit", "learning_rate", learning_rate), ("fit", "steps", steps),
    ):  # fmt: skip
        fields[section] |= {} if value is None else {key: value}
    with_starts(check_recipe(fields, "of fit"), given)  # what is wrong with settings is said before arrays are read
    if images is not None and (coords is not None or values is not None):
        raise UsageError("fit takes images, or coords and values; got both")
    source, middle = point_source(coords, values, value_range) if images is None else image_source(images, value_range)
    fields["spec"]["output_bias"] = middle if output_bias is None else output_bias
    dims = (source.in_dim, source.out_dim)
    recipe, kind = with_starts(check_recipe(fields, "of fit", dims), given), str(choose_device(device))
    spec = recipe.spec.spec(source.in_dim, source.out_dim)
    check_views(recipe, spec.num_parameters)
    keys = [ViewKey(item.object_id, view) for view in range(views) for item in source.items]
    rows = np.tile(np.arange(len(source.items)), views)
    parallel = torch.device(kind).type == "cpu" and engine_name(recipe.fit, kind, spec) == "fused"
    size = CHUNK if parallel else len(keys)
    chunks = [slice(at, at + size) for at in range(0, len(keys), size)]

    def fit_chunk(chunk: slice) -> FittedViews:
        return fit_views(spec, keys[chunk], source.stack[as_index(rows[chunk])], recipe.fit, seed, kind)

    with ThreadPoolExecutor(num_cores() if parallel else 1) as threads:
        running = {threads.submit(fit_chunk, chunk): chunk for chunk in chunks}
        done = 0
        try:
            for finished in as_completed(running):
                done += len(keys[running[finished]])
                finished.result()
                if on_progress is not None:
                    on_progress(done, len(keys))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    fitted = FittedViews.cat([future.result() for future in running])
    if fitted.failures:
        first = fitted.failures[0]
        warnings.warn(
            f"{len(fitted.failures)} of {len(keys)} INRs failed and are left out (object {first.object_id}, view {first.view}: "
            f"{first.reason}); `failures` names all of them",
            stacklevel=2,
        )
    reached = fitted.status == STATUS["reached target_psnr"]
    shown = np.where(reached | np.isnan(fitted.explained), fitted.explained, 1.0)
    names = np.array([key.object_id for key in fitted.keys])
    for remark in summarize_remarks(remarks_of({"object_id": names, "explained": shown})):
        warnings.warn(str(remark), stacklevel=2)
    return FittedINRs(fitted.inrs, fitted.failures, fitted, source, recipe, kind)
