"""Target names: which object of a set a table means, by its name, its path, its file name or the stem of that."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from inr_factory.errors import UsageError


class NameMatch(NamedTuple):
    """The row of each object that a table names, and the names that are of no object."""

    rows: dict[str, int]
    foreign: tuple[str, ...]


def match_names(names: Sequence[str], object_ids: Iterable[str], origin: str) -> NameMatch:
    """Find the objects that a table names.

    A name is an object's own; or one of the two is the end of the other's path, whole parts only; or so without the
    suffix of one of them: 7.png, train/7.png and 7 all mean 7.png.

    Raises:
        UsageError: A name fits several objects, or several names one object.
    """
    known = set(object_ids)
    by_file, by_stem = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    if not known.issuperset(names):
        for object_id in sorted(known):
            file = object_id.rpartition("/")[2]
            by_file[file].append(object_id)
            by_stem[_stem(file)].append(object_id)
    rows: dict[str, int] = {}
    foreign = []
    for row, name in enumerate(names):
        if name in known:
            fits = [name]
        else:
            path = name.replace("\\", "/").removeprefix("./")
            file = path.rpartition("/")[2]
            fits = [each for each in by_file[file] if _is_end(path, each)]
            fits = fits or [each for each in by_stem[file] if _is_end(path, _stem(each))]
            fits = fits or [each for each in by_file[_stem(file)] if _is_end(_stem(path), each)]
        if len(fits) > 1:
            raise UsageError(
                f"{origin}: the name {name!r} fits {len(fits):,} objects, {fits[0]} and {fits[1]}; give their names in full"
            )
        if not fits:
            foreign.append(name)
        elif fits[0] in rows:
            raise UsageError(
                f"{origin}: the names {names[rows[fits[0]]]!r} and {name!r} both fit the object {fits[0]}; remove one"
            )
        else:
            rows[fits[0]] = row
    return NameMatch(rows, tuple(foreign))


def _stem(path: str) -> str:
    """A path without the suffix of its file."""
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and "/" not in suffix and stem and not stem.endswith("/") else path


def _is_end(one: str, other: str) -> bool:
    """Whether one of two paths is the end of the other."""
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")
