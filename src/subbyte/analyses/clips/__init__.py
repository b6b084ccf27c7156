"""The clip search of GradQuant on a whole network: one run that can be taken up again."""

from subbyte.analyses.clips.scan import run
from subbyte.analyses.clips.search import GRANULARITIES, Granularity, Search

__all__ = ["GRANULARITIES", "Granularity", "Search", "run"]
