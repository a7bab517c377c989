"""Encoders: what every reader of INRs costs, training steps and forward passes, all in one run."""

from collections.abc import Callable
from dataclasses import replace
from time import process_time

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from inr_factory.benchmarks.dense_ng_t import dense_ng_t
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure, repeat
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import Classifier, build_classifier
from inr_factory.learning.models.flops import forward_flops
from inr_factory.learning.models.ng_t import NGTransformerEncoder
from inr_factory.learning.models.registry import ENCODERS
from inr_factory.learning.option_strings import parse_model

SPEC = SirenSpec(2, 1, hidden_dim=32, num_hidden=2)
BATCH = 64  # at most: over all pairs a larger step takes gigabytes
CLASSES = 10
DENSE = "ng_t over all pairs"


class DensePairs(nn.Module):
    """The classifier of NG-T with its encoder computed over all pairs of neurons."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        assert isinstance(classifier.encoder, NGTransformerEncoder)
        self.encoder, self.head = classifier.encoder, classifier.head

    def forward(self, inrs: INRBatch) -> Tensor:
        logits: Tensor = self.head(dense_ng_t(self.encoder, inrs))
        return logits


Model = Classifier | DensePairs


def benchmark_encoders(settings: BenchmarkSettings) -> tuple[BenchmarkTable, ...]:
    """INRs per second of encoders, of training steps, forward, backward and AdamW, and of forward passes.

    They are those of `settings.models`, the first of which is the baseline, else all with their default options and
    NG-T over all pairs. Facts: what they read, million FLOPs of a forward pass, and milliseconds, each per INR.
    """
    size = min(settings.batch_size, BATCH)
    generator = Generator().manual_seed(0)
    inrs = INRBatch.from_flat(SPEC, torch.randn(size, SPEC.num_parameters, generator=generator))
    targets = F.one_hot(torch.arange(size) % CLASSES, CLASSES).float()
    models: dict[str, Model] = {} if settings.models else {DENSE: DensePairs(_classifier("ng_t"))}
    models |= {text: _classifier(text) for text in settings.models or ENCODERS}

    def candidate(text: str, model: Model, step: Callable[[], object]) -> Candidate:
        facts = {"reads": model.encoder.reads, "MFLOPs": forward_flops(model, SPEC) / 1e6}
        return Candidate(
            text, repeat(step), size, int(text != DENSE), facts, process_time
        )  # a dense step takes seconds

    def training(model: Model) -> Callable[[], object]:
        optimizer = AdamW(model.parameters(), amsgrad=True)

        def step() -> None:
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(inrs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    def forward(model: Model) -> Callable[[], object]:
        @torch.no_grad()
        def step() -> None:
            model.eval()(inrs)

        return step

    tables = []
    for name, what, step_of in (("read", "training steps", training), ("read, forward", "forward passes", forward)):
        candidates = [candidate(text, model, step_of(model)) for text, model in models.items()]
        measured = measure(candidates, settings)
        rows = tuple(replace(row, facts={**row.facts, "ms an INR": 1e3 / row.per_second}) for row in measured)
        setting = f"{what} on batches of {size} random INRs {SPEC}, CPU time of one thread"
        tables.append(BenchmarkTable(name, next(iter(models)), setting, rows))
    return tuple(tables)


def _classifier(text: str) -> Classifier:
    name, options = parse_model(text)
    return build_classifier(name, SPEC, CLASSES, **options)
