"""Readers: alignment, MixUp, the loader and training steps of every encoder on the device."""

from itertools import islice

import torch
from torch.nn import functional as F
from torch.optim import AdamW

import inr_factory as inr
from gpu.problems import training_images
from gpu.record import Record, median_seconds
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.registry import ENCODERS

BATCH, ENCODER_BATCH, CLASSES = 512, 128, 10
LOADERS = {
    "as stored": {}, "rotate2d|scale": {"transform": "rotate2d|scale"}, "noise": {"transform": "noise"},
    **{f"MixUp, match {match}": {"mixup": f"mixup:match={match}"} for match in ("permutation", "signed", "phase")},
}  # fmt: skip


def readers(record: Record) -> None:
    folder = record.attempt("a set to read", 20, lambda: small_set(record))
    if folder is None:
        return
    data = inr.open(folder, split="train")
    size = 4 if record.quick else BATCH
    inrs = next(iter(inr.INRLoader(data, size, device=record.device_name)))[0]
    for match in ("permutation", "signed", "phase"):
        for device in dict.fromkeys((record.device, torch.device("cpu"))):
            record.attempt(
                f"align {match}", 4, lambda match=match, device=device: aligned(record, inrs.to(device), match)
            )  # type: ignore[misc]
    for name, settings in LOADERS.items():
        record.attempt(
            f"loader, {name}", 6, lambda name=name, settings=settings: loaded(record, data, size, name, settings)
        )  # type: ignore[misc]
    few = inrs.select(slice(2 if record.quick else ENCODER_BATCH))
    for name in ENCODERS:
        record.attempt(f"encoder {name}", 8, lambda name=name: encoder_steps(record, name, few))  # type: ignore[misc]


def small_set(record: Record) -> str:
    """A set of fitted images, two views each, as the public functions make it."""
    count = 8 if record.quick else 5_000
    images, _ = training_images(record.data, count)
    side = 6 if record.quick else 28
    fitted = inr.fit(
        images[:, :side, :side], views=2, device=record.device_name, optimizer="sprint", floor_psnr=-99, engine=record.engine,
        steps=2 if record.quick else 80, hidden_dim=4 if record.quick else 32,
    )  # fmt: skip
    folder = str(record.scratch / "readers")
    fitted.save(folder, labels=[number % CLASSES for number in range(count)], val=0.1, test=0.1)
    return folder


def aligned(record: Record, inrs: INRBatch, match: str) -> None:
    """The INRs of a batch aligned to one another."""
    others = inrs.select(torch.arange(len(inrs)).roll(1))
    taken = median_seconds(lambda: inr.align(others, inrs, match=match), inrs.device)
    record.add("Alignment", match=match, device=inrs.device.type, INRs=len(inrs), **{"INRs/s": len(inrs) / taken})


def loaded(record: Record, data: inr.INRDataset, size: int, name: str, settings: dict[str, str]) -> None:
    loader = inr.INRLoader(data, size, device=record.device_name, **settings)
    count = 2 if record.quick else 20

    def run() -> None:
        given = 0
        while given < count:
            for _ in islice(loader, count - given):
                given += 1

    taken = median_seconds(run, record.device)
    record.add(
        "Loader", batches=name, device=record.device.type, **{"batch size": size, "INRs/s": count * size / taken}
    )


def encoder_steps(record: Record, name: str, inrs: INRBatch) -> None:
    """Steps of training, forward, backward and AdamW, with the options by default."""
    device = record.device
    model = inr.build_classifier(name, inrs.spec, CLASSES).to(device)
    optimizer = AdamW(model.parameters(), amsgrad=True)
    targets = F.one_hot(torch.arange(len(inrs)) % CLASSES, CLASSES).float().to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inrs), targets).backward()
        optimizer.step()

    taken = median_seconds(lambda: [step() for _ in range(1 if record.quick else 10)], device)
    steps = (1 if record.quick else 10) / taken
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    record.add(
        "Training steps", encoder=name, **{"batch size": len(inrs), "steps/s": steps, "INRs/s": steps * len(inrs)},
        **{"peak GiB": peak},
    )  # fmt: skip
