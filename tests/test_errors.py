"""Messages of errors: one line that names the key, the fault and what came."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inr_factory.errors import shorten, validation_message


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int = Field(ge=1)
    optimizer: Literal["adam", "sprint"] = "adam"

    @field_validator("steps")
    @classmethod
    def _not_seven(cls, steps: int) -> int:
        if steps == 7:
            raise ValueError("seven is\nnot allowed")
        return steps


class Outer(BaseModel):
    fits: tuple[Inner, ...]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "the key 'fits.0.steps' is missing"),
        ({"steps": 1, "colour": 2}, "no key 'fits.0.colour'"),
        ({"steps": 7}, "fits.0.steps: seven is not allowed"),
        ({"steps": 0}, "fits.0.steps: input should be greater than or equal to 1, got 0"),
        ({"steps": 1, "optimizer": "sprnt"}, "fits.0.optimizer: unknown value 'sprnt'; did you mean 'sprint'?"),
    ],
)
def test_every_kind_of_fault_is_one_line(fields, message):
    with pytest.raises(ValidationError) as caught:
        Outer(fits=[fields])

    assert validation_message(caught.value) == message
    assert validation_message(caught.value, ignored=("fits", 0)) == message.replace("fits.0.", "")


def test_long_values_are_shortened():
    assert shorten("x" * 200) == f"'{'x' * 99}…"
    assert shorten(3) == "3"
