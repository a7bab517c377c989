"""Profiles a training step of encoders on one thread: its time, and the operations that take most of it.

    python pipelines/studies/profile_encoders.py dws:set_layer=deepsets dws ng_t:num_layers=2

Prints Markdown: for each encoder the milliseconds of a step and the shares of its largest operations.
"""

import argparse
from statistics import median
from time import process_time

import torch
from torch.nn import functional as F
from torch.optim import AdamW
from torch.profiler import ProfilerActivity, profile

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.option_strings import parse_model

SPEC = SirenSpec(2, 1, hidden_dim=32, num_hidden=2)
SHOWN, STEPS = 6, 5


def profile_step(model: str, batch_size: int) -> tuple[float, list[tuple[str, float]]]:
    """Milliseconds of a step, the median of several, and (operation, share) of the largest."""
    name, options = parse_model(model)
    classifier = build_classifier(name, SPEC, 10, canonical=True, **options)
    optimizer = AdamW(classifier.parameters(), amsgrad=True)
    inrs = initialize(SPEC, range(batch_size))
    targets = F.one_hot(torch.arange(batch_size) % 10, 10).float()

    def step() -> float:
        started = process_time()
        optimizer.zero_grad()
        F.cross_entropy(classifier(inrs), targets).backward()
        optimizer.step()
        return process_time() - started

    step()
    spent = median(step() for _ in range(STEPS))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            step()
    own = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in seen.key_averages()}
    total = sum(own.values())
    return 1e3 * spent, [(key, own[key] / total) for key in sorted(own, key=lambda key: -own[key])[:SHOWN]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="as --model of inr-factory train has them")
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Batches of {given.batch_size} INRs {SPEC}, canonical form, one thread.\n")
    print("| encoder | ms a step | largest operations |\n|---|---|---|")
    for model in given.models:
        milliseconds, largest = profile_step(model, given.batch_size)
        print(f"| `{model}` | {milliseconds:.0f} | {', '.join(f'{key} {share:.0%}' for key, share in largest)} |")
