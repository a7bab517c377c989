"""Trains the same readers on one stored view, on ten, and on fresh views shown 1, 4 and 16 times; prints a table as Markdown.

python pipelines/studies/study_fresh_views.py --out ../fresh              # accuracies: fits 40 views of 5,000 images once
python pipelines/studies/study_fresh_views.py --out ../fresh --timing     # who waits for whom, without stored fits
python pipelines/studies/study_fresh_views.py --out ../fresh --memory 3600   # memory of trainer and fitters over an hour

Runs of the first command share one set of fresh views (`keep`), so that each view is fitted once; `--timing` fits for each
run. Both resume.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import inr_factory as inr
from inr_factory.reporting.plots import chart_page
from inr_factory.storage.manifest import MANIFEST

FRESH = (1, 4, 16)
ROW = "| {} | {} | {} | {:,} | {} | {} | {} |"


def fit_first_view(out: Path, objects: int, data_root: str | None) -> Path:
    """The stored set: one view of the training objects, and of 1,000 and 2,000 others."""
    if not (out / "stored" / MANIFEST).exists():
        limits = [f"limit.train={objects}", "limit.val=1000", "limit.test=2000"]
        inr.fit_dataset("fashion_mnist", out / "stored", views=1, backend="local", settings=limits, data_root=data_root)
    return out / "stored"


def arms(stored: Path, kept: Path, data_root: str | None) -> Mapping[str, tuple[Callable[[], Any], dict[str, Any]]]:
    """Name -> what opens its data, and further arguments of `train`."""

    def fresh(reuse: int) -> Callable[[], Any]:
        return lambda: inr.stream(stored, reuse=reuse, keep=kept, data_root=data_root)

    return {
        **{f"fresh, shown {reuse}": (fresh(reuse), {}) for reuse in FRESH},
        "one stored": (lambda: stored, {}),
        "ten stored": (lambda: kept, {"views": 10, "views_per_object": 1}),
    }


def measure(args: argparse.Namespace) -> None:
    stored, kept = fit_first_view(args.out, args.objects, args.data_root), args.out / "kept"
    chosen = arms(stored, kept, args.data_root)
    chosen = {arm: chosen[arm] for arm in args.arms or chosen}
    runs: dict[tuple[str, str], list[inr.TrainedRun]] = {}
    for (arm, (opens, more)), model, seed in product(chosen.items(), args.models, args.seeds):
        name = f"{model}-{arm.replace(', ', '_').replace(' ', '_')}-{seed}"
        folder = args.out / f"runs{args.epochs}" / name
        run = inr.train(
            opens(), model, epochs=args.epochs, batch_size=128, schedule="cosine", seed=seed, out=folder, **more
        )  # fmt: skip
        runs.setdefault((model, arm), []).append(run)
        print(f"{model}, {arm}, seed {seed}: {run.evaluate(stored).percent}", flush=True)
    print("\n| model | views | test accuracy | INRs | training loss | validation loss | best epoch |")
    print("|---|---|---|---|---|---|---|")
    for (model, arm), several in sorted(runs.items()):
        accuracies = [100 * run.evaluate(stored).accuracy for run in several]
        last = [run.history[-1] for run in several]
        inrs = args.objects * (10 if arm == "ten stored" else 1) + int(
            sum(record.get("fresh", 0) for record in several[0].history)
        )
        spread = f" ± {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        losses = (statistics.mean(each[name] for each in last) for name in ("train_loss", "val_loss"))
        best = "/".join(str(int(run.best["epoch"]) + 1) for run in several)
        print(
            ROW.format(
                f"`{model}`",
                arm,
                f"{statistics.mean(accuracies):.1f}{spread}",
                inrs,
                *(f"{loss:.2f}" for loss in losses),
                best,
            )
        )
    draw({key: several[0] for key, several in runs.items()}, args.out / "fresh_views.png")


def draw(runs: Mapping[tuple[str, str], inr.TrainedRun], path: Path) -> None:
    """Training against validation loss, epoch by epoch: INRs that are learned by heart part the two."""
    models = sorted({model for model, _ in runs})
    with chart_page(path, "training loss (dashed) and validation loss (solid)", 4.2 * len(models), 3.6) as page:
        axes = page.figure.subplots(1, len(models), squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            for number, (arm, run) in enumerate((arm, run) for (name, arm), run in runs.items() if name == model):
                for key, style in (("train_loss", "--"), ("val_loss", "-")):
                    values = [record[key] for record in run.history]
                    axis.plot(
                        range(1, len(values) + 1),
                        values,
                        style,
                        color=f"C{number}",
                        label=arm if style == "-" else None,
                    )
            axis.set_title(model, loc="left", fontsize=8)
            axis.set_xlabel("epoch")
            axis.set_ylim(0, 1.2)
            axis.legend(fontsize=7)


def measure_times(args: argparse.Namespace) -> None:
    """Seconds of an epoch without stored fits, and who waits."""
    stored = fit_first_view(args.out, args.objects, args.data_root)
    print("| model | shown | seconds an epoch | new INRs an epoch | fits/s | training waits | fitters idle |")
    print("|---|---|---|---|---|---|---|")
    for model, reuse in product(args.models, (None, *FRESH, "auto")):
        folder = args.out / "timing" / f"{model}-{reuse}"
        shutil.rmtree(folder, ignore_errors=True)
        data = stored if reuse is None else inr.stream(stored, reuse=reuse, data_root=args.data_root)
        epochs = args.epochs if reuse in (None, "auto") else 10
        begin = time.monotonic()
        run = inr.train(data, model, epochs=epochs, batch_size=128, seed=0, out=folder)
        seconds = (time.monotonic() - begin) / epochs
        later = run.history[2:]  # the first epochs have what fitters need to start
        of = {
            name: statistics.mean(record.get(name, 0.0) for record in later)
            for name in ("fresh", "fits_per_second", "waiting", "idle")
        }
        print(
            f"| `{model}` | {'stored' if reuse is None else reuse} | {seconds:.1f} | {of['fresh']:,.0f} | {of['fits_per_second']:.0f} | "
            f"{of['waiting']:.0%} | {of['idle']:.0%} |", flush=True,
        )  # fmt: skip


def memory_of(process: str) -> int:
    """MiB of a process that are its own, not those of files that it maps."""
    lines = Path("/proc", process, "status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def measure_memory(args: argparse.Namespace, seconds: float) -> None:
    """Memory of trainer and fitters, and the pool's size on disk, at the end of epochs until the time is over."""
    stored = fit_first_view(args.out, args.objects, args.data_root)
    folder = args.out / "memory"
    shutil.rmtree(folder, ignore_errors=True)
    begin, shown = time.monotonic(), -600.0
    print("| minutes | epoch | trainer MiB | fitters MiB | pool MiB | shards |\n|---|---|---|---|---|---|")

    def on_epoch(record: Mapping[str, float]) -> None:
        nonlocal shown
        passed = time.monotonic() - begin
        if passed - shown >= seconds / 8:
            shown = passed
            children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
            shards = list((folder / "fresh" / "data").glob("*.h5"))
            size = sum(path.stat().st_size for path in shards) // 2**20
            fitters = "/".join(str(memory_of(child)) for child in children)
            print(
                f"| {passed / 60:.0f} | {int(record['epoch']) + 1} | {memory_of('self')} | {fitters} | {size} | {len(shards)} |",
                flush=True,
            )
        if passed > seconds:
            raise KeyboardInterrupt

    try:
        inr.train(
            inr.stream(stored, data_root=args.data_root),
            args.models[0],
            epochs=100_000,
            batch_size=128,
            out=folder,
            on_epoch=on_epoch,
        )
    except KeyboardInterrupt:
        shutil.rmtree(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of sets and runs")
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--models", nargs="+", default=["probes", "parity"])
    parser.add_argument("--arms", nargs="+", help="some of them, such as 'ten stored' 'fresh, shown 4'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--data-root")
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--memory", type=float, metavar="SECONDS")
    args = parser.parse_args(arguments)
    args.out = args.out.absolute()
    if args.memory is not None:
        measure_memory(args, args.memory)
    elif args.timing:
        measure_times(args)
    else:
        measure(args)


if __name__ == "__main__":
    main()
