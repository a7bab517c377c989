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
from inr_factory.learning.training.sweep import Row, make_runs, percent, read_result, rows_of
from inr_factory.learning.training.sweep_config import Grid, SweepConfig, SweepRun, Value, command_of, runs_of
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
class FitSetting:
    """One combination of fit settings; `target` in dB, None for all steps."""

    optimiser: str
    start: str
    omega_0: int
    target: int | None

    @property
    def name(self) -> str:
        return f"{self.optimiser}-{self.start}-{self.omega_0}-{self.target or 'none'}"

    @property
    def recipe(self) -> Recipe:
        settings = [
            f"spec.start={self.start}",
            f"spec.omega_0={self.omega_0}",
            f"fit.target_psnr={self.target or 'null'}",
        ]
        # No fit fails, so that all classifiers see the same objects.
        settings += ["fit.floor_psnr=-100", "fit.attempts=1", "quarantine_threshold=1"]
        return load_recipe("fashion_mnist", [*OPTIMISERS[self.optimiser], *settings, *SIZES])


def fit_settings() -> Iterator[FitSetting]:
    for optimiser in OPTIMISERS:
        for start, omega_0, target in itertools.product(STARTS[optimiser], OMEGAS, TARGETS):
            if start != "dwsnets" or target is None:
                yield FitSetting(optimiser, start, omega_0, target)


def study(
    data_root: Path, work: Path, out: Path, model: str, only: str, seeds: Sequence[int], probe: int, figures_only: bool
) -> None:
    torch.set_num_threads(1)
    selected = [setting for setting in fit_settings() if fnmatch(setting.name, only)]
    if not selected:
        raise SystemExit(f"--only {only} matches none of {', '.join(setting.name for setting in fit_settings())}")
    if not figures_only:
        for number, setting in enumerate(selected, 1):
            fit_dataset(setting.recipe, work / "sets" / setting.name, data_root=data_root, backend="local")
            print(f"set {number} of {len(selected)}: {setting.name}", flush=True)
    sweep = SweepConfig(
        train={"model": model, **TRAIN},
        grid=[Grid(axes={"dataset": [str(work / "sets" / setting.name) for setting in selected], "seed": list(seeds)})],
    )
    runs = runs_of(sweep, work / model.replace(":", "-"))
    if not figures_only:
        make(sweep, [run for run in runs if read_result(sweep, run) is None])
    rows = {Path(row.names[0]).name: row for row in rows_of(sweep, runs)}
    done = [setting for setting in selected if setting.name in rows]
    costs = measure(done, open_source(load_recipe("fashion_mnist").source, data_root), probe)
    manifests = {setting: load_manifest(work / "sets" / setting.name) for setting in done}
    out.write_text("".join(f"{line}\n" for line in table(done, rows, costs, manifests, model, seeds)))
    heading = "Fashion-MNIST: accuracy of a classifier of weights, and cost of their fits"
    lines, note = series(done, rows, costs), "fit; labels: dB at which it stops"
    draw_trade(lines, out.with_suffix(".png"), heading, "ms of one core per INR", note)


def make(sweep: SweepConfig, runs: Sequence[SweepRun]) -> None:
    commands = [(command_of(sweep, run), run.folder.absolute()) for run in runs]
    with closing(make_runs(commands, num_cores())) as ended:
        for number, (index, fault) in enumerate(ended, 1):
            print(f"run {number} of {len(runs)}: {runs[index].folder.name}{fault and f' failed: {fault}'}", flush=True)


def measure(selected: Sequence[FitSetting], source: Source, count: int) -> dict[FitSetting, float]:
    """Milliseconds of one core per INR, by process time; the settings are interleaved."""
    signals = [source.signal(index) for index in range(count)]
    keys = [ViewKey(source.items[index].object_id, 0) for index in range(count)]
    times: dict[FitSetting, list[float]] = {setting: [] for setting in selected}
    for _, setting in itertools.product(range(3), selected):
        recipe = setting.recipe
        started = process_time()
        fit_views(recipe.spec.spec(source.in_dim, source.out_dim), keys, signals, recipe.fit, recipe.seed)
        times[setting].append(1e3 * (process_time() - started) / count)
    return {setting: median(spent) for setting, spent in times.items()}


def table(
    selected: Sequence[FitSetting],
    rows: dict[str, Row],
    costs: dict[FitSetting, float],
    sets: dict[FitSetting, Manifest],
    model: str,
    seeds: Sequence[int],
) -> Iterator[str]:
    sizes = ", ".join(f"{split} {part.objects:,}" for split, part in next(iter(sets.values())).splits.items())
    yield f"Fashion-MNIST ({sizes}), one view, 2-32-32-1; `{model}`, canonical form, {TRAIN['epochs']} epochs, at most "
    yield f"{len(seeds)} seeds (in brackets where fewer).\n"
    yield "| optimiser | start | omega_0 | stop at | mean dB | mean steps | ms an INR | test accuracy |"
    yield "|---|---|---|---|---|---|---|---|"
    for setting in sorted(selected, key=lambda setting: -rows[setting.name].mean):
        entries, row = sets[setting].shards, rows[setting.name]
        known = [entry for entry in entries if entry.psnr is not None and entry.mean_steps is not None]
        count = sum(entry.rows for entry in known)
        level = sum(entry.psnr.mean * entry.rows for entry in known if entry.psnr is not None) / count
        steps = sum((entry.mean_steps or 0) * entry.rows for entry in known) / count
        few = "" if len(row.accuracies) == len(seeds) else f" ({len(row.accuracies)})"
        stop = f"{setting.target} dB" if setting.target else "none"
        cells = (
            setting.optimiser,
            setting.start,
            setting.omega_0,
            stop,
            f"{level:.1f}",
            f"{steps:.0f}",
            f"{costs[setting]:.1f}",
        )
        yield f"| {' | '.join(map(str, cells))} | {percent(row)}{few} |"


def series(selected: Sequence[FitSetting], rows: dict[str, Row], costs: dict[FitSetting, float]) -> Iterator[Series]:
    """One line for each group of settings that differ in their stopping quality only."""
    for (optimiser, start, omega_0), group in itertools.groupby(selected, lambda w: (w.optimiser, w.start, w.omega_0)):
        members = list(group)
        points = [
            (costs[setting], 100 * rows[setting.name].mean, 100 * (rows[setting.name].spread or 0))
            for setting in members
        ]
        labels = [str(setting.target or "all") for setting in members]
        yield Series(f"{optimiser}, {start}, omega_0 {omega_0}", tuple(points), tuple(labels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="where FashionMNIST/ is")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file")
    parser.add_argument("--model", default="parity", help="the classifier's encoder")
    parser.add_argument("--only", default="*", help="settings to fit, as OPTIMISER-START-OMEGA-TARGET with wildcards")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--probe", type=int, default=32, help="images whose fits are timed")
    parser.add_argument("--figures-only", action="store_true", help="fit and train nothing")
    options = parser.parse_args()
    study(
        options.data_root,
        options.work,
        options.out,
        options.model,
        options.only,
        range(options.seeds),
        options.probe,
        options.figures_only,
    )
