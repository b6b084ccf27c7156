"""Drops with their intervals, and the bisection: against closed forms and by simulation."""

import itertools
from math import inf, log, nan, sqrt

import pytest
import torch
from scipy.stats import t as student

from subbyte.engine.drops import (
    Drop,
    decisions,
    fewest_samples,
    ladder,
    paired_drop,
    smallest,
)
from subbyte.methods import Measure, Tally
from subbyte.tasks.tallies import mean, relative_error, share

TOP1, LOSS, PLAIN = Measure("top-1", "%"), Measure("loss", higher=False), Measure("score")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def means(values: torch.Tensor, measure: Measure = PLAIN) -> list[Tally]:
    """One sample a group."""
    return [mean(measure, value[None]) for value in values]


def test_of_single_samples_it_is_the_paired_interval_of_the_textbook():
    own, others = torch.randn(2, 60, generator=generator(0), dtype=torch.float64)
    found = paired_drop(means(own), means(others), 60, 0.02)
    difference = others - own
    half = float(student.ppf(0.98, 59) * difference.std() / sqrt(60))
    assert found.value == pytest.approx(float(difference.mean()))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_of_figures_where_less_is_better_a_rise_is_a_drop():
    own, others = torch.ones(9), torch.zeros(9)
    assert paired_drop(means(own, LOSS), means(others, LOSS), 9, 0.05) == Drop(1.0, 1.0, 1.0)


def test_what_is_no_mean_is_left_out_group_by_group():
    values, floats, wanted = torch.randn(3, 12, 5, generator=generator(1), dtype=torch.float64)
    groups = [
        [relative_error(LOSS, a, b) for a, b in zip(some, wanted, strict=True)]
        for some in (values, floats)
    ]
    found = paired_drop(*groups, 12, 0.05)

    def drop(rows: list[int]) -> float:
        norms = [(some[rows] - wanted[rows]).norm() for some in (values, floats)]
        return float((norms[0] - norms[1]) / wanted[rows].norm())

    drops = torch.tensor([drop([row for row in range(12) if row != left]) for left in range(12)])
    error = sqrt(11 / 12 * float((drops - drops.mean()).square().sum()))
    assert found.value == pytest.approx(drop(list(range(12))))
    assert found.high - found.value == pytest.approx(float(student.ppf(0.95, 11)) * error, rel=1e-5)


def test_where_no_sample_differs_a_share_may_still_do_so():
    same = [share(TOP1, torch.tensor([True, False]))] * 10
    found = paired_drop(same, same, 20, 0.05)
    assert found == Drop(0.0, -found.high, 100 * log(20) / 20)
    # 0 of n has a probability of at most `tail` where the share is above it
    assert (1 - found.high / 100) ** 20 <= 0.05
    least = fewest_samples(0.5, 0.01)
    assert 100 * log(100) / least <= 0.5 < 100 * log(100) / (least - 1)


def test_what_cannot_be_told_is_never_within_what_is_allowed():
    found = paired_drop(means(torch.tensor([1.0, nan])), means(torch.ones(2)), 2, 0.05)
    assert (found.low, found.high) == (-inf, inf)


@pytest.mark.parametrize("lost", [0.004, pytest.param(0.02, marks=pytest.mark.slow)])
def test_the_upper_end_is_exceeded_as_often_as_was_asked_for(lost):
    """Float right on 95 %, the quantized one wrong on `lost` of all and right on half as many that
    float has wrong.
    """
    random, above, times, tail = generator(2), 0, 300, 0.05
    for _ in range(times):
        chance = torch.rand(2000, generator=random)
        right = chance < 0.95
        flipped = (chance < lost) | (chance > 1 - lost / 2)
        own, others = ((x.view(100, 20)) for x in (right ^ flipped, right))
        groups = [[share(TOP1, row) for row in some] for some in (own, others)]
        above += paired_drop(*groups, 2000, tail).high < 100 * lost / 2
    # four standard errors of the count above what is expected
    assert above <= times * tail + 4 * sqrt(times * tail)


@pytest.mark.parametrize("sizes", [1, 2, 7, 31, 32])
def test_bisection_finds_the_first_and_decides_no_oftener_than_is_said(sizes):
    for first in range(sizes + 1):
        asked: list[int] = []

        def holds(place: int, first: int = first, asked: list[int] = asked) -> bool:
            asked.append(place)
            return place >= first

        assert smallest(sizes, holds) == (first if first < sizes else None)
        assert len(asked) == len(set(asked)) <= decisions(sizes)


def test_what_bisection_finds_was_seen_to_hold_whatever_the_order_of_drops():
    for seed in range(40):
        truth = (torch.rand(31, generator=generator(seed)) < 0.5).tolist()
        found = smallest(31, truth.__getitem__)
        assert truth[found] if found is not None else not truth[-1]


def test_sizes_rise_by_a_factor_from_the_least_to_the_most():
    sizes = ladder(1000, 8000, 31)
    assert (len(sizes), sizes[0], sizes[-1]) == (31, 1000, 8000)
    factors = [b / a for a, b in itertools.pairwise(sizes)]
    assert max(factors) / min(factors) < 1.002
    assert ladder(5, 7, 31) == [5, 6, 7] and ladder(9, 9, 31) == [9]
