"""The stages of a run: who is told how far each of them is, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from subbyte.engine.limits import enough_memory
from subbyte.engine.walk import Progress

Report = Callable[[str, int, int, str], None]
"""Called with the stage (walk, evaluate ...), steps done, steps in all, and what is being worked
on. A stage begins with 0 steps in all, as they are not known yet, and ends with all of them done.
"""


def silent(stage: str, done: int, total: int, what: str) -> None:
    """Tell nobody."""


class _Steps:
    """Reports the steps of one stage. total: how many there are, 1 where none is told of."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report, self._total = name, report, 1
        report(name, 0, 0, "")

    def __call__(self, done: int, total: int, what: str) -> None:
        self._total = total
        self._report(self._name, done, total, what)

    def end(self) -> None:
        """Report that all is done."""
        self._report(self._name, self._total, self._total, "")


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
        """Time a block, which is given what it reports its steps to; its begin and its end are told
        of in any case.
        """
        start, steps = time.perf_counter(), _Steps(name, self.report)
        with enough_memory():
            yield steps
        steps.end()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
