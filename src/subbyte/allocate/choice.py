"""One option for each layer, of least total loss within a budget: an exact multiple-choice
knapsack.

    min  sum_l loss_l(o_l)      subject to   sum_l cost_l(o_l) <= budget

Layer by layer, with the front of all sums that are not both dearer and worse than another
(Nemhauser, Ullmann 1969). Costs may be any numbers. A sum (c, v) of the first layers is dropped if,
with some price p of the budget's unit,

    v + p (c - budget) + sum_later min_o (loss + p cost)  >  upper,

as no completion of it can be better than a choice already known, of loss `upper`: the options of
least loss + p cost, at the smallest p where they fit. Of many layers that leaves a handful of sums.
"""

import numpy as np
from numpy.typing import NDArray

from subbyte.errors import NumericsError, RecipeError

_HALVINGS = 100  # of the range of prices
_SLACK = 1e-9  # of the upper bound, for sums in floating point
_ROUNDING = 1e-12  # of the budget: sums of costs in another order


def choose(costs: list[list[float]], losses: list[list[float]], budget: float) -> list[int]:
    """Index of the option taken for each layer; of equal losses the cheaper.

    costs, losses: by layer and option, at least one option a layer. Raises RecipeError, stating the
    least that the layers need, when the budget is below it; NumericsError when a loss is NaN or
    Inf.
    """
    if not all(map(len, costs)):
        raise RecipeError("a layer has no options to choose from")
    if not costs:
        return []
    if not np.isfinite([value for layer in losses for value in layer]).all():
        raise NumericsError("the loss of a layer's option is NaN or Inf")
    least = sum(map(min, costs))
    if not budget * (1 + _ROUNDING) >= least:
        raise RecipeError(
            f"a budget of {budget:,.6g} is too small: the layers need at least {least:,.6g}"
        )
    budget = min(budget, sum(map(max, costs))) * (1 + _ROUNDING)
    options = max(map(len, costs))
    cost = np.array([[*layer, *[max(layer)] * (options - len(layer))] for layer in costs], float)
    loss = np.array([[*layer, *[np.inf] * (options - len(layer))] for layer in losses], float)
    price = _price(cost, loss, budget)
    upper = loss[_cheapest(cost, loss, price)].sum()
    dual, lightest = _later((loss + price * cost).min(1)), _later(cost.min(1))
    spent, lost, history = np.zeros(1), np.zeros(1), []
    for layer in range(len(cost)):
        c, v = (spent[:, None] + cost[layer]).reshape(-1), (lost[:, None] + loss[layer]).reshape(-1)
        hopeful = v + price * (c - budget) + dual[layer] <= upper + _SLACK * (
            abs(upper) + price * budget
        )
        kept = np.flatnonzero(hopeful & (c + lightest[layer] <= budget))
        kept = kept[np.lexsort((v[kept], c[kept]))]
        kept = kept[np.diff(np.minimum.accumulate(v[kept]), prepend=np.inf) < 0]
        spent, lost = c[kept], v[kept]
        history.append(kept)
    at, taken = len(lost) - 1, []
    for kept in reversed(history):
        at, option = divmod(int(kept[at]), options)
        taken.append(option)
    return taken[::-1]


def _later(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of what comes behind each value."""
    return np.append(values[::-1].cumsum()[::-1][1:], 0.0)


def _cheapest(
    cost: NDArray[np.float64], loss: NDArray[np.float64], price: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of each layer's option of least loss + price cost."""
    return np.arange(len(cost)), (loss + price * cost).argmin(1)


def _price(cost: NDArray[np.float64], loss: NDArray[np.float64], budget: float) -> float:
    """About the smallest price at which the options of least loss + price cost fit the budget; 0 if
    they do anyway.
    """

    def fits(price: float) -> bool:
        return bool(cost[_cheapest(cost, loss, price)].sum() <= budget)

    if fits(0.0):
        return 0.0
    steps = np.diff(np.unique(cost))
    # no loss is worth a step of the cost
    high = float(1 + 2 * np.ptp(loss[np.isfinite(loss)]) / steps.min())
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def choose_by_price(
    costs: NDArray[np.float64], losses: NDArray[np.float64], budget: float
) -> NDArray[np.int64]:
    """`choose` for thousands of items: the options of least loss + price x cost, at the smallest
    price that fits.

    What the budget then has left goes to the options that save most for it. The loss is above the
    least by no more than one option of one item saves. costs, losses: [items, options], inf for
    options that an item has not; every item has one. Raises RecipeError when the budget is below
    the least that the items need.
    """
    least = costs.min(1).sum()
    if not budget * (1 + _ROUNDING) >= least:
        raise RecipeError(
            f"a budget of {budget:,.6g} is too small: the items need at least {least:,.6g}"
        )
    budget *= 1 + _ROUNDING
    there, rows = np.isfinite(costs), np.arange(len(costs))
    cost = np.where(there, costs, np.where(there, costs, 0.0).max(1, keepdims=True))
    loss = np.where(there, losses, np.inf)
    taken = _cheapest(cost, loss, _price(cost, loss, budget))[1]
    left = budget - cost[rows, taken].sum()
    while True:
        more, saved = cost - cost[rows, taken][:, None], loss[rows, taken][:, None] - loss
        worth = np.where((more <= left) & (saved > 0), saved, 0.0)
        item, option = np.unravel_index(int(worth.argmax()), worth.shape)
        if worth[item, option] <= 0:
            return taken
        left -= more[item, option]
        taken[item] = option
