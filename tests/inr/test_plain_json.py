"""The one parser of JSON: what readers would take differently, or never finish, is refused with the reason."""

import pytest

from inr_factory.inr.plain_json import MAX_DEPTH, parse_json, parse_json_object

REFUSED = {
    "a key twice": ('{"a": 1, "a": 2}', "twice"),
    "a key twice inside": ('[{"b": {"a": 1, "a": 1}}]', "twice"),
    "a key twice by an escape": ('{"a": 1, "\\u0061": 2}', "twice"),
    "NaN": ("[NaN]", "NaN"),
    "infinite": ("-Infinity", "Infinity"),
    "a number beyond floats": ("1e999", "not finite"),
    "a number of 65 bits": (str(2**64), "64 bits"),
    "a number of 10,000 digits": ("9" * 10_000, "64 bits"),
    "a lone surrogate": ('"\\ud800"', "surrogate"),
    "a lone surrogate in a key": ('{"\\uDFFF": 1}', "surrogate"),
    "nested lists": ("[" * 100_000 + "]" * 100_000, "deep"),
    "nested objects": ('{"a":' * 200 + "1" + "}" * 200, "deep"),
    "bytes": (b"\xff\xfe", "UTF-8"),
    "surrogates in UTF-8": (b'"\xed\xa0\x80"', "UTF-8"),
    "torn": ('{"a": 1', "."),
    "empty": ("", "."),
    "two values": ("1 2", "."),
    "a byte order mark": (b"\xef\xbb\xbf1", "."),
    "a raw control character": ('"\x01"', "."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_readers_take_differently_is_refused(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300


def test_plain_values_are_read() -> None:
    text = '{"a": [1, -2, 1.5, 1e300, true, null, "\\ud83d\\ude00 \\u00e9"], "b": {"a": {}}}'
    assert parse_json(text) == {"a": [1, -2, 1.5, 1e300, True, None, "😀 é"], "b": {"a": {}}}
    assert parse_json(str(2**64 - 1)) == 2**64 - 1
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert parse_json("1") == 1


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "null"])
def test_another_value_than_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an object"):
        parse_json_object(text)
