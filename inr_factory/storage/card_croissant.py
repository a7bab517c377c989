"""Croissant file of a dataset card: shards and columns of a set as JSON-LD (Croissant 1.1, MLCommons)."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from inr_factory.storage.card_notes import CardNotes
from inr_factory.storage.manifest import SPLITS, Manifest

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
MEDIA_TYPE = "application/x-hdf5"

_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format includes "
    "isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate "
    "separator source subField transform"
)
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "dct": "http://purl.org/dc/terms/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "name": {"@container": "@language"},
    "description": {"@container": "@language"}, **{term: f"cr:{term}" for term in _TERMS.split()},
}  # fmt: skip

# What columns of shards hold; INRs of images have height and width, those of shapes the other facts.
COLUMNS = {
    "weights": "all parameters of the INR, float32, in the order that the attribute `parameters` says",
    "preview": "picture of what the INR shows, rendered from its weights",
    "split": "train, val or test",
    "label": "number of the object's class",
    "object_id": "name of the object in its source",
    "view": "which of the independent fits of the object",
    "seed": "of the start values",
    "psnr": "quality of the fit, dB",
    "loss": "mean squared error at the end of the fit",
    "explained": "share of the signal's variance that the INR explains, 1 - loss / variance; NaN for a constant signal",
    "steps": "steps that the fit took",
    "status": "0: reached the target PSNR; 1: took all steps; -1: not known",
    "checksum": "crc32 of the row",
    "content": "what the object was read from: the first 13 hex digits of the SHA-256 of its file, as a whole number",
    "height": "of the image, pixels",
    "width": "of the image, pixels",
    "transparent": "share of the image's area through which source.background shows",
    "more_frames": "1: the image's file has further frames or pages, which are not used",
    "clipped": "share of the image's values that source.value_range clips",
    "inside": "share of the fitted points that lie inside the shape",
    "scale": "times the INR's coordinates, plus the centre, gives those of the shape's file",
    "center_x": "centre of the shape in its file",
    "center_y": "centre of the shape in its file",
    "center_z": "centre of the shape in its file",
    "vertices": "of the shape's file",
    "faces": "of the shape's file",
    "watertight": "1: each edge of the mesh has two faces",
    "ambiguous": "share of the points off the surface that are neither clearly inside nor outside",
    "sheet": "share of the surface with no inside on either side",
    "buried": "share of the surface with the inside on both sides",
    "turned": "share of the area that was turned outward",
    "open_edges": "share of the edges with one face",
    "crowded_edges": "share of the edges with more than two faces",
    "area": "of the mesh that the INR was fitted to, in the square of the unit of the coordinates",
    "volume": "that this mesh encloses, in the cube of that unit; NaN where it is not closed",
    "iou": "overlap of the insides of INR and shape, 1 for the same",
    "distance_error": "mean absolute error of the distance, in the INR's coordinates",
    "chamfer": "mean distance between the surfaces of INR and shape, in the INR's coordinates; NaN where it was not measured",
    "fscore": "harmonic mean of the shares of both surfaces within 0.02 of the other, in the INR's coordinates; NaN as chamfer",
    "normals": "mean absolute cosine between normals of the surfaces of INR and shape, at nearest points; NaN as chamfer",
}
_KINDS = {"float": "sc:Float", "int": "sc:Integer", "uint": "sc:Integer", "string": "sc:Text"}


def describe(column: str) -> str:
    """What a column of shards holds, in a few words."""
    return COLUMNS.get(column, f"a fact about the object: {column}")


def filled_splits(manifest: Manifest) -> list[str]:
    """Splits that have INRs, in the order of SPLITS."""
    return [split for split in SPLITS if any(entry.rows for entry in manifest.shards if entry.split == split)]


def authors(manifest: Manifest) -> tuple[str, ...]:
    """Whom a set credits: the names of the target `author`, which are the authors of the objects of its source."""
    columns = () if manifest.targets is None else manifest.targets.columns
    return next((column.names for column in columns if (column.name, column.kind) == ("author", "class")), ())


def _licence(manifest: Manifest, notes: CardNotes) -> dict[str, Any]:
    """The addresses of the licences, else their names; whom to credit, else the words of a source that has addresses."""
    licence = notes.licence or manifest.source.licence or "unknown"
    urls = re.findall(r"https?://[^\s,;()]+", licence)
    credit = notes.attribution or (licence if urls else "")
    terms = {"license": (urls[0] if len(urls) == 1 else urls) if urls else licence}
    return terms | ({"creditText": credit} if credit else {})


def croissant(
    manifest: Manifest, columns: Mapping[str, str], description: str, identifier: str, notes: CardNotes
) -> str:
    """The JSON text. `columns` gives the type of each column of the shards: string, or as numpy calls it, such as int32."""
    splits = filled_splits(manifest)
    fields: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": manifest.name,
        "description": description,
        "conformsTo": CONFORMS_TO,
        "identifier": identifier,
        "version": f"{manifest.format_version}.0.0",
        **_licence(manifest, notes),
        **(
            {"creator": [{"@type": "sc:Person", "name": name} for name in names]}
            if (names := authors(manifest))
            else {}
        ),
        "additionalProperty": [
            {"@type": "PropertyValue", "name": name, "value": str(value) if isinstance(value, list) else value}
            for name, value in manifest.siren_spec.to_dict().items()
        ],
        "keywords": [
            "implicit neural representations",
            "weight-space learning",
            "SIREN" if manifest.siren_spec.activation == "sine" else manifest.siren_spec.activation,
        ],
        "distribution": [*_shards(manifest), *_targets(manifest), *[_file_set(split) for split in splits]],
        "recordSet": [*_classes(manifest.classes), *[_records(split, manifest, columns) for split in splits]],
    }
    return json.dumps(fields, indent=1, ensure_ascii=True) + "\n"


def _shards(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject", "@id": entry.path, "name": entry.path, "contentUrl": entry.path,
            "contentSize": f"{entry.bytes} B", "encodingFormat": MEDIA_TYPE, "sha256": entry.sha256,
            "description": f"split {entry.split}, view {entry.view}, block {entry.block}: {entry.rows} INRs",
        }
        for entry in manifest.shards
    ]  # fmt: skip


def _targets(manifest: Manifest) -> list[dict[str, Any]]:
    """The file of targets of a set that has some."""
    if (record := manifest.targets) is None:
        return []
    return [
        {
            "@type": "cr:FileObject", "@id": record.path, "name": record.path, "contentUrl": record.path,
            "contentSize": f"{record.bytes} B", "encodingFormat": MEDIA_TYPE, "sha256": record.sha256,
            "description": f"targets of {record.objects} objects: {', '.join(map(str, record.columns))}",
        }
    ]  # fmt: skip


def _file_set(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet", "@id": f"{split}-shards", "name": f"{split}-shards", "encodingFormat": MEDIA_TYPE,
        "includes": f"data/{split}-*.h5", "description": f"all shards of split {split}",
    }  # fmt: skip


def _classes(names: Sequence[str]) -> list[dict[str, Any]]:
    """The names of the labels, one record each."""
    if not names:
        return []
    return [
        {
            "@type": "cr:RecordSet", "@id": "classes", "name": "classes", "description": "names of the labels",
            "key": {"@id": "classes/label"},
            "field": [
                {"@type": "cr:Field", "@id": "classes/label", "name": "label", "dataType": "sc:Integer"},
                {"@type": "cr:Field", "@id": "classes/name", "name": "name", "dataType": "sc:Text"},
            ],
            "data": [{"classes/label": label, "classes/name": name} for label, name in enumerate(names)],
        }
    ]  # fmt: skip


def _records(split: str, manifest: Manifest, columns: Mapping[str, str]) -> dict[str, Any]:
    fields = []
    for name, kind in columns.items():
        source = {"fileSet": {"@id": f"{split}-shards"}, "extract": {"column": name}}
        field: dict[str, Any] = {
            "@type": "cr:Field", "@id": f"{split}/{name}", "name": name, "description": describe(name),
            "dataType": _KINDS[kind.rstrip("0123456789")], "source": source,
        }  # fmt: skip
        if name == "weights":
            field |= {"isArray": True, "arrayShape": str(manifest.siren_spec.num_parameters)}
        if name == "label" and manifest.classes:
            field |= {"references": {"field": {"@id": "classes/label"}}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet", "@id": split, "name": split, "field": fields,
        "description": f"the INRs of split {split}, a record each",
    }  # fmt: skip
