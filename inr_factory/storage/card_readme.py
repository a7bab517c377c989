"""README of a dataset card: a YAML head that hubs read, and Markdown for people."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from inr_factory.errors import printable
from inr_factory.storage.card_croissant import authors, describe, filled_splits
from inr_factory.storage.card_notes import CardNotes
from inr_factory.storage.inr_formulas import encoding_formula, hidden_formula, numpy_code
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.remarks import summarize_remarks

# Licences that hubs know by a name, as sources call them in lower case with dashes.
KNOWN_LICENCES = (
    "mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "gpl-3.0",
)  # fmt: skip
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


STARTS = {
    "shared": "All objects of a view started from the same initial weights (`fit.starts` shared); each view has a draw of its own.",
    "file": "All objects of a view started from the same INR, which `fit.start_inrs` of the recipe holds.",
}
"""How fits started, where not each from a draw of its own."""


def licence_name(licence: str) -> str:
    """The name of a licence on hubs: "unknown" where the source names none, "other" where hubs do not know it."""
    plain = re.sub(r"\s+", "-", re.sub(r"\(.*\)", "", licence).strip().lower())
    if plain in KNOWN_LICENCES:
        return plain
    return "unknown" if not plain or plain.startswith(("unknown", "no-licence")) else "other"


def _object_kind(manifest: Manifest) -> str:
    return {2: "images", 3: "shapes"}.get(manifest.siren_spec.in_dim, "objects")


def abstract(manifest: Manifest) -> str:
    """Describe the set in two sentences without markup."""
    objects = sum(split.objects for split in manifest.splits.values())
    fits = "one fit" if manifest.views == 1 else f"{manifest.views} independent fits"
    licence = re.sub(r"^none: (.*)", r"none (\1)", manifest.source.licence or "unknown")
    return (
        f"{manifest.rows:,} implicit neural representations ({manifest.siren_spec}; {manifest.siren_spec.num_parameters:,} "
        f"parameters each) of {objects:,} {_object_kind(manifest)} of {manifest.source.name} ({manifest.source.version}), "
        f"{fits} of each. Licence of the source: {licence}."
    )


def readme(
    manifest: Manifest, columns: Mapping[str, str], marker: str, notes: CardNotes, convention: str | None = None
) -> str:
    """The text of README.md, with the columns of the shards, the notes, and the marker in a comment at its end.

    `convention` is given for an export to Parquet, and names what its numbers mean; the spec is then that of its files.
    """
    head, body = _head(manifest, columns, notes, convention is not None), _body(manifest, columns, notes, convention)
    return "\n".join([*head, *body, f"<!-- {marker} -->\n"])


def _head(manifest: Manifest, columns: Mapping[str, str], notes: CardNotes, parquet: bool) -> Iterator[str]:
    """The YAML that hubs read. Parquet files describe their columns themselves."""
    terms = notes.licence or manifest.source.licence
    licence = licence_name(terms)
    yield "---"
    yield f"license: {licence}"
    if licence == "other":
        yield f"license_name: {json.dumps(re.sub(r'[^a-z0-9.]+', '-', terms.lower()).strip('-') or 'other')}"
    yield f"pretty_name: {yaml_value(f'{manifest.name}: implicit neural representations')}"
    yield f"task_categories: {json.dumps(['image-classification' if manifest.siren_spec.in_dim == 2 else 'other'])}"
    activation: str = manifest.siren_spec.activation
    tags = ["siren" if activation == "sine" else activation, _object_kind(manifest)]
    yield f"tags: {json.dumps(['implicit-neural-representations', 'weight-space-learning', *tags])}"
    size = next((name for bound, name in SIZES if manifest.rows < bound), "n>10M")
    yield f"size_categories: {json.dumps([size])}"
    yield f"siren_spec: {yaml_value(manifest.siren_spec.to_dict())}"
    splits = filled_splits(manifest)
    if splits:
        yield "configs:"
        views = sorted({entry.view for entry in manifest.shards if entry.rows})
        names = {f"view{view:03d}": view for view in views} if len(views) > 1 else {}
        path = "{}-{}.parquet" if parquet else "data/{}-{}.h5"
        yield from _config("default", splits, "*", path, default=True)
        for name, view in names.items():
            filled = [s for s in splits if any(e.rows for e in manifest.shards if (e.split, e.view) == (s, view))]
            yield from _config(name, filled, f"{name}-*", path, default=False)
    if splits and not parquet:
        yield "dataset_info:"
        yield "- config_name: default"
        yield "  features: &features"
        for name, kind in columns.items():
            yield f"  - {yaml_value(_feature(manifest, name, kind))}"
        for name in names:
            yield f"- config_name: {name}"
            yield "  features: *features"
    yield "---"


def _feature(manifest: Manifest, name: str, kind: str) -> dict[str, Any]:
    """A column as the library `datasets` describes it."""
    if name == "weights":
        return {"name": name, "list": kind, "length": manifest.siren_spec.num_parameters}
    if name == "label" and len(set(manifest.classes)) == len(manifest.classes) > 0:
        return {"name": name, "dtype": {"class_label": {"names": dict(enumerate(manifest.classes))}}}
    return {"name": name, "dtype": kind}


def yaml_value(value: Any) -> str:
    """JSON in one line, which is YAML too; what is not printable or starts markup in Markdown is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    text = "".join(char if char.isprintable() and char not in "<>" else f"\\U{ord(char):08x}" for char in text)
    return text.replace("](", "\\u005d(")


