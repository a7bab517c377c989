"""Measures which fit settings give the best training data: test accuracy against the cost of a fit.

    python pipelines/studies/study_which_inrs.py --data-root ../shared/datasets --work /tmp/study_read \\
        --out docs/tables/which_inrs.md

Fits the same Fashion-MNIST objects with combinations of initialisation, omega_0, stopping quality and optimiser, and trains
the same classifier on each set with the same budget. Writes Markdown to --out and a picture next to it. Sets and runs
that exist in --work are reused, so the study resumes after an interruption; `--figures-only` writes what exists. The cost
of a fit is measured separately, interleaved: time of one core for the images of --probe, initialisation included, medians
of three rounds.

`sprint` cannot start from the dwsnets initialisation, for which its least-squares problem is ill-conditioned; `linear`
replaces it. With the dwsnets initialisation Adam stays far below 30 dB in its 1,000 steps (22 dB at omega_0 30). Sets with
a target would equal the one without, and are omitted.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from time import process_time

import torch

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.cpu import num_cores
from inr_factory.learning.training.sweep import (
    Grid,
    Row,
    Sweep,
    SweepRun,
    Value,
    command_of,
    make_runs,
    percent,
    read_result,
    rows_of,
    runs_of,
)
from inr_factory.reporting.plots import Series, draw_trade
from inr_factory.storage.manifest import Manifest, ViewKey
from inr_factory.storage.manifest_file import load_manifest

OPTIMISERS = {
    "adam": ["fit.optimizer=adam", "fit.learning_rate=1e-3", "fit.steps=1000"],
    "sprint": ["fit.optimizer=sprint", "fit.learning_rate=8e-3", "fit.steps=80"],
}
STARTS = {"adam": ("siren", "dwsnets"), "sprint": ("siren", "linear")}
OMEGAS = (10, 20, 30)
TARGETS: tuple[int | None, ...] = (30, 35, 40, None)
SIZES = ["limit.train=1500", "limit.val=100", "limit.test=800"]
TRAIN: dict[str, Value] = {
    "epochs": 20, "batch-size": 64, "lr": 5.0e-3, "schedule": "cosine",
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to fit; `target` in dB, None for all steps."""

    optimiser: str
    start: str
    omega_0: int
    target: int | None

    @property
    def name(self) -> str:
        return f"{self.optimiser}-{self.start}-{self.omega_0}-{self.target or 'none'}"

    @property
    def recipe(self) -> Recipe:
        own = [f"spec.start={self.start}", f"spec.omega_0={self.omega_0}", f"fit.target_psnr={self.target or 'null'}"]
        # Nothing is tried again or left out, so that all classifiers see the same objects.
        whole = ["fit.floor_psnr=-100", "fit.attempts=1", "quarantine_threshold=1"]
        return load_recipe("fashion_mnist", [*OPTIMISERS[self.optimiser], *own, *whole, *SIZES])


def ways() -> Iterator[Way]:
    for optimiser in OPTIMISERS:
        for start, omega_0, target in itertools.product(STARTS[optimiser], OMEGAS, TARGETS):
            if start != "dwsnets" or target is None:
                yield Way(optimiser, start, omega_0, target)


def study(
    data_root: Path, work: Path, out: Path, model: str, only: str, seeds: Sequence[int], probe: int, figures_only: bool
) -> None:
    torch.set_num_threads(1)
    found = [way for way in ways() if fnmatch(way.name, only)]
    if not found:
        raise SystemExit(f"--only {only} matches none of {', '.join(way.name for way in ways())}")
    if not figures_only:
        for number, way in enumerate(found, 1):
            fit_dataset(way.recipe, work / "sets" / way.name, data_root=data_root, backend="local")
            print(f"set {number} of {len(found)}: {way.name}", flush=True)
    plan = Sweep(
        train={"model": model, **TRAIN},
        grid=[Grid(axes={"dataset": [str(work / "sets" / way.name) for way in found], "seed": list(seeds)})],
    )
    runs = runs_of(plan, work / model.replace(":", "-"))
    if not figures_only:
        make(plan, [run for run in runs if read_result(plan, run) is None])
    rows = {Path(row.names[0]).name: row for row in rows_of(plan, runs)}
    done = [way for way in found if way.name in rows]
    costs = measure(done, open_source(load_recipe("fashion_mnist").source, data_root), probe)
    manifests = {way: load_manifest(work / "sets" / way.name) for way in done}
    out.write_text("".join(f"{line}\n" for line in table(done, rows, costs, manifests, model, seeds)))
    draw_trade(
        series(done, rows, costs), out.with_suffix(".png"), "Test accuracy and cost of a fit", "ms of one core per INR"
    )


