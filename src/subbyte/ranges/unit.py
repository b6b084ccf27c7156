"""The range from 0 to 1, whatever the values: that of a softmax's outputs.

scale = 1 / (qmax - qmin), zero_point = qmin; of symmetric grids scale = 1 / qmax
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range


@dataclass(frozen=True)
class Unit(Range):
    """Cover 0 to 1."""

    closed_form, fixed = True, True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; neither values nor importance are read."""
        low = torch.zeros(len(values), device=values.device)
        return grid_of_range(low, torch.ones_like(low), spec)
