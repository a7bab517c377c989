"""Import without a sidecar: INRs in another project's format, described by nothing but their files.

Options or a convention give what the files lack; INRs are rendered to check it where the source is available.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.signal_reading import read_signal
from inr_factory.generation.fit_config import FitConfig, SpecConfig
from inr_factory.generation.maintenance.render_check import mean_squared_errors
from inr_factory.generation.signals import Signal, SignalError, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.version import __version__
from inr_factory.interop.convention_check import FLOOR_DB, NUM_CHECKED, ConventionCheck, try_conventions
from inr_factory.interop.conventions import Convention, complete_convention, from_convention
from inr_factory.interop.format import Contents, ForeignRow, Format
from inr_factory.interop.import_options import ImportOptions, ImportReport, open_or_create_set, stack_contents
from inr_factory.interop.import_plan import ImportPlan, ShardKey, fingerprint_of, plan_import
from inr_factory.interop.sidecar import SavedConvention
from inr_factory.storage.manifest import Derived, Manifest, ShardEntry, SourceRecord, shard_path
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import write_shard

NOT_KNOWN = "psnr and loss nan, seed, steps and status -1: not known"


class ForeignImport:
    """An import without a sidecar: the files below a folder, and what is known of them."""

    def __init__(self, root: Path, format_: Format, options: ImportOptions) -> None:
        self.root, self.format, self.options = root, format_, options
        files = format_.list_files(root, options.hints)
        if not files.rows:
            raise UsageError(f"{root} has no INR of format {format_.name} that a split names")
        self.head, self.remarks = dict(files.head or {}), list(files.remarks)
        self.plan: ImportPlan = plan_import(files.rows, options.shard_objects)
        self.convention = self._convention()
        first = self.plan.rows[0]
        contents = self._read([first])
        self.dims = options.hints.dims or contents.layers[0].dims
        stack_contents(contents, [first], self.dims, self.convention)
        self.source = self._source()
        self.labelled = first.label is not None or contents.labels[0] is not None or self.source is not None
        self.check: ConventionCheck | None = None
        if self.source is not None and not options.unchecked:
            self._check_convention(self.source)
        elif self.source is None:
            self.remarks.append(
                f"taken as {self.convention.name}: {self.convention}; --source RECIPE checks it by rendering"
            )
        # Nothing is written before the conversion of one INR has succeeded.
        from_convention(stack_contents(contents, [first], self.dims, self.convention), self.convention)

    def _convention(self) -> Convention:
        """The convention by options, otherwise by the files, otherwise by the format."""
        options, parts = self.options, self.options.convention_parts
        fields = self.head.get("convention")
        try:
            spec = SirenSpec.from_dict(self.head["spec"]) if "spec" in self.head else None
            if fields is not None and options.convention is None:
                saved = SavedConvention.model_validate(fields).convention
                omega_0 = saved.omega_0 if options.omega_0 is None else options.omega_0
                output_bias = saved.output_bias if options.output_bias is None else options.output_bias
                chosen = replace(saved, omega_0=omega_0, output_bias=output_bias, start=self.head["spec"]["start"])
                if all(value is None for name, value in parts.items() if name not in ("omega_0", "output_bias")):
                    return chosen if spec is None else chosen.of_kind(spec)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"the files in {self.root} do not say what they hold: {error}"[:300]) from None
        parts |= {
            name: self.head[name] for name in ("omega_0", "activation") if name in self.head and parts[name] is None
        }
        chosen = complete_convention(options.convention or self.format.convention, **parts, size=options.size)
        return chosen if spec is None else chosen.of_kind(spec)

    def _read(self, rows: Sequence[ForeignRow]) -> Contents:
        return self.format.read(self.root, rows, self.options.hints)

    def _source(self) -> Source | None:
        """The collection of the objects. IntegrityError where it lacks one of them."""
        recipe = self.options.source
        if recipe is None:
            return None
        source = open_source(recipe.source, self.options.data_root)
        if (source.in_dim, source.out_dim) != (self.spec.in_dim, self.spec.out_dim):
            raise UsageError(
                f"{source.name} gives {source.in_dim} inputs and {source.out_dim} outputs, the INRs have "
                f"{self.spec.in_dim} and {self.spec.out_dim}; name another --source"
            )
        self.index_of = {item.object_id: index for index, item in enumerate(source.items)}
        unknown = [row for row in self.plan.rows if row.object_id not in self.index_of]
        if unknown:
            raise IntegrityError(
                f"{source.name} lacks {len(unknown):,} of the objects, first {unknown[0].object_id} ({unknown[0].path}); "
                "name the recipe that these were made of, or leave --source out"
            )
        return source

    def _signal(self, source: Source, object_id: str) -> Signal:
        try:
            return read_signal(source, self.index_of[object_id])
        except SignalError as error:
            raise IntegrityError(f"{object_id} cannot be read from {source.name}: {error}") from None

    def _check_convention(self, source: Source) -> None:
        """Render some INRs. A convention that fits replaces the default one; an explicit one that does not is refused."""
        if self.convention.targets is not None and self.convention.targets.raw:
            self.remarks.append("raw values cannot be compared with the source: not checked")
            return
        rows = self.plan.rows
        chosen = [rows[index] for index in np.unique(np.linspace(0, len(rows) - 1, NUM_CHECKED).round().astype(int))]
        contents = self._read(chosen)
        stack_contents(contents, chosen, self.dims, self.convention)
        signals = [self._signal(source, row.object_id) for row in chosen]
        self.check = check = try_conventions(contents.layers, signals, self.convention)
        if check.fits:
            return
        result = f"{check.requested} gives {check.requested_db:.1f} dB"
        if not check.any_fits:
            raise IntegrityError(
                f"no convention shows the images of {source.name}: {result}, the best of all tried {check.best_db:.1f} dB, below "
                f"{FLOOR_DB:g}; are these INRs of other objects? --unchecked imports them all the same"
            )
        if self.options.names_convention:
            raise IntegrityError(
                f"{result}, but {check.best} gives {check.best_db:.1f}; leave the convention to the check, or give --unchecked"
            )
        self.remarks.append(f"{result}; taken as {check.best}, which fits best: {check.best_db:.1f} dB")
        self.convention = check.best

    @property
    def spec(self) -> SirenSpec:
        return self.convention.stored_spec(self.convention.spec(self.dims))

    @property
    def classes(self) -> tuple[str, ...]:
        requested = self.options.classes
        if isinstance(requested, tuple):
            return requested
        if not self.labelled:
            return ("unlabelled",)
        if self.source is not None and requested is None:
            return self.source.classes
        if "classes" in self.head and requested is None:
            return tuple(map(str, self.head["classes"]))
        known = [row.label for row in self.plan.rows if row.label is not None]
        count = requested or max(40 if self.format.name == "inr2vec" else 10, max(known, default=0) + 1)
        return tuple(map(str, range(count)))

    def manifest(self, out: Path) -> Manifest:
        """The head of the set. Its recipe names the source, if that is available, and the engine "none"."""
        options, spec, convention = self.options, self.spec, self.convention
        written = SavedConvention.of(convention)
        facts = {
            "format": self.format.name, "spec": spec.to_dict(), "convention": written.model_dump(mode="json"),
            "classes": self.classes, "shard_objects": options.shard_objects, "size": options.size,
            "source": self.source.fingerprint if self.source else None,
        }  # fmt: skip
        digest = fingerprint_of(self.root, self.plan.rows, facts)
        recipe: dict[str, Any] = {"views": self.plan.views}
        origin = SourceRecord(
            name=self.format.name, version="imported", licence="unknown: the files do not say", fingerprint=digest
        )
        if "source" in self.head and self.source is None:
            origin = SourceRecord.model_validate(self.head["source"])
        if options.source is not None and self.source is not None:
            sections = {"spec": _spec_section(spec), "fit": FitConfig(engine="none"), "views": self.plan.views}
            recipe = options.source.model_copy(update=sections).model_dump(mode="json")
            origin = SourceRecord(
                name=self.source.name, version=self.source.version, licence=self.source.licence,
                fingerprint=self.source.fingerprint,
            )  # fmt: skip
        return Manifest(
            name=out.name, spec=spec.to_dict(), recipe=recipe, fingerprint=digest, source=origin, classes=self.classes,
            splits=dict(self.plan.splits), software={"inr-factory": __version__},
            derived=Derived(of=digest, how=f"import:{self.format.name}, {convention.name}: {convention}"),
        )  # fmt: skip

    def make(self, out: Path, on_shard: Callable[[ShardEntry], None] | None) -> ImportReport:
        manifest = self.manifest(out)
        recorded = open_or_create_set(out, manifest)
        missing, made = set(recorded.missing(out)), 0
        for key, rows in self.plan.shards.items():
            if shard_path(*key) not in missing:
                continue
            entry = self._write(out, manifest, key, rows)
            recorded, made = update_manifest(out, recorded.head, [entry]), made + 1
            if on_shard is not None:
                on_shard(entry)
        remarks = list(self.remarks)
        if not self.labelled:
            remarks.append("the files say no labels: all INRs are of one class, unlabelled")
        return ImportReport(recorded, made, tuple(remarks), self.check)

    def _write(self, out: Path, manifest: Manifest, key: ShardKey, rows: Sequence[ForeignRow]) -> ShardEntry:
        contents = self._read(rows) if rows else Contents([], [])
        inrs = from_convention(stack_contents(contents, rows, self.dims, self.convention), self.convention)
        inrs = INRBatch(self.spec, inrs.weights, inrs.biases)
        labels = [self._label(row, saved) for row, saved in zip(rows, contents.labels, strict=True)]
        count = len(rows)
        columns = {
            "psnr": np.full(count, np.nan), "loss": np.full(count, np.nan), "seed": np.full(count, -1),
            "steps": np.full(count, -1), "status": np.full(count, -1),
            **self._size(count), **contents.columns, **self._measured(inrs, rows),
            "weights": inrs.flatten().numpy(), "label": np.array(labels, dtype=np.int32),
            "object_id": np.array([row.object_id for row in rows], dtype=object),
            "view": np.full(count, key[1]),
        }  # fmt: skip
        assert manifest.derived is not None
        attributes = {
            "fingerprint": manifest.fingerprint, "engine": "imported", "imported": NOT_KNOWN, "derived": manifest.derived.how,
            "field": str(self.head.get("field", "values")),
        }  # fmt: skip
        return write_shard(out, key, self.spec, columns, (), attributes)

    def _label(self, row: ForeignRow, saved: int | None) -> int:
        """The label by path, splits, file and source, which must agree."""
        labels = [label for label in (row.label, saved) if label is not None]
        if self.source is not None:
            labels.append(self.source.items[self.index_of[row.object_id]].label)
        if not self.labelled and not labels:
            return 0
        if not labels:
            raise IntegrityError(f"{row.path} says no label, the others do; give --splits with labels, or --source")
        if len(set(labels)) > 1:
            raise IntegrityError(
                f"{row.path} has the labels {' and '.join(map(str, labels))}; are these other objects?"
            )
        if not 0 <= labels[0] < len(self.classes):
            raise IntegrityError(
                f"{row.path} has label {labels[0]}, the set {len(self.classes)} classes; give --classes"
            )
        return labels[0]

    def _size(self, count: int) -> dict[str, NDArray[Any]]:
        """Height and width of images: as requested, otherwise those of MNIST or CIFAR-10; of shapes nothing."""
        if self.spec.in_dim != 2:
            return {}
        side = 28 if self.dims[-1] == 1 else 32
        height, width = self.options.size or (side, side)
        return {"height": np.full(count, height), "width": np.full(count, width)}

    def _measured(self, inrs: INRBatch, rows: Sequence[ForeignRow]) -> dict[str, NDArray[Any]]:
        """Loss, PSNR and facts of the source, where it is available."""
        if self.source is None or not rows or (self.convention.targets and self.convention.targets.raw):
            return {}
        signals = [self._signal(self.source, row.object_id) for row in rows]
        loss = mean_squared_errors(inrs, signals)
        peak = torch.tensor([signal.peak for signal in signals])
        facts = {name: np.array([signal.facts[name] for signal in signals]) for name in signals[0].facts}
        return {**facts, "loss": loss.numpy(), "psnr": psnr_of_mse(loss.clamp(min=1e-20), peak).numpy()}


def _spec_section(spec: SirenSpec) -> SpecConfig:
    fields = spec.to_dict()
    return SpecConfig(**{name: fields[name] for name in SpecConfig.model_fields if name in fields})
