"""Recipes: what the user asks for. YAML in, validated settings out; unknown keys are errors.

    weights:      {bits: 4, rounding: corrected, range: mse, correction: moments, scalar: 1.0,
                  precondition: null}
    activations:  {bits: 4, range: mse, granularity: tensor, allocate: null, dynamic: false}
                                   # tensors that feed a layer; bits null: float
    others:       {bits: 8}        # all other taps: operands of adds, pools, logits
    input:        {bits: 8}        # the network's input
    tune:         null             # or cascade: later layers learn to make up for each rounded one
    budget:       null             # or 2.5bits, 100KB, 1.5Gbops: widths are shared out among layers
                                   to meet it
    budget_for:   layers           # or channels: each with as many levels of its own, as many as
                                   one of the widths has
    widths:       [ternary, 2 odd, 2 wide, 3, 3 wide, 4, 6, 8]  # that a layer may get then, unless
                                                                a pattern says
    first_last:   8                # bits of the first and last layer (weights, and activations if
                                   quantized)
    layers:                        # by name pattern, last match wins
      "layer1.*": {weights: {bits: 8}}
      "fc":       {skip: true}
      "kind:linear": {weights: {scalar: 1.2}}      # conv, conv_transpose or linear layers

A method is a name, or a mapping with its settings: `rounding: {name: gptq, damping: 0.02}`.

Weights take `levels` in place of 2^bits equal steps:
    wide      2^bits + 1 equal steps, symmetric (GPFQ 2023; bits from 1)
    odd       2^bits equal steps without 0 (GPFQ 2020)
    apot      sums of powers of two, 2^bits - 1 or fewer (APoT)
    3 ... 11  as many powers of two with 0 (L-DNQ: 3, 5, 7, 9 or 11), in place of any number of bits
    [...]     any rising list of 2 to 256 numbers, in steps of the scale; likewise
and `scalar`, a factor on every scale that the range chooses; methods that refit scales only start
from it. Level sets
other than lists are symmetric: `symmetric` and `narrow` do not apply to them.

`guided: 4` weighs what each of 4 runs of a layer's output channels sees by the gradients of the
network's output there (0: off): their squares to the power `guided_power`, from 0 to 1 (1 is
GuidedQuant's, there with the loss's gradients).

With `allocate: optimum` and `granularity: channel`, `bits` is a mean, such as 4 or 2.5, and every
channel gets from 0 to 8. Activations may have `dynamic: true`: a range for every batch, by a
formula (minmax, sigma, or aciq with a prior).
"""

import re
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from subbyte.allocate import ALLOCATIONS, Budget
from subbyte.core.levels import POWER_COUNTS
from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES
from subbyte.recipe.registry import Method, build_method
from subbyte.rounding import ROUNDINGS
from subbyte.tune import TUNES

Bits = StrictInt | StrictFloat | Literal["ternary"]
Levels = str | int | list[float]
FAMILIES = ("wide", "odd", "apot")
T = TypeVar("T")
PRESETS = ("w8a8", "w4a8", "w4a4", "w4", "w3", "w2", "ternary", "gpfq", "ldnq")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known(registry: dict[str, type[T]], method: Method, kind: str) -> Method:
    build_method(registry, method, kind)
    return method


def _whole_or_allocated(bits: Bits | None, info: ValidationInfo) -> None:
    """Bits are whole numbers, or a mean over channels."""
    if isinstance(bits, float) and not bits.is_integer() and info.data.get("allocate") is None:
        raise ValueError(f"{bits} bits are a mean over channels; that needs allocate")


def _by_channel(settings: "TapSettings | WeightSettings") -> None:
    if settings.allocate is not None and settings.granularity != "channel":
        raise RecipeError(
            f"allocate gives each channel bits of its own; it needs granularity channel, not "
            f"{settings.granularity}"
        )


class TapSettings(_Settings):
    """How activation tensors are quantized. bits: null for float, or 2 to 8."""

    allocate: Method | None = None
    bits: StrictInt | StrictFloat | None = 8
    symmetric: bool = False
    range: Method = "mse"
    granularity: Literal["tensor", "channel"] = "tensor"
    dynamic: bool = False

    @model_validator(mode="after")
    def _together(self) -> "TapSettings":
        _by_channel(self)
        if not self.dynamic:
            return self
        if self.allocate is not None:
            raise RecipeError(
                "dynamic ranges are chosen batch by batch; bits can't be allocated to channels then"
            )
        if not getattr(build_method(RANGES, self.range, "range"), "closed_form", False):
            raise RecipeError(
                f"dynamic needs a range in closed form: minmax, sigma, or aciq with a prior; not "
                f"{self.range!r}"
            )
        return self

    @field_validator("allocate")
    @classmethod
    def _allocate(cls, method: Method | None) -> Method | None:
        return None if method is None else _known(ALLOCATIONS, method, "allocate")

    @field_validator("bits")
    @classmethod
    def _bits(cls, bits: float | None, info: ValidationInfo) -> float | None:
        _whole_or_allocated(bits, info)
        if bits is not None and not 2 <= bits <= 8:
            raise ValueError(f"activation bits must be from 2 to 8, or null for float; got {bits}")
        return bits

    @field_validator("range")
    @classmethod
    def _range(cls, method: Method) -> Method:
        found = build_method(RANGES, method, "range")
        if getattr(found, "weights_only", False) or hasattr(found, "importance"):
            raise RecipeError(f"range {method!r} is a rule for weights, not for activations")
        return method


