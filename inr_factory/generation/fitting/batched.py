"""Batched engine: batched matrix products and a hand-written backward pass, for what the fused engines refuse.

Any width and depth, sine and relu, fields, mini-batches and scopes, on a CPU and on a GPU. All buffers are allocated
once; hidden values lie as (N, H + 1, P), with a row of ones at the end, so that biases are columns of the weights.
A fixed number of INRs is fitted side by side, idle ones included, so that an INR is bit-identical whatever is fitted
with it. Losses are tested on the device before every step, and an INR that stops is frozen there. On a GPU the steps
are CUDA graphs and the host looks every tenth step; this part has not run on a GPU yet.

Shape letters: N INRs side by side, D parameters of one INR, P points, I inputs and O outputs of a layer, H hidden
neurons, K steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import initial_batch, initial_weights
from inr_factory.generation.fitting.optimizers import EPSILON, AdamSettings, adam_settings
from inr_factory.generation.fitting.scope_regularizer import Scope, scope_of
from inr_factory.generation.fitting.stopping import stop_losses
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signal_stack import as_index, divided, select_signals, stack_signals
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.spec import SirenSpec

LOOK = 10  # steps after which a host looks at a GPU, and steps between reports of progress
MAX_SLOTS = {"cpu": 32, "cuda": 256}
# Bytes of the hidden values of a batch: on a CPU those that its cache holds, on a GPU those that occupy it.
BATCH_BYTES = {"cpu": 2**19, "cuda": 2**28}
TILE_BYTES = {"cpu": 2**20, "cuda": 2**28}  # of one INR; more points are taken in several tiles
_CAPTURING = Lock()  # other threads of a worker fit meanwhile, but capture no graph


def fit_batched(spec: SirenSpec, batch: FitBatch, config: FitConfig, device: torch.device, fits: FitTable) -> None:
    """What `fit_reference` does, several INRs side by side; a step is up to LOOK of them."""
    signal = batch.signals[0]
    slots = Slots(spec, config, signal, num_slots(spec, config, signal, device), device)
    stop = torch.from_numpy(stop_losses(config, fits.peaks[batch.rows]))
    waiting = np.arange(len(batch))
    at_N, steps_N = np.full(slots.count, -1), np.zeros(slots.count, dtype=np.int64)  # of the batch, -1 in idle slots
    with torch.no_grad(), np.errstate(all="ignore"):
        while True:
            idle = np.flatnonzero(at_N < 0)[: len(waiting)]
            if len(idle):
                at_N[idle], waiting = waiting[: len(idle)], waiting[len(idle) :]
                new, steps_N[idle] = at_N[idle], 0
                signals = select_signals(batch.signals, as_index(new))
                slots.fill(idle, signals, batch.shared_coords, fits.seeds[batch.rows[new]], stop[new])
            busy = np.flatnonzero(at_N >= 0)
            if not len(busy):
                return
            slots.run(len(busy))
            going, steps, losses = slots.state()
            updated = int((steps - steps_N)[busy].sum())
            steps_N = steps
            ended = busy[~going[busy]]
            if len(ended):
                rows = batch.rows[at_N[ended]]
                again = fits.stop(rows, slots.flat(ended), losses[ended].tolist(), steps[ended].tolist())
                waiting = np.concatenate([np.searchsorted(batch.rows, again), waiting])
                at_N[ended] = -1
            fits.step(updated)


def num_slots(spec: SirenSpec, config: FitConfig, signal: Signal, device: torch.device) -> int:
    """INRs side by side: a function of what is fitted and of the kind of device, since on a GPU it decides bits.

    `fit.lanes` is a limit where it is not the default.
    """
    kind = "cpu" if device.type == "cpu" else "cuda"
    points = min(config.batch_points or len(signal.coords), tile_size(spec, kind))
    count = max(1, min(MAX_SLOTS[kind], BATCH_BYTES[kind] // (_bytes_of_point(spec) * points)))
    default = FitConfig.model_fields["lanes"].default
    return count if config.lanes == default else min(count, config.lanes)


def tile_size(spec: SirenSpec, kind: str) -> int:
    """Points of a tile."""
    return max(64, TILE_BYTES[kind] // _bytes_of_point(spec) // 64 * 64)


def _bytes_of_point(spec: SirenSpec) -> int:
    return 4 * 2 * spec.hidden_dim * (spec.num_hidden + 1)


@dataclass(frozen=True)
class Tile:
    """Points of a step, and the parts of the buffers that hold what belongs to them.

    Attributes:
        coords: (N, I + 1, P), the last row 1.
        targets: (N, O, P) less the output bias; of occupancies, complete.
        hidden: (N, H + 1, P) of each hidden layer, the last row 1.
        slopes: (N, H, P) of each hidden layer: the angles of sines, then their cosines.
        back: Two of (N, H, P) for the gradients of what enters a layer.
        residuals: (N, O, P).
        squares: (N, O, P).
    """

    coords: Tensor
    targets: Tensor
    hidden: list[Tensor]
    slopes: list[Tensor]
    back: list[Tensor]
    residuals: Tensor
    squares: Tensor


class Slots:
    """N slots on a device, their parameters, moments, points and step counts, and the step that moves them.

    Parameters lie as (N, D'), D' >= D: rows of weights with their bias at the end, padded to multiples of four floats.
    """

    def __init__(self, spec: SirenSpec, config: FitConfig, signal: Signal, count: int, device: torch.device) -> None:
        self.spec, self.config, self.count, self.device = spec, config, count, device
        self.field: Field = signal.field
        self.scope: Scope | None = scope_of(spec, config)
        self.adam: AdamSettings = adam_settings(config)
        points = len(signal.coords)
        self.batch_points = min(config.batch_points or points, points)
        self.epoch = -(-points // self.batch_points)
        self._lay_out_parameters()
        self._allocate(points)
        self.rates = _rates(self.adam).to(device)
        self.step_N = torch.zeros(count, dtype=torch.long, device=device)
        self.going_N = torch.zeros(count, dtype=torch.bool, device=device)
        self.stop_N, self.loss_N, self.end_loss_N = (torch.zeros(count, device=device) for _ in range(3))
        self.step: Callable[[], object] = self._step
        self.test: Callable[[], object] = self._test
        if device.type == "cuda":
            self.step = _captured(self._step, device)
            if self.epoch > 1:
                self.test = _captured(self._test, device)

    def _lay_out_parameters(self) -> None:
        """Blocks of the padded parameters, and the place of each of the D parameters in them."""
        columns, begin, blocks = [], 0, []
        for outputs, inputs in self.spec.layer_shapes:
            stride = -(-(inputs + 1) // 4) * 4
            place = begin + torch.arange(outputs)[:, None] * stride + torch.arange(inputs + 1)
            columns += [place[:, :inputs].flatten(), place[:, inputs]]
            blocks.append((begin, outputs, inputs + 1, stride))
            begin += -(-outputs * stride // 16) * 16
        self.columns = torch.cat(columns).to(self.device)
        shape = (self.count, begin + 32)  # the end of the last row is computed in another way than the middle of others
        self.parameters, self.mean, self.square, self.gradient, self.scratch = (
            torch.zeros(shape, device=self.device) for _ in range(5)
        )

        def layers(buffer: Tensor) -> list[Tensor]:
            return [
                buffer[:, at : at + rows * stride].view(-1, rows, stride)[:, :, :cols]
                for at, rows, cols, stride in blocks
            ]

        self.layers, self.gradients = layers(self.parameters), layers(self.gradient)

    def _allocate(self, points: int) -> None:
        spec, kind = self.spec, self.device.type
        size = min(points, tile_size(spec, kind))
        size = -(-points // -(-points // size))  # tiles of about the same size
        if size < points:
            size = -(-size // 16) * 16
        self.coords = self._buffer(spec.in_dim + 1, points).fill_(1)
        self.targets = self._buffer(spec.out_dim, points)
        hidden = [self._buffer(spec.hidden_dim + 1, size).fill_(1) for _ in range(spec.num_hidden)]
        slopes = [
            self._buffer(spec.hidden_dim, size) for _ in range(spec.num_hidden if spec.activation == "sine" else 0)
        ]
        back = [self._buffer(spec.hidden_dim, size) for _ in range(2)]
        residuals, squares = self._buffer(spec.out_dim, size), self._buffer(spec.out_dim, size)

        def tiles(coords: Tensor, targets: Tensor) -> list[Tile]:
            total = coords.shape[2]
            parts = []
            for begin in range(0, total, size):
                width = min(size, total - begin)
                here = slice(begin, begin + width)
                first = [part[:, :, :width] for part in (*hidden, *slopes, *back, residuals, squares)]
                depth = len(hidden)
                parts.append(
                    Tile(
                        coords[:, :, here],
                        targets[:, :, here],
                        first[:depth],
                        first[depth:-4],
                        first[-4:-2],
                        *first[-2:],
                    )
                )
            return parts

        self.tiles = self.step_tiles = tiles(self.coords, self.targets)
        if self.epoch > 1:
            self.some_coords = self._buffer(spec.in_dim + 1, self.batch_points).fill_(1)
            self.some_targets = self._buffer(spec.out_dim, self.batch_points)
            self.step_tiles = tiles(self.some_coords, self.some_targets)
            self.order = torch.arange(self.batch_points, device=self.device)

    def _buffer(self, rows: int, cols: int) -> Tensor:
        """(N, rows, cols), each INR's part at a multiple of 64 bytes, so that all are computed alike."""
        size = -(-rows * cols // 16) * 16
        return torch.zeros(self.count, size, device=self.device)[:, : rows * cols].view(-1, rows, cols)

    def fill(
        self, rows: NDArray[np.int64], signals: Sequence[Signal], shared: bool, seeds: NDArray[np.int64], stop: Tensor
    ) -> None:
        """Put signals, and their initial values, into rows; fits stop at losses `stop`."""
        to = torch.from_numpy(rows).to(self.device)
        stack = stack_signals(signals, shared)
        coords = stack.coords.float().to(self.device)
        targets = divided(stack.values.to(self.device), stack.white)
        if self.device.type == "cpu":
            flat = torch.stack(
                [
                    initial_weights(self.spec, int(seed), signal, self.config)
                    for seed, signal in zip(seeds, signals, strict=True)
                ]
            )
        else:
            flat = initial_batch(self.spec, seeds, coords, targets, self.field, self.config)
        self.parameters[to[:, None], self.columns] = flat
        self.coords[to, :-1] = coords.mT
        self.targets[to] = (targets if self.field == "occupancy" else targets - self.spec.output_bias).mT
        self.stop_N[to] = stop.to(self.device)
        self.mean[to], self.square[to], self.step_N[to], self.going_N[to] = 0, 0, 0, True

    def run(self, busy: int) -> None:
        """About LOOK steps; on a CPU, until one of the `busy` INRs stops."""
        looks = self.device.type == "cpu"
        for _ in range(max(1, LOOK // self.epoch)):
            if self.epoch > 1:
                self.test()
                if looks and int(self.going_N.sum()) < busy:
                    return
            for _ in range(self.epoch):
                self.step()
            if looks and int(self.going_N.sum()) < busy:
                return

    def state(self) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
        """(N,) each: whether an INR goes on, its steps, and the loss at which it stopped."""
        state = torch.stack([self.going_N.double(), self.step_N.double(), self.end_loss_N.double()]).cpu().numpy()
        return state[0] > 0, state[1].astype(np.int64), state[2]

    def flat(self, rows: NDArray[np.int64]) -> Tensor:
        """Weights (len(rows), D)."""
        return self.parameters[torch.from_numpy(rows).to(self.device)[:, None], self.columns]

    def _step(self) -> None:
        """One step of every INR: with all points, the stopping test and the update; else the update only."""
        if self.epoch > 1:
            rows = (self.step_N[:, None] * self.batch_points + self.order) % self.coords.shape[2]
            for source, to in ((self.coords, self.some_coords), (self.targets, self.some_targets)):
                torch.gather(source, 2, rows[:, None].expand(to.shape), out=to)
        self._sweep(self.step_tiles, gradient=True)
        if self.epoch == 1:
            self._stop_at_target()
        if self.scope is not None:
            self._add_scope(self.scope)
        first, second = self.adam.betas
        rate, epsilon = self.rates.index_select(0, self.step_N).unsqueeze(2).unbind(1)
        rate *= self.going_N[:, None]
        self.mean.lerp_(self.gradient, 1 - first)
        self.square.mul_(second).addcmul_(self.gradient, self.gradient, value=1 - second)
        torch.sqrt(self.square, out=self.scratch).add_(epsilon)
        torch.div(self.mean, self.scratch, out=self.scratch)
        self.parameters.addcmul_(self.scratch, rate, value=-1)
        self.step_N += self.going_N & (self.step_N < self.config.steps)

    def _test(self) -> None:
        """The stopping test by the loss over all points."""
        self._sweep(self.tiles, gradient=False)
        self._stop_at_target()

    def _stop_at_target(self) -> None:
        """Freeze INRs whose loss is good enough or lost, or whose steps are used up."""
        torch.where(self.going_N, self.loss_N, self.end_loss_N, out=self.end_loss_N)
        self.going_N &= (self.loss_N > self.stop_N) & (self.loss_N < math.inf) & (self.step_N < self.config.steps)

    def _sweep(self, tiles: Sequence[Tile], gradient: bool) -> None:
        """The mean squared error of the points of tiles and, if wanted, the gradient of the objective."""
        spec = self.spec
        sine = spec.activation == "sine"
        scale = spec.omega_0 if sine else 1.0
        values = spec.out_dim * sum(tile.coords.shape[2] for tile in tiles)
        self.loss_N.zero_()
        for number, tile in enumerate(tiles):
            # forward
            entering = tile.coords
            for layer, hidden in enumerate(tile.hidden):
                to = tile.slopes[layer] if sine else hidden[:, :-1]
                torch.baddbmm(to, self.layers[layer], entering, beta=0, alpha=scale, out=to)
                if sine:
                    _sine(to, hidden[:, :-1], gradient)
                else:
                    to.relu_()
                entering = hidden
            residuals = tile.residuals
            if self.field == "occupancy":
                torch.bmm(self.layers[-1], entering, out=residuals)
                residuals.add_(spec.output_bias).sigmoid_().sub_(tile.targets)
            else:
                torch.baddbmm(tile.targets, self.layers[-1], entering, beta=-1, out=residuals)
            torch.mul(residuals, residuals, out=tile.squares)
            self.loss_N.add_(tile.squares.sum((1, 2)), alpha=1 / values)
            if not gradient:
                continue
            # backward
            keep = 0 if number == 0 else 1
            leaving = residuals.mul_((1 if self.field == "occupancy" else 2) / values)
            for layer in range(spec.num_hidden, -1, -1):
                factor = scale if layer < spec.num_hidden else 1.0
                before = tile.hidden[layer - 1] if layer else tile.coords
                into = self.gradients[layer]
                torch.baddbmm(into, leaving, before.mT, beta=keep, alpha=factor, out=into)
                if layer:
                    to = tile.back[layer % 2]
                    torch.baddbmm(to, self.layers[layer][:, :, :-1].mT, leaving, beta=0, alpha=factor, out=to)
                    if sine:
                        to.mul_(tile.slopes[layer - 1])
                    else:
                        torch.ops.aten.threshold_backward.grad_input(to, before[:, :-1], 0, grad_input=to)
                    leaving = to

    def _add_scope(self, scope: Scope) -> None:
        """The gradient of `scope_penalty`: strength / n ((W / std²) - (W - mean) / variance) for n weights."""
        for layer, into, std in zip(self.layers, self.gradients, scope.stds, strict=True):
            W = layer[:, :, :-1]
            centred = W - W.mean((1, 2), keepdim=True)
            variance = centred.square().mean((1, 2), keepdim=True) + 1e-12
            strength = scope.strength / W[0].numel()
            into[:, :, :-1].add_(W, alpha=strength / std**2).sub_(centred / variance, alpha=strength)


def _sine(angles: Tensor, sines: Tensor, cosines: bool) -> None:
    """Sines of angles and, if wanted, their cosines in place of the angles. On a CPU numpy takes half of torch's time."""
    if angles.device.type == "cpu":
        np.sin(angles.numpy(), out=sines.numpy())
        if cosines:
            np.cos(angles.numpy(), out=angles.numpy())
        return
    torch.sin(angles, out=sines)
    if cosines:
        angles.cos_()


def _rates(adam: AdamSettings) -> Tensor:
    """(K + 1, 2) float32: the factor of mean / (sqrt(square) + epsilon) and epsilon, of each step; the last moves nothing.

    Both contain the bias corrections of Adam, taken in double precision.
    """
    step = torch.arange(1, len(adam.rates) + 1, dtype=torch.float64)
    first, second = adam.betas
    root = (1 - second**step).sqrt()
    rates = torch.stack([adam.rates / (1 - first**step) * root, EPSILON * root], dim=1).float()
    return torch.cat([rates, torch.tensor([[0.0, EPSILON]])])


def _captured(function: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The function as a CUDA graph. It runs three times before, while no slot is busy, so that nothing changes."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(3):
                function()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # torch's own stream for captures is of the first device on which the process captured.
        capture = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
        with _CAPTURING, capture, torch.no_grad():
            function()
    return graph.replay
