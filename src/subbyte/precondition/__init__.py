"""Change weights before they are rounded, so that they are easier to round."""

from subbyte.methods import Precondition
from subbyte.precondition.magr import Magr

PRECONDITIONS: dict[str, type[Precondition]] = {"magr": Magr}

__all__ = ["PRECONDITIONS", "Magr"]
