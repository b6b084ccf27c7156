"""The range that loses no value to clipping.

symmetric:   scale = max(min(x, 0) / qmin, max(x, 0) / qmax)
asymmetric:  scale = (max(x, 0) - min(x, 0)) / (qmax - qmin),   zero_point = round(qmin - min(x, 0)
                                                                / scale)

qmin and qmax are the outermost positions: of levels, the smallest scale at which they cover every
value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.methods import Range


@dataclass(frozen=True)
class MinMax(Range):
    """Cover every value."""

    closed_form = True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; the importance is not read."""
        return grid_of_range(values.amin(1), values.amax(1), spec)


def grid_of_range(low: Tensor, high: Tensor, spec: GridSpec) -> tuple[Tensor, Tensor]:
    """Scale and zero point [blocks] whose grid covers [low, high] and 0."""
    low, high = low.clamp_max(0).double(), high.clamp_min(0).double()
    first, last = spec.alphabet.positions[0], spec.alphabet.positions[-1]
    if not spec.alphabet.has_zero_point:
        below, above = min(first, 0.0), max(last, 0.0)
        scale = positive(torch.maximum(_ratio(low, below), _ratio(high, above)))
        return scale.float(), torch.zeros_like(scale, dtype=torch.int32)
    scale = positive((high - low) / (last - first))
    zero_point = torch.round(first - low / scale).clamp(first, last).to(torch.int32)
    return scale.float(), zero_point


def positive(scale: Tensor) -> Tensor:
    """Scale 1 for blocks without any range: their values are 0 on every scale."""
    return torch.where(scale > torch.finfo(torch.float32).tiny, scale, 1.0)


def _ratio(end: Tensor, code: float) -> Tensor:
    return end / code if code else torch.zeros_like(end)
