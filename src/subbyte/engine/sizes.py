"""The size that a recipe states, and recipes of other sizes."""

from typing import TypeVar

from subbyte.allocate import Budget, Measure
from subbyte.recipe import Recipe, Settings

_LARGER = 1.25  # times the budget: what more bytes would bring
S = TypeVar("S", bound=Settings)
_UNITS = {Measure.BITS: "bits", Measure.BYTES: "B", Measure.OPERATIONS: "bops"}


def changed(settings: S, **changes: object) -> S:
    """Settings with changes; what is left open stays so, for targets to decide."""
    stated = {name: dict(settings)[name] for name in settings.model_fields_set}
    return type(settings)(**stated | changes)


def _with_weights(recipe: Recipe, **changes: object) -> Recipe:
    return changed(recipe, weights=changed(recipe.weights, **changes))


def size_of(recipe: Recipe) -> str:
    """The size that a recipe states, in words."""
    if recipe.budget is not None:
        return str(recipe.budget)
    return f"{recipe.weights.width} bits".replace("ternary bits", "ternary")


def larger_than(recipe: Recipe) -> Recipe | None:
    """A recipe of the next larger size; None where there is none."""
    budget = recipe.budget
    if budget is not None:
        unit = _UNITS[budget.counts]
        more = budget.amount * _LARGER
        text = f"{more:.4f}{unit}" if budget.counts is Measure.BITS else f"{round(more)}{unit}"
        return changed(recipe, budget=Budget.parse(text))
    bits = recipe.weights.bits
    if bits == "ternary":
        return _with_weights(recipe, bits=2)
    if isinstance(bits, int) and bits < 8 and recipe.weights.levels is None:
        return _with_weights(recipe, bits=bits + 1)
    return None
