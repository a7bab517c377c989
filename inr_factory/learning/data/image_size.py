"""Image size: the height and width of the images that the INRs of a data set were fitted to."""

import numpy as np

from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.shards import ShardReader


def image_size(data: INRDataset) -> tuple[int, int] | None:
    """Height and width, the commonest of the first shard of the split and views; None where shards do not say them."""
    entries = [entry for entry in data.manifest.shards if entry.split == data.split and entry.rows]
    entry = next(entry for entry in entries if entry.view in data.chosen_views)
    shard = ShardReader(data.root, entry, check=False)
    if not {"height", "width"} <= set(shard.column_names):
        return None
    sides = np.stack([shard.column("height"), shard.column("width")], axis=1)
    sizes, counts = np.unique(sides, axis=0, return_counts=True)
    height, width = sizes[counts.argmax()].tolist()
    return int(height), int(width)
