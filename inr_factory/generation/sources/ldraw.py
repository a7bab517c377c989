"""LDraw: the parts of LDraw-40, as meshes with a table or as a downloaded library, with classes, splits and authors."""

import csv
import os
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from inr_factory.errors import UsageError, blame_machine, one_line
from inr_factory.generation.geometry.ldraw_parts import gather_part, normalised_name
from inr_factory.generation.signals import Item, SignalError
from inr_factory.generation.sources.class_folders import ClassFiles, check_classes_of_train
from inr_factory.generation.sources.folder_listing import FolderListing, list_folder, readable
from inr_factory.generation.sources.folder_tables import SPLITS
from inr_factory.inr.regular_files import open_regular, read_text
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.storage.passed_over import name_some

TABLE, NOTICE = "PARTS.csv", "CAreadme.txt"
COLUMNS = ("class", "split", "part", "author")  # those of the table that are read
CLASSES = (
    "Animal", "Arch", "Bar", "Boat", "Bracket", "Brick", "Car", "Cone", "Constraction", "Container", "Cylinder", "Door",
    "Electric", "Fence", "Figure", "Figure_Accessory", "Flag", "Glass", "Hinge", "Minifig", "Minifig_Accessory",
    "Minifig_Headwear", "Minifig_Neckwear", "Panel", "Plant", "Plate", "Propeller", "Roadsign", "Slope", "Support",
    "Technic", "Tile", "Train", "Tyre", "Vehicle", "Wedge", "Wheel", "Window", "Windscreen", "Wing",
)  # fmt: skip
HEADER_BYTES, MAX_TABLE_BYTES = 4096, 2**26
TEST_SHARE = 5  # one design number in so many is of the test split
# What the line !LICENSE of a part may say (https://www.ldraw.org/article/398) -> the licences' versions.
LICENCES = (("CCAL version 2.0", "2.0"), ("CC BY 2.0", "2.0"), ("CC BY 4.0", "4.0"))
DOWNLOAD = "https://library.ldraw.org/library/updates/complete.zip"


class LDrawFiles(NamedTuple):
    """The parts that are read, the licence that they have, where they are from, and the library whose parts they are."""

    files: ClassFiles
    licence: str
    version: str
    library: "LDrawLibrary | None" = None


class _Part(NamedTuple):
    """A row of the table, or what the header of a part says."""

    label: str
    split: str
    author: str


class _Header(NamedTuple):
    """The first lines of a part: what it is, its category, its author, and the licences' versions; or why it is not read."""

    description: str
    category: str
    author: str
    licences: frozenset[str]


def find_parts(root: Path) -> LDrawFiles:
    """The parts of LDraw-40 in the folder `ldraw` below root, or in root itself: its meshes, or an LDraw library.

    Raises:
        UsageError: There is neither, or the table does not agree with the meshes.
    """
    for folder in (root / "ldraw", root):
        if (library := LDrawLibrary.within(folder)) is not None:
            return _library_parts(library)
        if (folder / TABLE).is_file():
            return _table_parts(folder)
    raise UsageError(
        f"no LDraw parts in {readable(root)}; let --data-root name the folder of an LDraw library, which has parts and p "
        f"({DOWNLOAD}), or of {TABLE} with CLASS/SPLIT/PART.ply"
    )


