"""One run of `subbyte quantize`: quantize, export, prove and measure, into one folder."""

from subbyte.jobs.facts import about
from subbyte.jobs.job import OWNS, PACKED, Job
from subbyte.jobs.outcome import versions, with_file
from subbyte.jobs.running import assist, run

__all__ = ["OWNS", "PACKED", "Job", "about", "assist", "run", "versions", "with_file"]
