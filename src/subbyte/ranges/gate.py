"""The range from 0 to 1 with 1/2 among its numbers: that of a sigmoid's outputs.

scale = 1 / (2 m),  m = floor((qmax - qmin) / 2),  zero_point = qmin
of symmetric grids  m = floor(qmax / 2),           zero_point = 0

A hard sigmoid, x / 6 + 1/2 between 0 and 1, is then x in steps of 6 scale, m codes higher: whole
numbers alone. One bit, which has no 1/2, covers 0 to 1.
"""

from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor

from subbyte.core import GridSpec
from subbyte.methods import Range
from subbyte.ranges.minmax import grid_of_range


@dataclass(frozen=True)
class Gate(Range):
    """Cover 0 to 1, with 1/2."""

    closed_form, fixed = True, True

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; neither values nor importance are read."""
        first, last = spec.alphabet.positions[0], spec.alphabet.positions[-1]
        reach = last - first if spec.alphabet.has_zero_point else last
        high = reach / max(1, 2 * floor(reach / 2))
        low = torch.zeros(len(values), device=values.device)
        return grid_of_range(low, torch.full_like(low, high), spec)
