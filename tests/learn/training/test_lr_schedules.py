"""Learning-rate schedules against their descriptions."""

from itertools import pairwise

import pytest

from subbyte.learn.training.lr_schedules import LR_SCHEDULES, warmed_up
from tests.reference.training import course

EPOCHS = (1, 3, 8, 20, 100, 300)
every_schedule = pytest.mark.parametrize("name", LR_SCHEDULES)


def factor(name: str, epoch: float, epochs: float, warmup: float) -> float:
    return warmed_up(LR_SCHEDULES[name](), epoch, epochs, warmup)


def moments(epochs: float) -> list[float]:
    """Times of a run, its quarters and ends of cycles among them, and those just before."""
    found = [epochs * k / 16 for k in range(16)] + [epochs * k / 23 for k in range(23)]
    found += [time for time in (2, 4, 10, 30, 70, 150) if time < epochs]
    return sorted(found + [time - 1e-9 for time in found if time > 0])


@every_schedule
@pytest.mark.parametrize("epochs", EPOCHS)
def test_every_schedule_is_what_it_says(name, epochs):
    for epoch in [*moments(epochs), epochs]:  # with a warm-up, the last step is at the very end
        assert factor(name, epoch, epochs, 0) == pytest.approx(
            course(name, epoch, epochs), rel=1e-12, abs=1e-12
        ), epoch


@every_schedule
@pytest.mark.parametrize("warmup", [0, 0.5, 1, 3])
@pytest.mark.parametrize("epochs", [3, 20, 300])
def test_factors_are_from_0_to_1(name, epochs, warmup):
    for epoch in [*moments(epochs), epochs]:
        assert 0 <= factor(name, epoch, epochs, warmup) <= 1


@every_schedule
def test_they_begin_at_the_top_but_for_the_triangle(name):
    assert factor(name, 0, 20, 0) == pytest.approx(0.1 if name == "cyclic" else 1)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("constant", 1),
        ("cosine", 0),
        ("step", 0.01),
        ("quarters", 0.618**6),
        ("linear", 0),
        ("exp", 0.95**20),
    ],
)
def test_they_end_where_they_should(name, end):
    assert factor(name, 20 - 1e-12, 20, 0) == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "jumps"),
    [
        ("constant", []),
        ("cosine", []),
        ("linear", []),
        ("exp", []),
        ("cyclic", []),
        ("restarts", [10, 30, 70]),
        ("step", [50, 75]),
        ("quarters", [25, 50, 75]),
    ],
)
def test_schedules_jump_nowhere_but_where_they_say(name, jumps):
    times = [k / 100 for k in range(10000)]
    factors = [factor(name, time, 100, 0) for time in times]
    steps = [abs(after - before) for before, after in pairwise(factors)]
    assert [
        time for time, step in zip(times[1:], steps, strict=True) if step > 0.0051
    ] == jumps  # 0.45 an epoch at most


@every_schedule
def test_restarts_and_triangles_do_not_depend_on_the_length_of_the_run_and_all_else_does(name):
    same = all(
        factor(name, epoch, 40, 0) == factor(name, epoch, 400, 0) for epoch in (1.5, 7, 12, 33)
    )
    assert same == (name in ("constant", "restarts", "exp", "cyclic"))


@every_schedule
@pytest.mark.parametrize("warmup", [0.5, 2, 5.5])
def test_a_warm_up_multiplies_by_a_line(name, warmup):
    for epoch in (0, 0.25, 0.5, 1, 2, 4, 5.5, 6, 15, 19.75):
        line = epoch / warmup if epoch < warmup else 1
        assert factor(name, epoch, 20, warmup) == pytest.approx(
            course(name, epoch, 20) * line, rel=1e-12, abs=1e-12
        )
