"""Optimisers of shapes in torch, for many INRs at once: those that the fused engine has, and what it has not.

Shape letters: N INRs, P points, D parameters of an INR, O and I outputs and inputs of a layer; I counts a 1 for the bias.
"""

from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.least_squares import solve_last_layers
from inr_factory.generation.fitting.optimizers import EPSILON, Muon, adam_settings
from inr_factory.generation.fitting.slots import shuffle_points
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize_flat
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

BATCH, RIDGE = 2048, 1e-4  # points of a step; of least squares
EVERY = {"error": 50, "inverse": 5, "qr": 10}  # steps between errors of all points, inverses of K-FAC, and QR of SOAP
PART = 4  # the share 1 / PART of a batch that gives factors and step sizes of K-FAC
MEMORY = 0.95  # of the running means of factors
LARGEST = 0.9  # momentum of K-FAC, that of Muon


@dataclass(frozen=True)
class Way:
    """A way to fit shapes. After the settings of the fused engine it has:

    damping: of K-FAC, relative to the mean of the factors. rows: whether Muon divides rows by their running size. start_scale: of all initial weights but the last layer's.
    solve_every: steps between least squares of the last layer. chosen: share of the points of a step that are drawn in
    proportion to their last known error. batches: points of the first and last step, between them a geometric series.
    blur: standard deviation of noise of the coordinates at first, 0 from half of the steps on.
    """

    optimizer: str
    learning_rate: float
    steps: int = 0
    hidden_dim: int = 64
    num_hidden: int = 3
    first_omega_0: float | None = None
    damping: float = 0.0
    rows: bool = True
    start_scale: float = 1.0
    solve_every: int = 0
    chosen: float = 0.0
    batches: tuple[int, int] = (BATCH, BATCH)
    blur: float = 0.0

    @property
    def spec(self) -> SirenSpec:
        return SirenSpec(3, 1, self.hidden_dim, self.num_hidden, omega_0=10.0, first_omega_0=self.first_omega_0)

    @property
    def fused(self) -> bool:
        """Whether the fused engine fits it."""
        return self.optimizer in ("sprint", "muon") and astuple(self)[6:] == astuple(Way("", 0.0))[6:]


