"""`status`, `verify` and `show`: what is in a set, is it whole, and what do its INRs look like."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from inr_factory.cli import terminal
from inr_factory.cli.commands.show_shapes import show_shapes
from inr_factory.cli.commands.watch import watch_set
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_messages import log_quarantine
from inr_factory.cli.shared_options import (
    DataRoot,
    DatasetFolder,
    DatasetLocation,
    Json,
)
from inr_factory.errors import IntegrityError, PartialError, UsageError
from inr_factory.reporting.number_format import format_count


def status(
    dataset: DatasetLocation,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="list every object in quarantine")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="look again and again, until nothing is missing")] = False,
    every: Annotated[float, typer.Option(help="seconds between two looks of --watch", min=0.1)] = 5.0,
    as_json: Json = False,
) -> None:
    """Say what is in a set and what is missing. Exit code 75 while something is."""
    from inr_factory.generation.maintenance.integrity_check import median_quality
    from inr_factory.storage.manifest import SPLITS, median_psnr
    from inr_factory.storage.manifest_file import load_manifest

    if watch:
        watch_set(dataset, every, as_json)
        if as_json:
            return
    manifest = load_manifest(dataset)
    missing = set(manifest.missing(dataset))
    rows: list[tuple[tuple[Any, ...], tuple[Any, ...], dict[str, float]]] = []
    qualities: dict[str, None] = {}
    for view in range(manifest.views):
        for split in SPLITS:
            if split not in manifest.splits:
                continue
            entries = [entry for entry in manifest.shards if (entry.split, entry.view) == (split, view)]
            done = [entry for entry in entries if entry.path not in missing]
            lowest = min((entry.psnr.min for entry in done if entry.psnr), default=None)
            bad = sum(len(entry.quarantine) for entry in done)
            blocks = manifest.splits[split].blocks
            medians = median_quality(dataset, done)
            qualities.update(dict.fromkeys(medians))
            counts = (split, view, f"{len(done)} of {blocks}", sum(e.rows for e in done))
            rows.append((counts, (median_psnr(done), lowest, bad), medians))
    size = sum(entry.bytes for entry in manifest.shards)
    columns = ["split", "view", "shards", "INRs", *[f"median {name}" for name in qualities], "median dB", "lowest dB"]
    columns += ["quarantined"]
    table = [(*counts, *[medians.get(name) for name in qualities], *rest) for counts, rest, medians in rows]
    if as_json:
        terminal.print_json({
            "name": manifest.name, "spec": str(manifest.siren_spec), "source": manifest.source.model_dump(),
            "classes": list(manifest.classes), "views": manifest.views, "inrs": manifest.rows, "bytes": size,
            "missing_shards": sorted(missing), "quarantine": [row.model_dump() for row in manifest.quarantine],
            "parts": [dict(zip(columns, row, strict=True)) for row in table],
        })  # fmt: skip
    else:
        source = manifest.source
        terminal.print_result(
            f"{manifest.name}: {manifest.rows:,} INRs, {manifest.siren_spec}, {size / 1e6:,.1f} MB in {dataset}"
        )
        terminal.print_result(
            f"of {source.name} ({source.version}; licence: {source.licence}), {len(manifest.classes)} classes\n"
        )
        shown = [[cell if cell is not None else "-" for cell in row] for row in table]
        terminal.print_table(columns, shown)
    log_quarantine(list(manifest.quarantine), most=10**9 if quarantine else 5)
    if missing:
        raise PartialError(f"{len(missing):,} shards are missing; inr-factory fit with the set's recipe makes them")


def verify(
    dataset: DatasetLocation,
    render: Annotated[bool, typer.Option("--render", help="render the INRs again and compare with the source")] = False,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Check the record and every shard against their checksums, and the INRs against their source.

    Exit code 4 means faults, which are named; `repair` removes them.
    """
    from inr_factory.generation.maintenance.verify import verify_dataset

    with ShardProgress("verify", None) as progress:
        report = verify_dataset(dataset, render=render, data_root=data_root, on_shard=progress)
    total, rendered, faults, missing = len(report.manifest.shards), report.rendered, report.faults, report.missing
    if as_json:
        result: dict[str, Any] = {"shards": total, "inrs": report.manifest.rows}
        if rendered is not None:
            result |= {"rendered": rendered.inrs, "median_psnr": round(rendered.median_psnr, 3)}
            result |= {"max_psnr_gap": round(rendered.max_psnr_gap, 5)}
        terminal.print_json({**result, "missing_shards": list(missing), "faults": [vars(fault) for fault in faults]})
    else:
        terminal.print_result(f"{report.valid:,} of {total:,} shards are valid")
        if rendered is not None:
            terminal.print_result(
                f"{rendered.inrs:,} INRs rendered again: median {rendered.median_psnr:.2f} dB, at most "
                f"{rendered.max_psnr_gap:.4f} dB different from the shards"
            )
    if faults:
        for fault in faults:
            terminal.log_error(f"fault: {fault.reason}")
        raise IntegrityError(
            f"{format_count(len(faults), 'fault')} in {dataset}: {', '.join(f.path for f in faults[:3])}"
        )
    if missing:
        terminal.log_error(
            f"{len(missing):,} shards are not made yet; inr-factory fit with the set's recipe makes them"
        )


