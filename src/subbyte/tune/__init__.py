"""What still learns while the walk goes on."""

from subbyte.methods import Tune
from subbyte.tune.cascade import Cascade

TUNES: dict[str, type[Tune]] = {"cascade": Cascade}

__all__ = ["TUNES", "Cascade"]
