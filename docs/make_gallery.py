"""The pictures of the documentation: `python docs/make_gallery.py --data-root DATASETS --work FOLDER`.

DATASETS has FashionMNIST/raw. The sets are fitted into FOLDER (minutes on two cores), and reused by the next call.
"""

import argparse
import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import inr_factory as inr
from inr_factory.generation.geometry.rasterizer import Camera, shade_mesh
from inr_factory.generation.maintenance.dataset_source import open_dataset_source
from inr_factory.reporting.html.page import report_dataset
from inr_factory.reporting.image_gallery import choose_views, reconstruct
from inr_factory.reporting.image_grid import Column, draw_columns
from inr_factory.reporting.plots import Series, draw_table, draw_trade
from inr_factory.reporting.shape_gallery import COLORS, surfaces_and_sources
from inr_factory.storage.manifest_file import load_manifest

IMAGES, TABLES = Path(__file__).parent / "images", Path(__file__).parent / "tables"
HEADING = "Fashion-MNIST: accuracy of a classifier of weights, and cost of their fits"
SHARES = (1, 0.9, 0.75, 0.5, 0.25, 0.1, 0)  # of the first INR in a mixture
MATCHES = {"none": "as they are", "permutation": "permutation", "signed": "signed", "phase": "phase"}
FRAMES, SIDE = 24, 168


def fit(recipe: str, work: Path, data_root: Path, views: int, limit: int | None, *settings: str) -> Path:
    """The folder of a set, which is made if it is not there."""
    inr.fit_dataset(
        inr.load_recipe(recipe, settings), work / recipe, views=views, limit=limit, data_root=data_root, backend="local"
    )
    return work / recipe


def images_at_any_size(root: Path, data_root: Path, out: Path) -> None:
    """Images, their INRs, and the INRs between the pixels."""
    manifest = load_manifest(root)
    source, _ = open_dataset_source(manifest, root, data_root)
    columns = []
    for entry, row in choose_views(root, manifest, 8, "train", ()):
        (one,) = reconstruct(root, manifest, [(entry, row)], source)
        inrs, _ = inr.open(root, split="train").gather(np.array([row]))
        large = inr.INRBatch.from_flat(manifest.siren_spec, inrs)(inr.pixel_grid(224, 224)).reshape(224, 224, 1)
        rows = {"source, 28×28": one.source, "INR, 28×28": one.inr, "INR, 224×224": large.numpy()}
        columns.append(Column((one.class_name,), rows))
    draw_columns(columns, out, "Fashion-MNIST (MIT licence): an INR is an image of any size")
    Image.open(out).convert("L").save(out, optimize=True)  # it has no colours


def pick(root: Path, view: int, label: int) -> inr.INRBatch:
    """The first INR of a class and view in the training split."""
    data = inr.open(root, split="train", views=view + 1)
    found = np.flatnonzero((data.views == view) & (data.labels == label))
    return inr.INRBatch.from_flat(data.spec, data.gather(found[:1])[0])


def mixture(a: inr.INRBatch, b: inr.INRBatch, out: Path) -> None:
    """From one INR to another, as they are and after each kind of matching."""
    columns = []
    for share in SHARES:
        rows = {}
        for match, words in MATCHES.items():
            partner = b if match == "none" else inr.align(b, a, match)
            rows[words] = inr.mix(a, partner, share)(inr.pixel_grid(28, 28)).reshape(28, 28, 1).numpy()
        columns.append(Column((f"{100 * share:g} : {100 - 100 * share:g}",), rows))
    draw_columns(
        columns,
        out,
        "Two INRs of one image, and mixtures of their weights",
        "Columns: shares of both in percent. Rows: how the second is matched to the first",
        label=0.9,
    )


