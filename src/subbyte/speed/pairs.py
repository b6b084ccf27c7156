"""Times of calls that take turns, and how they compare.

The speed of a machine changes while one measures. Calls that run one right after the other see the
same machine, so their ratio is taken pair by pair. Of n ratios the median is told, with a 95 %
confidence interval that supposes nothing of their distribution: the number of ratios below the true
median is binomial(n, 1/2), so the k-th smallest and the k-th largest enclose it, k the largest
number with P(fewer than k below) <= 2.5 %.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from subbyte.records.speed import Ratio

log = logging.getLogger("subbyte")
Call = Callable[[], object]
Clock = Callable[[], float]

SHORTEST = 0.02
"""Seconds that one turn should take at least; short calls are repeated within it."""
_SHORT = 1e-7  # seconds; no turn is shorter
_TAIL = 0.025


@dataclass(frozen=True)
class Turns:
    """Seconds of one call, by name of the call, turn by turn."""

    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """The median of one call's seconds."""
        return median(self.seconds[name])

    def quartiles(self, name: str) -> tuple[float, float]:
        """The first and the third quartile of one call's seconds."""
        values = self.seconds[name]
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = quantiles(values, n=4, method="inclusive")
        return low, high

    def ratio(self, name: str, other: str) -> Ratio:
        """Seconds of one call over those of another, pair by pair."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        found = sorted(mine / its for mine, its in pairs)
        k = interval_rank(len(found))
        return Ratio(
            median=median(found), low=found[k - 1], high=found[len(found) - k], pairs=len(found)
        )


def interval_rank(n: int) -> int:
    """The rank, from each end, of the values that enclose the median of n with 95 % confidence; 1
    where there are too few for that.
    """
    below, rank = 0.0, 0
    for k in range(n):
        below += math.comb(n, k) / 2**n
        if below > _TAIL:
            break
        rank = k + 1
    return max(rank, 1)


def take_turns(
    calls: Mapping[str, Call],
    pairs: int,
    *,
    limit: float = math.inf,
    clock: Clock = time.process_time,
) -> Turns:
    """Let calls take turns, after one for warming up.

    pairs: turns of each; limit: seconds on the wall after which no further turn begins, though each
    has had one; clock: what seconds are read from, CPU time unless they run on several threads.
    Every other turn goes backwards, so that none always follows the same one. Where the clock stood
    still in a turn (CPU time comes in ticks while it is limited), all seconds are those on the
    wall, and a warning says so.
    """
    start = time.perf_counter()
    repeats = {
        name: _repeats(call, clock, limit / (6 * len(calls))) for name, call in calls.items()
    }
    times: dict[str, list[_Time]] = {name: [] for name in calls}
    order = list(calls)
    for turn in range(pairs):
        for name in order if turn % 2 == 0 else reversed(order):
            times[name].append(_timed(calls[name], repeats[name], clock))
        if time.perf_counter() - start > limit:
            break
    if all(one.own > 0 for some in times.values() for one in some):
        return Turns({name: [one.own for one in some] for name, some in times.items()})
    log.warning("CPU time comes in ticks too long for these calls; times are those on the wall")
    return Turns({name: [one.wall for one in some] for name, some in times.items()})


@dataclass(frozen=True)
class _Time:
    """Seconds of a call by the clock that is asked for, and on the wall."""

    own: float
    wall: float


def _repeats(call: Call, clock: Clock, most: float) -> int:
    """How often a call is repeated in a turn; the calls warm up meanwhile."""
    call()
    tries = [_timed(call, 1, clock) for _ in range(2)]
    once = max(one.own for one in tries) or min(one.wall for one in tries)
    return max(1, math.ceil(min(SHORTEST, most) / once))


def _timed(call: Call, repeats: int, clock: Clock) -> _Time:
    wall, own = time.perf_counter(), clock()
    for _ in range(repeats):
        call()
    own, wall = clock() - own, time.perf_counter() - wall
    return _Time(own / repeats, max(wall, _SHORT) / repeats)