def show(
    dataset: DatasetFolder,
    picture: Annotated[
        Path | None, typer.Option("--out", help="PNG to write; else DATASET/preview.png", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option(help="how many INRs", min=1, max=60)] = 10,
    split: Annotated[str | None, typer.Option(help="train, val or test", show_default=False)] = None,
    objects: Annotated[
        list[str] | None, typer.Option("--object", help="all views of this object; repeatable", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    meshes: Annotated[
        Path | None,
        typer.Option(
            "--mesh", help="folder for the surfaces of INRs of shapes, in their own units", show_default=False
        ),
    ] = None,
    mesh_format: Annotated[Literal["ply", "glb"], typer.Option("--format", help="of those files")] = "ply",
    resolution: Annotated[int, typer.Option(help="points along each side, for surfaces", min=8, max=512)] = 128,
    as_json: Json = False,
) -> None:
    """Draw INRs beside what they were fitted to into a PNG: images with the difference, shapes with distances."""
    from inr_factory.generation.maintenance.dataset_source import open_dataset_source
    from inr_factory.reporting.image_gallery import choose_views, reconstruct
    from inr_factory.reporting.plots import draw_reconstructions
    from inr_factory.storage.manifest_file import load_manifest

    manifest = load_manifest(dataset)
    picture = picture or dataset / "preview.png"
    is_shapes = manifest.siren_spec.in_dim == 3
    if manifest.siren_spec.in_dim not in (2, 3):
        raise UsageError(f"show draws images and shapes, {dataset} has INRs of {manifest.siren_spec.in_dim} inputs")
    if meshes is not None and not is_shapes:
        raise UsageError(f"--mesh is for sets of shapes, {dataset} has INRs of {manifest.siren_spec.in_dim} inputs")
    chosen = choose_views(dataset, manifest, count, split, objects or [])
    # Distances from other shapes of these names would be wrong in silence.
    source, without = open_dataset_source(manifest, dataset, data_root, check=is_shapes)
    if without:
        terminal.log_info(f"without the sources: {without}")
    if is_shapes:
        show_shapes(dataset, manifest, chosen, source, picture, meshes, f".{mesh_format}", resolution, as_json)
        return
    shown = reconstruct(dataset, manifest, chosen, source)
    draw_reconstructions(shown, picture, f"{manifest.name}: {manifest.siren_spec}")
    result = {"picture": str(picture), "inrs": len(shown)}
    terminal.print_json(result) if as_json else terminal.print_result(f"{picture}: {len(shown)} INRs")
