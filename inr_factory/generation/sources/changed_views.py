"""Changed views: the signals and shapes of a source's objects, changed by what `source.augment` drew for a view."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.augmentation import Drawn, active_changes
from inr_factory.generation.geometry.mesh import Mesh, multiplied
from inr_factory.generation.recipe import ImageSource, ShapeSource
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.torchvision_images import torchvision_part
from inr_factory.storage.shards import CHANGE, ShardReader


def changed_signal(source: Source, index: int, view: int, drawn: Drawn) -> Signal:
    """The signal of `source.items[index]` for a view, changed; `drawn` are its facts. Raises SignalError as the source."""
    config, facts = getattr(source, "config", None), {f"{CHANGE}{name}": number for name, number in drawn.items()}
    if not drawn or not isinstance(config, ImageSource | ShapeSource):
        return source.signal(index, view)
    if isinstance(config, ShapeSource):
        signal = source.signal(index, view, change_matrix(config, drawn))  # type: ignore[call-arg]
        return replace(signal, facts={**signal.facts, **facts})
    signal = source.signal(index, view)
    height, width, targets = int(signal.facts["height"]), int(signal.facts["width"]), signal.targets
    if active := active_changes(config.changes, drawn):
        image, v2 = targets.view(height, width, -1).permute(2, 0, 1), torchvision_part("transforms.v2")
        for change, numbers in active:
            image = change.image(image, numbers, v2)
        targets = image.permute(1, 2, 0).reshape(height * width, -1).contiguous()
    return replace(signal, targets=targets, facts={**signal.facts, **facts})


def change_matrix(config: ShapeSource, drawn: Drawn) -> NDArray[np.float64] | None:
    """(3, 3), by which the points of a shape, in the coordinates of its signal, are multiplied; None for no change."""
    matrices = [np.array(change.matrix(numbers)) for change, numbers in active_changes(config.changes, drawn)]
    return reduce(lambda product, matrix: matrix @ product, matrices) if matrices else None


def changed_shape(source: Source, shape: "Mesh | NDArray[np.float64]", drawn: Drawn) -> "Mesh | NDArray[np.float64]":
    """A shape in the coordinates of its signal, changed."""
    config = getattr(source, "config", None)
    matrix = change_matrix(config, drawn) if isinstance(config, ShapeSource) and drawn else None
    return shape if matrix is None else multiplied(shape, matrix)


def change_of_row(source: Source, shard: ShardReader, row: int) -> Drawn:
    """What was drawn for a row of a shard of this source; empty for sets without `source.augment`."""
    names = [name for change in getattr(getattr(source, "config", None), "changes", ()) for name in change.neutral]
    columns: Mapping[str, NDArray[np.generic]] = shard.changes
    return {name: columns[name][row].item() for name in names if name in columns}


def describe_change(shard: ShardReader, row: int) -> str:
    """What of a row's signal was changed, for a caption, such as "flip x, shift x 1 y -2"; empty for nothing."""
    neutral = {"scale": 1.0, "crop_width": 1.0, "crop_height": 1.0}
    groups: dict[str, str] = {}
    for name, column in shard.changes.items():
        group, _, part = name.partition("_")
        value = column[row].item()
        if value != neutral.get(name, 0) and part not in ("left", "top"):
            number = "" if group == "flip" else f" {value:.2f}".rstrip("0").rstrip(".")
            groups[group] = f"{groups.get(group, group)} {part}".rstrip() + number
    return ", ".join(groups.values())
