"""Fit configuration: the sections `spec` and `fit` of a recipe."""

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from inr_factory.generation.section import Integer, Number, Section
from inr_factory.generation.sprint_defaults import MUON_RATE, MUON_STEPS, PEAK, STEPS
from inr_factory.generation.start_file import decode_starts
from inr_factory.inr.spec import MAX_FREQUENCIES, Activation, SirenSpec, Start

GAUSS_OMEGA_0 = 10.0  # 1/a for a = 0.1, of images in the paper


class SpecConfig(Section):
    """The INR to fit, as `SirenSpec` describes it; its input and output dimensions come from the source.

    `widths`, one number for each hidden layer, replaces hidden_dim and num_hidden. By default `start` is finer for the
    activation finer, linear for tanh, gauss and ReLU with `frequencies`, else siren; omega_0 of gauss is 10, a = 0.1.
    """

    hidden_dim: Integer = Field(default=32, ge=1, le=4096)
    num_hidden: Integer = Field(default=2, ge=1, le=16)
    omega_0: Number = Field(default=30.0, ge=1e-4, le=1e6)
    output_bias: Number = Field(default=0.5, ge=-1e6, le=1e6)
    start: Start = "siren"
    activation: Activation = "sine"
    first_omega_0: Number | None = Field(default=None, ge=1e-4, le=1e6)
    widths: tuple[Annotated[Integer, Field(ge=1, le=4096)], ...] | None = Field(
        default=None, min_length=1, max_length=16
    )
    frequencies: Integer = Field(default=0, ge=0, le=MAX_FREQUENCIES)
    first_frequency: Number = Field(default=math.pi, ge=1e-4, le=1e6)
    coordinates: bool = True

    @model_validator(mode="after")
    def _fill_defaults(self) -> "SpecConfig":
        if self.activation == "finer":
            self.fill(start="finer")
        elif self.activation in ("tanh", "gauss") or (self.activation == "relu" and self.frequencies):
            self.fill(start="linear")
        if self.activation == "gauss":
            self.fill(omega_0=GAUSS_OMEGA_0)
        spec = self.spec(1, 1)  # raises for settings that contradict each other
        for name in ("hidden_dim", "num_hidden", "widths", "first_frequency"):
            self.__dict__[name] = getattr(spec, name)
        if "widths" in self.model_fields_set:  # widths that are all the same live on in the other two
            self.model_fields_set.update(("hidden_dim", "num_hidden"))
        return self

    def spec(self, in_dim: int, out_dim: int) -> SirenSpec:
        return SirenSpec(in_dim=int(in_dim), out_dim=int(out_dim), **self.model_dump())


