"""Export: a set in another project's format, with a sidecar for what the format cannot hold. Atomic."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import DISK_FULL, ResourceError, UsageError, did_you_mean
from inr_factory.inr.arguments import check_flags
from inr_factory.inr.batch import INRBatch
from inr_factory.interop.code_layouts import CODE_FORMATS
from inr_factory.interop.conventions import CONVENTIONS, Convention, aspect_of, to_convention
from inr_factory.interop.file_per_shard import SELF_DESCRIBING_FORMATS
from inr_factory.interop.fit_a_nef import FitANef
from inr_factory.interop.format import ExportRow, Format, natural_sort_key
from inr_factory.interop.peer_layouts import INR_FORMATS
from inr_factory.interop.previews import check_previews, render_previews
from inr_factory.interop.sidecar import SIDECAR, SavedConvention, Sidecar, describe_shard, export_identity, load_sidecar
from inr_factory.interop.weight_statistics import Statistics
from inr_factory.storage.atomic_files import make_folder, writer_alive, writer_name
from inr_factory.storage.card_notes import load_card_notes
from inr_factory.storage.card_readme import readme
from inr_factory.storage.dataset_card import README, shard_columns
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader
from inr_factory.storage.targets import checked_image

ALL_FORMATS: tuple[Format, ...] = (*INR_FORMATS, *CODE_FORMATS, FitANef(), *SELF_DESCRIBING_FORMATS)
FORMATS: Mapping[str, Format] = {each.name: each for each in ALL_FORMATS}


@dataclass(frozen=True)
class ExportReport:
    """The result of an export: INRs and files written, 0 where the same export existed; its convention; remarks."""

    inrs: int
    files: int
    convention: str
    remarks: tuple[str, ...]


def format_of(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; {did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def export_dataset(
    dataset: str | Path,
    to: str,
    out: str | Path,
    *,
    views: int | None = None,
    convention: str | None = None,
    preview: bool = False,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> ExportReport:
    """Write a data set in another project's format.

    All is written into a hidden folder next to `out`, which is renamed when it is complete; hidden folders that killed
    exports left are removed.

    Args:
        dataset: folder or URL of the set.
        to: name of the format, as `FORMATS` lists them.
        out: folder of the export; it must not exist yet, unless it holds this very export.
        views: export only the first views; None exports all.
        convention: of the numbers; None takes the format's own if an import gives the same bits again, otherwise
            the set's, and remarks on it.
        preview: add a column of small pictures of the INRs, which hubs show; of parquet alone.
        on_shard: called after each shard that was read.

    Returns:
        Counts of INRs and files, the convention, and remarks.

    Raises:
        UsageError: for a set with missing shards, several views where the format holds one, previews where it holds
            none or the INRs show nothing, a convention that cannot be reached without rounding, or an `out` that holds something else.
        IntegrityError: for a shard that is not as recorded.
    """
    root, out, format_ = fetch_dataset(dataset), Path(out), format_of(to)
    manifest = load_manifest(root)
    manifest = manifest.with_views(_count_views(manifest, views))
    entries = [entry for entry in manifest.shards if entry.view < manifest.views]
    missing = manifest.missing(root)
    if missing:
        raise UsageError(
            f"{root} lacks shards ({len(missing):,}, first {missing[0]}); fit them first, or export fewer --views"
        )
    if format_.one_view and manifest.views > 1:
        raise UsageError(f"{to} holds one view of an object, the set has {manifest.views}; give --views 1")
    if reason := format_.refusal(manifest.siren_spec):
        raise UsageError(f"{to} holds {reason}, the set has {manifest.siren_spec}; export it --to safetensors")
    check_flags(preview=preview)
    if preview and not format_.for_viewers:
        raise UsageError(f"{to} holds no previews; export --to parquet, or leave --preview out")
    chosen, remarks = _choose_convention(root, manifest, entries, format_, convention)
    identity = export_identity(to, SavedConvention.of(chosen), manifest, [entry.sha256 for entry in entries], preview)
    if out.exists():
        _check_same(out, identity)
        return ExportReport(0, 0, str(chosen), ())
    rows_of = number_rows(root, manifest, entries)
    head = _set_head(root, manifest, entries, chosen)
    with _atomic_folder(out, identity) as folder:
        shards, written = [], list[tuple[ExportRow, str]]()
        statistics = Statistics(manifest.siren_spec)
        for entry in entries:
            shard = ShardReader(root, entry)
            rows = rows_of[entry.path]
            columns = {column: np.array(shard.column(column)) for column in shard.column_names}
            inrs = INRBatch.from_flat(shard.spec, torch.from_numpy(columns["weights"]))
            if preview:
                check_previews(shard.spec, columns)
                columns["preview"] = render_previews(inrs, columns, head["field"])
            foreign = _convert(inrs, chosen)
            targets = format_.write(folder, rows, foreign, columns, head)
            if entry.split == "train":
                statistics.add(foreign)
            written += [(row, path) for row, (path, _) in zip(rows, targets, strict=True)]
            shards.append(describe_shard(shard, entry.sha256, targets))
            if on_shard is not None:
                on_shard(entry)
        format_.finish(folder, out.name, written, statistics)
        sidecar = Sidecar(
            format=to,
            convention=SavedConvention.of(chosen),
            manifest=manifest.head,
            identity=identity,
            shards=tuple(shards),
            preview=preview,
        )
        if manifest.targets is not None:
            (folder / manifest.targets.path).write_bytes(checked_image(root, manifest.targets))
        if format_.for_viewers:
            (folder / README).write_text(_card(root, manifest, entries, chosen, identity, preview), "utf-8")
        (folder / SIDECAR).write_bytes(sidecar.to_bytes())
        files = sum(path.is_file() for path in folder.rglob("*"))
    return ExportReport(len(written), files, str(chosen), (*remarks, f"beside {SIDECAR}, {to} lacks {format_.lacks}"))


def _set_head(root: Path, manifest: Manifest, entries: list[ShardEntry], convention: Convention) -> dict[str, Any]:
    """The description of the set for formats that can hold one."""
    said = next((ShardReader(root, entry, check=False).attributes for entry in entries), {})
    source = manifest.source.model_dump(mode="json")
    written = SavedConvention.of(convention).model_dump(mode="json")
    # What the set says in words of its coordinates and values does not hold for another convention.
    described = ("parameters", "conventions") if convention.name == "inr-factory" else ("parameters",)
    return {
        "name": manifest.name, "classes": list(manifest.classes), "source": source, "field": said.get("field", "values"),
        "convention": written, **{name: json.loads(str(said[name])) for name in described if name in said},
    }  # fmt: skip


def _card(
    root: Path, manifest: Manifest, entries: list[ShardEntry], convention: Convention, identity: str, preview: bool
) -> str:
    """README.md of an export: hubs take its licence and the files of each split and view from there."""
    spec = convention.foreign_spec(manifest.siren_spec)
    exported = manifest.model_copy(update={"shards": tuple(entries), "spec": spec.to_dict()})
    stored = shard_columns(root, exported)
    kinds = {"preview": "image"} if preview else {}
    kinds |= {"split": "string"} | {name: kind for name, kind in stored.items() if name != "checksum"}
    return readme(exported, kinds, f"inr-factory export: {identity}", load_card_notes(root), str(convention))


def native_convention(manifest: Manifest) -> Convention:
    """The convention of a set's own weights."""
    spec = manifest.siren_spec
    native = replace(CONVENTIONS["inr-factory"], omega_0=spec.omega_0, output_bias=spec.output_bias, start=spec.start)
    return native.of_kind(spec)


