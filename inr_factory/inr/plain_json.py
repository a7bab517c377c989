"""Plain JSON: the one parser of JSON that others may have written. What readers would take differently is refused."""

import json
import math
from collections import Counter
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_WHOLE = 2**64


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: for text that is no JSON, is nested more than MAX_DEPTH deep, has a key twice, NaN, an infinite
            number, a whole number of more than 64 bits, or text that is no Unicode (lone surrogates).
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse, parse_int=_whole, parse_float=_finite
        )
        if "\\u" in text and ("\\ud" in text or "\\uD" in text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        _check_depth(value)
    except UnicodeEncodeError:
        raise ValueError("it has text that is no Unicode (a lone surrogate)") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}") from None
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    return value


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """As `parse_json`, for text that holds an object. Raises ValueError where it holds something else."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, expected an object with keys")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key[:100]!r} occurs twice")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has the number {constant}")


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= 21 else MAX_WHOLE
    if not -MAX_WHOLE < number < MAX_WHOLE:
        raise ValueError(f"it has the number {digits[:20]}..., which takes more than 64 bits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it has the number {digits[:40]}, which is not finite")
    return number


def _check_depth(value: Any) -> None:
    """Level by level, so that no depth exhausts the stack."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level, depth = [each for each in inner if isinstance(each, dict | list)], depth + 1
        if depth > MAX_DEPTH:
            raise RecursionError
