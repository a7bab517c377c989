"""A Source of your own: procedural textures, fitted by one call. `python examples/own_source.py [FOLDER]`."""

import sys
from pathlib import Path

import numpy as np

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signals import Item, Signal
from inr_factory.inr.pixel_grid import pixel_grid


class Textures:
    """Images of 16 x 16 pixels that no file holds: a name, classes, items, and what to fit to each of them."""

    name, version, licence = "textures", "1", "CC0-1.0"  # go into the manifest
    in_dim, out_dim = 2, 1  # (x, y) -> grey
    classes = ("rings", "stripes", "checks")

    def __init__(self, per_class: int = 20) -> None:
        names = [(kind, label, number) for label, kind in enumerate(self.classes) for number in range(per_class)]
        self.items = [Item(f"{kind}/{number:03d}", label, split=None) for kind, label, number in names]
        self.fingerprint = f"{self.name}-{self.version}-{per_class}"  # changes whenever the content does

    def signal(self, index: int, view: int = 0) -> Signal:
        """The same for every view: views differ by their start values. SignalError puts an object in quarantine."""
        random = np.random.default_rng(index)
        coords = pixel_grid(16, 16)  # (256, 2), in [-1, 1]
        x, y = coords.T
        wave = [(x**2 + y**2).sqrt(), x + y, (3 * x).sin() * (3 * y).sin()][self.items[index].label]
        targets = 0.5 + 0.5 * (random.uniform(3, 6) * wave + random.uniform(0, 6)).sin()
        return Signal(coords, targets[:, None], facts={"height": 16, "width": 16})


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "inrs/textures")
    fields = {"views": 2, "spec": {"hidden_dim": 16, "omega_0": 10}, "fit": {"learning_rate": 3e-3, "target_psnr": 35}}
    recipe = Recipe.model_validate({"name": "textures", "source": {"collection": "own"}, **fields})
    report = fit_dataset(recipe, out, backend="local", source=Textures())
    print(f"{out}: {report.inrs} INRs made, {len(report.manifest.quarantine)} in quarantine")
