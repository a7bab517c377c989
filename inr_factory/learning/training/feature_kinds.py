"""Feature kinds: what INRs are compared by, which is an encoder's features, their weights, aligned weights, or renders.

Shape letters: N INRs, F features, P points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.alignment.weight_matching import align, finest_match
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.image_size import image_size
from inr_factory.learning.models.checkpoint import load_encoder
from inr_factory.learning.models.convolutions import regular_grid
from inr_factory.learning.models.render import RESOLUTIONS
from inr_factory.learning.training.run_config import checkpoint_of
from inr_factory.learning.training.run_data import evaluation_loader
from inr_factory.learning.training.trained_run import TrainedRun
from inr_factory.learning.transforms.canonical import canonicalize
from inr_factory.storage.shard_files import fetch_shards
from inr_factory.storage.shards import ShardReader

UNTRAINED = ("weights", "aligned", "renders")
"""Words in the place of a run. A folder of such a name is given as a Path, or on the command line as ./weights."""

Run = str | Path | TrainedRun
OnBatch = Callable[[int, int], None]


@dataclass(frozen=True)
class FeatureKind:
    """Features of INRs of one set.

    Attributes:
        name: One of UNTRAINED, or the path of the run.
        about: What they are, for people.
        read: INRs (N) on any device -> features (N, F) float32, on the CPU.
        scaled: Whether each feature has a scale of its own, as weights do and pixels do not; see `comparable`.
    """

    name: str
    about: str
    read: Callable[[INRBatch], Tensor]
    scaled: bool = False

    @torch.no_grad()
    def features(self, data: INRDataset, device: str = "auto", on_batch: OnBatch | None = None) -> Tensor:
        """(N, F) of all INRs of a data set, in its order. `on_batch` gets the number of those done, and of all."""
        parts, done = [], 0
        for inrs, _ in evaluation_loader(data, device):
            parts.append(self.read(inrs))
            done += len(inrs)
            if on_batch is not None:
                on_batch(done, len(data))
        return torch.cat(parts)


def feature_kind(run: Run, data: INRDataset, device: str = "auto") -> FeatureKind:
    """The features that a run, or one of UNTRAINED, gives INRs of a set.

    Raises:
        UsageError: There is no checkpoint, or the INRs are of another spec or kind.
        IntegrityError: The checkpoint is damaged.
    """
    if isinstance(run, str) and run in UNTRAINED:
        return {"weights": _weights, "aligned": _aligned, "renders": _renders}[run](data)
    checkpoint = run.checkpoint if isinstance(run, TrainedRun) else checkpoint_of(as_path(run, "a run"))
    model = load_encoder(checkpoint).to(choose_device(device))
    name = str(run.folder if isinstance(run, TrainedRun) else run)
    return FeatureKind(
        name,
        f"{model.encoder.features} features by {model.encoder.name}",
        lambda inrs: model.features(inrs.to(model.device)).float().cpu(),
    )


def _weights(data: INRDataset) -> FeatureKind:
    return FeatureKind(
        "weights", f"{data.spec.num_parameters:,} weights as fitted", lambda inrs: inrs.flatten().float().cpu(), True
    )


def _aligned(data: INRDataset) -> FeatureKind:
    """Canonical form, aligned to the set's first INR of the training split by the finest match of the activation."""
    known = [entry for entry in data.manifest.shards if entry.split == "train" and entry.rows]
    if not known:
        raise UsageError(f"{data.manifest.name} has no INR of train to align to; align a copy by inr-factory align")
    entry = min(known, key=lambda entry: (entry.view, entry.block))
    shard = ShardReader(fetch_shards(data.location, [entry]), entry)
    flat = torch.from_numpy(np.array(shard.column("weights")[:1]))
    template, match = canonicalize(INRBatch.from_flat(data.spec, flat)), finest_match(data.spec)
    about = f"{data.spec.num_parameters:,} weights, aligned to {shard.object_ids[0]}@{entry.view} by {match}"

    def read(inrs: INRBatch) -> Tensor:
        inrs = canonicalize(inrs)
        return align(inrs, template.to(inrs.device), match).flatten().float().cpu()

    return FeatureKind("aligned", about, read, scaled=True)


def _renders(data: INRDataset) -> FeatureKind:
    """Values on a grid: of images that of their own pixels, thinned to 28 a side; of others as `render` has it."""
    inputs = data.spec.in_dim
    if inputs not in RESOLUTIONS:
        raise UsageError(f"renders are of INRs with 1 to 3 inputs, got {data.spec}; search by weights or by aligned")
    most = RESOLUTIONS[inputs]
    size, grid = (most,) * inputs, regular_grid("renders", most, inputs)
    if inputs == 2 and (known := image_size(data)) is not None:
        shrink = min(1, most / max(known))
        size = tuple(max(1, round(side * shrink)) for side in known)
        grid = pixel_grid(*size)
    about = f"{' x '.join(map(str, size))} points of the signal"
    return FeatureKind("renders", about, lambda inrs: inrs(grid.to(inrs.device)).flatten(1).float().cpu())
