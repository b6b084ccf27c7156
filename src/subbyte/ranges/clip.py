"""Keep stated fractions of the range, as a clip search found them (`subbyte gradquant`).

    the grid covers  [lower min(w, 0), upper max(w, 0)]

One fraction for all blocks, or one for each channel. At 1 and 1 the grid is that of min-max.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.core import GridSpec, PerChannel
from subbyte.errors import RecipeError
from subbyte.io.numbers import Positive
from subbyte.methods import Range, Refusal
from subbyte.ranges.minmax import grid_of_range


@dataclass(frozen=True)
class Clip(Range):
    """Keep fractions `lower` and `upper` of the range below and above 0: one number, or one a
    channel.
    """

    lower: tuple[Positive, ...] = (1.0,)
    upper: tuple[Positive, ...] = (1.0,)
    weights_only = True
    refuses = (
        Refusal(
            lambda self, spec: not self.lower or len(self.lower) != len(self.upper),
            "clip: lower and upper must be as many numbers, one or more",
        ),
        Refusal(
            lambda self, spec: len(self.lower) > 1 and spec.share != PerChannel(),
            "clip: a fraction for each channel needs granularity channel",
        ),
        Refusal(
            lambda self, spec: len(self.lower) > 1 and spec.alphabet.varies,
            "clip: a fraction for each channel can't work where widths differ by channel",
        ),
    )

    def choose(
        self, values: Tensor, importance: Tensor | None, spec: GridSpec
    ) -> tuple[Tensor, Tensor]:
        """See `methods.Range`; the importance is not read. Raises RecipeError for fractions of
        another number of channels.
        """
        self.check(spec)
        if len(self.lower) not in (1, len(values)):
            raise RecipeError(
                f"clip: fractions for {len(self.lower)} channels, the layer has {len(values)}"
            )
        lower, upper = (
            torch.tensor(ends, dtype=torch.float64, device=values.device)
            for ends in (self.lower, self.upper)
        )
        return grid_of_range(values.amin(1).double() * lower, values.amax(1).double() * upper, spec)
