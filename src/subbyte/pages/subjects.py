"""Kinds of folders that a page can be about."""

from typing import Any

from subbyte.pages.aciq import Clippings
from subbyte.pages.clips import ClipSearches
from subbyte.pages.look import DataSets
from subbyte.pages.networks import Networks
from subbyte.pages.subject import Subject
from subbyte.pages.sweeps import Sweeps
from subbyte.pages.training import TrainingRuns

SUBJECTS: tuple[Subject[Any], ...] = (
    Networks(),
    Sweeps(),
    TrainingRuns(),
    ClipSearches(),
    Clippings(),
    DataSets(),
)
"""All subjects, in the order of their parts in a page of several kinds."""
