"""Recipes: the configuration of a data set, read from YAML, checked, frozen and given a fingerprint."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from inr_factory.errors import UsageError, brief, did_you_mean
from inr_factory.generation.fit_config import FitConfig, SpecConfig
from inr_factory.generation.recipe_messages import explain_fault, section_keys
from inr_factory.generation.section import LARGEST, Integer, Number, Section
from inr_factory.generation.source_settings import SOURCES
from inr_factory.generation.source_settings import ImageSource as ImageSource
from inr_factory.generation.source_settings import OwnSource as OwnSource
from inr_factory.generation.source_settings import ShapeSource as ShapeSource
from inr_factory.generation.sprint_defaults import RELU_RIDGE, is_encoded_relu, muon_rate, sprint_rate, sprint_steps
from inr_factory.generation.start_file import StartINRs, encode_starts, resolve_starts
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.storage.nested_mappings import flatten, merge
from inr_factory.storage.yaml_files import load_yaml, parse_yaml

RECIPE_VERSION: Final = 4
UDF_TARGET = 26.0  # dB of the peak: the clamp, or its root
CURVATURE = 0.25  # of signed distances, as measured in docs/results/shapes.md
NUM_TRUTH = 5_000  # from version 3 on

# Newer keys that a manifest lacks at their default, so that versions of before read it.
OMITTED_KEYS: dict[str, Any] = {
    "spec.first_omega_0": None,
    "spec.widths": None,
    "spec.frequencies": 0,
    "spec.first_frequency": math.pi,
    "spec.coordinates": True,
    "fit.starts": "independent",
    "fit.start_inrs": None,
    "fit.start_rates": None,
    "fit.start_objects": None,
    "fit.order": "own",
    "source.table": None,
    "source.measure": False,
    "source.curvature": None,
}
# Newer keys, with the default at which a set has the fingerprint and the bytes that it had without them.
ADDED_KEYS: dict[str, Any] = {
    "version": 1,
    "fit.scope": 0.0,
    "fit.scope_std": None,
    "fit.floor_explained": None,
    "source.background": "white",
    "source.value_range": None,
    **OMITTED_KEYS,
}


class SplitConfig(Section):
    """How many objects (a count, or a share below 1) go to a split that the collection does not have."""

    val: Annotated[Integer, Field(ge=0, le=LARGEST)] | Annotated[Number, Field(ge=0, lt=1)] = 0.1
    test: Annotated[Integer, Field(ge=0, le=LARGEST)] | Annotated[Number, Field(ge=0, lt=1)] = 0.2


class Limit(Section):
    """At most how many objects of each split; None is all."""

    train: Integer | None = Field(default=None, ge=1, le=LARGEST)
    val: Integer | None = Field(default=None, ge=0, le=LARGEST)
    test: Integer | None = Field(default=None, ge=0, le=LARGEST)


class Recipe(Section):
    """The complete configuration of a data set; make one with `load_recipe`.

    Everything that decides the bits of a shard goes into the fingerprint. `name`, `views` and `quarantine_threshold` do
    not, so that a set can get more views.

    Attributes:
        version: of what recipes mean. 4 is that of new sets of shapes and 2 of others, which 3 and 4 do not change; 1 gives
            the defaults, columns and samples of sets made before there was a version, and continues them.
        name: letters, digits, and _.- inside.
        source: an `ImageSource`, `ShapeSource` or `OwnSource`, chosen by its `collection`.
        views: independent fits of each object, 1 to 10,000.
        limit: number of objects in all, shared among the splits, or a number for each split; None is all.
        earlier_limits: those that the set had before it grew; `fit` records them, since each has blocks of its own.
        seed: of the initial weights, at least 0.
        spec: the SIREN.
        fit: how it is fitted.
        splits: sizes of splits that the source does not have.
        shard_objects: objects per shard, at least 1.
        quarantine_threshold: share of quarantined INRs, in [0, 1], above which `fit` exits with 3.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    source: Annotated[ImageSource | ShapeSource | OwnSource, Field(discriminator="collection")]
    views: Integer = Field(default=1, ge=1, le=10_000)
    limit: Annotated[Integer, Field(ge=1, le=LARGEST)] | Limit | None = None
    earlier_limits: tuple[Annotated[Integer, Field(ge=1, le=LARGEST)] | Limit, ...] = ()
    seed: Integer = Field(default=0, ge=0, lt=2**63)
    spec: SpecConfig = SpecConfig()
    fit: FitConfig = FitConfig()
    splits: SplitConfig = SplitConfig()
    version: Literal[1, 2, 3, 4] = RECIPE_VERSION
    shard_objects: Integer = Field(default=500, ge=1, le=1_000_000)
    quarantine_threshold: Number = Field(default=0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _fill_defaults(self, info: ValidationInfo) -> "Recipe":
        """Defaults that depend on several sections; `load_recipe` chooses them again when it lays settings over a
        recipe."""
        if not isinstance(self.source, ShapeSource):
            self.__dict__["version"] = min(self.version, 2)
        if self.version >= 3 and isinstance(self.source, ShapeSource):
            source = self.source.model_copy()
            source.fill(num_truth=NUM_TRUTH, curvature=CURVATURE if source.natural_field == "sdf" else 0.0)
            self.__dict__["source"] = source
        if self.version >= 2:
            fit = self.fit.model_copy()
            if isinstance(self.source, ShapeSource) and fit.optimizer == "muon":
                fit.fill(target_psnr=None)  # all steps, of which the last are the smallest
                if self.spec.activation == "sine":
                    self.__dict__["spec"] = self.spec.model_copy()
                    self.spec.fill(first_omega_0=2 * self.spec.omega_0)
            elif isinstance(self.source, ShapeSource) and not self.source.signed:
                fit.fill(target_psnr=UDF_TARGET)
            if fit.optimizer == "sprint":
                in_dim, out_dim = (info.context or {}).get("dims") or self.source.dims
                spec = self.spec.spec(in_dim, out_dim)
                fit.fill(steps=sprint_steps(fit.target_psnr, spec))
                fit.fill(learning_rate=sprint_rate(spec, fit.steps))
                if is_encoded_relu(spec):
                    fit.fill(ridge=RELU_RIDGE)
            elif fit.optimizer == "muon":
                fit.fill(learning_rate=muon_rate(self.spec.spec(1, 1)))
            self.__dict__["fit"] = fit
        return self

    @model_validator(mode="after")
    def _check_start(self) -> "Recipe":
        if self.fit.optimizer != "adam" and self.spec.start == "dwsnets":
            raise ValueError(
                f"fit.optimizer {self.fit.optimizer} needs spec.start siren or linear; the least-squares solution of the last layer is "
                "ill-conditioned for the tiny initial weights of dwsnets"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that versions of before do not know, where they are empty."""
        fields: dict[str, Any] = dump(self)
        if not self.earlier_limits:
            fields.pop("earlier_limits", None)
        for name, default in OMITTED_KEYS.items():
            section, key = name.split(".")
            if isinstance(inner := fields.get(section), dict) and key in inner and inner[key] == default:
                del inner[key]
        if not getattr(self.source, "augment", None) and isinstance(source := fields.get("source"), dict):
            source.pop("augment", None)
        return fields

    @property
    def limits(self) -> tuple[int | Limit | None, ...]:
        """The limits that the set has had, the present one last."""
        return (*self.earlier_limits, self.limit)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that decides the content of the shards; of the limits only the first, since a set
        that grows stays the same set."""
        free = {"name", "views", "quarantine_threshold"}
        fields = self.model_dump(mode="json", exclude=free)
        if earlier := fields.pop("earlier_limits", None):
            fields["limit"] = earlier[0]
        for name, default in ADDED_KEYS.items():
            *sections, key = name.split(".")
            section = reduce(lambda outer, inner: outer[inner], sections, fields)
            if key in section and section[key] == default:
                del section[key]
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return fingerprint(canonical)

    def difference(self, other: "Recipe") -> str:
        """The first setting in which another recipe's shards would differ, as `key is x here, y there`."""
        values, others = flatten(self.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
        for key in sorted(values.keys() | others.keys()):
            if key not in ("name", "views", "quarantine_threshold") and values.get(key) != others.get(key):
                here, there = (brief(side.get(key)) for side in (values, others))
                return f"{key} is {here} here, {there} there"
        return "nothing"


def recipe_folder() -> Path:
    """The folder of the built-in recipes: inside the wheel, or pipelines/recipes of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "pipelines"
    return (inside if inside.is_dir() else package.parent / "pipelines") / "recipes"


def builtin_recipes() -> dict[str, Path]:
    """The built-in recipes.

    Returns:
        Name -> YAML file of each, by name.
    """
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}


class RecipeSummary(NamedTuple):
    """A built-in recipe in one line: its name, its number of views, and the comment that its file begins with."""

    name: str
    views: int
    about: str


def summarize_recipes() -> list[RecipeSummary]:
    """Summarise the built-in recipes, as `inr-factory recipes` does."""
    return [
        RecipeSummary(name, load_recipe(name).views, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
        for name, path in builtin_recipes().items()
    ]


def load_recipe(
    recipe: "str | Path | Recipe | Mapping[str, Any]",
    settings: Sequence[str] = (),
    version: int | None = None,
    dims: tuple[int, int] | None = None,
    **values: Any,
) -> Recipe:
    """Read a recipe and lay settings over it.

    Args:
        recipe: a built-in name, a YAML file, a dict of the keys of one, or a `Recipe`. A file or dict may inherit from another
            recipe: `base: NAME`.
        settings: "key=value" strings with dotted keys and YAML values, for example "fit.steps=500".
        version: the version of a recipe that does not name one, and of a `Recipe`; None is the newest.
        dims: coordinates and values of a point of a Source of one's own, on which defaults of steps depend.
        values: values of top-level keys, for example `views=5`; None leaves a key as it is.

    Returns:
        The recipe with every default filled in.

    Raises:
        UsageError: for an unknown name, key or value; the message suggests the nearest known one.
    """
    if not isinstance(recipe, str | Path | Recipe | Mapping):
        raise UsageError(f"a recipe is a name, a YAML file, a dict or a Recipe, got {type(recipe).__name__}")
    if isinstance(settings, str):
        raise UsageError(f"settings is a list of key=value, got the string {settings!r}")
    of_set = {} if version is None else {"version": version}
    if isinstance(recipe, Recipe):
        fields = recipe.model_dump(mode="json", exclude_unset=True) | of_set
    elif isinstance(recipe, Mapping):
        fields = of_set | _with_base(dict(recipe))
    else:
        fields = of_set | _read(str(recipe), seen=())
    changes = [_parse_setting(setting) for setting in settings]
    fields = _of_version(fields, next((value for key, value in changes if key == "version"), fields.get("version")))
    for key, value in changes:
        fields = _with_value(fields, key.split("."), value)
    fields |= {key: value for key, value in values.items() if value is not None}
    fields, starts = resolve_starts(fields)
    origin = str(recipe) if isinstance(recipe, str | Path) else str(fields.get("name", "of a dict"))
    return with_starts(check_recipe(fields, origin, dims), starts)


def all_settings(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe, also those that manifests leave out at their defaults, but for what a file of starts
    holds."""
    fields = recipe.model_dump(mode="json")
    for name, default in OMITTED_KEYS.items():
        section, key = name.split(".")
        if not key.startswith("start_") and key in type(getattr(recipe, section)).model_fields:
            fields[section].setdefault(key, default)
    return fields


def with_starts(recipe: Recipe, starts: StartINRs | None) -> Recipe:
    """The recipe with these INRs to start from, which compute the same under its output_bias.

    Raises UsageError where they are others than the recipe fits.
    """
    if starts is None:
        return recipe
    wanted, given = recipe.spec, starts.spec
    if starts.sizes[1:-1] != (widths := wanted.spec(1, 1).hidden_dims):
        raise UsageError(
            f"{starts.name} holds INRs {'-'.join(map(str, starts.sizes))}, and the recipe fits hidden layers of "
            f"{', '.join(map(str, widths))} neurons; set spec.widths=[{','.join(map(str, starts.sizes[1:-1]))}]"
        )
    for key in ("activation", "omega_0", "frequencies", "first_frequency", "coordinates"):
        if given is not None and (value := getattr(given, key)) != getattr(wanted, key):
            raise UsageError(
                f"{starts.name} holds INRs whose {key} is {value}, and the recipe's is {getattr(wanted, key)}; "
                f"set spec.{key}={value}"
            )
    weights, outputs = starts.weights.copy(), starts.sizes[-1]
    weights[:, -outputs:] += (0.0 if given is None else given.output_bias) - wanted.output_bias
    fit = recipe.fit.model_copy(update={"start_inrs": encode_starts(weights)})
    return recipe.model_copy(update={"fit": fit})


def check_views(recipe: Recipe, parameters: int) -> None:
    """Raise UsageError where two views of an object would be one INR, or `start_inrs` are of other INRs."""
    fit, given = recipe.fit, recipe.fit.starting_inrs(parameters)
    ordered = fit.batch_points is not None and fit.order == "own"
    if given is not None and recipe.views > len(given) and not ordered and not getattr(recipe.source, "augment", None):
        raise UsageError(
            f"view {len(given)} would equal view 0: the file of fit.starts has {len(given)} INR{'s'[: len(given) > 1]}, and "
            f"{recipe.views} views were asked for; give it one for each view, or fit batches of points in orders of their "
            "own (fit.batch_points)"
        )


def check_recipe(fields: Mapping[str, Any], origin: str, dims: tuple[int, int] | None = None) -> Recipe:
    """The recipe of plain fields, from a YAML file or a manifest; UsageError names the first fault. `dims` are those of
    `load_recipe`."""
    try:
        return Recipe.model_validate(fields, context={"dims": dims})
    except ValidationError as error:
        raise UsageError(f"recipe {origin}: {explain_fault(error, Recipe, SOURCES)}") from None


def recorded_recipe(fields: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe in the manifest of a set; one without a version was written before there were versions."""
    return check_recipe({"version": 1, **fields}, origin)


def _read(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise UsageError(f"recipe {name} inherits from itself: {' -> '.join((*seen, name))}")
    builtin = builtin_recipes()
    path = builtin.get(name) or Path(name)
    if not path.is_file():
        if name.endswith((".yaml", ".yml")) or "/" in name:
            raise UsageError(
                f"no recipe file or data set {name}; give a YAML file or a folder that exists, or a built-in name "
                "(inr-factory recipes)"
            )
        raise UsageError(f"no recipe {name!r}: {did_you_mean(name, builtin)} (inr-factory recipes lists them)")
    fields = load_yaml(path, f"recipe {path}")
    if not isinstance(fields, dict):
        raise UsageError(f"recipe {name} must be a mapping of keys to values, got {type(fields).__name__}")
    fields = {"name": path.stem, **fields}
    return _with_base(fields, (*seen, name))


def _with_base(fields: dict[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields over those of the recipe that their key `base` names."""
    base = fields.pop("base", None)
    return fields if base is None else merge(_read(str(base), seen), fields)


def _of_version(fields: dict[str, Any], version: Any) -> dict[str, Any]:
    """The fields of a recipe file, with the settings under `earlier` that it had in versions 1 to `version`."""
    earlier = fields.pop("earlier") if isinstance(fields.get("earlier"), dict) else {}
    for last in sorted(earlier, reverse=True):
        if isinstance(version, int) and version <= last:
            fields = merge(fields, earlier[last])
    return fields


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Key and value of "key=value"."""
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, got {setting!r}; for example --set fit.steps=500")
    return key.strip(), parse_yaml(text, f"--set {setting}")


def _with_value(fields: Mapping[str, Any], path: Sequence[str], value: Any, outer: str = "") -> dict[str, Any]:
    """The fields with another value at a path of keys."""
    key, *rest = path
    if rest:
        inner = fields.get(key, {})
        if not isinstance(inner, Mapping):
            raise UsageError(f"--set {outer}{'.'.join(path)}: {outer}{key} holds a value, not keys")
        value = _with_value(inner, rest, value, f"{outer}{key}.")
    return {**fields, key: value}


def recipe_keys() -> list[str]:
    """Every key of a recipe, dotted, with those of sections."""
    return section_keys(Recipe)
