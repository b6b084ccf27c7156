"""Widths that a budget buys, of layers or of their output channels.

    min  sum_l d_lw(l)          with   sum_l cost_lw(l) <= budget              layers: solved
                                                                               exactly by `choose`
    min  sum_lc d_lcn(l,c)      with   sum_lc cost_ln(l,c) <= budget           channels: by
                                                                               `choose_by_price`

Divergences (`survey`) add up as far as the rounding errors of layers are independent. A channel has
a number n of levels of its own, spaced equally around 0; candidates are the numbers of codes of the
recipe's widths.
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from subbyte.allocate import Budget, Measure, choose, choose_by_price
from subbyte.core import MOST_LEVELS, Counts, GridSpec, Levels, PerChannel, digit_bytes
from subbyte.core.levels import centred
from subbyte.engine.limits import Limits
from subbyte.engine.sensitivity import Answer, Option, Question, survey
from subbyte.engine.walk import Progress
from subbyte.errors import RecipeError
from subbyte.graph import Network, Samples
from subbyte.recipe import LayerPlan, Plan, Recipe, make_plan, plan_widths

_OF_A_ROW = 5  # bytes: its scale and its number of levels
_TRIES = 20
_MANY = 2**20  # codes, of which one takes as many bytes as on average
Candidates = dict[str, list[LayerPlan]]
Taken = dict[str, list[int]]


def meet_budget(
    network: Network,
    recipe: Recipe,
    images: Tensor | Samples,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, list[Option]]:
    """The plan whose widths make the most of a recipe's budget, and every option that there was.

    images: of calibration, [n, ...]. Layers whose bits the recipe states by pattern or
    `first_last`, skips or leaves float keep them and count. Raises RecipeError when the budget is
    below the least that the widths allow.
    """
    assert recipe.budget is not None
    budget, by_row = recipe.budget, recipe.budget_for == "channels"
    asked = make_plan(network, recipe)
    widths = {
        layer.name: [layer] if layer.budget is None else plan_widths(network, recipe, layer.name)
        for layer in asked.layers
    }
    candidates = {
        layer.name: _distinct(widths[layer.name]) for layer in network.layers if layer.owns_weight
    }
    if by_row:
        candidates = {name: _counted(options, recipe.name) for name, options in candidates.items()}
    first = replace(asked, layers=tuple(plans[0] for plans in widths.values()))
    question = Question.of(candidates, first, by_row)
    answer = survey(network, first, question, images, limits or Limits(), progress)
    weights = sum(prod(options[0].shape) for options in candidates.values())
    room = _ROOMS[budget.counts](budget, weights)
    taken = (
        _rows_taken(candidates, answer, room) if by_row else _layers_taken(candidates, answer, room)
    )
    table = [
        replace(option, chosen=number in taken[name], rows=taken[name].count(number))
        for name, options in answer.options.items()
        for number, option in enumerate(options)
    ]
    layers = []
    for layer, plan in zip(network.layers, asked.layers, strict=True):
        owner = layer.owner
        options = [candidates[owner][number] for number in taken[owner]]
        counted = by_row and len(candidates[owner]) > 1
        layers.append(_decided(plan, widths[plan.name], options, counted))
    return replace(asked, layers=tuple(layers)), table


def _distinct(plans: list[LayerPlan]) -> list[LayerPlan]:
    """One plan for each grid, in the order of the widths."""
    found: dict[GridSpec | None, LayerPlan] = {}
    for plan in plans:
        found.setdefault(plan.spec, plan)
    return list(found.values())


def _counted(options: list[LayerPlan], recipe: str) -> list[LayerPlan]:
    """A layer's plans, where there is a choice, with as many levels as their grids have, spaced
    equally around 0.
    """
    if len(options) == 1:
        return options
    where = f"recipe {recipe}: layer {options[0].name}: budget_for channels"
    powers = any(option.spec.powers for option in options if option.spec is not None)
    varying = GridSpec(Counts((MOST_LEVELS,) * options[0].rows), PerChannel(), powers)
    replace(options[0], spec=varying).check(where)
    counts = set()
    for spec in (option.spec for option in options):
        if spec is None or spec.alphabet.varies or not spec.share.by_row:
            raise RecipeError(
                f"{where} needs weights with a scale a channel, and no `allocate` of their own"
            )
        counts.add(min(spec.alphabet.count, MOST_LEVELS))
    if len(counts) == 1:
        return options[:1]
    return [
        replace(
            options[0], spec=GridSpec(Levels(centred(count)), PerChannel(), powers), allocate=None
        )
        for count in sorted(counts)
    ]


def _decided(
    asked: LayerPlan, widths: list[LayerPlan], options: list[LayerPlan], counted: bool
) -> LayerPlan:
    """A layer's plan with the option that each of its rows takes; one whose width is stated as it
    is. widths: its plan in each width; counted: rows have numbers of levels of their own.
    """
    if asked.budget is None:
        return asked
    specs = [option.spec for option in options]
    if counted:
        counts = tuple(spec.alphabet.count for spec in specs if spec is not None)
        powers = any(spec.powers for spec in specs if spec is not None)
        decided = replace(asked, spec=GridSpec(Counts(counts), PerChannel(), powers), allocate=None)
    else:
        decided = next(plan for plan in widths if plan.spec == specs[0])
    reason = "; ".join(filter(None, (decided.reason, f"allocated under {asked.budget}")))
    return replace(decided, asked=asked.asked, reason=reason)


@dataclass(frozen=True)
class _Bytes:
    """A budget of bytes for a network of so many weights: the room for its layers."""

    budget: Budget
    weights: int

    @property
    def amount(self) -> float:
        """Bytes."""
        return self.budget.amount

    def cost(self, option: Option) -> float:
        """The cost of a layer in a width."""
        return float(option.bytes)

    def row_cost(self, plan: LayerPlan, option: Option) -> float:
        """The cost of a row of a layer, where many have as many levels."""
        assert plan.spec is not None
        each = digit_bytes(plan.spec.alphabet.count, _MANY) / _MANY
        return each * (prod(plan.shape) // plan.rows) + _OF_A_ROW

    def taken(self, _: float, candidates: Candidates, answer: Answer, rows: Taken) -> float:
        """The cost of all layers with rows of these options, which is about so much."""
        return sum(
            _spent(candidates[name], answer.options[name], numbers)
            for name, numbers in rows.items()
        )

    def check(self, least: float) -> None:
        """Raise RecipeError where less than the least is there."""
        if self.amount < least:
            raise RecipeError(
                f"budget {self.budget.text}: the layers need at least {self._shown(least)} in the "
                f"narrowest of their widths"
            )

    def _shown(self, least: float) -> str:
        return f"{ceil(least):,} {self.budget.counts}"


class _Bits(_Bytes):
    """A budget of bits per weight, as bytes."""

    @property
    def amount(self) -> float:
        """Bytes."""
        return self.budget.amount * self.weights / 8

    def _shown(self, least: float) -> str:
        return f"{ceil(8000 * least / self.weights) / 1000:g}bits"


class _Operations(_Bytes):
    """A budget of bit-operations: what rows take adds up exactly."""

    def cost(self, option: Option) -> float:
        """See `_Bytes`."""
        return option.bops

    def row_cost(self, plan: LayerPlan, option: Option) -> float:
        """See `_Bytes`."""
        return option.bops / plan.rows

    def taken(self, about: float, candidates: Candidates, answer: Answer, rows: Taken) -> float:
        """See `_Bytes`."""
        return about


_ROOMS = {Measure.BYTES: _Bytes, Measure.BITS: _Bits, Measure.OPERATIONS: _Operations}


def _layers_taken(candidates: Candidates, answer: Answer, room: _Bytes) -> Taken:
    """Number of the option taken, once for each row of a layer: all the same."""
    costs = [[room.cost(option) for option in options] for options in answer.options.values()]
    room.check(sum(map(min, costs)))
    losses = [[option.divergence for option in options] for options in answer.options.values()]
    taken = choose(costs, losses, room.amount)
    return {
        name: [number] * candidates[name][0].rows
        for name, number in zip(candidates, taken, strict=True)
    }


def _rows_taken(candidates: Candidates, answer: Answer, room: _Bytes) -> Taken:
    """Number of the option taken by each row of a layer.

    Rows of as many levels are packed together, which costs a few bytes more or less than their sum:
    the choice is made again with as much less room until all is within the budget.
    """
    width = max(map(len, candidates.values()))
    costs, losses = [], []
    for name, plans in candidates.items():
        options, rows = answer.options[name], plans[0].rows
        free = len(plans) > 1
        each = (
            [room.row_cost(plan, option) for plan, option in zip(plans, options, strict=True)]
            if free
            else []
        )
        shape = (rows if free else 1, width)
        cost, loss = np.full(shape, np.inf), np.zeros(shape)
        cost[:, : len(plans)] = each if free else room.cost(options[0])
        if free:
            loss[:, : len(plans)] = answer.losses[name].numpy().T
        costs.append(cost)
        losses.append(loss)
    least, limit = float(sum(cost.min(1).sum() for cost in costs)), room.amount
    taken = {name: cost.argmin(1).tolist() for name, cost in zip(candidates, costs, strict=True)}
    room.check(room.taken(least, candidates, answer, taken))
    for _ in range(_TRIES if limit >= least else 0):
        parts = np.split(
            choose_by_price(np.concatenate(costs), np.concatenate(losses), limit), _starts(costs)
        )
        found = {name: part.tolist() for name, part in zip(candidates, parts, strict=True)}
        over = room.taken(limit, candidates, answer, found) - room.amount
        if over <= 0:
            taken = found
            break
        limit = max(least, limit - over)
    return {
        name: numbers * (candidates[name][0].rows // len(numbers))
        for name, numbers in taken.items()
    }


def _starts(costs: list[NDArray[np.float64]]) -> list[int]:
    return list(accumulate(len(cost) for cost in costs))[:-1]


def _spent(plans: list[LayerPlan], options: list[Option], taken: list[int]) -> int:
    """Bytes of a layer with rows of these options."""
    if len(plans) == 1:
        return options[0].bytes
    columns, total = prod(plans[0].shape) // plans[0].rows, _OF_A_ROW * len(taken)
    for number in set(taken):
        spec = plans[number].spec
        assert spec is not None
        total += digit_bytes(spec.alphabet.count, taken.count(number) * columns)
    return total
