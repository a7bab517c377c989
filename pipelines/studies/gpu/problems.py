"""Problems: the specs, points, images and shapes that are fitted.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import gzip
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.signals import Item, Signal
from inr_factory.generation.sources.shape_sampling import ShapeSamples, shape_signal
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

IMAGE = SirenSpec(2, 1, output_bias=0.5)
SHAPE = SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0)
# An image, an RGB image, a shape in mini-batches of its size, and the largest that the fused engine fits.
SPEEDS: list[tuple[SirenSpec, int]] = [
    (IMAGE, 784),
    (SirenSpec(2, 3, output_bias=0.5), 1024),
    (SirenSpec(3, 1, hidden_dim=32, num_hidden=3, omega_0=10.0), 2048),
    (SirenSpec(3, 1, hidden_dim=64, omega_0=10.0), 2048),
    (SHAPE, 2048),
]
WIDE: list[tuple[SirenSpec, int]] = [
    (SirenSpec(2, 1, hidden_dim=width, output_bias=0.5), 784) for width in (128, 256, 512)
]

IMAGES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
RAW = Path("FashionMNIST/raw")  # below a data root, as torchvision has it
SHAPES = "shapes.npz"
KINDS = ("coords", "distances", "truth_coords", "truth_distances", "surface")


def cloud(spec: SirenSpec, points: int, seed: int) -> Signal:
    """Smooth values at random points."""
    generator = torch.Generator().manual_seed(seed)
    coords = 2 * torch.rand(points, spec.in_dim, generator=generator) - 1
    direction = 3 * torch.randn(spec.in_dim, spec.out_dim, generator=generator)
    return Signal(coords, 0.5 + 0.4 * torch.sin(coords @ direction))


def smooth_images(count: int) -> Tensor:
    """(count, 28, 28) uint8: a few waves each."""
    grid, generator = pixel_grid(28, 28), torch.Generator().manual_seed(0)
    waves = 4 * torch.randn(count, 2, 3, generator=generator)
    phases = 6 * torch.rand(count, 1, 3, generator=generator)
    values = 0.5 + 0.15 * torch.sin(grid @ waves + phases).sum(dim=2)
    return (255 * values.clamp(0, 1)).round().to(torch.uint8).reshape(count, 28, 28)


def training_images(data: Path | None, count: int) -> tuple[Tensor, str]:
    """(count, 28, 28) uint8, and what they are: Fashion-MNIST where it was carried, else smooth random images."""
    if data is None or not (data / RAW / IMAGES[0]).is_file():
        return smooth_images(count), "smooth random images"
    content = (data / RAW / IMAGES[0]).read_bytes()
    pixels = np.frombuffer(content, np.uint8, count * 784, offset=16).reshape(count, 28, 28)
    return torch.from_numpy(pixels.copy()), "Fashion-MNIST"


def unpack_images(bundle: Path, folder: Path) -> Path | None:
    """Unpack the carried images into a data root below `folder`; None where the bundle has none."""
    packed = [bundle / f"{name}.gz" for name in IMAGES]
    if not all(path.is_file() for path in packed):
        return None
    (folder / RAW).mkdir(parents=True, exist_ok=True)
    for path, name in zip(packed, IMAGES, strict=True):
        (folder / RAW / name).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


@dataclass(frozen=True)
class SampledShapes:
    """Sampled shapes, repeated under new names until there are `count`: a source that needs no mesh library."""

    samples: tuple[ShapeSamples, ...]
    config: ShapeSource
    count: int
    classes: tuple[str, ...] = ("shape",)
    name: str = "sampled shapes"
    version: str = "1"
    licence: str = "made for measurements"
    in_dim: int = 3
    out_dim: int = 1
    fingerprint: str = field(default="0" * 16)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        return tuple(Item(f"{number:06d}", 0, "train") for number in range(self.count))

    def signal(self, index: int, view: int = 0) -> Signal:
        return shape_signal(self.samples[index % len(self.samples)], self.config)


def save_shapes(path: Path, samples: list[ShapeSamples]) -> None:
    """Write samples, all with the same numbers of points, as one file."""
    arrays = {name: np.stack([each.arrays[name] for each in samples]) for name in KINDS}
    facts = json.dumps([dict(each.facts) for each in samples])
    np.savez(path, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)


def load_shapes(bundle: Path) -> tuple[ShapeSamples, ...] | None:
    """The carried shapes, None where there are none."""
    if not (bundle / SHAPES).is_file():
        return None
    with np.load(bundle / SHAPES) as content:
        facts = json.loads(content["facts"].tobytes())
        arrays = {name: content[name] for name in KINDS}
    return tuple(
        ShapeSamples({name: array[number] for name, array in arrays.items()}, facts[number])
        for number in range(len(facts))
    )


def few_shapes(points: int) -> tuple[ShapeSamples, ...]:
    """Two spheres, by their formula: stand-ins where no shapes were carried, and small ones for a quick run."""
    samples = []
    for number, radius in enumerate((0.4, 0.6)):
        rng = np.random.default_rng(number)
        coords, truth = rng.uniform(-1, 1, (2, points, 3))
        on_sphere = rng.standard_normal((points, 3))
        on_sphere *= radius / np.linalg.norm(on_sphere, axis=1, keepdims=True)
        near = np.where(np.arange(points)[:, None] % 2, coords, on_sphere + 0.02 * rng.standard_normal((points, 3)))
        arrays = {
            "coords": near, "distances": np.linalg.norm(near, axis=1) - radius, "truth_coords": truth,
            "truth_distances": np.linalg.norm(truth, axis=1) - radius, "surface": on_sphere,
        }  # fmt: skip
        samples.append(
            ShapeSamples({name: array.astype(np.float32) for name, array in arrays.items()}, {"ambiguous": 0.0})
        )
    return tuple(samples)
