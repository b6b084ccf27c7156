"""The grid that the values already lie on, for weights that were trained on one, here or elsewhere.

    the largest scale s with  x_i / s  whole numbers that span at most qmax - qmin codes, for all i

A row of values with k steps between its ends has s = (max - min) / k, so every k is tried: cost
qmax - qmin passes. Folding a batch-norm into a layer multiplies rows by factors that may be
negative, and rounds to float32: whole numbers are taken to be so within 1e-4, and s has the least
    square error then. Zero points go where 0 is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.errors import RecipeError
from subbyte.methods import Range, Refusal
from subbyte.ranges.minmax import positive

_WHOLE = 1e-4


@dataclass(frozen=True)
class Exact(Range):
    """Find the grid that weights already lie on, and refuse those that lie on none."""

    weights_only = True
    weights_on_grid = True
    refuses = (
        Refusal(
            lambda self, spec: not spec.alphabet.even,
            "exact: looks for evenly spaced values; it can't work with levels or a codebook",
        ),
    )

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; the importance is not read. Raises RecipeError where a block lies on
        no such grid.
        """
        self.check(spec)
        alphabet = spec.alphabet
        values = values.double()
        low, high = values.amin(1).clamp_max(0), values.amax(1).clamp_min(0)
        scale, found = positive(high - low), high == low
        for steps in range(1, alphabet.count):
            step = positive((high - low) / steps)
            fits = self._fits(values, step, spec) & ~found
            scale, found = torch.where(fits, step, scale), found | fits
        if not bool(found.all()):
            first = int((~found).nonzero()[0])
            block = spec.share.block_name
            middle = "" if alphabet.has_zero_point else " with 0 in the middle"
            raise RecipeError(
                f"exact: {int((~found).sum())} of {len(found)} {block}s lie on no grid of "
                f"{spec.label} bits{middle}, the first is {block} {first}; train them on one, or "
                f"choose another range"
            )
        codes = torch.round(values / scale[:, None])
        power = codes.square().sum(1)
        scale = torch.where(power > 0, (codes * values).sum(1) / positive(power), scale)
        lowest = codes.amin(1).clamp_max(0)
        zero_point = alphabet.qmin - lowest if alphabet.has_zero_point else torch.zeros_like(lowest)
        return positive(scale).float(), zero_point.to(torch.int32)

    @staticmethod
    def _fits(values: Tensor, step: Tensor, spec: GridSpec) -> Tensor:
        scaled = values / step[:, None]
        codes, alphabet = torch.round(scaled), spec.alphabet
        fits = (scaled - codes).abs().amax(1) < _WHOLE
        if not alphabet.has_zero_point:
            fits &= (codes.amin(1) >= alphabet.qmin) & (codes.amax(1) <= alphabet.qmax)
        return fits & (codes.amax(1).clamp_min(0) - codes.amin(1).clamp_max(0) < alphabet.count)
