"""Turns, medians and intervals: against SciPy's binomial distribution, a fake clock, and draws."""

from collections.abc import Callable
from itertools import count
from time import sleep

import numpy as np
import pytest
from scipy.stats import binom

from subbyte.speed.pairs import Turns, interval_rank, take_turns


class Clock:
    """A clock that stands still but for what calls take."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.log += name
            self.now += seconds

        return run


@pytest.mark.parametrize("n", [6, 7, 12, 30, 31, 100])
def test_the_interval_holds_95_percent_and_a_narrower_one_does_not(n):
    k = interval_rank(n)
    below = lambda rank: 2 * binom.cdf(rank - 1, n, 0.5)  # noqa: E731
    assert below(k) <= 0.05 < below(k + 1)


def test_few_pairs_have_their_ends_for_an_interval():
    assert [interval_rank(n) for n in (1, 2, 5)] == [1, 1, 1]
    ratio = Turns({"a": [2.0], "b": [1.0]}).ratio("a", "b")
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (2, 2, 2, 1)


def test_intervals_cover_the_true_median():
    draw, covered = np.random.default_rng(0), 0
    for _ in range(400):
        slow = list(2 * np.exp(draw.standard_normal(30)))
        ratio = Turns({"slow": slow, "one": [1.0] * 30}).ratio("slow", "one")
        covered += ratio.low <= 2 <= ratio.high
    assert 370 <= covered <= 400


def test_ratios_are_taken_pair_by_pair():
    drift = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]  # a machine that becomes slower
    turns = Turns({"a": [3 * s for s in drift], "b": drift})
    ratio = turns.ratio("a", "b")
    assert ratio.median == ratio.low == ratio.high == 3
    assert turns.median("b") == 8 and turns.quartiles("b") == (3, 24)
    assert ratio.faster == "0.33 x (0.33 to 0.33)"


def test_calls_take_turns_and_every_other_one_goes_backwards():
    clock = Clock()
    calls = {name: clock.call(name, 1.0) for name in "ab"}
    turns = take_turns(calls, 3, clock=clock)
    assert clock.log == "aaabbb" + "ab" + "ba" + "ab"  # three for warming up
    assert turns.seconds == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_short_calls_are_repeated_within_a_turn():
    clock = Clock()
    turns = take_turns({"a": clock.call("a", 0.001)}, 2, clock=clock)
    assert clock.log.count("a") == 3 + 2 * 20
    assert turns.seconds["a"] == pytest.approx([0.001] * 2)


@pytest.mark.parametrize("readings", [10**9, 5])
def test_where_the_clock_stands_still_times_are_those_on_the_wall(readings, caplog):
    called, now = 0, count()

    def call():
        nonlocal called
        called += 1
        assert called < 500
        sleep(0.001)

    turns = take_turns({"a": call, "b": call}, 3, clock=lambda: next(now) // readings / 100)
    assert all(value >= 0.001 for values in turns.seconds.values() for value in values)
    assert len(turns.seconds["b"]) == 3 and turns.ratio("a", "b").median > 0
    assert "on the wall" in caplog.text


def test_time_that_is_up_ends_the_turns_but_all_have_had_one():
    turns = take_turns({"a": lambda: None, "b": lambda: None}, 1000, limit=1e-9)
    assert [len(values) for values in turns.seconds.values()] == [1, 1]
