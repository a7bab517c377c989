"""A Source of your own: procedural textures, fitted by one call. `python examples/own_source.py [FOLDER]`."""

import sys

import numpy as np

import inr_factory as inr


class Textures:
    """Procedural images of 16 x 16 pixels: a name, classes, items, and the signal of each item."""

    name, version, licence = "textures", "1", "CC0-1.0"  # go into the manifest
    in_dim, out_dim = 2, 1  # (x, y) -> grey
    classes = ("rings", "stripes", "checks")

    def __init__(self, per_class: int = 20) -> None:
        names = [(kind, label, number) for label, kind in enumerate(self.classes) for number in range(per_class)]
        self.items = [inr.Item(f"{kind}/{number:03d}", label, split=None) for kind, label, number in names]
        self.fingerprint = f"{self.name}-{self.version}-{per_class}"  # changes whenever the content does

    def signal(self, index: int, view: int = 0) -> inr.Signal:
        """Equal for every view: views differ by their initial values. SignalError puts an object into quarantine."""
        random = np.random.default_rng(index)
        coords = inr.pixel_grid(16, 16)  # (256, 2), in [-1, 1]
        x, y = coords.T
        wave = [(x**2 + y**2).sqrt(), x + y, (3 * x).sin() * (3 * y).sin()][self.items[index].label]
        targets = 0.5 + 0.5 * (random.uniform(3, 6) * wave + random.uniform(0, 6)).sin()
        return inr.Signal(coords, targets[:, None], facts={"height": 16, "width": 16})


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else "inrs/textures"
    fields = {"views": 2, "spec": {"hidden_dim": 16, "omega_0": 10}, "fit": {"learning_rate": 3e-3, "target_psnr": 35}}
    recipe = inr.load_recipe({"name": "textures", "source": {"collection": "own"}, **fields})
    report = inr.fit_dataset(recipe, out, backend="local", source=Textures())
    print(f"{out}: {report.manifest.rows} INRs made, {len(report.manifest.quarantine)} in quarantine")
