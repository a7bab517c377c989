"""Sets: all training images of Fashion-MNIST fitted by `fit_views`, and where the time of such a fit goes."""

import numpy as np

from gpu.problems import IMAGE, training_images
from gpu.record import Record, seconds
from gpu.stages import ENGINE, stage_times
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cuda
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

TITLE = "Complete sets of images, 2-32-32-1"
READABLE = SirenSpec(2, 1, omega_0=20.0, output_bias=0.5)  # as the recipe fashion_mnist
GOAL_SECONDS = 60.0  # of 60,000 INRs x 1,000 steps of Adam
# name, spec, fit, seconds that it may take
SETS = (
    ("1,000 steps of Adam, no target", IMAGE, {"optimizer": "adam", "steps": 1000, "target_psnr": None}, 60),
    ("sprint to 40 dB", IMAGE, {"optimizer": "sprint", "steps": 80, "target_psnr": 40.0}, 15),
    ("sprint to 30 dB", READABLE, {"optimizer": "sprint", "steps": 80, "target_psnr": 30.0}, 10),
)


def sets(record: Record) -> None:
    count = 2 if record.quick else 60_000 if record.engine == "fused" else 2_000
    images, kind = training_images(record.data, count)
    side = 5 if record.quick else 28
    values = images[:, :side, :side].reshape(count, -1, 1).contiguous()
    signals = SignalStack(pixel_grid(side, side), values, white=255)
    for name, spec, fields, limit in SETS:
        if record.quick:
            fields = {**fields, "steps": 2}
        config = FitConfig(engine=record.engine, floor_psnr=0, lanes=32 if record.quick else 4096, **fields)
        for size in dict.fromkeys((count, 500 if not record.quick and config.optimizer == "sprint" else count)):
            record.attempt(
                f"{name}, {size} in a call", limit,
                lambda name=name, spec=spec, config=config, size=size:  # type: ignore[misc]
                one_set(record, f"{kind}, {name}", spec, config, signals, size),
            )  # fmt: skip
    if record.engine == "fused":
        record.attempt("time by stage", 15, lambda: where_time_goes(record, signals))


def where_time_goes(record: Record, signals: SignalStack) -> None:
    """The stages of one fit of all images by sprint, one after the other."""
    config = FitConfig(engine="fused", floor_psnr=0, optimizer="sprint", steps=2 if record.quick else 80)
    keys = [ViewKey(f"{number}", 0) for number in range(len(signals))]
    with stage_times(fused_cuda, ENGINE, record.device) as stages:
        total = seconds(lambda: fit_views(IMAGE, keys, signals, config, 0, record.device), record.device)
    rest = total - sum(stages.values())
    record.add(
        "Time of a set by stage, sprint to 40 dB", INRs=len(signals), **stages,
        **{"all else, s": rest, "fit, s": total, "kernel, share": stages["kernel, s"] / total},
    )  # fmt: skip


def one_set(record: Record, name: str, spec: SirenSpec, config: FitConfig, signals: SignalStack, size: int) -> None:
    """Fit all images, `size` of them in a call, initial values and quality included."""
    count, parts = len(signals), []  # type: tuple[int, list[FittedViews]]
    keys = [ViewKey(f"{number}", 0) for number in range(count)]

    def fit() -> None:
        for begin in range(0, count, size):
            rows = slice(begin, begin + size)
            parts.append(fit_views(spec, keys[rows], signals[rows], config, 0, record.device))

    taken = seconds(fit, record.device)
    psnr, steps = (np.concatenate([getattr(part, name) for part in parts]) for name in ("psnr", "steps"))
    record.add(
        TITLE, fit=name, INRs=count, **{"in a call": size}, engine=parts[0].engine, seconds=taken,
        **{"INRs/s": count / taken, "INR-steps/s": float(steps.sum()) / taken, "mean steps": float(steps.mean())},
        **{"median dB": float(np.median(psnr)), "share of the target": float((psnr >= (config.target_psnr or 0)).mean())},
        failed=sum(len(part.failures) for part in parts),
    )  # fmt: skip
    if config.optimizer == "adam":
        record.goal(
            f"{count:,} INRs x {config.steps:,} steps of Adam",
            taken * 60_000 / count,
            GOAL_SECONDS,
            "s",
            at_least=False,
        )
