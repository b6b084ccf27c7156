"""Sweeps: many runs over a space of settings, on several processes or machines, that can be stopped
and go on.
"""

from subbyte.analyses.sweeps.engines import Local
from subbyte.analyses.sweeps.ray_engine import Ray
from subbyte.analyses.sweeps.space import SPACES, Space, load_space, make_runs
from subbyte.analyses.sweeps.sweeping import SweepResult, make_tasks, sweep

__all__ = [
    "SPACES",
    "Local",
    "Ray",
    "Space",
    "SweepResult",
    "load_space",
    "make_runs",
    "make_tasks",
    "sweep",
]
