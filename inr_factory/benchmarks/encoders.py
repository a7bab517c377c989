"""Encoders: training steps of every encoder, compared with the relational transformer over all pairs of neurons."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from inr_factory.benchmarks.dense_ng_t import dense_ng_t
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure, repeat
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.ng_t import NGTransformerEncoder
from inr_factory.learning.models.registry import ENCODERS

SPEC = SirenSpec(2, 1, hidden_dim=32, num_hidden=2)
BATCH = 64  # at most: over all pairs a larger step takes gigabytes
CLASSES = 10
DENSE = "ng_t over all pairs"


def benchmark_encoders(settings: BenchmarkSettings) -> tuple[BenchmarkTable, ...]:
    """INRs per second of training steps, forward, backward and AdamW, of encoders with their default options."""
    size = min(settings.batch_size, BATCH)
    generator = Generator().manual_seed(0)
    inrs = INRBatch.from_flat(SPEC, torch.randn(size, SPEC.num_parameters, generator=generator))
    targets = F.one_hot(torch.arange(size) % CLASSES, CLASSES).float()

    def training(model: Classifier, classify: Callable[[INRBatch], Tensor]) -> Callable[[], object]:
        optimizer = AdamW(model.parameters(), amsgrad=True)

        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(classify(inrs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    models = {name: build_classifier(name, SPEC, CLASSES) for name in ENCODERS}
    dense_classifier = build_classifier("ng_t", SPEC, CLASSES)
    encoder = dense_classifier.encoder
    assert isinstance(encoder, NGTransformerEncoder)
    # No warm-up: a step takes seconds.
    dense = training(dense_classifier, lambda inrs: dense_classifier.head(dense_ng_t(encoder, inrs)))
    candidates = [Candidate(DENSE, repeat(dense), size, warm_up=0)]
    candidates += [Candidate(name, repeat(training(model, model)), size) for name, model in models.items()]
    setting = f"training steps on batches of {size} random INRs {SPEC}, one thread"
    return (BenchmarkTable("read", DENSE, setting, measure(candidates, settings)),)
