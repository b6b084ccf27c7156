"""The stages of a run: who is told how far each of them is, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from subbyte.engine.limits import enough_memory
from subbyte.engine.walk import Progress

Report = Callable[[str, int, int, str], None]
"""Called with the stage (walk, evaluate ...), steps done, steps in all, and what is being worked
on.
"""


def silent(stage: str, done: int, total: int, what: str) -> None:
    """Tell nobody."""


class Stages:
    """Passes on what the stages of a run report, and adds up their seconds.

    seconds: by stage, in the order in which they ended first.
    """

    def __init__(self, report: Report = silent) -> None:
        self.report = report
        self.seconds: dict[str, float] = {}

    def about(self, what: str) -> "Stages":
        """Stages of a part of the run, told of with its name; the seconds are the run's."""

        def report(stage: str, done: int, total: int, step: str) -> None:
            self.report(stage, done, total, f"{what}: {step}" if step else what)

        part = Stages(report)
        part.seconds = self.seconds
        return part

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Time a block, which is given what it reports its steps to."""
        start = time.perf_counter()
        with enough_memory():
            yield partial(self.report, name)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
