"""Sweeps: many runs over a space of settings, on several processes or machines, that can be stopped and go on."""

from subbyte.sweep.engines import Local
from subbyte.sweep.ray_engine import Ray
from subbyte.sweep.space import SPACES, Space, load_space, make_runs
from subbyte.sweep.sweep import SweepResult, make_tasks, sweep

__all__ = ["SPACES", "Local", "Ray", "Space", "SweepResult", "load_space", "make_runs", "make_tasks", "sweep"]
