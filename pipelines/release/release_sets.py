"""The sets of a release, as sets.yaml lists them, and the files for citation that lie in each."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import inr_factory as inr
from inr_factory.storage.card_croissant import authors
from inr_factory.storage.card_readme import abstract
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.yaml_files import dump_yaml, load_yaml

LIST = Path(__file__).with_name("sets.yaml")
MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Entry):
    """A licence: its SPDX name, its usual one, and where its text is."""

    spdx: str
    name: str
    url: str


class CitedSource(_Entry):
    """The collection that a set's objects came from, as it is cited."""

    title: str
    authors: tuple[str, ...]
    year: int
    doi: str | None = None
    url: str | None = None


class ReleaseSet(_Entry):
    """A set of the release; sets.yaml explains the fields."""

    name: str
    publisher: str
    year: int
    recipe: str
    views: int | None = None
    settings: tuple[str, ...] = ()
    objects: int = Field(ge=1)
    title: str
    licence: Licence
    source: CitedSource | None = None
    attribution: str
    copyright: tuple[str, ...] = ()
    baselines: tuple[dict[str, Any], ...] = ()


def release_sets() -> dict[str, ReleaseSet]:
    """Name -> set, in the order of sets.yaml."""
    listed = load_yaml(LIST, LIST.name)
    common = {key: listed[key] for key in ("publisher", "year")}
    licences = {spdx: Licence(spdx=spdx, **fields) for spdx, fields in listed["licences"].items()}
    return {
        name: ReleaseSet(name=name, **common, **{**fields, "licence": licences[fields["licence"]]})
        for name, fields in listed["sets"].items()
    }


def citation_files(entry: ReleaseSet, manifest: Manifest) -> dict[str, str]:
    """Name -> text of LICENSE, CITATION.cff (1.2.0) and datacite.json (DataCite 4.5, all that a DOI needs but the DOI)."""
    return {
        "LICENSE": _licence_file(entry),
        "CITATION.cff": _citation(entry, manifest),
        "datacite.json": json.dumps(_datacite(entry, manifest), indent=1, ensure_ascii=False) + "\n",
    }


def _licence_file(entry: ReleaseSet) -> str:
    terms = f"{entry.title}\n\n{entry.attribution}\n\nLicence: {entry.licence.name}, {entry.licence.url}\n"
    return terms + ("\n" + "\n".join(entry.copyright) + f"\n\n{MIT}" if entry.licence.spdx == "MIT" else "")


def _version(manifest: Manifest) -> str:
    """Changes with what decides the set's content and with its size."""
    return f"{manifest.format_version}.{manifest.views}.{manifest.rows}+{manifest.fingerprint}"


def _citation(entry: ReleaseSet, manifest: Manifest) -> str:
    fields: dict[str, Any] = {
        "cff-version": "1.2.0", "message": "If you use this data set, please cite it and its source.", "type": "dataset",
        "title": entry.title, "abstract": abstract(manifest), "authors": [{"name": entry.publisher}],
        "version": _version(manifest), "license": entry.licence.spdx,
        "references": [{
            "type": "software", "title": "INR Factory", "authors": [{"name": entry.publisher}], "version": inr.__version__,
        }],
    }  # fmt: skip
    if (source := entry.source) is not None:
        cited = [dict(zip(("family-names", "given-names"), name.split(", "), strict=True)) if ", " in name
                 else {"name": name} for name in source.authors]  # fmt: skip
        where = {key: value for key, value in (("doi", source.doi), ("url", source.url)) if value}
        fields["references"].append(
            {"type": "data", "title": source.title, "authors": cited, "year": source.year} | where
        )
    return dump_yaml(fields)


def _datacite(entry: ReleaseSet, manifest: Manifest) -> dict[str, Any]:
    credited = [*(entry.source.authors if entry.source else ()), *authors(manifest)]
    fields: dict[str, Any] = {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "implicit neural representations"},
        "titles": [{"title": entry.title}],
        "creators": [{"name": entry.publisher, "nameType": "Organizational"}],
        "contributors": [{"name": name, "contributorType": "Other"} for name in dict.fromkeys(credited)],
        "publisher": {"name": entry.publisher},
        "publicationYear": entry.year,
        "version": _version(manifest),
        "language": "en",
        "subjects": [{"subject": name} for name in ("implicit neural representations", "weight-space learning", "SIREN")],
        "descriptions": [
            {"description": abstract(manifest), "descriptionType": "Abstract"},
            {"description": entry.attribution, "descriptionType": "Other"},
        ],
        "rightsList": [{
            "rights": entry.licence.name, "rightsUri": entry.licence.url, "rightsIdentifier": entry.licence.spdx,
            "rightsIdentifierScheme": "SPDX", "schemeUri": "https://spdx.org/licenses/",
        }],
        "alternateIdentifiers": [
            {"alternateIdentifier": manifest.fingerprint, "alternateIdentifierType": "INR Factory fingerprint"}
        ],
        "sizes": [f"{sum(shard.bytes for shard in manifest.shards)} bytes", f"{manifest.rows} INRs"],
        "formats": ["application/x-hdf5"],
    }  # fmt: skip
    if (source := entry.source) is not None:
        kind, value = ("DOI", source.doi) if source.doi else ("URL", source.url)
        fields["relatedIdentifiers"] = [
            {"relatedIdentifier": value, "relatedIdentifierType": kind, "relationType": "IsDerivedFrom"}
        ]
    return fields
