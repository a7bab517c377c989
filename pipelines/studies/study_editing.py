"""The published edit of INRs, dilation: the error of editors that read and write weights, and what it compares with.

    python pipelines/studies/study_editing.py --work /tmp/study_editing --out docs/tables/editing.md

Fits sets of digits and Fashion-MNIST, and of MNIST where its files are at hand, and trains each editor on each by as many
seeds. Compares with the INRs as they are, with a ridge from all pixels to all pixels, and with INRs of the same spec that
are fitted to the dilated images. Writes Markdown to --out and a picture of edits next to it. What exists in --work is
reused, so the study resumes after an interruption.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from time import process_time

import numpy as np
import torch
from torch import Tensor

import inr_factory as inr
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.edit_targets import FilterTargets
from inr_factory.learning.training.image_filters import parse_filter
from inr_factory.reporting.image_grid import draw_edits

EDITORS = ("parity:points=true", "dws:set_layer=deepsets", "ng_gnn:hidden_dim=16,dropout=0")
AUGMENT = "rotate2d:degrees=15|reflect"  # a few thousand objects are learned by heart otherwise
REFITTED, PENALTY = 200, 1e-2  # INRs fitted to dilated images; of the ridge, for each object


def study(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, str]] = {}
    for name in given.sets:
        folder, limit = given.work / name, None if name == "digits" else given.objects
        try:
            if Path(name).is_dir():
                folder, name = Path(name), Path(name).name
            else:
                inr.fit_dataset(
                    name, folder, views=1, limit=limit, data_root=given.data_root, backend="local", workers=1
                )
        except inr.UsageError as error:
            print(f"without {name}: {error}", flush=True)
            continue
        rows[name] = {}
        for model in given.models:
            reports = []
            for seed in range(given.seeds):
                run = given.work / "runs" / f"{name}-{model.partition(':')[0]}-{seed}"
                reports.append(edited(folder, run, model, seed, given))
                print(f"{name}, {model}, seed {seed}: {reports[-1]['mse']:.5f}", flush=True)
            errors = [100 * report["mse"] for report in reports]
            spread = f" ± {stdev(errors):.2f}" if len(errors) > 1 else ""
            rows[name][f"`{model}`"] = f"{mean(errors):.2f}{spread}"
            rows[name][f"minutes of a core, `{model}`"] = f"{mean(r['seconds'] for r in reports) / 60:.1f}"
        rows[name] |= {key: f"{100 * value:.2f}" for key, value in comparisons(folder, given.filter).items()}
    given.out.write_text("".join(f"{line}\n" for line in table(rows, given)))
    first = next(iter(rows))  # pictures are of the first set
    run = inr.EditRun(given.work / "runs" / f"{first}-{given.models[0].partition(':')[0]}-0")
    shown, title = run.examples(), f"{first}, test: INRs edited by {run.filter}"
    captions = [f"{label}" for label in shown.labels.tolist()]
    images = [images.numpy() for images in (shown.before, shown.wanted, shown.after)]
    draw_edits(images, captions, given.out.with_suffix(".png"), title)


def edited(folder: Path, run: Path, model: str, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """The report of a run, kept in its folder; and the seconds of one core that it took, if it was never interrupted."""
    path = run / "report.json"
    if not path.exists():
        begin = process_time()
        editor = inr.edit(
            folder, given.filter, model=model, augment=AUGMENT, epochs=given.epochs, seed=seed, out=run,
            device=given.device,
        )  # fmt: skip
        report = {**vars(editor.evaluate(device=given.device)), "seconds": process_time() - begin}
        path.write_text(json.dumps(report))
    result: dict[str, float] = json.loads(path.read_text())
    return result


def comparisons(folder: Path, text: str) -> dict[str, float]:
    """Mean squared errors on test of the trivial edit, of a ridge on pixels, and of INRs fitted to the targets."""
    images = {split: images_of(folder, split, text) for split in ("train", "test")}
    (before, wanted), (x, y) = images["train"], images["test"]
    one, other = (torch.nn.functional.pad(part.flatten(1).double(), (0, 1), value=1.0) for part in (before, x))
    gram = one.mT @ one + PENALTY * len(one) * torch.eye(one.shape[1], dtype=torch.float64)
    ridge = other @ torch.linalg.solve(gram, one.mT @ wanted.flatten(1).double())
    spec = INRDataset(folder, "test", check=False).spec
    refitted = inr.fit(
        y[:REFITTED].clamp(0, 1).numpy(), hidden_dim=spec.hidden_dim, num_hidden=spec.num_hidden, omega_0=spec.omega_0
    )
    return {
        "INRs as they are": float((x - y).square().mean()),
        "ridge, pixels to pixels": float((ridge - y.flatten(1)).square().mean()),
        f"INRs fitted to {REFITTED} targets": float(np.mean(10 ** (-np.asarray(refitted.psnr) / 10))),
    }


def images_of(folder: Path, split: str, text: str) -> tuple[Tensor, Tensor]:
    """What INRs show (N, H, W, O), and what their edits have to show."""
    data = INRDataset(folder, split, views=1)
    inrs = INRBatch.from_flat(data.spec, data.gather(range(len(data)))[0])
    side = 8 if data.manifest.name.startswith("digits") else 28
    return inrs.images(side, side), FilterTargets(parse_filter(text), side, side)(inrs, None)


def table(rows: dict[str, dict[str, str]], given: argparse.Namespace) -> Iterator[str]:
    yield f"{given.filter}, mean squared error on test times 100; {given.epochs} epochs; seeds: {given.seeds}.\n"
    yield f"| | {' | '.join(rows)} |\n|{'---|' * (len(rows) + 1)}"
    for row in next(iter(rows.values())):
        yield f"| {row} | {' | '.join(of[row] for of in rows.values())} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="of the images, by default INR_FACTORY_DATA")
    parser.add_argument("--work", type=Path, required=True, help="folder for sets and runs")
    parser.add_argument("--out", type=Path, required=True, help="the table, NAME.md")
    parser.add_argument(
        "--sets", nargs="+", default=["fashion_mnist", "digits", "mnist"], help="recipes, or folders of sets"
    )
    parser.add_argument("--models", nargs="+", default=EDITORS)
    parser.add_argument("--filter", default="dilate:size=3")
    parser.add_argument("--objects", type=int, default=3000, help="of each set but digits, in all splits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    study(parser.parse_args())