def _config(name: str, splits: list[str], pattern: str, path: str, default: bool) -> Iterator[str]:
    yield f"- config_name: {name}"
    if default:
        yield "  default: true"
    yield "  data_files:"
    for split in splits:
        yield f"  - split: {'validation' if split == 'val' else split}"
        yield f"    path: {path.format(split, pattern)}"


def _body(manifest: Manifest, columns: Mapping[str, str], notes: CardNotes, convention: str | None) -> Iterator[str]:
    source, spec = manifest.source, manifest.siren_spec
    yield f"\n# {markdown_line(manifest.name)}\n"
    yield (
        f"{markdown_line(abstract(manifest))} Made by inr-factory {manifest.software.get('inr-factory', '')}".rstrip()
        + ".\n"
    )
    missing = [path for path in manifest.shard_names() if path not in {entry.path for entry in manifest.shards}]
    if missing:
        yield f"**Not complete:** {len(missing):,} shards are not made yet.\n"
    yield "| split | objects | views | INRs | in quarantine |\n|---|---|---|---|---|"
    for split, counts in manifest.splits.items():
        entries = [entry for entry in manifest.shards if entry.split == split]
        bad = sum(len(entry.quarantine) for entry in entries)
        yield f"| {split} | {counts.objects:,} | {manifest.views} | {sum(e.rows for e in entries):,} | {bad:,} |"
    remarks = summarize_remarks(manifest.remarks)
    yield "".join(f"\n- **Note:** {markdown_line(str(remark))}." for remark in remarks)
    names = ", ".join(markdown_line(name) for name in manifest.classes[:100])
    yield f"\n{len(manifest.classes)} class{'' if len(manifest.classes) == 1 else 'es'}: {names}{', …' if len(manifest.classes) > 100 else ''}.\n"
    if manifest.targets is not None:
        yield f"## Targets\n\nOf {manifest.targets.objects:,} objects, in `{manifest.targets.path}`.\n\n| target | kind | unit | names |\n|---|---|---|---|"
        for column in manifest.targets.columns:
            few = ", ".join(markdown_line(name) for name in column.names[:20]) + (
                ", …" if len(column.names) > 20 else ""
            )
            yield f"| {markdown_line(column.name)} | {column.kind} | {markdown_line(column.unit)} | {few} |"
        yield ""
    yield from _baselines(notes)
    yield f"## How to load\n\n{_snippets(manifest, convention is not None)}"
    yield "## Spec\n\n| setting | value |\n|---|---|"
    yield from (f"| {name} | {value} |" for name, value in spec.to_dict().items())
    yield ""
    encoding = f" The first layer gets, of coordinates c, {encoding_formula(spec)}." if spec.frequencies else ""
    yield "## What a row is\n"
    says = "Attributes of each file say the same, and how coordinates and values are meant."
    if convention is not None:
        says = f"The key `inr_factory` in the metadata of each file's schema says the same. Numbers follow the convention {convention}."
    yield (
        f"`weights` holds, layer by layer, W (out, in) row by row and then b (out).{encoding} A hidden layer computes "
        f"`{hidden_formula(spec)}` of `z = W @ x + b`, the last one `W @ x + b + {spec.output_bias:g}`. {says}\n"
    )
    yield "| column | what it is |\n|---|---|"
    for name in columns:
        yield f"| `{name}` | {describe(name)} |"
    yield "\n## How it was made\n"
    record = "manifest.json" if convention is None else "inr_factory.json"
    yield f"The recipe, with all its settings, stands in `{record}`: `recipe`, `spec`, `fingerprint`, software versions, and"
    yield "for each shard its sha256 and what is in quarantine, with the reason.\n"
    if notes.cost:
        yield f"{markdown_line(notes.cost)}\n"
    if line := STARTS.get(manifest.recipe.get("fit", {}).get("starts")):
        yield f"{line}\n"
    for line in () if manifest.passed_over is None else manifest.passed_over.lines():
        yield f"- {markdown_line(line)}"
    if manifest.derived is not None:
        yield f"Derived from the set {manifest.derived.of}: {markdown_line(manifest.derived.how)}.\n"
    yield "## Licence and terms\n"
    name, version, licence = (markdown_line(text) for text in (source.name, source.version, source.licence))
    if licence.startswith("none: "):
        yield f"The source, {name} ({version}), needs no licence: {licence.removeprefix('none: ')}.\n"
    else:
        known_terms = f"The source, {name} ({version}), has the licence: {licence}."
        unknown = f"The licence of the source, {name}, is not known ({licence or 'nothing recorded'}): find out before you share this set."
        terms = unknown if licence_name(source.licence) == "unknown" else known_terms
        yield f"{terms} INRs show what they were fitted to: its terms hold for them, too.\n"
    if notes.licence:
        yield f"The INRs are published under: {markdown_line(notes.licence)}.\n"
    if notes.attribution:
        yield f"Attribution: {markdown_line(notes.attribution)}\n"
    if credited := authors(manifest):
        yield f"Authors of the source's objects ({len(credited):,}): {', '.join(map(markdown_line, credited))}.\n"