class FitConfig(Section):
    """How to fit. Each INR stops at `target_psnr` (dB) or, if given, at the root mean square error `target_error` (of
    distances, in units of the coordinates), or after `steps`. Below `floor_psnr` it is fitted again from another
    initialization, `attempts` times in all, and then quarantined. `floor_explained` is a floor of the share of the
    signal's variance that an INR explains, 1 - MSE / variance: 0 is that of a constant; None asks for none.

    `optimizer` "adam" is the usual one (Adam at a constant 5e-4, 1,000 steps), "sprint" the fast one (Adam with betas
    0.6 and 0.97, warm-up and square-root decay; its last layer starts at the ridge least-squares solution, see
    fitting/optimizers.py). "muon" is the fast one for shapes and nets of three and more hidden layers: the matrices
    between hidden layers move by Muon, and the loss over all points is looked at every fourth epoch of batch_points.
    Its learning_rate is by default 4e-3 · sqrt(64 / hidden_dim) / (num_hidden - 1), lower above an omega_0 of 10, and
    its steps are 800 (docs/results/shapes.md). The learning_rate of sprint is its peak. By default it is
    8e-3 · min(2, 32 / hidden_dim) · min(1, 2 / num_hidden), and the steps follow target_psnr: 80 for 32 neurons to 40 dB of grey images, more for higher
    targets, several values a point and shapes, and both are larger for ReLU INRs with frequencies (sprint_defaults.py;
    docs/results/optimisers.md measures it). In recipes of version 1 the defaults are 8e-3 and 80. `ridge` is the
    strength of the ridge penalty.

    The default of target_psnr is None for shapes by muon, which then make all steps; their spec.first_omega_0 is twice
    omega_0 by default. Otherwise it is 26 dB for unsigned distances, whose peak is `clamp`: a root mean square error of
    clamp / 20, as docs/results/shapes.md measures it (40 dB in version 1).

    `engine` "none" fits nothing and stores the initial weights, to measure everything else; fitting/engines.py
    describes the others. `lanes` is how many INRs the reference engine fits side by side. The batched engine chooses
    the number itself, by the size of the INRs; lanes other than the default are its limit.

    `batch_points` uses so many of a signal's points in each step, in an order of the INR's own, each once per epoch;
    the loss over all points is measured, and the target tested, once per epoch.

    `starts` "independent" draws the initial weights of every INR by themselves; "shared" starts all objects of a view,
    and of an attempt, from the same draw; "file" starts view v from INR v modulo K of `start_inrs`, and a later attempt
    from it and a hundredth of a draw of its own. A recipe names a file of INRs there, whose weights become
    `start_inrs`. Of a learned start (learned_start.py), `start_rates` are the rates of each parameter in the first
    steps, which are those of gradient descent, and `start_objects` hashes of the objects that it was learned on.
    `order` "own" takes the batches of `batch_points` in an order of each INR's own, "shared" in one order of all
    objects of a view; objects with as many points then have the same.

    `scope` is the strength of a penalty that draws the standard deviation of each layer's weights to `scope_std`, one
    number per layer, by default that of the initial weights (weight scope alignment, see
    fitting/scope_regularizer.py); 0 leaves it out.

    `tf32` lets a GPU round the factors of matrix products to TF32: all products in the reference and batched engines,
    only those of the gradients in the fused one.
    """

    engine: Literal["auto", "reference", "fused", "batched", "none"] = "auto"
    optimizer: Literal["adam", "sprint", "muon"] = "adam"
    learning_rate: Number = Field(default=5e-4, gt=0, le=1e3)
    steps: Integer = Field(default=1000, ge=1, le=10_000_000)
    target_psnr: Number | None = Field(default=40.0, gt=0, le=1000)
    target_error: Number | None = Field(default=None, gt=0, le=1e6)
    floor_psnr: Number = Field(default=20.0, ge=-1000, le=200)
    floor_explained: Number | None = Field(default=None, ge=-1e12, lt=1)
    attempts: Integer = Field(default=3, ge=1, le=10)
    lanes: Integer = Field(default=32, ge=2, le=65_536)
    ridge: Number = Field(default=5.0, gt=0, le=1e12)
    scope: Number = Field(default=0.0, ge=0, le=1e12)
    scope_std: tuple[Annotated[Number, Field(gt=0, le=1e6)], ...] | None = None
    tf32: bool = False
    batch_points: Integer | None = Field(default=None, ge=1, le=2**31 - 1)
    starts: Literal["independent", "shared", "file"] = "independent"
    start_inrs: str | None = None
    start_rates: str | None = None
    start_objects: str | None = None
    order: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def _check_starts(self) -> "FitConfig":
        if (self.starts == "file") != (self.start_inrs is not None):
            raise ValueError("starts is the path of a file of INRs, or independent or shared without start_inrs")
        return self

    def starting_inrs(self, parameters: int) -> NDArray[np.float32] | None:
        """(K, D) of INRs with D parameters, where fits start from a file. Raises UsageError for other INRs."""
        return None if self.start_inrs is None else decode_starts(self.start_inrs, parameters)

    @model_validator(mode="after")
    def _pace(self) -> "FitConfig":
        if self.optimizer == "sprint":
            self.fill(learning_rate=PEAK, steps=STEPS)
        elif self.optimizer == "muon":
            self.fill(learning_rate=MUON_RATE / 2, steps=MUON_STEPS)
        return self
