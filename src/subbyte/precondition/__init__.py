"""Change weights before they are rounded, so that they are easier to round."""

from subbyte.io.registry import Registry
from subbyte.methods import Precondition
from subbyte.precondition.magr import Magr

PRECONDITIONS: Registry[Precondition] = Registry(
    "precondition",
    Precondition,
    {"magr": Magr},
)

__all__ = ["PRECONDITIONS", "Magr"]
