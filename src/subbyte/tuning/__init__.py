"""Tuning methods: what is not fixed learns from the float network, layer by layer or as a whole."""

from subbyte.io.registry import Registry
from subbyte.methods import Tune
from subbyte.tuning.cascade import Cascade
from subbyte.tuning.distill import Distill

TUNES: Registry[Tune] = Registry(
    "tune",
    Tune,
    {
        "cascade": Cascade,
        "distill": Distill,
    },
)

__all__ = ["TUNES", "Cascade", "Distill"]
