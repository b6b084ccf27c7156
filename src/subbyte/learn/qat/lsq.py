"""LSQ: learned step sizes (Esser et al. 2020)."""

from dataclasses import dataclass

from subbyte.methods import WeightQuantizer


@dataclass(frozen=True)
class Lsq(WeightQuantizer):
    """Float weights behind rounded ones, on scales that are trained with them."""
