"""The contracts of every kind of method, on one page.

A method is a frozen dataclass of hyper-parameters with one pure verb on tensors. To add one, write one file in its
package and one line in that package's dictionary; recipes, `--help`, the documentation and the conformance tests read
the dictionaries. Nothing is stored on a method, arguments are never changed, and there is no hidden randomness.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor
from subbyte.stats import LayerStats

FitGrid = Callable[[Tensor], Grid]
"""Chooses the grid of a weight matrix [rows, columns]: the range method at work, passed to rounding methods."""


class Range(Protocol):
    """Chooses scale and zero point of blocks of values that share them (`ranges.fit_grid` cuts the blocks)."""

    def choose(self, values: Tensor, importance: Tensor | None, spec: GridSpec) -> tuple[Tensor, Tensor]:
        """values: float32 [blocks, n]; importance: weights of the values, same shape or [1, n], or None for equal ones.

        Returns scale float32 [blocks] and zero_point int32 [blocks]. Scales are positive even for blocks of zeros.
        """
        ...


class Rounding(Protocol):
    """Turns weights into codes."""

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """weight: float32 [rows, columns]; fit: chooses a grid for a matrix of that shape; stats: the layer's inputs.

        Never worse, in the method's own objective, than rounding `weight` to the nearest codes of `fit(weight)`.
        """
        ...


class Correction(Protocol):
    """Makes up for what rounding did to a layer's output, at no cost at inference."""

    def correct(self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats) -> tuple[QTensor, Tensor]:
        """weight: float32 [rows, columns]; bias: float32 [rows]; rounded: codes of the weight.

        Returns the codes, perhaps on another scale, and the new bias.
        """
        ...