def _baselines(notes: CardNotes) -> Iterator[str]:
    """Readers, their accuracies, and the commands that train them again."""
    if not notes.baselines:
        return
    yield "## Baselines\n\n| reader | views | training INRs | test accuracy, % |\n|---|---|---|---|"
    for each in notes.baselines:
        yield f"| {markdown_line(each.reader)} | {each.views} | {each.inrs:,} | {100 * each.accuracy:.1f} |"
    yield "\nAccuracy on split test, view 0, of the epoch that is best on split val. DATASET is the set's folder or URL.\n"
    commands = (printable(" ".join(each.command.split())).replace("`", "'") for each in notes.baselines)
    yield "\n".join(["```sh", *commands, "```\n"])


def _snippets(manifest: Manifest, parquet: bool) -> str:
    """Python code that runs in the set's folder: a table of rows, and one INR evaluated with numpy alone."""
    splits = filled_splits(manifest)
    if not splits:
        return "There is no INR in it yet.\n"
    split = splits[0]
    entry = next(entry for entry in manifest.shards if entry.split == split and entry.rows)
    spec = manifest.siren_spec
    name = 'rows.features["label"].int2str(rows[0]["label"])' if len(set(manifest.classes)) > 1 else 'rows[0]["label"]'
    opened = f"""import inr_factory as inr

data = inr.open(".", split="{split}")  # the set's folder; or "hf://OWNER/NAME"
weights, target = data[0]"""
    read = f"""import h5py
import numpy as np

with h5py.File("{entry.path}") as shard:
    spec, parameters = json.loads(shard.attrs["spec"]), json.loads(shard.attrs["parameters"])
    flat = shard["weights"][0]"""
    if parquet:
        opened = """import inr_factory as inr

inr.import_dataset(".", "parquet", out="set")  # this folder, downloaded
weights, target = inr.open("set")[0]"""
        read = f"""from pathlib import Path

import numpy as np
from pyarrow import parquet

table = parquet.read_table(min(Path().glob("{split}-*.parquet")))
head = json.loads(table.schema.metadata[b"inr_factory"])
spec, parameters = head["spec"], head["parameters"]
flat = np.array(table["weights"][0].as_py(), np.float32)"""
    return f"""```python
{opened}
```

```python
from pathlib import Path

from datasets import load_dataset

here = str(Path.cwd())  # the set's folder; or "OWNER/NAME" of its repository on a hub
rows = load_dataset(here, split="{"validation" if split == "val" else split}")
rows[0]["object_id"], {name}, rows[0]["psnr"]
```

```python
import json
{"" if parquet else chr(10)}{read}

tensors = [flat[p["offset"] : p["offset"] + int(np.prod(p["shape"]))].reshape(p["shape"]) for p in parameters]
x = np.random.default_rng(0).uniform(-1, 1, (5, spec["in_dim"]))  # any points of [-1, 1]
{numpy_code(spec)}```
"""


def markdown_line(text: str) -> str:
    """Text of a source, escaped for one line of Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", printable(" ".join(text.split())))
