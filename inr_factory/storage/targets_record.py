"""Targets record: what a manifest says about the targets of a set: the file, and its columns."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

TargetKind = Literal["class", "labels", "number", "vector"]
KINDS: tuple[TargetKind, ...] = ("class", "labels", "number", "vector")


class TargetColumnRecord(BaseModel):
    """One column of targets, without its values.

    Attributes:
        name: of the column.
        kind: class, labels (any number of them an object), number, or vector.
        unit: of numbers and vectors; empty where unknown.
        names: of the classes, of the labels, or of the components of a vector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: TargetKind
    unit: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        unit = f", {self.unit}" if self.unit else ""
        count = f"{len(self.names):,} {'classes' if self.kind == 'class' else self.kind}"
        return f"{self.name} ({count if self.kind in ('class', 'labels') else self.kind}{unit})"


class TargetsRecord(BaseModel):
    """The file of a set's targets; `bytes` and `sha256` are those of the file, `objects` the number of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    objects: int = Field(ge=0)
    columns: tuple[TargetColumnRecord, ...]

    @field_validator("path")
    @classmethod
    def _beside_the_manifest(cls, path: str) -> str:
        if not re.fullmatch(r"targets-[0-9a-f]{8}\.h5", path):
            raise ValueError("the path of targets must be targets-XXXXXXXX.h5")
        return path