def _count_views(manifest: Manifest, views: int | None) -> int:
    if views is not None and not 1 <= views <= manifest.views:
        raise UsageError(f"{manifest.name} has {manifest.views} views, --views {views} was asked for")
    return views or manifest.views


def _choose_convention(
    root: Path, manifest: Manifest, entries: list[ShardEntry], format_: Format, requested: str | None
) -> tuple[Convention, list[str]]:
    """The convention in which the weights are written, and a remark where it is not the format's own."""
    native = native_convention(manifest)
    name = requested or format_.convention
    if name not in CONVENTIONS:
        raise UsageError(f"unknown convention {name!r}; {did_you_mean(name, CONVENTIONS)}")
    named = CONVENTIONS[name]
    if name == native.name or named.targets is None or (named.targets.raw and named.extent == 1):
        return native, []
    spec = manifest.siren_spec
    wanted = replace(
        named,
        omega_0=spec.omega_0 if named.omega_0 is None else named.omega_0,
        output_bias=spec.output_bias if named.output_bias is None else named.output_bias,
        frequencies=spec.frequencies if named.frequencies else 0,
        aspect=_aspect(root, entries) if named.aspect is None else named.aspect,
    )
    why = "its images differ in size" if wanted.aspect is None else wanted.difference(spec)
    if not why and _is_reversible(root, entries, wanted):
        return wanted, []
    why = why or f"the set ({native}) cannot be written as {name} ({wanted}) without rounding"
    if requested is not None:
        raise UsageError(f"{why}; give --convention inr-factory to write its weights as they are")
    return native, [f"{why}: its weights stand as they are, and {SIDECAR} says what they mean"]