@dataclass(frozen=True)
class LDrawLibrary:
    """An LDraw library: the files below its folders `parts` and `p`, in which sub-files are looked for in this order."""

    folder: Path
    roots: tuple[Path, Path]

    @classmethod
    def within(cls, folder: Path) -> "LDrawLibrary | None":
        """The library in a folder that has `parts` and `p`, also in capitals; None where there is none."""
        spelled = (("parts", "p"), ("PARTS", "P"), ("Parts", "P"))
        roots = [(folder / parts, folder / primitives) for parts, primitives in spelled]
        return next((cls(folder, pair) for pair in roots if all(root.is_dir() for root in pair)), None)

    @cached_property
    def _paths(self) -> dict[str, str]:
        """The path of each file by its normalised name."""
        paths: dict[str, str] = {}
        for root in self.roots:
            for parts, path in list_folder(root, lambda parts: parts[-1].lower().endswith(".dat")).files.items():
                paths.setdefault(normalised_name("/".join(parts)), path)
        return paths

    @cached_property
    def parts(self) -> dict[str, str]:
        """The path of each part, without sub-parts, by its number."""
        above = str(self.roots[0])
        return {
            name.removesuffix(".dat"): path
            for name, path in sorted(self._paths.items())
            if "/" not in name and os.path.dirname(path) == above
        }

    def gather(self, path: str, max_bytes: int) -> bytes:
        """The text of a part with its sub-files. Raises SignalError where one is missing, or all are larger."""
        return gather_part(os.path.basename(path), lambda name: self._read(name, max_bytes), max_bytes)

    def _read(self, name: str, max_bytes: int) -> bytes | None:
        if (path := self._paths.get(name)) is None:
            return None
        try:
            with open_regular(path) as file:
                return file.read(max_bytes + 1)
        except OSError as error:
            raise SignalError(f"{name} cannot be read: {error.strerror or one_line(error)}") from error


def _table_parts(folder: Path) -> LDrawFiles:
    """The meshes CLASS/SPLIT/PART.ply that a table names."""
    rows = {f"{part.label}/{part.split}/{name}": part for name, part in _read_table(folder / TABLE).items()}
    listing = list_folder(folder, lambda parts: len(parts) == 3 and parts[-1].lower().endswith(".ply"))
    paths = {}
    for parts, path in listing.files.items():
        label, split, name = map(readable, parts)
        paths[readable("/".join(parts))] = (f"{label}/{SPLITS.get(split.casefold(), split)}/{name[:-4]}", path)
    if foreign := sorted(object_id for object_id, (key, _) in paths.items() if key not in rows):
        raise UsageError(
            f"{readable(folder / TABLE)} has no row for {len(foreign):,} of {len(paths):,} meshes: {name_some(foreign)}; add "
            "rows with their authors, or move them away"
        )
    for name in (TABLE, NOTICE):
        listing.others.pop((name,), None)
    found = {object_id: (rows[key], path) for object_id, (key, path) in sorted(paths.items())}
    absent = sorted(rows.keys() - {key for key, _ in paths.values()})
    files = _class_files(folder, {part.label for part in rows.values()}, found, listing, absent)
    return LDrawFiles(files, _licence({"2.0"}), f"{TABLE} and meshes")


def _library_parts(library: LDrawLibrary) -> LDrawFiles:
    """The parts of a library that its table names, or else those of the classes of LDraw-40."""
    listing, table = FolderListing(), library.folder / TABLE
    rows = _read_table(table) if table.is_file() else None
    chosen: dict[str, tuple[_Part, str]] = {}
    licences: set[str] = set()
    for name, path in library.parts.items():
        if rows is not None and name not in rows:
            continue
        header = _read_header(path)
        reason = "cannot be read" if header is None else _reason_against(header, any_category=rows is not None)
        if header is None or reason:
            listing.others[("parts", os.path.basename(path))] = reason
            continue
        part = _Part(header.category, _split_of(name), header.author) if rows is None else rows[name]
        chosen[f"parts/{name}.dat"] = (part, path)
        licences |= header.licences
    if not chosen:
        raise UsageError(f"no part of LDraw-40 is in {readable(library.roots[0])}; see docs/shapes.md")
    absent: list[str] = []
    if rows is not None:
        labels, absent = {part.label for part in rows.values()}, sorted(rows.keys() - library.parts.keys())
    else:
        labels = {part.label for part, _ in chosen.values()}
        # A class of few designs may have none for training by the hash.
        trained = {part.label for part, _ in chosen.values() if part.split == "train"}
        for key, (part, path) in chosen.items():
            chosen[key] = (part if part.label in trained else part._replace(split="train"), path)
    files = _class_files(library.folder, labels, chosen, listing, absent)
    return LDrawFiles(files, _licence(licences), "LDraw library", library)


