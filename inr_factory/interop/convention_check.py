"""Convention check: some INRs are rendered by a convention and compared with their images.

Shape letters: N INRs, P points, O values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inr_factory.errors import FactoryError
from inr_factory.generation.maintenance.render_check import mean_squared_errors
from inr_factory.generation.signals import Signal
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.mlp_layers import Layers, stack_layers
from inr_factory.interop.conventions import TARGETS, Convention, from_convention

# Below this an INR does not show its image, or barely; a wrong convention gives 5 to 12 dB.
FLOOR_DB = 15.0
MARGIN_DB = 3.0
NUM_CHECKED = 32
OMEGAS = (30.0, 1.0, 8.0, 10.0, 15.0, 20.0, 60.0)


@dataclass(frozen=True)
class ConventionCheck:
    """The requested convention and its median PSNR in dB, and the best of all conventions that were tried."""

    requested: Convention
    requested_db: float
    best: Convention
    best_db: float

    @property
    def fits(self) -> bool:
        """The requested convention shows the images, and no other is clearly better."""
        return self.requested_db >= FLOOR_DB and self.best_db - self.requested_db <= MARGIN_DB

    @property
    def any_fits(self) -> bool:
        return self.best_db >= FLOOR_DB


def try_conventions(layers: Sequence[Layers], signals: Sequence[Signal], requested: Convention) -> ConventionCheck:
    """Render INRs by the requested convention and all plausible others: both orders of coordinates, known ranges of
    targets, output offsets and omega_0s."""
    scores = {convention: median_db(layers, signals, convention) for convention in _plausible(requested)}
    # Among equals the first, which differs least from the requested one.
    best = max(scores, key=lambda convention: scores[convention])
    return ConventionCheck(requested, scores[requested], best, scores[best])


def median_db(layers: Sequence[Layers], signals: Sequence[Signal], convention: Convention) -> float:
    """Median PSNR in dB; -inf for a convention that these INRs cannot have."""
    try:
        inrs = from_convention(stack_layers(convention.spec(layers[0].dims), layers), convention)
    except FactoryError:
        return float("-inf")
    return float(psnr_of_mse(mean_squared_errors(inrs, list(signals)).clamp(min=1e-20)).median())


def _plausible(requested: Convention) -> list[Convention]:
    biases = dict.fromkeys((requested.output_bias, 0.0, 0.5))
    ranges = dict.fromkeys((requested.targets, *(targets for targets in TARGETS.values() if not targets.raw)))
    orders = dict.fromkeys((requested.order, "xy", "rowcol"))
    shapes = [
        replace(requested, order=order, targets=targets, output_bias=bias)  # type: ignore[arg-type]
        for order in orders
        for targets in ranges
        for bias in biases
    ]
    others = [replace(requested, omega_0=omega_0) for omega_0 in OMEGAS]
    return list(dict.fromkeys([requested, *shapes, *others]))
