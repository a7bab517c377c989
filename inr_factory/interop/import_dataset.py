"""Import: other projects' INRs as a set, shard by shard, so that an interrupted import resumes.

With a sidecar an export comes back as the set that it was; import_foreign.py imports all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.regular_files import as_path
from inr_factory.interop.conventions import from_convention
from inr_factory.interop.export import format_of
from inr_factory.interop.format import ForeignRow, Format, Hints
from inr_factory.interop.import_foreign import ForeignImport
from inr_factory.interop.import_options import (
    ImportOptions,
    ImportReport,
    open_or_create_set,
    parse_classes,
    parse_dims,
    parse_size,
    stack_contents,
)
from inr_factory.interop.sidecar import SIDECAR, SavedShard, Sidecar, load_sidecar
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import ShardEntry, shard_path
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import typed_columns, write_shard
from inr_factory.storage.targets import copy_targets

OnShard = Callable[[ShardEntry], None]


def import_dataset(
    path: str | Path,
    format: str,
    out: str | Path,
    *,
    spec: str | Sequence[int] | None = None,
    convention: str | None = None,
    omega_0: float | None = None,
    first_omega_0: float | None = None,
    output_bias: float | None = None,
    order: str | None = None,
    targets: str | None = None,
    activation: str | None = None,
    frequencies: int | None = None,
    first_frequency: float | None = None,
    coordinates: bool | None = None,
    source: str | Path | Recipe | None = None,
    data_root: str | Location | None = None,
    splits: str | Path | None = None,
    allow_missing: bool = False,
    num_signals: int | None = None,
    classes: str | int | Sequence[str] | None = None,
    size: str | tuple[int, int] | None = None,
    shard_objects: int = 500,
    no_sidecar: bool = False,
    unchecked: bool = False,
    on_shard: OnShard | None = None,
) -> ImportReport:
    """Make a data set of INRs in another project's format.

    An interrupted import resumes with the same call.

    Args:
        path: folder of the corpus.
        format: name of its format, as `FORMATS` lists them.
        out: folder of the new set.
        spec: dims of the INRs, as "2-32-32-1" or numbers, the inputs of the first layer first; needed for inr2vec alone.
        convention: what the numbers mean; None takes the format's own.
        omega_0: of the sine layers, where the convention does not fix it.
        first_omega_0: of the first layer, where it differs; it is folded into that layer's weights and biases.
        output_bias: what the project's code adds to the output.
        order: of the coordinates, "xy" or "rowcol".
        targets: range of the values: unit, signed, imagenet, cifar10, mnist, raw, or "MEAN/STD" by channel.
        activation: of the hidden layers, where it is not the convention's: sine, relu, tanh, gauss or finer.
        frequencies: those of a positional encoding, 0 for none; see `SirenSpec`.
        first_frequency: the lowest of them.
        coordinates: whether the encoding has the coordinates themselves, before sines and cosines.
        source: recipe of the objects; INRs are rendered and compared with them, and their PSNR is stored.
        data_root: folder or URL of the source's files.
        splits: a splits.json; None takes the one in `path`, if there is one.
        allow_missing: accept that files named in the splits are missing.
        num_signals: objects of a view, where rows count through the views (fit-a-nef).
        classes: number of classes, or their names.
        size: height and width of the images, where no source has it.
        shard_objects: objects of a shard, 1 to 1,000,000.
        no_sidecar: ignore inr_factory.json.
        unchecked: import INRs even if they do not show their images.
        on_shard: called after each shard that was written.

    Returns:
        The set's manifest, how many shards were written, remarks, and the comparison with the source.

    Raises:
        UsageError: for options that are missing or contradict each other, or an `out` that holds another set.
        IntegrityError: for files that are damaged, foreign or mixed, and a convention that does not show the images.
    """
    if not 1 <= shard_objects <= 1_000_000:
        raise UsageError(f"--shard-objects must be from 1 to 1,000,000, got {shard_objects}")
    root, out, format_ = as_path(path, "the INRs"), as_path(out, "the new set"), format_of(format)
    options = ImportOptions(
        convention=convention, omega_0=omega_0, first_omega_0=first_omega_0, output_bias=output_bias, order=order, targets=targets,
        activation=activation, frequencies=frequencies, first_frequency=first_frequency, coordinates=coordinates,
        hints=Hints(None if splits is None else Path(splits), num_signals, parse_dims(spec), allow_missing),
        source=source if source is None or isinstance(source, Recipe) else load_recipe(str(source)),
        data_root=None if data_root is None else parse_location(data_root), unchecked=unchecked,
        classes=parse_classes(classes), size=parse_size(size), shard_objects=shard_objects,
    )  # fmt: skip
    if out.exists() and root.exists() and out.resolve() == root.resolve():
        raise UsageError(f"{out} is what is imported; the set needs a folder of its own")
    sidecar = load_sidecar(root) if not no_sidecar and root.is_dir() else None
    if sidecar is None:
        report = ForeignImport(root, format_, options).make(out, on_shard)
    else:
        report = _restore(root, format_, out, sidecar, options, on_shard)
    update_card_if_complete(out, report.manifest)
    return report


def _restore(
    root: Path, format_: Format, out: Path, sidecar: Sidecar, options: ImportOptions, on_shard: OnShard | None
) -> ImportReport:
    """The set that was exported; each row is checked against the checksum that it had."""
    if sidecar.format != format_.name:
        raise UsageError(f"{root / SIDECAR} says that this is {sidecar.format}; give --from {sidecar.format}")
    if options.names_convention:
        raise UsageError(f"{SIDECAR} says what the numbers mean; leave the convention out, or give --no-sidecar")
    spec, convention = sidecar.manifest.siren_spec, sidecar.convention.convention
    convention = convention.of_kind(convention.foreign_spec(spec))
    dims = (spec.encoded_dim, *(outputs for outputs, _ in spec.layer_shapes))
    hints = replace(options.hints, dims=dims)
    open_or_create_set(out, sidecar.manifest.model_copy(update={"targets": None}))
    manifest = copy_targets(root, sidecar.manifest, out)
    missing, made = set(manifest.missing(out)), 0
    for shard in sidecar.shards:
        if shard_path(shard.split, shard.view, shard.block) not in missing:
            continue
        columns = {name: column.array() for name, column in shard.columns.items()}
        checksums = columns.pop("checksum")
        rows = _rows_of(shard, columns)
        foreign = stack_contents(format_.read(root, rows, hints), rows, dims, convention)
        native = from_convention(foreign, convention)
        columns["weights"] = INRBatch(spec, native.weights, native.biases).flatten().numpy()
        wrong = np.flatnonzero(typed_columns(columns)["checksum"] != checksums)
        if wrong.size:
            raise IntegrityError(
                f"{rows[int(wrong[0])].path} is not what was exported (its checksum differs); export it again, or give "
                "--no-sidecar to take it as it is"
            )
        attributes = {name: str(value) for name, value in shard.attributes.items()}
        entry = write_shard(out, (shard.split, shard.view, shard.block), spec, columns, shard.quarantine, attributes)
        manifest, made = update_manifest(out, manifest.head, [entry]), made + 1
        if on_shard is not None:
            on_shard(entry)
    return ImportReport(manifest, made, (f"{SIDECAR} says what the files lack: this is the set that was exported",))


def _rows_of(shard: SavedShard, columns: dict[str, NDArray[Any]]) -> list[ForeignRow]:
    columns_of_rows = zip(
        columns["object_id"].tolist(), columns["label"].tolist(), shard.files, shard.rows, strict=True
    )
    return [
        ForeignRow(name, shard.split, shard.view, int(label), path, row) for name, label, path, row in columns_of_rows
    ]
