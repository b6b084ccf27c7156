"""The parts of the harness: which trials, on which commands, with which numbers."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.attack import trials
from tests.attack.bugs import FOUND_BY
from tests.attack.commands import COMMANDS
from tests.attack.lab import Lab

Trial = Callable[[Lab, str, int], list[str]]
Case = tuple[str, int]
"""A command, and the number of an operation, bytes, or whatever the trial is about."""


@dataclass(frozen=True)
class Part:
    """trial: what is done; cases: all of them; needs: whether it can be done here."""

    title: str
    trial: Trial
    cases: Callable[[Lab, Sequence[str]], Iterable[Case]]
    needs: Callable[[], bool] = lambda: True


def every_operation(lab: Lab, names: Sequence[str]) -> Iterable[Case]:
    """Each operation of each command."""
    return [(name, at) for name in names for at in range(1, lab.expected(name)[1] + 1)]


def fifty_operations(lab: Lab, names: Sequence[str]) -> Iterable[Case]:
    """50 operations of each command, spread evenly; some twice where there are fewer."""
    counts = {name: lab.expected(name)[1] for name in names}
    return [(name, 1 + k * count // 50) for name, count in counts.items() for k in range(50)]


def each(numbers: Sequence[int]) -> Callable[[Lab, Sequence[str]], Iterable[Case]]:
    """The same numbers for each command."""
    return lambda lab, names: [(name, number) for name in names for number in numbers]


PARTS = {
    "kill": Part("kill -9 at an operation", trials.kill, every_operation),
    "term": Part("SIGTERM at an operation", trials.terminate, every_operation),
    "second": Part("a second writer at an operation", trials.write_twice, fifty_operations),
    "at once": Part("two writers at once", trials.write_at_once, each(range(5))),
    "disk": Part("full disk", trials.full_disk, each((0, 4, 16, 64, 256)), trials.can_mount),
    "files": Part("files of limited size", trials.small_files, each((0, 100, 1000, 5000, 20000))),
    "tmp": Part("full TMPDIR", trials.full_temporary, each((4, 16, 64)), trials.can_mount),
    "handles": Part("few file descriptors", trials.few_files, each((*range(1, 9), 12, 20))),
    "read-only": Part("read-only place", trials.read_only, each((0,)), trials.can_mount),
    "locale": Part("odd locale", trials.odd_locale, each(range(len(trials.LOCALES)))),
    "paths": Part("odd path", trials.odd_path, each(range(len(trials.NAMES)))),
}


def attack(
    lab: Lab,
    part: Part,
    *,
    commands: Sequence[str] = (),
    sample: int = 0,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Counter[str], list[str]]:
    """Do trials; returns how many there were by command, and the findings. commands: some only;
    sample: so many of a command, drawn by seed; 0: all.
    """
    by_command: dict[str, list[Case]] = {}
    for case in part.cases(lab, commands or list(COMMANDS)):
        by_command.setdefault(case[0], []).append(case)
    done, found = Counter[str](), list[str]()
    for name, cases in by_command.items():
        draw = random.Random(f"{seed} {name}")
        for case in draw.sample(cases, min(sample, len(cases))) if sample else cases:
            done[name] += 1
            for line in part.trial(lab, *case):
                found.append(f"{part.title}, {name}, {case[1]}: {line}")
                tell(found[-1])
    return done, found


def hunt(lab: Lab, bug: str, trials: int = 20, seed: int = 0) -> str:
    """The first finding of the part that has to find a planted bug; '' where so many trials find
    none, nor as many that are spread evenly.
    """
    part, command = FOUND_BY[bug]
    cases = list(PARTS[part].cases(lab, [command]))
    drawn = list(cases)
    random.Random(seed).shuffle(drawn)
    infested = lab.with_bug(bug)
    for case in [*drawn[:trials], *cases[:: max(1, len(cases) // trials)]]:
        for line in PARTS[part].trial(infested, *case):
            return f"{PARTS[part].title}, {command}, {case[1]}: {line}"
    return ""
