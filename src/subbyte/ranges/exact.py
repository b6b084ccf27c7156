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
            lambda self, spec: not spec.uniform,
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
        values = values.double()
        low, high = values.amin(1).clamp_max(0), values.amax(1).clamp_min(0)
        scale, found = positive(high - low), high == low
        for steps in range(1, spec.qmax - spec.qmin + 1):
            step = positive((high - low) / steps)
            fits = self._fits(values, step, spec) & ~found
            scale, found = torch.where(fits, step, scale), found | fits
        if not bool(found.all()):
            first = int((~found).nonzero()[0])
            block = {"tensor": "tensor", "channel": "row", "group": "group"}[spec.granularity]
            raise RecipeError(
                f"exact: {int((~found).sum())} of {len(found)} {block}s lie on no grid of "
                f"{spec.label} bits"
                f"{' with 0 in the middle' if spec.symmetric else ''}, the first is {block} "
                f"{first}; "
                "train them on one, or choose another range"
            )
        codes = torch.round(values / scale[:, None])
        power = codes.square().sum(1)
        scale = torch.where(power > 0, (codes * values).sum(1) / positive(power), scale)
        lowest = codes.amin(1).clamp_max(0)
        zero_point = torch.zeros_like(lowest) if spec.symmetric else spec.qmin - lowest
        return positive(scale).float(), zero_point.to(torch.int32)

    @staticmethod
    def _fits(values: Tensor, step: Tensor, spec: GridSpec) -> Tensor:
        scaled = values / step[:, None]
        codes = torch.round(scaled)
        fits = (scaled - codes).abs().amax(1) < _WHOLE
        if spec.symmetric:
            fits &= (codes.amin(1) >= spec.qmin) & (codes.amax(1) <= spec.qmax)
        return fits & (
            codes.amax(1).clamp_min(0) - codes.amin(1).clamp_max(0) <= spec.qmax - spec.qmin
        )
