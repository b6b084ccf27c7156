"""One run of `subbyte quantize` as it is asked for, and the files that it writes."""

from dataclasses import dataclass, field

from subbyte.engine.limits import Limits
from subbyte.exporters import EXPORTERS, check_exporters
from subbyte.exporters.vectors import VECTORS
from subbyte.graph import Axis
from subbyte.methods import Form, Task
from subbyte.pages.write import PAGE
from subbyte.recipe import Plan, Recipe
from subbyte.records import (
    BENCH,
    CARD,
    FIGURES,
    PLAN,
    RESULT,
)

PACKED, OPTIONS = "model.safetensors", "sensitivity.csv"
_WRITTEN = dict.fromkeys(suffix for one in EXPORTERS.values() for suffix in one.suffixes)
_SUFFIXES = (*_WRITTEN, VECTORS)
OWNS = (
    *(PACKED, OPTIONS, PAGE, BENCH, CARD, FIGURES, PLAN, RESULT),
    *(f"model*{end}" for end in _SUFFIXES),
)
"""Patterns of the files that a run writes, with the page about them."""


@dataclass(frozen=True)
class Job:
    """One run of `subbyte quantize`: what goes in, by the names used in result.json.

    exports: names of exporters; the one that fits the model where there is none, no file for
    'none'. tasks: how outputs are judged: one task, or one for each output; none: chosen by data
    and outputs. dynamic: axes of images whose sizes may differ from call to call; bench: whether
    files are timed against the float network, for a few seconds; form: of the exported files;
    apart: samples that are held apart at most, to choose by.
    Raises RecipeError when there is no such exporter.
    """

    model: str
    data: str
    recipe: Recipe | Plan
    calibration: int = 500
    seed: int = 0
    exports: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    limits: Limits = field(default_factory=Limits)
    about: tuple[tuple[str, str], ...] = ()
    dynamic: tuple[Axis, ...] = ()
    bench: bool = False
    form: Form = field(default_factory=Form)
    apart: int = 0

    def __post_init__(self) -> None:
        check_exporters(self.exports)
