"""STE: the straight-through estimator (Bengio, Leonard, Courville 2013)."""

from dataclasses import dataclass

from subbyte.methods import Learned, WeightQuantizer


@dataclass(frozen=True)
class Ste(WeightQuantizer):
    """Float weights behind rounded ones, on scales that are kept."""

    kept = frozenset({Learned.SCALE})
