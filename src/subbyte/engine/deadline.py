"""The time of a search: which of its steps may still begin."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from time import perf_counter

from subbyte.engine.stages import Report


class NoTimeError(Exception):
    """The time for walks is over; whoever searches goes on with what is there."""


@dataclass
class Deadline:
    """Half of the time is for walks, and what is left then for tuning.

    seconds: from when this is made, inf: no end; clock: by which they are measured, that on the
    wall.
    """

    seconds: float = inf
    clock: Callable[[], float] = perf_counter
    _longest: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.seconds - (self.clock() - self._start))

    def allows(self) -> bool:
        """Whether one more walk that takes no longer than the longest is over in time."""
        return self.left - self._longest > self.seconds / 2 or self.seconds == inf

    @contextmanager
    def walking(self, report: Report) -> Iterator[Report]:
        """Whom a walk is to report to in the block. Where it is not the first it is given up when
        its time is over: a report of a step before the last one raises NoTimeError.
        """
        first, begun = not self._longest, self.clock()

        def watched(stage: str, done: int, total: int, what: str) -> None:
            if not first and done < total and self.left < self.seconds / 2:
                raise NoTimeError
            report(stage, done, total, what)

        yield watched
        self._longest = max(self._longest, self.clock() - begun)
