"""Measures which fit settings give the best training data: test accuracy against the cost of a fit.

    python pipelines/studies/study_which_inrs.py --data-root ../shared/datasets --work /tmp/study_read \\
        --out docs/tables/which_inrs.md
    python pipelines/studies/study_which_inrs.py --recipe image_folder --data-root ../shared/datasets/cifar10_images \
        --work /tmp/study_cifar10 --out /tmp/study_cifar10.md --set splits.val=200 --views 2 \
        --sprint-steps 0 --only '*-siren-*' --targets 25 30 35

Fits the same objects of a recipe (Fashion-MNIST) with combinations of initialisation, omega_0, stopping quality and optimiser, and trains
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
from collections.abc import Iterator, Mapping, Sequence
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
    "sprint": ["fit.optimizer=sprint", "fit.learning_rate=8e-3"],
}
STARTS = {"adam": ("siren", "dwsnets"), "sprint": ("siren", "linear")}
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

    def recipe(self, base: str, further: Sequence[str]) -> Recipe:
        settings = [
            f"spec.start={self.start}",
            f"spec.omega_0={self.omega_0}",
            f"fit.target_psnr={self.target or 'null'}",
        ]
        # No fit fails, so that all classifiers see the same objects.
        settings += ["fit.floor_psnr=-100", "fit.attempts=1", "quarantine_threshold=1"]
        return load_recipe(base, [*OPTIMISERS[self.optimiser], *settings, *further])


def fit_settings(omegas: Sequence[int], targets: Sequence[int]) -> Iterator[FitSetting]:
    """All combinations; the target 0 is none."""
    for optimiser in OPTIMISERS:
        for start, omega_0, target in itertools.product(STARTS[optimiser], omegas, targets):
            if start != "dwsnets" or not target:
                yield FitSetting(optimiser, start, omega_0, target or None)


def study(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    work, model, seeds, further = given.work, given.model, range(given.seeds), given.set or SIZES
    settings = list(fit_settings(given.omegas, given.targets))
    selected = [setting for setting in settings if fnmatch(setting.name, given.only)]
    if not selected:
        raise SystemExit(f"--only {given.only} matches none of {', '.join(setting.name for setting in settings)}")
    if given.sprint_steps:
        OPTIMISERS["sprint"].append(f"fit.steps={given.sprint_steps}")
    recipes = {setting: setting.recipe(given.recipe, further) for setting in selected}
    if not given.figures_only:
        for number, setting in enumerate(selected, 1):
            fit_dataset(
                recipes[setting],
                work / "sets" / setting.name,
                views=given.views,
                data_root=given.data_root,
                backend="local",
                workers=given.workers,
            )
            print(f"set {number} of {len(selected)}: {setting.name}", flush=True)
    sweep = SweepConfig(
        train={"model": model, **TRAIN},
        grid=[Grid(axes={"dataset": [str(work / "sets" / setting.name) for setting in selected], "seed": list(seeds)})],
    )
    runs = runs_of(sweep, work / model.replace(":", "-"))
    if not given.figures_only:
        make(sweep, [run for run in runs if read_result(sweep, run) is None], given.workers)
    rows = {Path(row.names[0]).name: row for row in rows_of(sweep, runs)}
    done = [setting for setting in selected if setting.name in rows]
    recipes = {setting: recipes[setting] for setting in done}
    costs = measure(recipes, open_source(recipes[done[0]].source, given.data_root), given.probe)
    manifests = {setting: load_manifest(work / "sets" / setting.name) for setting in done}
    title = given.title or given.recipe
    lines = table(title, given.views, done, rows, costs, manifests, model, seeds)
    given.out.write_text("".join(f"{line}\n" for line in lines))
    heading = f"{title}: accuracy of a classifier of weights, and cost of their fits"
    note = "fit; labels: dB at which it stops"
    draw_trade(series(done, rows, costs), given.out.with_suffix(".png"), heading, "ms of one core per INR", note)


def make(sweep: SweepConfig, runs: Sequence[SweepRun], workers: int) -> None:
    commands = [(command_of(sweep, run), run.folder.absolute()) for run in runs]
    with closing(make_runs(commands, workers)) as ended:
        for number, (index, fault) in enumerate(ended, 1):
            print(f"run {number} of {len(runs)}: {runs[index].folder.name}{fault and f' failed: {fault}'}", flush=True)


def measure(recipes: Mapping[FitSetting, Recipe], source: Source, count: int) -> dict[FitSetting, float]:
    """Milliseconds of one core per INR, by process time; the settings are interleaved."""
    signals = [source.signal(index) for index in range(count)]
    keys = [ViewKey(source.items[index].object_id, 0) for index in range(count)]
    times: dict[FitSetting, list[float]] = {setting: [] for setting in recipes}
    for _, (setting, recipe) in itertools.product(range(3), recipes.items()):
        started = process_time()
        fit_views(recipe.spec.spec(source.in_dim, source.out_dim), keys, signals, recipe.fit, recipe.seed)
        times[setting].append(1e3 * (process_time() - started) / count)
    return {setting: median(spent) for setting, spent in times.items()}


def table(
    title: str,
    views: int,
    selected: Sequence[FitSetting],
    rows: dict[str, Row],
    costs: dict[FitSetting, float],
    sets: dict[FitSetting, Manifest],
    model: str,
    seeds: Sequence[int],
) -> Iterator[str]:
    sizes = ", ".join(f"{split} {part.objects:,}" for split, part in next(iter(sets.values())).splits.items())
    spec = next(iter(sets.values())).spec
    net = f"{spec['in_dim']}-32-32-{spec['out_dim']}"
    yield f"{title} ({sizes}), views: {views}, {net}; `{model}`, canonical form, {TRAIN['epochs']} epochs, at most "
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
    parser.add_argument("--recipe", default="fashion_mnist", help="whose objects are fitted")
    parser.add_argument("--set", action="append", help=f"further settings of the recipe ({' '.join(SIZES)})")
    parser.add_argument("--title", help="of the objects, in table and picture")
    parser.add_argument("--data-root", type=Path, help="where the recipe's files are")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file")
    parser.add_argument("--model", default="parity", help="the classifier's encoder")
    parser.add_argument("--omegas", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--targets", type=int, nargs="+", default=[30, 35, 40, 0], help="dB; 0 is all steps")
    parser.add_argument("--sprint-steps", type=int, default=80, help="0 for those that the recipe takes for its target")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--only", default="*", help="settings to fit, as OPTIMISER-START-OMEGA-TARGET with wildcards")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--probe", type=int, default=32, help="images whose fits are timed")
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes at a time")
    parser.add_argument("--figures-only", action="store_true", help="fit and train nothing")
    study(parser.parse_args())
