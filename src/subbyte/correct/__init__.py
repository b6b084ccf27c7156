"""Make up for rounding in scale and bias."""

from subbyte.correct.keep import Keep
from subbyte.correct.moments import Bias, Moments
from subbyte.correct.weights import Weights
from subbyte.io.registry import Registry
from subbyte.methods import Correction

CORRECTIONS: Registry[Correction] = Registry(
    "correction",
    Correction,
    {
        "none": Keep,
        "bias": Bias,
        "moments": Moments,
        "weights": Weights,
    },
)

__all__ = ["CORRECTIONS", "Bias", "Keep", "Moments", "Weights"]
