"""The settings of activation quantizers; those of a softmax's outputs may have powers of two."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import StrictFloat, StrictInt, ValidationInfo, field_validator, model_validator

from subbyte.core import MAX_BITS, WIDE_BITS, Alphabet, PerChannel, PowersOfTwo, Uniform
from subbyte.core.logarithmic import LEAST, MOST
from subbyte.core.shares import SHARES
from subbyte.errors import RecipeError
from subbyte.methods.blame import blaming
from subbyte.ranges import RANGES, Mse, Unit
from subbyte.recipe.settings import AllocateSetting, RangeSetting, Scales, Settings
from subbyte.recipe.width import Family, Width


def whole_or_allocated(bits: object, info: ValidationInfo) -> None:
    """Bits are whole numbers, or a mean over channels."""
    if isinstance(bits, float) and not bits.is_integer() and info.data.get("allocate") is None:
        raise ValueError(f"{bits} bits are a mean over channels; that needs allocate")


def check_channels(allocate: object, by_channel: bool, granularity: str) -> None:
    """Raise RecipeError where bits are allocated to channels that share a scale."""
    if allocate is not None and not by_channel:
        raise RecipeError(
            f"allocate gives each channel bits of its own; it needs granularity channel, not "
            f"{granularity}"
        )


class ActivationSettings(Settings):
    """Settings of how activation tensors are quantized. bits: null for float, 2 to 8, or
    16.
    """

    allocate: AllocateSetting | None = None
    bits: StrictInt | StrictFloat | None = 8
    symmetric: bool = False
    range: RangeSetting = Mse()
    granularity: Literal["tensor", "channel"] = "tensor"
    scales: Scales = "any"
    dynamic: bool = False

    @property
    def width(self) -> Width:
        """The width that is asked for."""
        if self.bits is None:
            return Width(None, Family.FLOAT)
        return Width(self.bits, Family.STEPS if self.allocate is None else Family.MIXED)

    @property
    def alphabet(self) -> Alphabet:
        """The numbers of a quantizer whose channels have as many bits each."""
        assert self.bits is not None
        return Uniform(int(self.bits), signed=self.symmetric, symmetric=self.symmetric)

    @property
    def by_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return SHARES[self.granularity] is PerChannel

    @model_validator(mode="after")
    def _together(self) -> "ActivationSettings":
        check_channels(self.allocate, self.by_channel, self.granularity)
        if not self.dynamic:
            return self
        if self.scales != "any":
            raise RecipeError("dynamic ranges are chosen batch by batch; scales can be any then")
        if self.allocate is not None:
            raise RecipeError(
                "dynamic ranges are chosen batch by batch; bits can't be allocated to channels then"
            )
        with blaming(self.range, "closed_form"):
            traceable = self.range.closed_form
        if not traceable:
            raise RecipeError(
                f"dynamic needs a range in closed form: minmax, sigma, or aciq with a prior; not "
                f"{RANGES.short(self.range)!r}"
            )
        return self

    @field_validator("bits")
    @classmethod
    def _bits(cls, bits: float | None, info: ValidationInfo) -> float | None:
        whole_or_allocated(bits, info)
        if bits is not None and not 2 <= bits <= MAX_BITS and bits != WIDE_BITS:
            raise ValueError(
                f"activation bits must be from 2 to {MAX_BITS}, {WIDE_BITS}, or null for float; "
                f"got {bits}"
            )
        return bits

    @field_validator("range")
    @classmethod
    def _range(cls, method: RangeSetting) -> RangeSetting:
        with blaming(method, "for_activations"):
            fits = method.for_activations
        if not fits:
            raise RecipeError(
                f"range {RANGES.short(method)!r} is a rule for weights, not for activations"
            )
        return method


POWERS = "log2"
"""The levels that a softmax's outputs may have in place of equal steps."""


def powers_fit(settings: Mapping[str, Any]) -> bool:
    """Whether levels log2 go with the other settings of a value: one fixed scale, 2 to 5 bits."""
    if settings["symmetric"] or settings["dynamic"] or settings["granularity"] != "tensor":
        return False
    bits = settings["bits"]
    return bits is None or (isinstance(bits, int | float) and LEAST <= bits <= MOST)


class SoftmaxSettings(ActivationSettings):
    """Settings of how a softmax's outputs are quantized. levels: log2 for powers of two in place of
    equal steps, at 2 to 5 bits.
    """

    range: RangeSetting = Unit()
    levels: Literal["log2"] | None = None

    @property
    def width(self) -> Width:
        """See `ActivationSettings`."""
        if self.levels is None or self.bits is None:
            return super().width
        return Width(self.bits, Family.LOG2)

    @property
    def alphabet(self) -> Alphabet:
        """See `ActivationSettings`."""
        if self.levels is None or self.bits is None:
            return super().alphabet
        return PowersOfTwo(int(self.bits))

    @model_validator(mode="after")
    def _powers(self) -> "SoftmaxSettings":
        if self.levels is None or self.bits is None:
            return self
        if self.symmetric or self.dynamic or self.by_channel:
            raise RecipeError(
                "levels log2 are for one fixed scale, and numbers from 0 on: leave symmetric, "
                "dynamic and granularity channel out"
            )
        _ = self.alphabet  # raises for bits that it has not
        return self
