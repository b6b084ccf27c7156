"""One run of `subbyte quantize` or `subbyte tune`: a network made, exported, proven and measured,
in one folder.
"""

from subbyte.jobs.best import best
from subbyte.jobs.clips import Clips
from subbyte.jobs.facts import about
from subbyte.jobs.job import OWNS, PACKED, Job
from subbyte.jobs.outcome import versions, with_file
from subbyte.jobs.running import assist, run
from subbyte.jobs.tuning import Start, tune

__all__ = [
    "OWNS",
    "PACKED",
    "Clips",
    "Job",
    "Start",
    "about",
    "assist",
    "best",
    "run",
    "tune",
    "versions",
    "with_file",
]
