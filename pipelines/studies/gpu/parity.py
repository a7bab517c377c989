"""Parity: the kernel and the reference engine, each compared with the same fit in double precision.

Adam divides by the root of the squared gradient, so that rounding of small gradients shows in the weights. The measure
is the distance from the weights in double precision over the length of the way from the initial weights, the worst
of several INRs. The kernel passes where it is at most `TOLERANCE` off, or at most `FACTOR` times as far as the
reference.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from gpu.problems import IMAGE, SPEEDS, cloud
from gpu.record import FAILURES, Record, synchronize
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cuda
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.least_squares import solve_last_layers
from inr_factory.generation.fitting.optimizers import EPSILON, AdamSettings, adam_settings
from inr_factory.generation.fitting.reference import objective_and_error
from inr_factory.generation.fitting.slots import shuffle_points
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

TITLE, REPEATED = "Parity, the worst INR", "Equal bits"
TOLERANCE, TF32_TOLERANCE, FACTOR = 1e-3, 2e-2, 4.0  # of the way that the weights went
LOSS_TOLERANCE, PSNR_TOLERANCE = 1e-4, 0.1  # relative; dB, the mean over INRs
REPEATS = 20
ENGINES = ("reference", "batched")  # besides the kernel


@dataclass(frozen=True)
class Case:
    """N fits: their keys and signals, and on the device points (P, I), or (N, P, I) for mini-batches, targets (N, P, O)
    and initial weights (N, D)."""

    spec: SirenSpec
    keys: list[ViewKey]
    signals: list[Signal]
    coords: Tensor
    targets: Tensor
    start: Tensor
    field: Field
    batch_points: int | None
    config: FitConfig

    @classmethod
    def make(
        cls, spec: SirenSpec, points: int, count: int, steps: int, device: torch.device, *, field: Field = "values",
        batch_points: int | None = None, optimizer: str = "adam", tf32: bool = False,
    ) -> "Case":  # fmt: skip
        config = FitConfig(
            optimizer=optimizer, steps=steps, learning_rate=1e-3, target_psnr=None, floor_psnr=-999, attempts=1,
            lanes=max(2, count), batch_points=batch_points, tf32=tf32,
        )  # fmt: skip
        keys = [ViewKey(f"{number}", 0) for number in range(count)]
        given = [cloud(spec, points, number) for number in range(count)]
        if field == "occupancy":
            given = [replace(signal, targets=(signal.targets > 0.5).float(), field=field) for signal in given]
        if batch_points:  # as fit_views orders them
            signals = [shuffle_points(signal, key.seed(0)) for key, signal in zip(keys, given, strict=True)]
            coords = torch.stack([signal.coords for signal in signals])
        else:
            given = signals = [replace(signal, coords=given[0].coords) for signal in given]
            coords = signals[0].coords
        targets = torch.stack([signal.targets for signal in signals])
        start = initialize(spec, [key.seed(0) for key in keys]).flatten()
        return cls(
            spec, keys, given, coords.to(device), targets.to(device), start.to(device), field, batch_points, config
        )

    @property
    def shared(self) -> bool:
        return self.coords.dim() == 2

    @property
    def in_dims(self) -> tuple[int, int | None, int]:
        """Axes of weights, points and targets that count INRs."""
        return 0, None if self.shared else 0, 0

    @property
    def adam(self) -> AdamSettings:
        return adam_settings(self.config)

    def fused(self, count: int | None = None) -> fused_cuda.LaunchResult:
        """The kernel's result for the first `count` INRs."""
        rows = slice(count)
        stop = torch.full((len(self.start[rows]),), -1.0, device=self.start.device)
        coords = self.coords if self.shared else self.coords[rows].contiguous()
        return fused_cuda.run_steps(
            self.spec, coords, self.targets[rows].contiguous(), self.start[rows].clone(), self.adam, stop, self.field,
            self.batch_points, self.config.tf32,
        )  # fmt: skip

    def by(self, engine: str) -> Tensor:
        """(N, D) of another engine, through `fit_views`."""
        config = self.config.model_copy(update={"engine": engine, "tf32": False})
        fitted = fit_views(self.spec, self.keys, self.signals, config, 0, self.coords.device)
        return fitted.inrs.flatten().to(self.start.device)

    def exact(self) -> Tensor:
        """(N, D) float64: the same fit in double precision, step by step as the reference engine has it."""
        objective = grad_and_value(objective_and_error(self.spec, self.field), has_aux=True)
        slope_of = vmap(objective, in_dims=self.in_dims)
        flat, coords, targets = self.start.double(), self.coords.double(), self.targets.double()
        mean, square, adam = torch.zeros_like(flat), torch.zeros_like(flat), self.adam
        points = targets.shape[1]
        count = min(self.batch_points or points, points)
        for step, rate in enumerate(adam.rates.tolist()):
            rows = (step * count + torch.arange(count, device=flat.device)) % points
            slope, _ = slope_of(flat, coords[..., rows, :], targets[:, rows])
            mean = torch.lerp(mean, slope, 1 - adam.betas[0])
            square = torch.lerp(square, slope * slope, 1 - adam.betas[1])
            first, second = (1 - beta ** (step + 1) for beta in adam.betas)
            flat = flat - rate / first * mean / ((square / second).sqrt() + EPSILON)
        return flat

    def mse(self, flat: Tensor) -> Tensor:
        """(N,) float64 over all points."""
        error = objective_and_error(self.spec, self.field)
        return vmap(error, in_dims=self.in_dims)(flat.double(), self.coords.double(), self.targets.double())[1]

    def off(self, flat: Tensor, exact: Tensor) -> float:
        """Distance from the exact weights over the way that they went, the worst INR."""
        return float(((flat - exact).norm(dim=1) / (exact - self.start).norm(dim=1)).max())


