"""The quick part of the harness: a few of the trials that `make attack` does all of, and bugs that
they have to find.
"""

from collections.abc import Iterator

import pytest

from tests.attack.bugs import BUGS, FOUND_BY
from tests.attack.lab import Lab, lab
from tests.attack.parts import PARTS, attack, hunt

QUICK = {
    "kill": ("aciq", 4),
    "term": ("aciq", 2),
    "second": ("aciq", 2),
    "files": ("aciq", 1),
    "handles": ("aciq", 1),
    "paths": ("aciq", 1),
}
"""By part: a command, and how many trials of it."""
PLANTED = ("not_swept", "wrong_code", "no_lock")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("attack")) as made:
        yield made


@pytest.mark.parametrize("part", QUICK)
def test_nothing_is_found(part, place):
    command, count = QUICK[part]
    done, found = attack(place, PARTS[part], commands=[command], sample=count)
    assert done.total() == count and not found


def test_bugs_are_listed_with_the_part_that_finds_them():
    assert BUGS.keys() == FOUND_BY.keys() and len(BUGS) >= 10


@pytest.mark.parametrize(
    "bug", [bug if bug in PLANTED else pytest.param(bug, marks=pytest.mark.slow) for bug in BUGS]
)
def test_planted_bugs_are_found(bug, place):
    part, command = FOUND_BY[bug]
    if not PARTS[part].needs():
        pytest.skip("needs to mount a file system")
    assert hunt(place, bug), f"{part} on {command} does not find it"