class TorchFit:
    """Fits of N INRs at once in torch, by any way. Weights of a layer are (N, O, I), their last column the biases."""

    def __init__(self, way: Way, signals: list[Signal], keys: list[ViewKey]) -> None:
        seeds = [key.seed(0) for key in keys]
        signals = [shuffle_points(signal, seed) for signal, seed in zip(signals, seeds, strict=True)]
        self.way, self.spec, self.steps = way, way.spec, way.steps
        self.coords = torch.stack([signal.coords for signal in signals])
        self.targets = torch.stack([signal.targets for signal in signals])
        starts = [initial_weights(self.spec, *pair, config_of(way)) for pair in zip(seeds, signals, strict=True)]
        flat = torch.stack(starts)
        if way.start_scale != 1:
            flat = self.solved(scaled_start(self.spec, seeds, way.start_scale))
        self.layers = self.split(flat)
        self.mean, self.square = ([torch.zeros_like(layer) for layer in self.layers] for _ in range(2))
        self.muon = [Muon(len(keys), *layer[..., :-1].shape[1:], device="cpu") for layer in self.layers[1:-1]]
        self.factors: dict[tuple[str, int], Tensor] = {}
        self.inverses: dict[tuple[str, int], Tensor] = {}
        self.bases: dict[tuple[str, int], Tensor] = {}
        self.last_move: list[Tensor] | None = None
        self.generator = torch.Generator().manual_seed(0)
        self.errors, self.position = torch.ones(self.coords.shape[:2]), 0
        self.settings = adam_settings(config_of(way))

    def split(self, flat: Tensor) -> list[Tensor]:
        inrs = INRBatch.from_flat(self.spec, flat)
        return [torch.cat([W, b[..., None]], dim=2) for W, b in zip(inrs.weights, inrs.biases, strict=True)]

    def flat(self) -> Tensor:
        """(N, D)."""
        parts = [part for layer in self.layers for part in (layer[..., :-1].flatten(1), layer[..., -1])]
        return torch.cat(parts, dim=1)

    def solved(self, flat: Tensor) -> Tensor:
        """(N, D) with the last layers of least squares."""
        rows = zip(flat, self.coords, self.targets, strict=True)
        solve = [solve_last_layers(self.spec, row[None], at, value[None], "sdf", RIDGE) for row, at, value in rows]
        return torch.cat(solve)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Coords and targets of a step: the next points, and those by their errors, if there are any."""
        first, last = self.way.batches
        size, count = round(first * (last / first) ** (step / self.steps)), self.coords.shape[1]
        chosen = int(size * self.way.chosen)
        index = ((self.position + torch.arange(size - chosen)) % count).expand(len(self.coords), -1)
        self.position += size - chosen
        if chosen:
            if step % EVERY["error"] == 0:
                self.errors = (self.forward(self.coords)[0] - self.targets).abs()[..., 0]
            index = torch.cat([index, self.errors.multinomial(chosen, True, generator=self.generator)], dim=1)
        coords, targets = (
            x.gather(1, index[..., None].expand(-1, -1, x.shape[2])) for x in (self.coords, self.targets)
        )
        if (noise := self.way.blur * (1 - 2 * step / self.steps)) > 0:
            coords = coords + noise * torch.randn(coords.shape, generator=self.generator)
        return coords, targets

    def forward(self, coords: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Values (N, P, 1), the inputs of each layer (N, P, I), and the slopes of each hidden neuron (N, P, O)."""
        inputs, slopes, hidden = [], [], coords
        for layer in self.layers[:-1]:
            inputs.append(torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=2))
            phase = self.spec.omega_0 * (inputs[-1] @ layer.mT)
            hidden = phase.sin()
            slopes.append(phase.cos_().mul_(self.spec.omega_0))
        inputs.append(torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=2))
        return inputs[-1] @ self.layers[-1].mT, inputs, slopes

    def backward(self, slopes: list[Tensor]) -> list[Tensor]:
        """Derivatives (N, P, O) of the values by the outputs of each layer, before its sine."""
        down = [torch.ones_like(slopes[-1][..., :1])]
        for layer, slope in zip(reversed(self.layers[1:]), reversed(slopes), strict=True):
            down.insert(0, (down[0] @ layer[..., :-1]).mul_(slope))
        return down

    def run(self) -> Tensor:
        """(N, D) after all steps."""
        for step, rate in enumerate(self.settings.rates.tolist()):
            coords, targets = self.batch(step)
            values, inputs, slopes = self.forward(coords)
            errors, down = values - targets, self.backward(slopes)
            gradients = [(d * errors).mT @ x * (2 / len(errors[0])) for d, x in zip(down, inputs, strict=True)]
            if self.way.optimizer == "kfac":
                few = slice(0, errors.shape[1] // PART)
                parts = ([x[:, few] for x in each] for each in (inputs, slopes, down))
                self.move_by_kfac(step, rate, gradients, errors[:, few], *parts)
            else:
                self.move(step, rate, gradients)
            if self.way.solve_every and (step + 1) % self.way.solve_every == 0:
                self.layers[-1] = self.split(self.solved(self.flat()))[-1]
                self.mean[-1].zero_()
        return self.flat()

    def move(self, step: int, rate: float, gradients: list[Tensor]) -> None:
        """A step of Adam; of Muon in the matrices between hidden layers; or of SOAP."""
        settings, matrices = self.settings, range(1, len(self.layers) - 1)
        by_rows = settings if self.way.rows else replace(settings, betas=(settings.betas[0], 1.0))
        for number, (layer, gradient) in enumerate(zip(self.layers, gradients, strict=True)):
            factor = rate if number else rate * self.spec.first_factor
            if self.way.optimizer == "soap":
                layer -= factor * self.soap(number, step, gradient)
                continue
            mean, size = self.moments(number, step, gradient, gradient)
            change = mean / size
            if self.way.optimizer == "muon" and number in matrices:
                unbiased = torch.full((len(layer), 1, 1), 1 - settings.betas[1] ** (step + 1))
                change[..., :-1] = self.muon[number - 1].step(gradient[..., :-1], by_rows, unbiased)
            layer -= factor * change

    def moments(self, number: int, step: int, gradient: Tensor, rotated: Tensor) -> tuple[Tensor, Tensor]:
        """Adam's mean of gradients, and the root mean square of `rotated`, the gradient in another basis."""
        (beta_1, beta_2), count = self.settings.betas, step + 1
        mean, square = self.mean[number], self.square[number]
        mean.lerp_(gradient, 1 - beta_1)
        square.lerp_(rotated.square(), 1 - beta_2)
        return mean / (1 - beta_1**count), (square / (1 - beta_2**count)).sqrt() + EPSILON

    def remember(self, side: str, number: int, product: Tensor) -> Tensor:
        """The running mean of a factor."""
        known = self.factors.setdefault((side, number), product)
        self.factors[side, number] = known.lerp(product, 1 - MEMORY)
        return self.factors[side, number]

    def soap(self, number: int, step: int, gradient: Tensor) -> Tensor:
        """SOAP (Vyas et al. 2024): Adam in the eigenbases of Shampoo's factors, which a QR step updates at times."""
        for side, product in (("out", gradient @ gradient.mT), ("in", gradient.mT @ gradient)):
            factor = self.remember(side, number, product)
            if step == 0:
                self.bases[side, number] = torch.linalg.eigh(factor.double())[1].float()
            elif step % EVERY["qr"] == 0:
                self.bases[side, number] = torch.linalg.qr(factor @ self.bases[side, number])[0]
        left, right = self.bases["out", number], self.bases["in", number]
        mean, size = self.moments(number, step, gradient, left.mT @ gradient @ right)
        return left @ ((left.mT @ mean @ right) / size) @ right.mT

    def move_by_kfac(
        self, step: int, share: float, gradients: list[Tensor], errors: Tensor, inputs: list[Tensor],
        slopes: list[Tensor], down: list[Tensor],
    ) -> None:  # fmt: skip
        """K-FAC with momentum, both step sizes from the exact Gauss-Newton model (Martens & Grosse 2015, sections 6, 7).

        The step is `share` of theirs. Errors, inputs, slopes and derivatives are those of some points.
        """
        moves = []
        for number, gradient in enumerate(gradients):
            sides = {"in": inputs[number], "out": down[number]}
            factors = {side: self.remember(side, number, x.mT @ x / x.shape[1]) for side, x in sides.items()}
            if step % EVERY["inverse"] == 0:
                sizes = {side: factor.diagonal(dim1=1, dim2=2).mean(1) for side, factor in factors.items()}
                for side, factor in factors.items():  # damping that is shared by the factors, section 6.3
                    added = self.way.damping**0.5 * sizes[side][:, None, None] * torch.eye(factor.shape[1])
                    self.inverses[side, number] = torch.linalg.inv((factor + added).double()).float()
            moves.append(self.inverses["out", number] @ gradient @ self.inverses["in", number])
        directions = [moves] if self.last_move is None else [moves, self.last_move]
        along = torch.stack([self.derivative(direction, inputs, slopes) for direction in directions], dim=1)
        model = along @ along.mT / along.shape[2]  # (N, K, K) of K directions
        model.diagonal(dim1=1, dim2=2).mul_(1 + 1e-4)
        slope = along @ errors / along.shape[2]
        sizes = torch.linalg.solve(model, slope)
        if len(directions) > 1:
            sizes[:, 1].clamp_(-LARGEST, LARGEST)
            sizes[:, :1] = (slope[:, :1] - model[:, :1, 1:] @ sizes[:, 1:]) / model[:, :1, :1]
        self.last_move = [
            sum(sizes[:, k, None] * x for k, x in enumerate(each)) * share for each in zip(*directions, strict=True)
        ]
        for layer, change in zip(self.layers, self.last_move, strict=True):
            layer -= change

    def derivative(self, moves: list[Tensor], inputs: list[Tensor], slopes: list[Tensor]) -> Tensor:
        """(N, P): the derivative of the values along moves of the weights."""
        change = inputs[0] @ moves[0].mT
        for layer, move, x, slope in zip(self.layers[1:], moves[1:], inputs[1:], slopes, strict=True):
            change = x @ move.mT + (change * slope) @ layer[..., :-1].mT
        return change[..., 0]


def scaled_start(spec: SirenSpec, seeds: list[int], scale: float) -> Tensor:
    """(N, D): initial weights, times a number in all layers but the last (Yeom, Lee & Lee 2024, arXiv 2410.04779)."""
    inrs = INRBatch.from_flat(spec, initialize_flat(spec, seeds).clone())
    return replace(inrs, weights=(*(W * scale for W in inrs.weights[:-1]), inrs.weights[-1])).flatten()


def config_of(way: Way) -> FitConfig:
    """The fit by the optimizer itself. SOAP and K-FAC have the rates and betas of muon, scaled by theirs."""
    return FitConfig(
        optimizer="sprint" if way.optimizer == "sprint" else "muon",
        learning_rate=way.learning_rate,
        steps=way.steps,
        ridge=RIDGE,
        batch_points=BATCH,
        target_psnr=None,
        floor_psnr=-1000,
        attempts=1,
    )
