"""No correction."""

from dataclasses import dataclass

from torch import Tensor

from subbyte.core import QTensor
from subbyte.methods import Correction
from subbyte.stats import LayerStats


@dataclass(frozen=True)
class Keep(Correction):
    """Leave codes, scale and bias as they are."""

    reads_products = False

    def correct(
        self, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
    ) -> tuple[QTensor, Tensor]:
        """See `methods.Correction`."""
        return rounded, bias
