"""Recipes: what the user asks for. YAML in, validated settings out; unknown keys are errors.

    weights:      {bits: 4, rounding: corrected, range: mse, correction: moments, scalar: 1.0,
                  precondition: null}
    activations:  {bits: 4, range: mse, granularity: tensor, allocate: null, dynamic: false}
                                   # tensors that feed a layer; bits null: float
    others:       {bits: 8}        # other activation quantizers: operands of adds, pools, logits
    input:        {bits: 8}        # the network's inputs
    softmax:      {bits: 8, range: unit, levels: null}   # outputs of a softmax that feed a product
                                   # (attention); levels log2: 0 and powers of two, at 2 to 5 bits;
                                   # a pattern's activations may state or, with other bits, end them
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
      "kind:linear": {weights: {scalar: 1.2}}      # conv, conv_transpose, linear, embedding or
                                                   # recurrent layers
      "kind:product": {activations: {bits: 8}}     # products of two values: attention's

    target:       null             # or what the network is for (`target`): its rules are obeyed

A method is a name, or a mapping with its settings: `rounding: {name: gptq, damping: 0.02}`. A
class in a file of one's own is a name, too: `rounding: mine.py:MyRounding`, or `{name:
mine.py:MyRounding, ...}`; the file is looked up in the recipe's folder, then in the working
directory. In Python a method may be the object itself.

A written plan.yaml may be given wherever a recipe may: it is done as it is, with the same result.

Weights take `levels` in place of 2^bits equal steps:
    wide      2^bits + 1 equal steps, symmetric (GPFQ 2023; bits from 1)
    odd       2^bits equal steps without 0 (GPFQ 2020)
    apot      sums of powers of two, 2^bits - 1 or fewer (APoT)
    3 ... 11  as many powers of two with 0 (L-DNQ: 3, 5, 7, 9 or 11), in place of any number of bits
    [...]     any rising list of 2 to 256 numbers, in steps of the scale; likewise
    NAME      an alphabet of `core.ALPHABETS`, or {name: NAME, ...} with its fields; in Python also
              the object; likewise
and `scales: powers-of-two`, which activations take, too; and `scalar`, a factor on every scale that
the range chooses; methods that refit scales only start from it. Level sets
other than lists and alphabets are symmetric: `symmetric` and `narrow` do not apply to them.

`guided: 4` weighs what each of 4 runs of a layer's output channels sees by the gradients of the
network's output there (0: off): their squares to the power `guided_power`, from 0 to 1 (1 is
GuidedQuant's, there with the loss's gradients).

With `allocate: optimum` and `granularity: channel`, `bits` is a mean, such as 4 or 2.5, and every
channel gets from 0 to 8. Activations may have `dynamic: true`: a range for every batch, by a
formula (minmax, sigma, or aciq with a prior).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializationInfo,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from subbyte.allocate import ALLOCATIONS
from subbyte.core import MAX_BITS, WIDE_BITS, PerChannel
from subbyte.core.shares import SHARES
from subbyte.correct import CORRECTIONS, Moments
from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Natural, Positive, Real
from subbyte.io.registry import ANYWHERE, Registry
from subbyte.io.user_file import MACHINE, UserFiles
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES, Mse
from subbyte.recipe.activations import (
    POWERS,
    ActivationSettings,
    SoftmaxSettings,
    check_channels,
    whole_or_allocated,
)
from subbyte.recipe.levels import Levels, count_of, plain_levels, read_levels
from subbyte.recipe.settings import (
    AllocateSetting,
    BudgetSetting,
    CorrectionSetting,
    PreconditionSetting,
    RangeSetting,
    RoundingSetting,
    Scales,
    Settings,
    TuneSetting,
    WidthSetting,
)
from subbyte.recipe.width import Family, Width
from subbyte.rounding import ROUNDINGS, Corrected

Bits = StrictInt | StrictFloat | Literal["ternary"]
_METHODS: dict[str, Registry[Any]] = {
    "range": RANGES,
    "rounding": ROUNDINGS,
    "correction": CORRECTIONS,
    "precondition": PRECONDITIONS,
    "allocate": ALLOCATIONS,
}
_LEVELS = "levels"
_WIDTHS = [Width.parse(width) for width in ("ternary", "2 odd", "2 wide", 3, "3 wide", 4, 6, 8)]


class WeightSettings(Settings):
    """Settings of how weights are quantized. bits: null for float, ternary, 2 to 8 (1 to 8 for
    levels `wide` and `odd`), or 16 in equal steps.
    """

    levels: Levels | None = None
    allocate: AllocateSetting | None = None
    bits: Bits | None = 8
    symmetric: bool = True
    narrow: bool = False
    granularity: Literal["tensor", "channel", "group"] = "channel"
    group_size: Count | None = None
    scales: Scales = "any"
    range: RangeSetting = Mse()
    scalar: Positive = 1.0
    precondition: PreconditionSetting | None = None
    rounding: RoundingSetting = Corrected()
    correction: CorrectionSetting = Moments()
    guided: Natural = 0
    guided_power: Annotated[float, Real(0, 1, above=True)] = 1.0

    @property
    def width(self) -> Width:
        """The width that is asked for."""
        if self.bits is None:
            return Width(None, Family.FLOAT)
        count = count_of(self.levels)
        if count is not None:
            return Width(count, Family.LEVELS)
        if isinstance(self.bits, str):
            return Width(None, Family(self.bits))
        if isinstance(self.levels, str):
            return Width(self.bits, Family(self.levels))
        return Width(self.bits, Family.STEPS if self.allocate is None else Family.MIXED)

    @property
    def by_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return SHARES[self.granularity] is PerChannel

    @model_validator(mode="after")
    def _together(self) -> "WeightSettings":
        check_channels(self.allocate, self.by_channel, self.granularity)
        if self.allocate is not None and (
            self.levels is not None or self.narrow or self.width.family is Family.TERNARY
        ):
            raise RecipeError(
                "allocate needs 2^bits equal steps: no levels, ternary or narrow grids"
            )
        return self

    @field_validator("bits")
    @classmethod
    def _bits(cls, bits: Bits | None, info: ValidationInfo) -> Bits | None:
        whole_or_allocated(bits, info)
        levels = info.data.get("levels")
        least = Family(levels).least_bits if isinstance(levels, str) else 2
        even = levels in (None, Family.WIDE.value)
        most = WIDE_BITS if even and bits == WIDE_BITS else MAX_BITS
        if isinstance(bits, int | float) and not least <= bits <= most:
            raise ValueError(
                f"weight bits must be ternary, from 2 to {MAX_BITS} (1 to {MAX_BITS} with levels: "
                f"wide or odd), {WIDE_BITS} in equal steps, or null for float; got {bits}"
            )
        if isinstance(bits, str) and isinstance(levels, str):
            raise ValueError(
                f"{bits} has its own three levels; give a number of bits with levels: {levels}"
            )
        return bits

    @field_validator("levels", mode="before")
    @classmethod
    def _levels(cls, levels: object) -> Levels | None:
        return read_levels(levels)

    @field_serializer("levels")
    def _plain_levels(self, levels: object) -> object:
        return plain_levels(levels)


def _changes(
    model: type[Settings], changes: Mapping[str, object], info: ValidationInfo
) -> dict[str, object]:
    """Some settings of a group, methods among them built; values are checked where they
    meet the rest.
    """
    for name in changes:
        if name not in model.model_fields:
            raise RecipeError(
                f"{name}: unknown setting; known here: {', '.join(model.model_fields)}"
            )
    files = info.context or ANYWHERE
    return {name: _built(name, value, files) for name, value in changes.items()}


def _built(name: str, value: object, files: UserFiles) -> object:
    return _METHODS[name].build(value, files) if name in _METHODS and value is not None else value


def _written(name: str, value: object, files: UserFiles) -> object:
    if name == _LEVELS:
        return plain_levels(value)
    return _METHODS[name].short(value, files) if name in _METHODS and value is not None else value


class LayerSettings(Settings):
    """The settings that differ for the layers of a pattern: any of their weights and input
    activations.
    """

    skip: bool | None = None
    weights: dict[str, object] = Field(default_factory=dict)
    activations: dict[str, object] = Field(default_factory=dict)

    @field_validator("weights")
    @classmethod
    def _weights(cls, changes: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        built = _changes(WeightSettings, changes, info)
        return built | ({_LEVELS: read_levels(built[_LEVELS])} if _LEVELS in built else {})

    @field_validator("activations")
    @classmethod
    def _activations(cls, changes: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        if changes.get(_LEVELS) not in (None, POWERS):
            raise RecipeError(
                f"levels of a softmax's outputs are {POWERS}, or null for equal steps; got "
                f"{changes[_LEVELS]!r}"
            )
        return _changes(SoftmaxSettings, changes, info)

    @field_serializer("weights", "activations")
    def _plain(self, changes: dict[str, object], info: SerializationInfo) -> dict[str, object]:
        files = info.context or MACHINE
        return {name: _written(name, value, files) for name, value in changes.items()}


class Recipe(Settings):
    """Everything the user may ask for. See the module's text for the YAML."""

    name: str = "custom"
    weights: WeightSettings = WeightSettings()
    activations: ActivationSettings = ActivationSettings(bits=None)
    others: ActivationSettings = ActivationSettings()
    input: ActivationSettings = ActivationSettings()
    softmax: SoftmaxSettings = SoftmaxSettings()
    first_last: int | None = None
    tune: TuneSetting | None = None
    budget: BudgetSetting | None = None
    budget_for: Literal["layers", "channels"] = "layers"
    widths: list[WidthSetting] = Field(default=_WIDTHS, min_length=1)
    layers: dict[str, LayerSettings] = Field(default_factory=dict)
    target: str | None = None

    def stated(self, files: UserFiles = MACHINE) -> dict[str, object]:
        """The recipe's settings as plain values for JSON. files: of the file they go into."""
        return self.model_dump(mode="json", context=files)

    @field_validator("widths")
    @classmethod
    def _widths(cls, widths: list[WidthSetting]) -> list[WidthSetting]:
        for width in widths:
            WeightSettings(**width.settings())
        return widths

    @field_validator("first_last")
    @classmethod
    def _first_last(cls, bits: int | None) -> int | None:
        if bits is not None and not 2 <= bits <= 8:
            raise ValueError(f"first_last must be from 2 to 8 bits; got {bits}")
        return bits
