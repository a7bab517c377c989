"""Sample cache: keeps the samples of shapes, which take seconds to compute, on disk for further views.

One file an entry: a line that names the format, the SHA-256 of all that follows, a line of JSON, then arrays of
little-endian float32. Writes are atomic; an entry that was cut or edited is ignored.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import ResourceError
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import remove_stale_temporaries, write_atomically

MAGIC = b"inr-factory samples 1\n"
FOLDER = ".inr_factory_cache"
VARIABLE = "INR_FACTORY_CACHE"

Arrays = Mapping[str, NDArray[np.float32]]


def cache_key(content: bytes | memoryview, settings: Mapping[str, Any]) -> str:
    """Hash an object's content and all settings that its samples depend on, to 64 hex digits."""
    digest = hashlib.sha256(MAGIC)
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode("utf-8", "surrogateescape"))
    digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class SampleCache:
    """Entries by key in a folder, for any number of processes at once; with None for the folder it keeps nothing."""

    folder: Path | None

    @classmethod
    def near(cls, root: Path) -> "SampleCache":
        """The cache in $INR_FACTORY_CACHE if it is set, else in a hidden folder of the data root, if that exists."""
        folder = os.environ.get(VARIABLE)
        if folder:
            return cls(Path(os.path.abspath(Path(folder).expanduser())))
        return cls(root / FOLDER if root.is_dir() else None)

    def load(self, key: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]] | None:
        """The arrays and facts of an entry, or None where no complete one exists."""
        if self.folder is None:
            return None
        try:
            content = read_regular(self._path(key))
        except OSError:
            return None
        start = len(MAGIC) + 32
        if content[: len(MAGIC)] != MAGIC or hashlib.sha256(content[start:]).digest() != content[len(MAGIC) : start]:
            return None
        head, _, body = content[start:].partition(b"\n")
        fields = json.loads(head)
        if fields["key"] != key:
            return None
        arrays, offset = {}, 0
        for name, shape in fields["arrays"]:
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(body, "<f4", count, offset).reshape(shape).astype(np.float32)
            offset += 4 * count
        return arrays, fields["facts"]

    def save(self, key: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Save an entry. A folder that is full or read-only does not matter: the samples are computed again."""
        if self.folder is None:
            return
        head = {"key": key, "arrays": [(name, array.shape) for name, array in arrays.items()], "facts": dict(facts)}
        body = b"".join(np.ascontiguousarray(array, "<f4").tobytes() for array in arrays.values())
        content = json.dumps(head).encode() + b"\n" + body
        with contextlib.suppress(OSError, ResourceError):
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(key), MAGIC + hashlib.sha256(content).digest() + content)

    def sweep(self) -> int:
        """Remove the temporary files of killed writers; return how many."""
        if self.folder is None:
            return 0
        with contextlib.suppress(OSError):  # nothing depends on it
            return sum(remove_stale_temporaries(bucket) for bucket in (self.folder / "shapes").glob("??"))
        return 0

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "shapes" / key[:2] / f"{key}.samples"