def parity(record: Record) -> None:
    """Whether the kernel computes what it should; where it does not, later parts use another engine."""
    device, quick = record.device, record.quick
    count, short, long = (2, 4, 6) if quick else (16, 20, 300)
    cases = [(spec, min(points, 784), {}) for spec, points in SPEEDS]
    cases = [*cases, *((spec, points, {"batch_points": points // 3 + 1}) for spec, points, _ in cases)]
    more = ({"optimizer": "sprint"}, {"field": "occupancy"}, {"tf32": True})
    cases += [(IMAGE, 784, settings) for settings in more]
    if quick:
        cases = [(IMAGE, 20, {}), (IMAGE, 20, {"batch_points": 7}), (IMAGE, 20, {"tf32": True})]
    for spec, points, settings in cases:
        what = f"parity of {spec}, {settings or 'all points'}"
        record.attempt(
            what, 3, lambda spec=spec, points=points, settings=settings, what=what:  # type: ignore[misc]
            one_row(record, what, Case.make(spec, points, count, short, device, **settings))
        )  # fmt: skip
    size = (20, 2, long) if quick else (784, 64, long)  # of one INR PSNR may differ by half a dB, by rounding alone
    record.attempt("parity of complete fits", 10, lambda: complete(record, Case.make(IMAGE, *size, device)))
    for spec, points in [(IMAGE, 20)] if quick else SPEEDS:
        case = Case.make(spec, min(points, 784), count, short, device)
        record.attempt(f"equal bits of {spec}", 3, lambda case=case: equal_bits(record, case))  # type: ignore[misc]
    record.attempt("least-squares start", 3, lambda: least_squares_start(record, 20 if quick else 784))
    failed = [str(row["what"]) for row in record.tables.get(FAILURES, [])]
    if failed:
        record.engine = "reference" if any(what.startswith("batched") for what in failed) else "batched"


def one_row(record: Record, what: str, case: Case) -> None:
    exact = case.exact()
    result = case.fused()
    fused = case.off(result.flat, exact)
    # The other engines begin sprint at the least-squares solution, which has a row of its own.
    others = {engine: case.off(case.by(engine), exact) for engine in ENGINES if case.config.optimizer == "adam"}
    true = case.mse(result.flat)
    loss = float(((result.loss - true).abs() / true).max())
    limit = TF32_TOLERANCE if case.config.tf32 else max(TOLERANCE, FACTOR * others.get("reference", 0.0))
    batched = others.get("batched", 0.0) <= max(TOLERANCE, FACTOR * others.get("reference", 0.0))
    passed = fused <= limit and loss <= LOSS_TOLERANCE
    settings = [f"{case.batch_points} points a step"] if case.batch_points else []
    settings += [case.config.optimizer, case.field, *(["tf32"] if case.config.tf32 else [])]
    record.add(
        TITLE, spec=str(case.spec), points=case.targets.shape[1], mode=", ".join(settings), steps=case.config.steps,
        kernel=fused, **others, limit=limit, **{"loss, relative": loss}, passed=passed and batched,
    )  # fmt: skip
    if not passed:
        record.fail(what, f"weights {fused:.2g} off, limit {limit:.2g}; loss {loss:.2g} off, limit {LOSS_TOLERANCE:g}")
    if not batched:
        record.fail(f"batched engine, {what}", f"weights {others['batched']:.2g} off, limit {limit:.2g}")


def complete(record: Record, case: Case) -> None:
    """PSNR of fits of many steps, whose weights differ by rounding alone."""
    ends = {"kernel": case.fused().flat, **{engine: case.by(engine) for engine in ENGINES}}
    exact = -10 * case.mse(case.exact()).log10()
    off = {name: float((-10 * case.mse(flat).log10() - exact).mean()) for name, flat in ends.items()}
    passed = all(abs(each) <= PSNR_TOLERANCE for each in off.values())
    record.add(
        "PSNR of complete fits, dB", spec=str(case.spec), INRs=len(case.keys), steps=case.config.steps,
        exact=float(exact.mean()), **{f"{name} minus exact": each for name, each in off.items()}, passed=passed,
    )  # fmt: skip
    if not passed:
        record.fail("parity of complete fits", f"dB off: {off}, limit {PSNR_TOLERANCE:g}")


def equal_bits(record: Record, case: Case) -> None:
    """Whether an INR has the same bits alone and among others, and in every run."""
    together = case.fused().flat
    repeats = 3 if record.quick else REPEATS
    same = sum(torch.equal(case.fused().flat, together) for _ in range(repeats))
    alone = torch.equal(case.fused(count=1).flat, together[:1])
    synchronize(record.device)
    record.add(
        REPEATED, spec=str(case.spec), runs=repeats, **{"runs with equal bits": same, "alone as together": alone},
        passed=alone and same == repeats,
    )  # fmt: skip
    if not alone or same < repeats:
        record.fail(f"equal bits of {case.spec}", f"{same} of {repeats} runs are equal; alone as together: {alone}")


def least_squares_start(record: Record, points: int) -> None:
    """The last layer at its ridge solution, on the device in single precision and in double precision."""
    case = Case.make(IMAGE, points, 2, 1, record.device, optimizer="sprint")
    single = torch.float64 if record.device.type == "cpu" else torch.float32
    args = (IMAGE, case.start, case.coords, case.targets, "values", case.config.ridge)
    exact = solve_last_layers(*args, dtype=torch.float64)
    off = case.off(solve_last_layers(*args, dtype=single), exact.double())
    passed = off <= TOLERANCE
    record.add("Least-squares start", spec=str(IMAGE), points=points, **{"off, of the way": off}, passed=passed)
    if not passed:
        record.fail("least-squares start", f"{off:.2g} of its way off, limit {TOLERANCE:g}")