def turning(root: Path, out: Path, *kinds: str) -> None:
    """An animation of sources and the surfaces of their INRs, from all around."""
    manifest = load_manifest(root)
    source, _ = open_dataset_source(manifest, root, None)
    one_of_each = choose_views(root, manifest, len(manifest.classes), None, ())
    chosen = [one_of_each[manifest.classes.index(kind)] for kind in kinds]
    shapes = list(surfaces_and_sources(root, manifest, chosen, source, 64))
    frames = []
    for frame in range(FRAMES):
        camera = Camera("", 360 * frame / FRAMES, 22.0)
        rows = [
            np.concatenate([shade_mesh(getattr(one, what), camera, SIDE, 1.0, COLORS[name]) for one in shapes], axis=1)
            for what, name in (("source", "source"), ("surface", "INR"))
        ]
        frames.append(Image.fromarray((255 * np.concatenate(rows)).astype(np.uint8)))
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=110, loop=0, quality=55, method=6)


def screenshot(page: Path, out: Path) -> None:
    """The head and the pictures of a report, 1280 pixels wide."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium here to draw the report")
    short, raw = page.with_stem("short").absolute(), page.with_suffix(".png").absolute()
    short.write_text(page.read_text().replace("</head>", "<style>#made { display: none; }</style></head>"))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,1000"]
    subprocess.run([browser, *options, f"--screenshot={raw}", short.as_uri()], check=True, capture_output=True)
    Image.open(raw).convert("RGB").quantize(256).save(out, optimize=True)


def redraw_tables() -> None:
    """The pictures of docs/tables, without the runs that made the tables."""
    accuracies: dict[str, list[float]] = {}
    for run in csv.DictReader((TABLES / "digits_readers.csv").open()):
        values = (run["dataset"], run["model"], "canonical" if run["canonical"] == "True" else "as stored")
        accuracies.setdefault(f"{', '.join(values)}, views {run['views']}", []).append(
            100 * float(run["test_accuracy"])
        )
    rows = [(name, float(np.mean(each)), float(np.std(each, ddof=1)), None) for name, each in accuracies.items()]
    draw_table(rows, IMAGES / "digits_readers.png", "digits_readers: accuracy of classifiers of weights, three seeds")
    lines = [line.strip("| \n").split(" | ") for line in (TABLES / "which_inrs.md").read_text().splitlines()]
    series: dict[str, list[tuple[float, float, float, str]]] = {}
    for optimizer, start, omega_0, stop, _, _, cost, accuracy in (
        line for line in lines if len(line) == 8 and line[2].isdigit()
    ):
        mean, _, spread = accuracy.partition(" (")[0].partition(" ± ")
        point = (float(cost), float(mean), float(spread or 0), "all" if stop == "none" else stop.split()[0])
        series.setdefault(f"{optimizer}, {start}, omega_0 {omega_0}", []).append(point)
    drawn = [
        Series(name, tuple(point[:3] for point in sorted(each)), tuple(point[3] for point in sorted(each)))
        for name, each in sorted(series.items())
    ]
    draw_trade(drawn, IMAGES / "which_inrs.png", HEADING, "ms of one core per INR", "fit; labels: dB at which it stops")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with FashionMNIST/raw")
    parser.add_argument("--work", type=Path, required=True, help="folder for the sets")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    accurate = fit("fashion_mnist_40db", options.work, options.data_root, 1, 600)
    fashion = fit("fashion_mnist", options.work, options.data_root, 2, 600)
    digits = fit("digits", options.work, options.data_root, 2, None)
    shapes = fit("primitives", options.work, options.data_root, 1, None, "source.per_class=3")
    inr.show_dataset(accurate, IMAGES / "show.png", data_root=options.data_root)
    images_at_any_size(fashion, options.data_root, IMAGES / "gallery_images.png")
    inr.show_dataset(digits, IMAGES / "gallery_digits.png", split="test")
    trousers = [pick(fashion, view, label=1) for view in (0, 1)]
    mixture(*trousers, IMAGES / "gallery_mixture.png")
    turning(shapes, IMAGES / "gallery_shapes.webp", "torus", "stairs", "star")
    page = report_dataset(fashion, options.work / "report.html", data_root=options.data_root).path
    screenshot(page, IMAGES / "gallery_report.png")
    redraw_tables()


if __name__ == "__main__":
    main()