def _class_files(
    folder: Path,
    names: Set[str],
    found: dict[str, tuple[_Part, str]],
    listing: FolderListing,
    absent: Sequence[str],
) -> ClassFiles:
    """Parts by object id, as `ShapeFiles` reads them. A class of the table keeps its label where it has no part."""
    if not found:
        raise UsageError(
            f"none of the {len(absent):,} parts of {readable(folder / TABLE)} is there; expected CLASS/SPLIT/PART.ply"
        )
    classes = tuple(sorted(names))
    labels = {name: label for label, name in enumerate(classes)}
    items = tuple(
        Item(object_id, labels[part.label], part.split, {"author": part.author})
        for object_id, (part, _) in found.items()
    )
    check_classes_of_train(folder, classes, items, "parts", listing)
    remarks = [f"parts of {TABLE} without a file: {len(absent):,} ({name_some(absent)})"] if absent else []
    passed_over = listing.passed_over(0, remarks=remarks)
    return ClassFiles(classes, items, tuple(path for _, path in found.values()), passed_over)


def _read_table(path: Path) -> dict[str, _Part]:
    """The rows of a table by part."""
    try:
        rows = list(csv.DictReader(read_text(path, MAX_TABLE_BYTES).removeprefix("\ufeff").splitlines(), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        blame_machine(error, path)
        raise UsageError(f"{readable(path)} cannot be read: {one_line(error)}") from None
    parts: dict[str, _Part] = {}
    for number, row in enumerate(rows, 1):
        label, split, name, author = (str(row.get(column) or "").strip() for column in COLUMNS)
        if not (label and name and author) or split.casefold() not in SPLITS:
            raise UsageError(
                f"row {number} of {readable(path)} lacks class, part or author, or its split is none of "
                f"{', '.join(sorted(set(SPLITS.values())))}; expected the columns {', '.join(COLUMNS)}"
            )
        if name in parts:
            raise UsageError(f"{readable(path)} has the part {name} twice; remove one of the rows")
        parts[name] = _Part(label, SPLITS[split.casefold()], author)
    return parts


def _read_header(path: str) -> _Header | None:
    """What the first lines of a part say; None where they cannot be read."""
    try:
        with open_regular(path) as file:
            content = file.read(HEADER_BYTES)
    except OSError as error:
        blame_machine(error, path)
        return None
    try:
        text = content.decode("utf-8-sig", "strict" if len(content) < HEADER_BYTES else "ignore")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    first, *lines = text.splitlines() or [""]
    description = first.strip().removeprefix("0").strip()
    said = dict(re.findall(r"^\s*0\s+(!CATEGORY|Author:|!LICENSE)\s+(.*\S)", "\n".join(lines), re.MULTILINE)[::-1])
    words = description.lstrip("| ").split()
    category = "_".join(said.get("!CATEGORY", words[0] if words else "").split())
    spelled = {name.lower(): name for name in CLASSES}.get(category.lower(), category)
    licences = frozenset(version for text, version in LICENCES if text in said.get("!LICENSE", ""))
    return _Header(description, spelled, said.get("Author:", "").strip(), licences)


def _reason_against(header: _Header, any_category: bool) -> str:
    """Why a part becomes no object; empty where it does. Colours are left out, so that a pattern is no shape."""
    if not header.licences or not header.author:
        return "without a licence that allows copies, or without author"
    if any_category:
        return ""
    kinds = {"~": "moved, or a piece of a part", "=": "another name of a part", "_": "another colour of a part"}
    if header.description[:1] in kinds:
        return kinds[header.description[:1]]
    if header.category not in CLASSES:
        return "of other categories"
    return "a pattern on a part" if re.search(r"\bpattern\b", header.description, re.IGNORECASE) else ""


def _split_of(part: str) -> str:
    """Train or test, the same for all parts of one design number, such as 3626b and 3626cp01."""
    design = re.match(r"[a-z]*\d+", part)
    return "train" if stable_seed("ldraw40", design[0] if design else part) % TEST_SHARE else "test"


def _licence(versions: Iterable[str]) -> str:
    """The licences of the parts, their texts, and the attribution that suffices by CAreadme.txt."""
    versions = sorted(set(versions))
    texts = ", ".join(f"https://creativecommons.org/licenses/by/{version}/" for version in versions)
    return f"{' and '.join(f'CC BY {version}' for version in versions)} (attribution: The LDraw Parts Library; {texts})"