def _is_reversible(root: Path, entries: list[ShardEntry], convention: Convention) -> bool:
    """Whether conversion and back gives every INR the same bits again."""
    shards = (ShardReader(root, entry, check=False) for entry in entries)
    batches = (INRBatch.from_flat(s.spec, torch.from_numpy(np.array(s.column("weights")))) for s in shards)
    return all(to_convention(batch, convention) is not None for batch in batches)


def _aspect(root: Path, entries: list[ShardEntry]) -> float | None:
    """The aspect of the images, 1 of sets without sizes, or None where images differ in size."""
    shards = [ShardReader(root, entry, check=False) for entry in entries]
    sizes = {
        size
        for shard in shards
        if {"height", "width"} <= set(shard.column_names)
        for size in zip(shard.column("height").tolist(), shard.column("width").tolist(), strict=True)
    }
    return 1.0 if not sizes else aspect_of(sizes.pop()) if len(sizes) == 1 else None


def _convert(inrs: INRBatch, convention: Convention) -> INRBatch:
    if convention.name == "inr-factory":
        return inrs
    foreign = to_convention(inrs, convention)
    assert foreign is not None  # _is_reversible has tried all
    return foreign


def number_rows(root: Path, manifest: Manifest, entries: list[ShardEntry]) -> dict[str, list[ExportRow]]:
    """The rows of each shard. Objects named train/N and test/N have these official numbers; others are counted: train,
    then val, and test separately."""
    splits: dict[str, dict[str, None]] = {split: {} for split in SPLITS}
    shards = {entry.path: ShardReader(root, entry, check=False) for entry in entries}
    ids = {path: shard.object_ids for path, shard in shards.items()}
    for entry in entries:
        splits[entry.split].update(dict.fromkeys(ids[entry.path]))
    ordered = {split: sorted(names, key=natural_sort_key) for split, names in splits.items()}
    positions = {name: index for names in ordered.values() for index, name in enumerate(names)}
    numbers = {name: _official_number(name) for names in ordered.values() for name in names}
    if any(number is None for number in numbers.values()):
        training = [*ordered["train"], *ordered["val"]]
        numbers = {name: ("train", index) for index, name in enumerate(training)}
        numbers |= {name: ("test", index) for index, name in enumerate(ordered["test"])}
    rows: dict[str, list[ExportRow]] = {}
    for entry in entries:
        labels = shards[entry.path].column("label").tolist()
        rows[entry.path] = []
        for name, label in zip(ids[entry.path], labels, strict=True):
            number = numbers[name]
            assert number is not None
            rows[entry.path].append(ExportRow(name, entry.split, entry.view, label, *number, positions[name]))
    return rows


def _official_number(object_id: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(train|test)/(\d{1,9})", object_id)
    return (match[1], int(match[2])) if match else None


def _check_same(out: Path, identity: str) -> None:
    sidecar = load_sidecar(out) if out.is_dir() else None
    if sidecar is None or sidecar.identity != identity:
        raise UsageError(f"{out} is there and is not this export; choose another --out")


@contextlib.contextmanager
def _atomic_folder(out: Path, identity: str) -> Iterator[Path]:
    """A hidden folder next to `out` that is renamed to it at the end, or removed if anything fails.

    Another call may have made the same export meanwhile, which then stays. UsageError where it made something else.
    """
    make_folder(out.parent)
    for path in out.parent.glob(f".{out.name}.*.export"):
        writer = path.name.removeprefix(f".{out.name}.").removesuffix(".export")
        if re.fullmatch(r"\w+-\d{1,9}", writer) and writer_alive(writer) is False:
            shutil.rmtree(path)
    folder = out.with_name(f".{out.name}.{writer_name()}.export")
    try:
        folder.mkdir()
    except FileExistsError:
        raise UsageError(f"this process is making the export {out} already; wait for it") from None
    try:
        yield folder
        _sync(folder / SIDECAR)
        _sync(folder)
        try:
            os.rename(folder, out)
        except OSError:
            if not os.path.lexists(out):
                raise
            _check_same(out, identity)
            shutil.rmtree(folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise ResourceError(f"the disk is full: no space for {out}; free some space and run again") from None
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
