"""STE: the straight-through estimator (Bengio, Leonard, Courville 2013); see `qat.rounded`."""

from dataclasses import dataclass

from subbyte.learn.qat.rounded import BehindRounded


@dataclass(frozen=True)
class Ste(BehindRounded):
    """Float weights behind rounded ones, on a scale that is kept."""
