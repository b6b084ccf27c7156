"""The time of a search, by a clock that is told what time it is."""

from math import inf

import pytest

from subbyte.engine.deadline import Deadline, NoTimeError


class Clock:
    """Stands at `now`."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("longest", "allowed"), [(2.4, True), (2.6, False)])
def test_a_walk_begins_where_one_as_long_as_the_longest_ends_within_half_of_the_time(
    longest, allowed
):
    clock = Clock()
    deadline = Deadline(10.0, clock)
    for seconds in (longest, 0.1):
        with deadline.walking(lambda *_: None):
            clock.now += seconds
    clock.now -= 0.1
    assert deadline.allows() is allowed
    assert deadline.left == pytest.approx(10 - longest)
    clock.now += 20
    assert deadline.left == 0


def test_every_walk_but_the_first_is_given_up_when_half_of_the_time_is_over():
    clock, told = Clock(), []
    deadline = Deadline(10.0, clock)
    with deadline.walking(lambda *step: told.append(step)) as first:
        clock.now += 9
        first("walk", 1, 3, "conv1")
    clock.now -= 8
    with pytest.raises(NoTimeError), deadline.walking(lambda *step: told.append(step)) as second:
        second("walk", 1, 3, "conv1")
        clock.now += 5
        second("walk", 3, 3, "")  # all is done
        second("judge", 0, 2, "")
    assert [step[:3] for step in told] == [("walk", 1, 3), ("walk", 1, 3), ("walk", 3, 3)]


def test_without_an_end_everything_is_allowed():
    clock = Clock()
    deadline = Deadline(clock=clock)
    for _ in range(2):
        with deadline.walking(lambda *_: None) as report:
            clock.now += 1e9
            report("walk", 1, 3, "conv1")
    assert deadline.allows() and deadline.left == inf
