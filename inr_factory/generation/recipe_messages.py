"""Recipe messages: which key of a recipe is wrong, in one line that suggests the nearest known one."""

from collections.abc import Mapping, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from inr_factory.errors import describe_fault, did_you_mean, shorten


def section_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a section of a recipe, dotted, with those of the sections in it."""
    keys: list[str] = []
    for name, entry in model.model_fields.items():
        for kind in get_args(entry.annotation) or (entry.annotation,):  # a section may be one of several types
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += section_keys(kind, f"{prefix}{name}.")
        keys.append(prefix + name)
    return list(dict.fromkeys(keys))


def _collections(source: type[BaseModel]) -> tuple[str, ...]:
    """The collections of a source section."""
    return get_args(source.model_fields["collection"].annotation)


def explain_fault(error: ValidationError, recipe: type[BaseModel], sources: Sequence[type[BaseModel]]) -> str:
    """The first fault of a validation, in one line.

    Args:
        error: what pydantic raised.
        recipe: the model of recipes.
        sources: the models that its source may have.
    """
    first, *others = error.errors()
    if first["loc"][:1] == ("limit",) and isinstance(first["input"], Mapping):  # not a number, so a Limit was meant
        first = next(fault for fault in others if "Limit" in fault["loc"])
    where = [str(part) for part in first["loc"] if part != "Limit"]
    known_keys = section_keys(recipe)
    if where[:1] == ["source"] and len(where) > 1:
        collection = where.pop(1)  # by which pydantic names the section that it was
        source_section = next(source for source in sources if collection in _collections(source))
        known_keys = [key for key in known_keys if not key.startswith("source.")] + section_keys(
            source_section, "source."
        )
    key = ".".join(part for part in where if not part.startswith(("constrained", "function", "tuple")))
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        key += ".collection"
        if "collection" not in first["input"]:
            return f"the key {key!r} is missing"
        known = [tag for source in sources for tag in _collections(source)]
        word = first["input"]["collection"]
        return f"{key}: unknown value {shorten(word)}; {did_you_mean(str(word)[:100], known)}"
    if first["type"] == "extra_forbidden":
        section, _, last = key.rpartition(".")
        namesakes = [known for known in known_keys if known.rpartition(".")[2] == last]
        siblings = [known for known in known_keys if known.rpartition(".")[0] == section]
        hint = did_you_mean(namesakes[0] if namesakes else key, namesakes or siblings)
        if "did you mean" not in hint and section != "source":
            hint = did_you_mean(key, known_keys)
        return f"no key {key!r}: {hint}"
    message = first["msg"].replace("Tuple", "list").replace("tuple", "list").replace(" after validation", "")
    return describe_fault(key, {**first, "msg": message})
