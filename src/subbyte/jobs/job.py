"""One run of `subbyte quantize` as it is asked for, and the files that it writes."""

from dataclasses import dataclass, field

from subbyte.engine.limits import Limits
from subbyte.errors import RecipeError
from subbyte.exporters import EXPORTERS, check_exporters
from subbyte.exporters.vectors import VECTORS
from subbyte.graph import Axis
from subbyte.jobs.clips import Clips
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
    apart: samples that are held apart at most, to choose by; clips: ranges of the weights in place
    of the recipe's, None for the recipe's own.
    Raises RecipeError when there is no such exporter, and for clips of widths that a budget is to
    choose.
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
    clips: Clips | None = None

    def __post_init__(self) -> None:
        check_exporters(self.exports)
        if self.clips is not None and self.recipe.budget is not None:
            raise RecipeError(
                "clips are those of stated widths, and a budget chooses widths by the recipe's "
                "ranges: leave out one of them"
            )

    def settled(self, plan: Plan) -> Plan:
        """The plan that is done: with the clips, where there are any."""
        return plan if self.clips is None else self.clips.applied(plan)
