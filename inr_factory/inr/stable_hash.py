"""Stable hashes: seeds and fingerprints that are the same in every process, on every machine. `hash()` is not."""

import hashlib
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np


def stable_digest(*parts: object, size: int = 8, person: bytes = b"") -> bytes:
    """Hash the text of all parts.

    Args:
        parts: values whose text identifies what the hash is for; any text, also with surrogates.
        size: number of bytes, 1 to 64.
        person: at most 16 bytes that separate one use from another.

    Returns:
        BLAKE2b of the parts joined by zero bytes, `size` bytes.
    """
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=size, person=person).digest()


def stable_seed(*parts: object) -> int:
    """Derive a seed from the text of all parts: 0 <= seed < 2**63."""
    return int.from_bytes(stable_digest(*parts), "little") & (2**63 - 1)


def seeded(*parts: object) -> "np.random.Generator":
    """Randomness from a stable hash of the parts alone; the same in every process, on every machine."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=int.from_bytes(stable_digest(*parts, size=16), "little")))


def content_digest(content: bytes | memoryview | str | BinaryIO) -> int:
    """Hash what an object is read from to a whole number below 2**52, which a float64 holds exactly.

    Args:
        content: bytes, text (as UTF-8), or an open file, which is read from its beginning.

    Returns:
        The first 52 bits of the SHA-256, the first 13 hex digits that sha256sum prints.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    if isinstance(content, bytes | memoryview):
        digest = hashlib.sha256(content)
    else:
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]
    return int(digest.hexdigest()[:13], 16)


def fingerprint(*parts: Any) -> str:
    """Hash contents to 16 hex digits.

    Args:
        parts: text, bytes or contiguous arrays. They are hashed one after the other without a separator.

    Returns:
        The first 16 hex digits of the SHA-256 of all parts.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part)
    return digest.hexdigest()[:16]
