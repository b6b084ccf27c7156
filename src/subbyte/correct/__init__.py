"""Make up for rounding in scale and bias."""

from subbyte.correct.keep import Keep
from subbyte.correct.moments import Bias, Moments
from subbyte.methods import Correction

CORRECTIONS: dict[str, type[Correction]] = {"none": Keep, "bias": Bias, "moments": Moments}

__all__ = ["CORRECTIONS", "Bias", "Keep", "Moments"]