class WeightSettings(_Settings):
    """How weights are quantized. bits: null for float, ternary, or 2 to 8 (1 to 8 for levels `wide`
    and `odd`).
    """

    levels: Levels | None = None
    allocate: Method | None = None
    bits: Bits | None = 8
    symmetric: bool = True
    narrow: bool = False
    granularity: Literal["tensor", "channel", "group"] = "channel"
    group_size: int | None = None
    range: Method = "mse"
    scalar: float = 1.0
    precondition: Method | None = None
    rounding: Method = "corrected"
    correction: Method = "moments"
    guided: int = Field(default=0, ge=0)
    guided_power: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _together(self) -> "WeightSettings":
        _by_channel(self)
        if self.allocate is not None and (
            self.levels is not None or self.narrow or self.bits == "ternary"
        ):
            raise RecipeError(
                "allocate needs 2^bits equal steps: no levels, ternary or narrow grids"
            )
        return self

    @field_validator("allocate")
    @classmethod
    def _allocate(cls, method: Method | None) -> Method | None:
        return None if method is None else _known(ALLOCATIONS, method, "allocate")

    @field_validator("bits")
    @classmethod
    def _bits(cls, bits: Bits | None, info: ValidationInfo) -> Bits | None:
        _whole_or_allocated(bits, info)
        levels = info.data.get("levels")
        least = 1 if levels in ("wide", "odd") else 2
        if isinstance(bits, int | float) and not least <= bits <= 8:
            raise ValueError(
                f"weight bits must be ternary or from 2 to 8 (1 to 8 with levels: wide or odd), or "
                f"null for float; "
                f"got {bits}"
            )
        if bits == "ternary" and isinstance(levels, str):
            raise ValueError(
                f"ternary has its own three levels; give a number of bits with levels: {levels}"
            )
        return bits

    @field_validator("levels", mode="before")
    @classmethod
    def _levels(cls, levels: Any) -> Levels | None:
        numbers = isinstance(levels, list) and all(type(level) in (int, float) for level in levels)
        if (
            levels is None
            or numbers
            or (type(levels) is not bool and levels in (*FAMILIES, *POWER_COUNTS))
        ):
            return levels  # type: ignore[no-any-return]
        raise ValueError(
            f"levels must be {', '.join(FAMILIES)}, a number of powers of two "
            f"({', '.join(map(str, POWER_COUNTS))}) or a list of numbers; got {levels!r}"
        )

    @field_validator("scalar")
    @classmethod
    def _scalar(cls, scalar: float) -> float:
        if not 0 < scalar < inf:
            raise ValueError(f"scalar must be a positive number; got {scalar}")
        return scalar

    @field_validator("precondition")
    @classmethod
    def _precondition(cls, method: Method | None) -> Method | None:
        return None if method is None else _known(PRECONDITIONS, method, "precondition")

    @field_validator("range")
    @classmethod
    def _range(cls, method: Method) -> Method:
        return _known(RANGES, method, "range")

    @field_validator("rounding")
    @classmethod
    def _rounding(cls, method: Method) -> Method:
        return _known(ROUNDINGS, method, "rounding")

    @field_validator("correction")
    @classmethod
    def _correction(cls, method: Method) -> Method:
        return _known(CORRECTIONS, method, "correction")


class LayerSettings(_Settings):
    """What differs for the layers of a pattern: any settings of their weights and input
    activations.
    """

    skip: bool | None = None
    weights: dict[str, Any] = {}
    activations: dict[str, Any] = {}


