"""Makes, verifies and cards the sets of a release; prints a table as Markdown.

python pipelines/release/make_sets.py --out ../release                      # all sets whole: hours, 7 GB
python pipelines/release/make_sets.py --out ../tenth --share 0.1            # all at a tenth of their objects
python pipelines/release/make_sets.py --out ../release digits primitives    # two of them, which need no files

It resumes after an interruption. A set that fails is named, and the others are made. The exit code is that of the first failure.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from release_sets import ReleaseSet, citation_files, release_sets

import inr_factory as inr
from inr_factory.errors import one_line
from inr_factory.inr.cpu import num_cores
from inr_factory.reporting.number_format import format_bytes, format_duration
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.card_notes import Baseline, CardNotes, load_card_notes
from inr_factory.storage.manifest import Manifest, median_psnr
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.run_log import LOG_FOLDER, read_log

FEWEST = 60  # objects of a set, whatever the share
HEAD = """| set | objects | INRs | size | core time, at most | median dB | in quarantine | croissant | datasets | baselines, % |
|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Made:
    """A set of the release that was made, and what checked it."""

    manifest: Manifest
    notes: CardNotes
    seconds: float
    croissant: str
    datasets: str

    @property
    def row(self) -> str:
        manifest = self.manifest
        objects = sum(split.objects for split in manifest.splits.values())
        cells = [
            manifest.name, f"{objects:,}", f"{manifest.rows:,}", format_bytes(sum(each.bytes for each in manifest.shards)),
            format_duration(self.seconds), f"{median_psnr(manifest.shards) or 0:.1f}", f"{len(manifest.quarantine):,}",
            self.croissant, self.datasets,
            ", ".join(f"{each.reader} ({each.views}) {100 * each.accuracy:.1f}" for each in self.notes.baselines),
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def make(entry: ReleaseSet, out: Path, share: float, workers: int, data_root: str | None) -> Made:
    """Fit, verify, measure and card one set, or what is missing of it."""
    folder = out / entry.name
    limit = None if share == 1 else min(entry.objects, max(FEWEST, round(share * entry.objects)))
    recipe = inr.load_recipe(entry.recipe, entry.settings, name=entry.name)
    report = inr.fit_dataset(
        recipe, folder, views=entry.views, limit=limit, backend="local", workers=workers, device="cpu",
        data_root=data_root,
    )  # fmt: skip
    verified = inr.verify_dataset(folder, render=True, data_root=data_root)
    if verified.faults or verified.missing:
        first = verified.faults[0].reason if verified.faults else f"{verified.missing[0]} is missing"
        raise inr.IntegrityError(f"{folder} failed its verification: {first}")
    manifest, seconds = report.manifest, core_seconds(folder)
    size = sum(each.bytes for each in manifest.shards)
    known = load_card_notes(folder).baselines
    notes = CardNotes(
        baselines=tuple(baseline(folder, options, out / "runs", known) for options in entry.baselines),
        licence="" if entry.source else f"{entry.licence.name} ({entry.licence.url})",
        attribution=entry.attribution,
        cost=f"Fitting took at most {format_duration(seconds)} of one core. The shards have {size:,} bytes.",
    )
    notes.save(folder)
    for name, text in citation_files(entry, manifest).items():
        write_atomically(folder / name, text.encode())
    inr.write_card(folder)
    return Made(manifest, notes, seconds, check_croissant(folder), check_datasets(folder, manifest))


def core_seconds(folder: Path) -> float:
    """Seconds of all runs that made shards, times their workers, by the logs of a set: an upper bound where jobs share cores."""
    lines = [read_log(path) for path in sorted((folder / LOG_FOLDER).glob("*.log"))]
    return sum(log[-1].get("seconds", 0.0) * log[0]["workers"] for log in lines if log)


def command_of(options: Mapping[str, Any]) -> str:
    """The command that trains a baseline; options have the names of `inr.train`."""
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items()]
    return " ".join(["inr-factory train DATASET", *words, "--device cpu"])


def baseline(folder: Path, options: Mapping[str, Any], runs: Path, known: Sequence[Baseline]) -> Baseline:
    """The accuracy of one reader on split test: a known one of as many INRs, else by a run that is trained or resumed."""
    command, manifest = command_of(options), load_manifest(folder)
    views = options.get("views") or manifest.views
    inrs = sum(each.rows for each in manifest.shards if each.split == "train" and each.view < views)
    for each in known:
        if (each.command, each.inrs) == (command, inrs):
            return each
    run = runs / f"{folder.name}-{options['model']}-{views}-{inrs}"
    print(f"{run}: {command}", file=sys.stderr)
    accuracy = inr.train(str(folder), **options, device="cpu", out=run).evaluate(folder, device="cpu").accuracy
    return Baseline(reader=options["model"], views=views, inrs=inrs, accuracy=accuracy, command=command)


def check_croissant(folder: Path) -> str:
    """Whether the library of Croissant takes the card; "-" without it."""
    if find_spec("mlcroissant") is None:
        return "-"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's own
        import mlcroissant

        try:
            mlcroissant.Dataset(str(folder / "croissant.json"))
        except mlcroissant.ValidationError as error:
            raise inr.IntegrityError(f"{folder}/croissant.json is not valid: {one_line(error)}") from None
    return "valid"


def check_datasets(folder: Path, manifest: Manifest) -> str:
    """Whether the library `datasets` loads view 0 with the classes by name; "-" without it."""
    if find_spec("datasets") is None:
        return "-"
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        config = "view000" if manifest.views > 1 else "default"
        loaded = datasets.load_dataset(str(folder.absolute()), config, cache_dir=cache)
        names = next(iter(loaded.values())).features["label"].names
        rows = sum(table.num_rows for table in loaded.values())
        expected = sum(each.rows for each in manifest.shards if each.view == 0)
        del loaded
    if list(names) != list(manifest.classes) or rows != expected:
        raise inr.IntegrityError(f"{folder} loads with {rows:,} rows and classes {names}, not as recorded")
    return f"{len(names)} classes"


def main() -> None:
    known = release_sets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; by default all")
    parser.add_argument("--out", type=Path, required=True, help="folder for the sets, and for the runs in OUT/runs")
    parser.add_argument("--share", type=float, default=1.0, help=f"of the objects, at least {FEWEST} of each set")
    parser.add_argument("--data-root", help="folder of the source's files; else $INR_FACTORY_DATA, else ./data")
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes that fit; default: one a core")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(known)):
        parser.error(f"no set {unknown[0]}; there are {', '.join(known)}")
    if not 0 < args.share <= 1:
        parser.error(f"--share must be above 0 and at most 1, got {args.share}")
    code = 0
    print(HEAD, flush=True)
    for name in args.names or known:
        try:
            print(make(known[name], args.out, args.share, args.workers, args.data_root).row, flush=True)
        except inr.FactoryError as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = code or error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