def make(plan: Sweep, runs: Sequence[SweepRun]) -> None:
    jobs = [(command_of(plan, run), run.folder.absolute()) for run in runs]
    with closing(make_runs(jobs, num_cores())) as ended:
        for number, (at, fault) in enumerate(ended, 1):
            print(f"run {number} of {len(runs)}: {runs[at].folder.name}{fault and f' failed: {fault}'}", flush=True)


def measure(found: Sequence[Way], source: Source, count: int) -> dict[Way, float]:
    """Milliseconds of one core that an INR takes, by the time that this process is given, in turns."""
    signals = [source.signal(index) for index in range(count)]
    keys = [ViewKey(source.items[index].object_id, 0) for index in range(count)]
    times: dict[Way, list[float]] = {way: [] for way in found}
    for _, way in itertools.product(range(3), found):
        recipe = way.recipe
        started = process_time()
        fit_views(recipe.spec.spec(source.in_dim, source.out_dim), keys, signals, recipe.fit, recipe.seed)
        times[way].append(1e3 * (process_time() - started) / count)
    return {way: median(spent) for way, spent in times.items()}


def table(
    found: Sequence[Way],
    rows: dict[str, Row],
    costs: dict[Way, float],
    sets: dict[Way, Manifest],
    model: str,
    seeds: Sequence[int],
) -> Iterator[str]:
    sizes = ", ".join(f"{split} {part.objects:,}" for split, part in next(iter(sets.values())).splits.items())
    yield f"Fashion-MNIST ({sizes}), one view, 2-32-32-1; `{model}`, canonical form, {TRAIN['epochs']} epochs, at most "
    yield f"{len(seeds)} seeds (in brackets where fewer).\n"
    yield "| optimiser | start | omega_0 | stop at | mean dB | mean steps | ms an INR | test accuracy |"
    yield "|---|---|---|---|---|---|---|---|"
    for way in sorted(found, key=lambda way: -rows[way.name].mean):
        entries, row = sets[way].shards, rows[way.name]
        known = [entry for entry in entries if entry.psnr is not None and entry.mean_steps is not None]
        count = sum(entry.rows for entry in known)
        level = sum(entry.psnr.mean * entry.rows for entry in known if entry.psnr is not None) / count
        steps = sum((entry.mean_steps or 0) * entry.rows for entry in known) / count
        few = "" if len(row.accuracies) == len(seeds) else f" ({len(row.accuracies)})"
        stop = f"{way.target} dB" if way.target else "none"
        cells = (way.optimiser, way.start, way.omega_0, stop, f"{level:.1f}", f"{steps:.0f}", f"{costs[way]:.1f}")
        yield f"| {' | '.join(map(str, cells))} | {percent(row)}{few} |"


def series(found: Sequence[Way], rows: dict[str, Row], costs: dict[Way, float]) -> Iterator[Series]:
    """The ways that differ in their stopping quality alone, as one line each."""
    for (optimiser, start, omega_0), group in itertools.groupby(found, lambda w: (w.optimiser, w.start, w.omega_0)):
        one = list(group)
        points = [(costs[way], 100 * rows[way.name].mean, 100 * (rows[way.name].spread or 0)) for way in one]
        labels = [str(way.target or "all") for way in one]
        yield Series(f"{optimiser}, {start}, omega_0 {omega_0}", tuple(points), tuple(labels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="where FashionMNIST/ is")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file")
    parser.add_argument("--model", default="parity", help="the classifier's encoder")
    parser.add_argument("--only", default="*", help="ways to fit, as OPTIMISER-START-OMEGA-TARGET with wildcards")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--probe", type=int, default=32, help="images whose fits are timed")
    parser.add_argument("--figures-only", action="store_true", help="fit and train nothing")
    given = parser.parse_args()
    study(
        given.data_root,
        given.work,
        given.out,
        given.model,
        given.only,
        range(given.seeds),
        given.probe,
        given.figures_only,
    )
