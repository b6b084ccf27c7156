"""How far a command is, on stderr: bars on a terminal, and lines where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from subbyte.cli.terminal import console, errors
from subbyte.engine.stages import Report, Stages, silent
from subbyte.engine.walk import Progress

BRIEF = 2.0
"""Seconds of a stage whose bar goes when all is done."""
EVERY = 30.0
"""Seconds between two lines of a stage where there is no terminal."""


@contextmanager
def progress() -> Iterator[Report]:
    """Whom to report stages to; nobody with --quiet."""
    if console.quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _Lines()


@contextmanager
def stage(name: str) -> Iterator[Progress]:
    """One stage that is timed and told of by itself."""
    with progress() as report, Stages(report).stage(name) as steps:
        yield steps


class _Words(ProgressColumn):
    """Words about a stage, which are no markup."""

    def __init__(self, said: Callable[[Task], str]) -> None:
        super().__init__()
        self._said = said

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        return Text(self._said(task))


def _steps(task: Task) -> str:
    """Steps done of all; nothing where they can't be counted."""
    counted = task.total is not None and not (task.finished and task.total == 1)
    return f"{task.completed:.0f}/{task.total:.0f}" if counted else ""


@contextmanager
def _bars() -> Iterator[Report]:
    """A bar a stage, with an estimate of the time left; one that moves to and fro where the steps
    are not known.
    """
    columns = [
        _Words(lambda task: f"{task.description:<12}"),
        BarColumn(bar_width=20),
        _Words(_steps),
        TimeElapsedColumn(),
        _Words(lambda task: "left"),
        TimeRemainingColumn(),
        _Words(lambda task: str(task.fields["what"])),
    ]
    with Bars(*columns, console=errors) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, what: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=None, what="")
            shown = "" if done == total else what
            bars.update(tasks[stage], completed=done, total=total or None, what=shown)

        yield report
        for task in bars.tasks:
            if task.finished and (task.elapsed or 0) < BRIEF:
                bars.remove_task(task.id)


@dataclass
class _Lines:
    """A line now and then for each stage that takes long, so that whoever reads a log sees that
    there is work; errors of the first seconds stay alone.

    started, told: when a stage began, and when it was told of last, by its name.
    """

    started: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def __call__(self, stage: str, done: int, total: int, what: str) -> None:
        """See `Report`."""
        now = time.monotonic()
        start, last = self.started.setdefault(stage, now), self.told.setdefault(stage, now)
        ended = done == total > 0
        if now - last > EVERY or (ended and last > start):
            self.told[stage] = now
            counted = f" {done:,}/{total:,}" if total > 1 else ""
            doing = f", {what}" if what and not ended else ""
            errors.print(f"{stage}{counted}, {now - start:.0f} s{doing}", soft_wrap=True)
        if ended:
            del self.started[stage], self.told[stage]
