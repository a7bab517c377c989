"""Batched engine: batched matrix products and a hand-written backward pass, for what the fused engines refuse.

Any widths, depth and activation, fields, mini-batches and scopes, on a CPU and on a GPU. All buffers are allocated
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

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.activations import apply_activation
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import initial_batch, initial_weights
from inr_factory.generation.fitting.optimizers import AdamSettings, Muon, adam_settings, rate_factors, rate_table
from inr_factory.generation.fitting.scope_regularizer import Scope, scope_of
from inr_factory.generation.fitting.stopping import stop_losses
from inr_factory.generation.signal_stack import as_index, divided, select_signals, stack_signals
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.forward_pass import encode
from inr_factory.inr.spec import SirenSpec

LOOK = 10  # steps after which a host looks at a GPU, and steps between reports of progress
MAX_SLOTS = {"cpu": 16, "cuda": 256}
# Bytes of the states of a batch: on a CPU so few that a single INR is no slower in it than alone, on a GPU those that
# occupy it. On a CPU wide INRs, which exceed them, are fitted one by one.
BATCH_BYTES = {"cpu": 5 * 2**18, "cuda": 2**28}
TILE_BYTES = {"cpu": 2**22, "cuda": 2**28}  # of the hidden values of one INR; more points are taken in several tiles
MIN_TILE = 1024  # points of a tile at least, since each adds to all gradients of weights
OWN_BIAS = {"cpu": False, "cuda": True}  # on a GPU a column more than 128 costs the products of another tile
UPDATE = 2**15  # parameters that a CPU updates at once
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
            slots.run(len(busy), left=config.steps - int(steps_N[busy].min()))
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
    size = _bytes_of_point(spec) * points + 5 * 4 * spec.num_parameters
    count = max(1, min(MAX_SLOTS[kind], BATCH_BYTES[kind] // size))
    default = FitConfig.model_fields["lanes"].default
    return count if config.lanes == default else min(count, config.lanes)


def tile_size(spec: SirenSpec, kind: str) -> int:
    """Points of a tile."""
    return max(MIN_TILE, _padded(TILE_BYTES[kind] // _bytes_of_point(spec)))


def _bytes_of_point(spec: SirenSpec) -> int:
    return 4 * (2 * (sum(spec.hidden_dims) + spec.hidden_dim) + spec.encoded_dim - spec.in_dim)


@dataclass(frozen=True)
class Layer:
    """What a step does in one layer for the points of a tile: parts of the buffers.

    Attributes:
        weights: (N, O, I + 1), the biases in the last column.
        weights_back: (N, I, O), without them.
        gradients: Parts of the gradient of the weights, with the rows of `entering`, transposed, that belong to them.
        entering: (N, I + 1, P), the last row 1.
        products: (N, O, P); of hidden layers W x + b, times omega_0 where there is one, later the derivatives of the
            activation; of the last layer the residuals.
        values: (N, O, P), those of the activation; `products`, which ReLU changes in place.
        back: (N, I, P), the gradient of what enters.
    """

    weights: Tensor
    weights_back: Tensor
    gradients: tuple[tuple[Tensor, Tensor], ...]
    entering: Tensor
    products: Tensor
    values: Tensor
    back: Tensor


@dataclass(frozen=True)
class Tile:
    """Points of a step: their targets (N, O, P), less the output bias but for occupancies, squares (N, O, P) and layers."""

    targets: Tensor
    squares: Tensor
    layers: list[Layer]


class Slots:
    """N slots on a device, their parameters, moments, points and step counts, and the step that moves them.

    Parameters lie as (N, D'), D' >= D: rows of weights with their bias at the end, and padding.
    """

    def __init__(self, spec: SirenSpec, config: FitConfig, signal: Signal, count: int, device: torch.device) -> None:
        self.spec, self.config, self.count, self.device = spec, config, count, device
        self.field: Field = signal.field
        self.looks = device.type == "cpu"
        self.scope: Scope | None = scope_of(spec, config)
        self.adam: AdamSettings = adam_settings(config)
        self.points = len(signal.coords)
        self.batch_points = min(config.batch_points or self.points, self.points)
        self.epoch = -(-self.points // self.batch_points)
        self.between = self.epoch * (self.adam.looks if self.epoch > 1 else 1)  # steps between two looks at the loss
        self._lay_out_parameters()
        self._lay_out_points()
        self.rates = rate_table(self.adam).to(device)
        self.step_N = torch.zeros(count, dtype=torch.long, device=device)
        self.going_N = torch.zeros(count, dtype=torch.bool, device=device)
        self.stop_N, self.loss_N = torch.zeros(count, device=device), torch.zeros(count, device=device)
        self.step: Callable[[], object] = self._step
        self.test: Callable[[], object] = self._test
        if device.type == "cuda":
            self.step, self.test = _captured(self._step, device), _captured(self._test, device)

    def _lay_out_parameters(self) -> None:
        """Blocks of the padded parameters, and the place of each of the D parameters in them."""
        columns, begin, blocks = [], 0, []
        for outputs, inputs in self.spec.layer_shapes:
            stride = _padded(inputs + 1, 4 if inputs < 64 else 16)  # rows of products that begin elsewhere cost a fifth
            place = begin + torch.arange(outputs)[:, None] * stride + torch.arange(inputs + 1)
            columns += [place[:, :inputs].flatten(), place[:, inputs]]
            blocks.append((begin, outputs, inputs + 1, stride))
            begin += _padded(outputs * stride)
        self.columns = torch.cat(columns).to(self.device)
        # Ends of buffers are computed in another way than what comes before: they hold no parameters.
        buffers = [torch.zeros(self.count, begin + 32, device=self.device) for _ in range(5)]
        self.parameters, self.mean, self.square, gradient, _ = buffers
        self.weights, self.gradients = (
            [buffer[:, at : at + m * stride].view(-1, m, stride)[:, :, :n] for at, m, n, stride in blocks]
            for buffer in (self.parameters, gradient)
        )
        hidden = list(zip(self.weights, self.gradients, strict=True))[1:-1] if self.adam.momentum else []
        self.matrices = [
            (
                weights[:, :, :-1],
                into[:, :, :-1],
                Muon(self.count, weights.shape[1], weights.shape[2] - 1, device=self.device),
            )
            for weights, into in hidden
        ]
        # The update takes pieces that stay in the cache of a CPU.
        pieces = max(1, UPDATE // self.count) if self.device.type == "cpu" else begin + 32
        factors = torch.ones(1, begin + 32, device=self.device)
        factors[:, self.columns] = rate_factors(self.spec).to(self.device)
        self.pieces = list(zip(*(torch.split(each, pieces, dim=1) for each in (*buffers, factors)), strict=True))

    def _lay_out_points(self) -> None:
        """Buffers of points and hidden values, and the tiles of a step and of a stopping test."""
        spec, points = self.spec, self.points
        most = min(points, tile_size(spec, self.device.type))
        size = -(-points // -(-points // most))  # tiles of about the same size
        size = min(points, _padded(size))
        self.coords = self._buffer(spec.encoded_dim + 1, points).fill_(1)
        self.targets = self._buffer(spec.out_dim, points)
        depth = spec.num_hidden
        hidden = [self._buffer(width + 1, size).fill_(1) for width in spec.hidden_dims]
        angles = [self._buffer(width, size) for width in spec.hidden_dims] if spec.activation != "relu" else []
        residuals, squares = self._buffer(spec.out_dim, size), self._buffer(spec.out_dim, size)
        back = [self._buffer(max(spec.hidden_dim, spec.encoded_dim), size) for _ in range(2)]
        splits = [slice(None, -1), slice(-1, None)] if OWN_BIAS[self.device.type] else [slice(None)]

        def tile(coords: Tensor, targets: Tensor, at: int) -> Tile:
            width = min(size, coords.shape[2] - at)
            layers = []
            for number, (weights, gradient) in enumerate(zip(self.weights, self.gradients, strict=True)):
                entering = hidden[number - 1][:, :, :width] if number else coords[:, :, at : at + width]
                values = hidden[number][:, :-1, :width] if number < depth else residuals[:, :, :width]
                layers.append(
                    Layer(
                        weights,
                        weights[:, :, :-1].mT,
                        tuple((gradient[:, :, part], entering[:, part].mT) for part in splits),
                        entering,
                        angles[number][:, :, :width] if number < depth and angles else values,
                        values,
                        back[number % 2][:, : weights.shape[2] - 1, :width],
                    )
                )
            return Tile(targets[:, :, at : at + width], squares[:, :, :width], layers)

        self.tiles = self.step_tiles = [tile(self.coords, self.targets, at) for at in range(0, points, size)]
        if self.epoch > 1:
            coords = self._buffer(spec.encoded_dim + 1, self.batch_points).fill_(1)
            targets = self._buffer(spec.out_dim, self.batch_points)
            self.gathered = [(self.coords, coords), (self.targets, targets)]
            self.step_tiles = [tile(coords, targets, at) for at in range(0, self.batch_points, size)]
            self.order = torch.arange(self.batch_points, device=self.device)

    def _buffer(self, rows: int, cols: int) -> Tensor:
        """(N, rows, cols), each INR's part at a multiple of 64 bytes, so that all are computed alike."""
        return torch.zeros(self.count, _padded(rows * cols), device=self.device)[:, : rows * cols].view(-1, rows, cols)

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
        self.coords[to, :-1] = encode(self.spec, coords).mT
        self.targets[to] = (targets if self.field == "occupancy" else targets - self.spec.output_bias).mT
        self.stop_N[to] = stop.to(self.device)
        self.mean[to], self.square[to], self.step_N[to], self.going_N[to] = 0, 0, 0, True
        for _, _, muon in self.matrices:
            muon.reset(to)

    def run(self, busy: int, left: int) -> None:
        """About LOOK steps, at most `left`, and a test; on a CPU, until one of the `busy` INRs stops."""
        for number in range(max(1, LOOK // self.between)):
            done = number * self.between
            if self.epoch > 1 or done == left:
                self.test()
                if done >= left or (self.looks and int(self.going_N.sum()) < busy):
                    return
            for _ in range(min(self.between, left - done)):
                self.step()
            if self.looks and int(self.going_N.sum()) < busy:
                return

    def state(self) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
        """(N,) each: whether an INR goes on, its steps, and its loss, which stays as it is when the INR has stopped."""
        state = torch.stack([self.going_N.double(), self.step_N.double(), self.loss_N.double()]).cpu().numpy()
        return state[0] > 0, state[1].astype(np.int64), state[2]

    def flat(self, rows: NDArray[np.int64]) -> Tensor:
        """Weights (len(rows), D)."""
        return self.parameters[torch.from_numpy(rows).to(self.device)[:, None], self.columns]

    def _step(self) -> None:
        """One step of every INR: with all points, the stopping test and the update; else the update only."""
        if self.epoch > 1:
            rows = (self.step_N[:, None] * self.batch_points + self.order) % self.points
            for source, to in self.gathered:
                torch.gather(source, 2, rows[:, None].expand(to.shape), out=to)
            self._sweep(self.step_tiles, self.batch_points, loss=False, gradient=True)
        else:
            self._sweep(self.tiles, self.points, loss=True, gradient=True)
            self._stop()
        if self.scope is not None:
            self._add_scope(self.scope)
        self._update()

    def _test(self) -> None:
        """The stopping test by the loss over all points."""
        self._sweep(self.tiles, self.points, loss=True, gradient=False)
        self._stop()

    def _stop(self) -> None:
        """Freeze INRs whose loss is good enough or not finite, or whose steps are used up."""
        self.going_N &= (self.loss_N > self.stop_N) & (self.loss_N < math.inf) & (self.step_N < self.config.steps)

    def _update(self) -> None:
        """Adam and Muon, with a rate of 0 for INRs that have stopped or whose steps are used up."""
        first, second = self.adam.betas
        rate, epsilon, plain, unbiased = self.rates.index_select(0, self.step_N).unsqueeze(2).unbind(1)
        rate *= self.going_N[:, None]
        plain *= self.going_N[:, None]
        for weights, gradient, muon in self.matrices:
            weights.addcmul_(muon.step(gradient, self.adam, unbiased[:, :, None]), plain[:, :, None], value=-1)
            gradient.zero_()  # so that Adam leaves them where they are
        for parameters, mean, square, gradient, scratch, factor in self.pieces:
            mean.lerp_(gradient, 1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            torch.sqrt(square, out=scratch).add_(epsilon)
            torch.div(mean, scratch, out=scratch)
            if self.spec.first_omega_0 is not None:
                scratch *= factor
            parameters.addcmul_(scratch, rate, value=-1)
        self.step_N += self.going_N & (self.step_N < self.config.steps)

    def _sweep(self, tiles: Sequence[Tile], points: int, loss: bool, gradient: bool) -> None:
        """Take tiles of so many points in turn: their mean squared error, and the gradient of the objective."""
        spec, relu, occupancy = self.spec, self.spec.activation == "relu", self.field == "occupancy"
        scale = spec.omega_0 if spec.has_omega_0 else 1.0
        share = 1 / (points * spec.out_dim)
        if loss:
            self.loss_N.zero_()
        for number, tile in enumerate(tiles):
            last = tile.layers[-1]
            for layer in tile.layers[:-1]:
                torch.baddbmm(layer.products, layer.weights, layer.entering, beta=0, alpha=scale, out=layer.products)
                apply_activation(spec, layer.products, layer.values, derivatives=gradient)
            if occupancy:
                torch.bmm(last.weights, last.entering, out=last.products)
                last.products.add_(spec.output_bias).sigmoid_().sub_(tile.targets)
            else:
                torch.baddbmm(tile.targets, last.weights, last.entering, beta=-1, out=last.products)
            if loss:
                torch.mul(last.products, last.products, out=tile.squares)
                self.loss_N.add_(tile.squares.sum((1, 2)), alpha=share)
            if not gradient:
                continue
            leaving = last.products.mul_(share if occupancy else 2 * share)
            for depth in range(spec.num_hidden, -1, -1):
                layer, factor = tile.layers[depth], scale if depth < spec.num_hidden else 1.0
                for into, entering in layer.gradients:
                    torch.baddbmm(into, leaving, entering, beta=min(number, 1), alpha=factor, out=into)
                if not depth:
                    break
                torch.baddbmm(layer.back, layer.weights_back, leaving, beta=0, alpha=factor, out=layer.back)
                leaving, before = layer.back, tile.layers[depth - 1]
                if relu:
                    torch.ops.aten.threshold_backward.grad_input(leaving, before.values, 0, grad_input=leaving)
                else:
                    leaving.mul_(before.products)

    def _add_scope(self, scope: Scope) -> None:
        """The gradient of `scope_penalty`: strength / n (W / std² - (W - mean) / variance) for n weights W of a layer."""
        for layer, into, std in zip(self.weights, self.gradients, scope.stds, strict=True):
            W = layer[:, :, :-1]
            centred = W - W.mean((1, 2), keepdim=True)
            variance = centred.square().mean((1, 2), keepdim=True) + 1e-12
            strength = scope.strength / W[0].numel()
            into[:, :, :-1].add_(W, alpha=strength / std**2).sub_(centred / variance, alpha=strength)


def _padded(count: int, to: int = 16) -> int:
    """The next multiple."""
    return -(-count // to) * to


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
