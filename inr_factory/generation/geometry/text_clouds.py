"""Text clouds: reads points from lines of numbers, with or without a header, and from PCD files.

S points. A number that could be read in two ways is refused: decimal commas, missing values, lines of other lengths.
"""

import re
import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import one_line
from inr_factory.generation.geometry.text_meshes import text_of
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]

AXES = ("x", "y", "z")
# Names of arrays or columns whose points are samples of a field around a shape, not points on it.
FIELD_VALUES = re.compile(r"sdf|udf|occupanc|^(neg|d?occ|inside|df|dists?|distances?|signed_distances?|values?)$", re.I)
MAX_COLUMNS = 16  # coordinates, normals, colours and a few more; an array with more is an image or a grid
USED_COLUMNS = 5  # three coordinates, and two that tell whether the first three are coordinates

DECIMAL_COMMA = "it has a comma inside a number, as decimal commas and thousands separators are; write 0.5 and 1000"
COMMA_AND_BLANK = re.compile(r"\d,\d[.\d]*[ \t]+[-+.\d]")
LEADING_ZERO = re.compile(r"(?:^|,)\s*(?:[-+]?0\d|-0(?:,|$))")

PCD_DATA = re.compile(rb"^DATA[ \t]+(\w+)[ \t]*\r?\n", re.MULTILINE)
PCD_HEADER = 65_536  # bytes


def read_text_cloud(content: bytes) -> Floats:
    """Lines of numbers, separated by blanks, commas or semicolons -> (S, 3 to 5), the coordinates first.

    A first line of one whole number is the count of points (PTS); one of names gives the columns of x, y and z. # and
    // begin a comment; one that has the names before the first point counts as a header.
    """
    if b"\0" in content[:4096] and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise SignalError("it is not text: it has bytes of zero")
    lines, names = list[str](), list[str]()
    for line in text_of(content).replace("//", "#").splitlines():
        body, mark, comment = line.partition("#")
        if body.strip():
            lines.append(body.strip().rstrip(",; \t"))
        elif mark and not lines and set(AXES) <= set(words := _names(comment)):
            names = words
    if lines and re.fullmatch(r"\d+", lines[0]) and len(lines) > 1:
        if int(lines[0]) != len(lines) - 1:
            raise SignalError(f"its first line claims {lines[0][:20]} points, {len(lines) - 1} lines follow")
        del lines[0]
    if lines and (count := re.match(r"\d+(?=[\s,;])", lines[0])) and int(count[0]) == len(lines) - 1 > 3:
        raise SignalError(f"its first line begins with {count[0]}, which is how many lines follow; remove that line")
    if lines and not _is_number(lines[0]):
        names = _names(header := lines.pop(0))
        if not set(AXES) <= set(names) and lines:
            raise SignalError(
                f"not every line begins with three numbers: the first is {header[:60]!r}, "
                "and a header has to name x, y and z"
            )
    if not lines:
        raise SignalError("it has no points")
    return _columns(lines, names)


def _columns(lines: list[str], names: list[str]) -> Floats:
    delimiter = next((mark for mark in ";," if mark in lines[0]), None)
    if delimiter == "," and any(map(COMMA_AND_BLANK.search, lines)):
        raise SignalError(DECIMAL_COMMA)
    if delimiter == ";" and any("," in line for line in lines):
        raise SignalError(DECIMAL_COMMA)
    width = len(lines[0].split(delimiter))
    whole = delimiter == "," and width >= 6 and not any("." in line for line in lines)
    if whole and any(map(LEADING_ZERO.search, lines)):  # "0,0721,0,3440,-0,3722"
        raise SignalError(DECIMAL_COMMA)
    if width >= 3:
        for number, line in enumerate(lines):
            if (count := line.count(delimiter) + 1 if delimiter else len(line.split())) != width:
                raise SignalError(f"its line {number + 1} of points has {count} values, its first has {width}")
    check_names(names)
    if len(names) < width and tuple(names[:3]) == AXES:
        names = []  # what is not named may stand before them
    if not names:
        check_shape(len(lines), width)
    elif len(names) != width and tuple(names[:3]) != AXES:
        raise SignalError(f"its header names {len(names)} columns, its lines have {width}")
    first = [names.index(axis) for axis in AXES] if names else [0, 1, 2]
    more = [] if names else list(range(3, min(width, USED_COLUMNS)))
    try:
        return _table(lines, delimiter, first + more)
    except ValueError:
        try:  # words, such as the name of a part, may follow the coordinates
            return _table(lines, delimiter, first)
        except ValueError as error:
            reason = DECIMAL_COMMA if any(re.search(r"\d,\d", line) for line in lines) and delimiter != "," else None
            raise SignalError(reason or f"not every line begins with three numbers: {one_line(error)[:100]}") from None