class Recipe(_Settings):
    """Everything the user may ask for. See the module's text for the YAML."""

    name: str = "custom"
    weights: WeightSettings = WeightSettings()
    activations: TapSettings = TapSettings(bits=None)
    others: TapSettings = TapSettings()
    input: TapSettings = TapSettings()
    first_last: int | None = None
    tune: Method | None = None
    budget: str | None = None
    budget_for: Literal["layers", "channels"] = "layers"
    widths: list[Bits | str] = Field(
        default=["ternary", "2 odd", "2 wide", 3, "3 wide", 4, 6, 8], min_length=1
    )
    layers: dict[str, LayerSettings] = {}

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, text: Any) -> str | None:
        return None if text is None else Budget.parse(str(text)).text

    @field_validator("widths")
    @classmethod
    def _widths(cls, widths: list[Bits | str]) -> list[Bits | str]:
        for width in widths:
            WeightSettings(**width_settings(width))
        return widths

    @field_validator("tune")
    @classmethod
    def _tune(cls, method: Method | None) -> Method | None:
        return None if method is None else _known(TUNES, method, "tune")

    @field_validator("first_last")
    @classmethod
    def _first_last(cls, bits: int | None) -> int | None:
        if bits is not None and not 2 <= bits <= 8:
            raise ValueError(f"first_last must be from 2 to 8 bits; got {bits}")
        return bits


def width_settings(width: Bits | str) -> dict[str, Any]:
    """Settings of weights that an entry of `widths` stands for: 2, ternary, or text such as 2 wide:
    bits and `levels`.

    They take the place of bits and levels, and grids that can't be narrow or allocated are not.
    Raises ValueError for other text.
    """
    if not isinstance(width, str):
        return {"bits": width, "levels": None}
    plain = {"narrow": False, "allocate": None}
    if width == "ternary":
        return {"bits": width, "levels": None} | plain
    match = re.fullmatch(r"([1-8]) (wide|odd)", width)
    if match is None:
        raise ValueError(
            f"expected a number of bits, ternary, or text such as 2 wide and 2 odd; got {width!r}"
        )
    return {"bits": int(match[1]), "levels": match[2]} | plain


def load_recipe(source: str | Path | Recipe, overrides: list[str] | None = None) -> Recipe:
    """A preset's name, a YAML file or a Recipe, with overrides like `weights.rounding=gpfq` applied
    in order.

    Raises RecipeError with the path of the setting that is unknown or out of range.
    """
    if not isinstance(source, str | Path | Recipe):
        raise RecipeError(
            f"a recipe is a preset, a file or a Recipe, got {type(source).__name__}; try "
            f"Recipe(**mapping)"
        )
    recipe = source if isinstance(source, Recipe) else _read(str(source))
    if not overrides:
        return recipe
    settings = recipe.model_dump()
    for override in overrides:
        _override(settings, override)
    return parse_settings(Recipe, settings, f"recipe {recipe.name}")


def parse_settings(model: type[T], settings: dict[str, Any], where: str) -> T:
    """Validate a mapping; RecipeError names the first setting that is wrong."""
    try:
        return model.model_validate(settings)  # type: ignore[attr-defined, no-any-return]
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"] if part not in ("int", "str")) or "(top)"
        message = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = (
                f"unknown setting; known here: {', '.join(_keys_at(model, first['loc'][:-1]))}"
            )
        raise RecipeError(f"{where}: {path}: {message}") from error


def _keys_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = LayerSettings if field is None else field.annotation
    fields = getattr(model, "model_fields", LayerSettings.model_fields)
    return [field.alias or name for name, field in fields.items()]


def _read(source: str) -> Recipe:
    if source.lower() in PRESETS:
        text = (
            resources.files("subbyte.recipe").joinpath(f"presets/{source.lower()}.yaml").read_text()
        )
    elif Path(source).is_file():
        text = _text(Path(source))
    else:
        raise RecipeError(
            f"recipe {source!r} is neither a preset ({', '.join(PRESETS)}) nor a file"
        )
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise RecipeError(
            f"recipe {source}: expected a mapping of settings, got {type(settings).__name__}"
        )
    settings.setdefault("name", Path(source).stem.lower())
    return parse_settings(Recipe, settings, f"recipe {source}")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: not YAML text ({error})") from error


def _override(settings: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise RecipeError(f"--set {override!r}: expected path=value, such as weights.rounding=gpfq")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override!r}: {text!r} is not a YAML value") from error
    *parents, leaf = _split(path.strip())
    here = settings
    for part in parents:
        below = here.setdefault(part, {})
        if isinstance(below, str):
            # `rounding: gptq` takes settings as {name: gptq, ...}
            below = here[part] = {"name": below}
        if not isinstance(below, dict):
            raise RecipeError(f"--set {override!r}: {part!r} is a value, not a group of settings")
        here = below
    here[leaf] = value


def _split(path: str) -> list[str]:
    """Parts of a setting's path; a layer's pattern may hold dots itself:
    `layers.layer1.*.weights.bits`.
    """
    pattern = re.fullmatch(r"layers\.(.+?)\.(skip|(?:weights|activations)(?:\..+)?)", path)
    return ["layers", pattern[1], *pattern[2].split(".")] if pattern else path.split(".")
