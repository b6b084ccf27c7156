"""One option for each layer: optimal against brute force, and errors that say what is needed."""

from itertools import product

import numpy as np
import pytest

from subbyte.allocate import Budget, choose, choose_by_price
from subbyte.errors import NumericsError, RecipeError


@pytest.mark.parametrize("seed", range(40))
def test_it_is_that_of_brute_force(seed):
    random = np.random.RandomState(seed)
    counts = random.randint(1, 5, size=5)
    costs = [random.randint(1, 100, n).astype(float).tolist() for n in counts]
    losses = [(np.round(random.rand(n), 1) * 10 ** random.uniform(-6, 0)).tolist() for n in counts]
    budget = random.randint(sum(map(min, costs)), 400)
    taken = choose(costs, losses, budget)

    def sums(options):
        return tuple(
            sum(table[o] for table, o in zip(tables, options, strict=True))
            for tables in (costs, losses)
        )

    fitting = [
        sums(options) for options in product(*map(range, counts)) if sums(options)[0] <= budget
    ]
    best = min(loss for _, loss in fitting)
    cost, loss = sums(taken)
    assert cost <= budget and loss == pytest.approx(best, abs=1e-15)
    assert cost == min(c for c, v in fitting if v <= best + 1e-15)  # of equal ones the cheapest


def test_many_layers_of_any_cost():
    """Where each bit is worth less than the last, the bound of linear programming is nearly met."""
    random = np.random.RandomState(0)
    sizes = random.randint(10_000, 2_000_000, 150)
    costs = [[float(n * bits) for bits in (1.6, 2, 3, 4, 8)] for n in sizes]
    losses = [[scale * 0.25**bits for bits in (1.6, 2, 3, 4, 8)] for scale in random.rand(150)]
    budget = 3.0 * sizes.sum()
    taken = choose(costs, losses, budget)
    assert 0.9999 * budget < sum(cost[o] for cost, o in zip(costs, taken, strict=True)) <= budget


def test_a_budget_below_the_least_says_the_least():
    with pytest.raises(RecipeError, match="need at least 1,030"):
        choose([[1000.0, 2000.0], [40.0, 30.0]], [[1.0, 0.0], [0.0, 1.0]], 1029)
    assert choose([[1000.0, 2000.0], [40.0, 30.0]], [[1.0, 0.0], [0.0, 1.0]], 1030) == [0, 1]


def test_a_loss_that_is_not_a_number_is_an_error():
    with pytest.raises(NumericsError):
        choose([[1.0, 2.0]], [[1.0, float("nan")]], 2)


def tables(random, items, options):
    """Costs and losses of items with up to so many options, the rest inf."""
    costs = random.randint(1, 100, (items, options)).astype(float)
    losses = random.rand(items, options) * 10 ** random.uniform(-6, 0, (items, 1))
    for item in range(items):
        count = random.randint(1, options + 1)
        costs[item, count:], losses[item, count:] = np.inf, 0.0
    return costs, losses


@pytest.mark.parametrize("seed", range(40))
def test_by_price_it_fits_and_is_within_one_option_of_the_best(seed):
    random = np.random.RandomState(seed)
    costs, losses = tables(random, 12, 4)
    least, rows = costs.min(1).sum(), np.arange(12)
    budget = least + random.uniform(0, 300)
    taken = choose_by_price(costs, losses, budget)
    assert costs[rows, taken].sum() <= budget * (1 + 1e-9)
    finite = [np.isfinite(row) for row in costs]
    lists = [[table[k][finite[k]].tolist() for k in rows] for table in (costs, losses)]
    best = losses[rows, choose(*lists, budget)].sum()
    spread = max(max(row) - min(row) for row in lists[1])
    assert best - 1e-12 <= losses[rows, taken].sum() <= best + spread + 1e-12


def test_by_price_the_gap_is_that_of_one_item_among_many():
    random = np.random.RandomState(1)
    sizes = random.choice([27, 144, 288, 576, 1152], 400)[:, None]
    bits = np.array([1.6, 2, 2.33, 3, 4])
    costs, losses = sizes * bits, random.lognormal(size=(400, 1)) * 0.25**bits
    budget = 2.4 * sizes.sum()
    taken = choose_by_price(costs, losses, budget)
    rows = np.arange(400)
    exact = losses[rows, choose(costs.tolist(), losses.tolist(), budget)].sum()
    assert exact <= losses[rows, taken].sum() <= 1.002 * exact
    assert 0.999 * budget < costs[rows, taken].sum() <= budget * (1 + 1e-9)


def test_by_price_with_room_for_all_nothing_is_lost():
    costs, losses = tables(np.random.RandomState(2), 20, 5)
    best = np.where(np.isfinite(costs), losses, np.inf).min(1)
    assert np.array_equal(losses[np.arange(20), choose_by_price(costs, losses, 1e9)], best)


def test_by_price_a_budget_below_the_least_says_the_least():
    costs, losses = np.array([[1000.0, 2000.0], [40.0, 30.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(RecipeError, match="need at least 1,030"):
        choose_by_price(costs, losses, 1029)
    assert choose_by_price(costs, losses, 1030).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "amount", "counts"),
    [
        ("2.5bits", 2.5, "bits"),
        ("100KB", 100_000, "bytes"),
        (" 100 KiB", 102_400, "bytes"),
        ("1.2MB", 1.2e6, "bytes"),
        ("512B", 512, "bytes"),
        ("1.5Gbops", 1.5e9, "bops"),
    ],
)
def test_budgets_are_read(text, amount, counts):
    budget = Budget.parse(text)
    assert (budget.amount, budget.counts) == (amount, counts)
    assert budget.text == text.replace(" ", "")


@pytest.mark.parametrize(
    "text", ["", "2.5", "bits", "-1bits", "0KB", "100kg", "1.2.3MB", "nanbits", "1e999B"]
)
def test_what_is_no_budget_is_an_error(text):
    with pytest.raises(RecipeError, match="a number above 0 and a unit, one of bits, B"):
        Budget.parse(text)


def test_the_least_budget_buys_the_cheapest_whatever_the_rounding_of_sums():
    rng = np.random.default_rng(3)
    for _ in range(300):
        sizes = rng.integers(100, 10**7, int(rng.integers(2, 20)))
        costs = [[float(size) * 2.3 * width for width in (2, 3, 4)] for size in sizes]
        losses = [sorted(rng.random(3), reverse=True) for _ in costs]
        assert choose(costs, losses, sum(map(min, costs))) == [0] * len(costs)


def test_layers_need_options():
    assert choose([], [], 1.0) == []
    with pytest.raises(RecipeError, match="no options"):
        choose([[1.0], []], [[1.0], []], 1.0)
