"""Compares what retrieves INRs: plain weights, aligned weights, renders, and encoders trained by classes or without labels.

    python pipelines/studies/study_retrieval.py --data-root ../shared/datasets --work /tmp/study_retrieval \\
        --out docs/tables/retrieval.md

Fits digits and Fashion-MNIST, two views of each object. Every INR of the test split is a query, and the others are the
gallery. Sets, runs and scores that exist in --work are reused, so the study resumes after an interruption.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from study_pretrain import made, percent

from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import load_recipe
from inr_factory.reporting.search_dataset import search
from inr_factory.storage.atomic_files import write_atomically

MODEL = "parity"
K = 10
UNTRAINED = ("random", "weights", "aligned", "renders")


def study(data_root: Path, work: Path, limits: dict[str, int | None], epochs: int, seeds: Sequence[int]) -> str:
    """The table in Markdown."""
    torch.set_num_threads(1)
    lines = [
        "# Retrieval by weights, renders and encoders",
        "",
        f"mAP@{K}, mAP of all neighbours and precision at 1 of the class, without other views of the query's object; last "
        f"mAP@{K} of these views. In percent, over the INRs of the test split. Both encoders are `{MODEL}`, {epochs} epochs, "
        f"seeds {', '.join(map(str, seeds))}. [Conditions and command](../retrieval.md#figures).",
    ]
    for name, limit in limits.items():
        dataset = work / f"{name}-{limit or 'all'}"
        fit_dataset(
            load_recipe(name, ["views=2", f"limit={limit or 'null'}"]), dataset, data_root=data_root, backend="local"
        )
        reports = [[scores(dataset, run) for run in runs(dataset, epochs, seed)] for seed in seeds]
        first = reports[0][0]
        lines += ["", f"## {name}: {first['queries']:,} INRs", "", *table(reports)]
    return "\n".join(lines) + "\n"


def runs(dataset: Path, epochs: int, seed: int) -> tuple[Path, Path]:
    """A classifier, and an encoder that was pre-trained on two views of each object."""
    common = ["--model", MODEL, "--epochs", str(epochs), "--seed", str(seed)]
    folders = tuple(dataset.with_name(f"{dataset.name}-{kind}-{epochs}-{seed}") for kind in ("train", "pretrain"))
    made(folders[0], ["train", str(dataset), *common])
    made(folders[1], ["pretrain", str(dataset), "--positives", "views", "--lr", "5e-3", *common])
    return folders[0], folders[1]


def scores(dataset: Path, run: Path) -> dict[str, Any]:
    """The report of `inr-factory search RUN DATASET --json`, kept in the folder of the run."""
    note = run / "retrieval.json"
    if not note.exists():
        write_atomically(note, json.dumps(search(run, dataset, k=K, device="cpu").to_fields()).encode())
    report: dict[str, Any] = json.loads(note.read_text())
    return report


def table(reports: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """Rows of what needs no training, of the first report; then mean and standard deviation over seeds of each encoder."""
    rows = {name: [row] for name, row in zip(UNTRAINED, reports[0][0]["rows"], strict=False)}
    for at, name in enumerate(("encoder, by classes", "encoder, by views, without labels")):
        rows[name] = [report[at]["rows"][-1] for report in reports]
    lines = [f"| features | mAP@{K} | mAP, all | precision@1 | other views, mAP@{K} |", "|---|---|---|---|---|"]
    for name, measured in rows.items():
        cells = [[row["by_class"][score] for row in measured] for score in ("map_k", "map_all", "first")]
        cells.append([row["by_object"]["map_k"] for row in measured])
        lines.append(f"| {name} | {' | '.join(map(percent, cells))} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="where FashionMNIST/ is")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, help="file of the table; else stdout alone")
    parser.add_argument("--digits", type=int, help="objects of digits; else all")
    parser.add_argument("--fashion", type=int, default=6000, help="objects of Fashion-MNIST")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    limits = {"digits": options.digits, "fashion_mnist": options.fashion}
    text = study(options.data_root, options.work, limits, options.epochs, options.seeds)
    print(text, end="")
    if options.out is not None:
        write_atomically(options.out, text.encode())
