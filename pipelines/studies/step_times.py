"""Compares the time of a training step of encoders in two trees of this project, step by step in turn.

    git worktree add /tmp/before 7db3e46
    python pipelines/studies/step_times.py /tmp/before dws dws:num_heads=8,batch_norm=false

Each tree runs in its own process on one thread, from the same parameters and batches: canonical INRs 2-32-32-1, forward
pass, backward pass, AdamW. Prints Markdown: CPU milliseconds of a step, medians and quartiles; and the largest relative
difference of the losses, which shows that both trees compute the same.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import quantiles
from time import process_time

WARM_UP = 3


def serve(model: str, batch_size: int) -> None:
    """For each line on stdin one step, its CPU seconds and its loss on stdout."""
    import torch
    from torch.nn import functional as F

    try:
        from inr_factory.inr.initialization import initialize
        from inr_factory.inr.spec import SirenSpec
        from inr_factory.learning.models.classifier import build_classifier
        from inr_factory.learning.option_strings import parse_model

        fused = True
    except ImportError:  # the names of commit 7db3e46
        from inr_factory.commands.learn import parse_model
        from inr_factory.models import build_classifier
        from inr_factory.spec import SirenSpec

        from inr_factory.inr import start_values as initialize

        fused = None
    torch.set_num_threads(1)
    spec = SirenSpec(2, 1, hidden_dim=32, num_hidden=2)
    name, options = parse_model(model)
    classifier = build_classifier(name, spec, 10, canonical=True, **options)
    optimizer = torch.optim.AdamW(classifier.parameters(), amsgrad=True, fused=fused)
    batches = [initialize(spec, range(begin, begin + batch_size)) for begin in range(0, 4 * batch_size, batch_size)]
    targets = F.one_hot(torch.arange(batch_size) % 10, 10).float()
    for step, _ in enumerate(sys.stdin):
        started = process_time()
        optimizer.zero_grad()
        loss = F.cross_entropy(classifier(batches[step % len(batches)]), targets)
        loss.backward()
        optimizer.step()
        print(process_time() - started, float(loss.detach()), flush=True)


def compare(trees: list[Path], model: str, batch_size: int, steps: int) -> str:
    """A row of the table."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve", str(tree), model, "--batch-size", str(batch_size)],
            env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for tree in trees
    ]
    seconds: list[list[float]] = [[] for _ in trees]
    losses: list[list[float]] = [[] for _ in trees]
    for _ in range(steps + WARM_UP):
        for index, worker in enumerate(workers):
            print(file=worker.stdin, flush=True)
            spent, loss = worker.stdout.readline().split()
            seconds[index].append(float(spent))
            losses[index].append(float(loss))
    for worker in workers:
        worker.communicate()
    quarters = [[1e3 * value for value in quantiles(spent[WARM_UP:])] for spent in seconds]
    times = [f"{middle:.1f} ({low:.1f}-{high:.1f})" for low, middle, high in quarters]
    differs = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    return f"| `{model}` | {batch_size} | {' | '.join(times)} | {quarters[0][1] / quarters[1][1]:.2f} | {differs:.0e} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the tree that this one is compared with")
    parser.add_argument("models", nargs="+", help="as --model of inr-factory train has them")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.models[0], given.batch_size[0])
    else:
        trees = [given.before.resolve(), Path(__file__).resolve().parents[2]]
        print(
            "| encoder | batch | before, ms | now, ms | times as fast | losses differ by |\n|---|---|---|---|---|---|"
        )
        for model in given.models:
            for batch_size in given.batch_size:
                print(compare(trees, model, batch_size, given.steps), flush=True)
