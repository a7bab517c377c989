"""Options: what is written is what is read, and what is refused is refused in one line."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from inr_factory.errors import UsageError
from inr_factory.learning.option_strings import (
    Option,
    check_integer,
    check_number,
    check_word,
    parse_model,
    parse_option,
)


@dataclass(frozen=True)
class Bake(Option):
    name: ClassVar[str] = "bake"
    heat: float = 0.5
    trays: int = 2
    covered: bool = False
    side: Literal["top", "bottom"] = "top"

    def __post_init__(self) -> None:
        check_number(self, "heat", 0, 1)
        check_integer(self, "trays", 1, 9)
        check_word(self, "side")


@dataclass(frozen=True)
class Wait(Option):
    name: ClassVar[str] = "wait"


KNOWN = {"bake": Bake, "wait": Wait}


@pytest.mark.parametrize("option", [Bake(), Bake(0.25, 3, True, "bottom"), Bake(heat=1e-7), Wait()], ids=str)
def test_what_an_option_prints_reads_back_as_itself(option):
    assert parse_option(str(option), KNOWN, "step") == option


def test_keys_not_given_have_their_defaults_and_spaces_do_not_matter():
    assert parse_option(" bake : trays = 3 , covered = TRUE ", KNOWN, "step") == Bake(trays=3, covered=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bale", "unknown step 'bale'; did you mean 'bake'"),
        ("zzzzz", "known: bake, wait"),
        ("", "unknown step ''"),
        ("bake:heet=1", "did you mean 'heat'"),
        ("wait:heat=1", "it has no keys"),
        ("bake:", "ends after the colon"),
        ("bake:heat", "as key=value"),
        ("bake:heat=", "as key=value"),
        ("bake:heat=1,heat=0", "each key once"),
        ("bake:heat=warm", "must be a number, got 'warm'"),
        ("bake:heat=nan", "from 0 to 1, got nan"),
        ("bake:heat=1.5", "from 0 to 1, got 1.5"),
        ("bake:trays=2.5", "must be a whole number"),
        ("bake:trays=10", "from 1 to 9, got 10"),
        ("bake:covered=yes", "must be true or false"),
        ("bake:side=left", "must be one of top, bottom"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, words):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        parse_option(text, KNOWN, "step")
    assert words in str(caught.value)


@pytest.mark.parametrize("wrong", [{"heat": "hot"}, {"heat": True}, {"trays": 2.0}, {"trays": True}])
def test_a_constructor_refuses_values_of_another_type(wrong):
    with pytest.raises(UsageError):
        Bake(**wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dws", ("dws", {})),
        ("dws:", ("dws", {})),
        (" ng_t : num_layers=2 , dropout=0.5,", ("ng_t", {"num_layers": 2, "dropout": 0.5})),
        ("parity:points=True", ("parity", {"points": True})),
        ("dws:set_layer=deepsets", ("dws", {"set_layer": "deepsets"})),
    ],
)
def test_a_model_has_options_of_json_values_or_words(text, expected):
    assert parse_model(text) == expected


def test_a_model_with_a_key_without_a_value_is_refused():
    with pytest.raises(UsageError, match="--model takes name:key=value,key=value, got 'dws:hidden_dim'"):
        parse_model("dws:hidden_dim")
