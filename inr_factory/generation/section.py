"""Sections: the base of the parts of a recipe, and the types of its numbers."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"input should be a number, got {value}")
    return value


Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
LARGEST = 2**63 - 1  # of whole numbers that files hold


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fill(self, **defaults: Any) -> None:
        """Give keys that were not given their defaults; they still count as not given. For validators only."""
        self.__dict__.update({key: value for key, value in defaults.items() if key not in self.model_fields_set})
