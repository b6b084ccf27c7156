"""Tuning methods: later parameters still learn while the walk goes on."""

from subbyte.io.registry import Registry
from subbyte.methods import Tune
from subbyte.tune.cascade import Cascade

TUNES: Registry[Tune] = Registry(
    "tune",
    Tune,
    {"cascade": Cascade},
)

__all__ = ["TUNES", "Cascade"]