def check_shape(rows: int, columns: int) -> None:
    """Raise SignalError where an array has more columns than points have."""
    if columns > max(3, min(MAX_COLUMNS, rows - 1)):
        turned = f"; save it transposed, as {(columns, rows)}" if rows <= MAX_COLUMNS else ""
        raise SignalError(f"its array has the shape {(rows, columns)}, expected one point a row (S, 3){turned}")


def check_names(names: Iterable[str]) -> None:
    """Raise SignalError where columns or arrays beside the points have the name of values of a field."""
    if name := next(filter(FIELD_VALUES.search, names), None):
        raise SignalError(
            f"it has values called {name[:40]}: its points sample a field around a shape, expected points on the surface"
        )


def read_pcd(content: bytes) -> Floats:
    """The points of a PCD file, as text or binary; fields other than x, y and z are ignored.

    Format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html
    """
    end = PCD_DATA.search(content, 0, PCD_HEADER)
    if end is None:
        raise SignalError("it has no PCD header that ends with DATA")
    lines = (line.split() for line in content[: end.start()].decode("latin-1").splitlines())
    header = {words[0].upper(): words[1:] for words in lines if words and not words[0].startswith("#")}
    names = [name.lower() for name in header.get("FIELDS", header.get("COLUMNS", []))]
    check_names(names)
    if not set(AXES) <= set(names):
        raise SignalError(f"its fields are {' '.join(names)[:60] or 'not named'}, expected x, y and z among them")
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(names))]
    types = [f"<{kind.lower()}{size}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    points = int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
    if int(header.get("POINTS", [str(points)])[0]) != points or points < 0 or min(counts) < 1:
        raise SignalError(f"its header contradicts itself: {header.get('POINTS')} points, {points} by width and height")
    fields = [(f"{column}", kind, (count,)) for column, (kind, count) in enumerate(zip(types, counts, strict=True))]
    columns = [names.index(axis) for axis in AXES]
    if any(counts[column] != 1 for column in columns) or len(fields) != len(names):
        raise SignalError("its header does not give one number each for x, y and z")
    body, kind = content[end.end() :], end[1].lower()
    if kind == b"ascii":
        rows = [line for line in body.decode("latin-1").splitlines() if line.strip()]
        if len(rows) != points:
            raise SignalError(f"its header claims {points} points, {len(rows)} lines follow")
        if not rows:
            raise SignalError("it has no points")
        try:
            return _table(rows, None, [sum(counts[:column]) for column in columns])
        except ValueError as error:
            raise SignalError(f"not every line has its numbers: {one_line(error)[:100]}") from None
    if kind != b"binary":
        raise SignalError(f"its data are {kind.decode('latin-1')}, which is not read; save it as ascii or binary")
    table = np.dtype(fields)
    if points * table.itemsize > len(body):
        raise SignalError(f"its header claims {points} points, {points * table.itemsize} bytes, {len(body)} follow")
    values = np.frombuffer(body, table, points)
    return np.stack([values[f"{column}"][:, 0].astype(np.float64) for column in columns], axis=1)


def _table(lines: list[str], delimiter: str | None, columns: list[int]) -> Floats:
    """(S, columns) numbers. Raises ValueError where one is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table: Floats = np.loadtxt(
            lines, dtype=np.float64, usecols=columns, ndmin=2, comments=None, delimiter=delimiter, quotechar='"'
        )
        return table


def _names(line: str) -> list[str]:
    """The names in a header in lower case, without quotes and units: `"X [m]";"Y [m]"` -> x, y.

    Where commas or semicolons stand between them one may be empty, as that of row numbers is.
    """
    plain = re.sub(r"[\[(][^\])]*[\])]|[\"']", " ", line.lower())
    return [" ".join(name.split()) for name in plain.split(next((mark for mark in ";," if mark in plain), None))]


def _is_number(line: str) -> bool:
    """Whether a line begins with a number, in quotes or not, and is no header then."""
    try:
        return np.isscalar(float(re.split(r"[\s,;]", line.replace('"', "").lstrip())[0]))
    except ValueError:
        return False
