"""When the resolution rises: sections 1.3 to 1.5."""

from math import exp, log

import pytest
import torch

from subbyte.compat.optimizers import Published2021
from subbyte.errors import RecipeError
from subbyte.learn.optimizers import QSGD, RESOLUTION_SCHEDULES, Lattice
from subbyte.learn.optimizers.resolution_schedules import Annealing, Epochs, OnStall, Table
from tests.learn.optimizers.cases import move

BOUNDS = {
    0: 0.408920,
    1: 4.074478,
    2: 5.908920,
    5: 8.296383,
    10: 9.663232,
    20: 10.578259,
    50: 11.279841,
    100: 11.581947,
    1_000: 12.047660,
    10_000: 12.272946,
    1_000_000: 12.567392,
}
TEMPERATURES = {0: 1.512775, 1: 9.394828e-3, 10: 4.056236e-6, 100: 2.837539e-7, 10_000: 1.088726e-7}
COURSES = {
    "fixed": Lattice(3, schedule="fixed"),
    "table": Lattice(-1, schedule={"name": "table", "at": [0, 3, 40]}),
    "annealing": Lattice(2, schedule={"name": "annealing", "dimension": 64}, cap=11),
    "epochs": Lattice(19, schedule={"name": "epochs", "steps": 10}),
    "on-stall": Lattice(2, schedule={"name": "on-stall", "share": 0.9, "window": 2}, cap=9),
}
LADDER = 0.75 * 2.0 ** -torch.arange(-4.0, 40.0, dtype=torch.float64)
"""Rounded to multiples of 2^-h, the least of these that is not 0 is 2^-h."""


def indices_of(lattice: Lattice, count: int) -> list[int]:
    """The index that the first steps of QSGD are in truth rounded to."""
    p = torch.zeros_like(LADDER, requires_grad=True)
    optimizer, found = QSGD([p], 1.0, lattice=lattice), []
    for _ in range(count):
        before = p.detach().clone()
        move(optimizer, p, -LADDER)
        moved = p.detach() - before
        found.append(round(-float(moved[moved > 0].min().log2())))
    return found


@pytest.mark.parametrize(("index", "step"), [(3, 1 / 8), (0, 1.0), (-1, 2.0), (26, 2.0**-26)])
def test_steps_of_the_lattice_are_powers_of_two(index, step):
    """O2."""
    p = torch.zeros(2, requires_grad=True)
    move(QSGD([p], 1.0, lattice=Lattice(index, schedule="fixed")), p, [-0.5 * step, 0.5 * step])
    assert p.tolist() == [step, 0.0]


def test_a_negative_index_counted_as_0_in_2021():
    """O2."""
    assert [Published2021([torch.zeros(1)], 0.1, resolution=h).index for h in (3, 0, -1)] == [
        3,
        0,
        0,
    ]


@pytest.mark.parametrize("step", BOUNDS)
def test_the_annealing_bound_is_the_published_one(step):
    """O3."""
    assert Annealing(dimension=64).bound(step) == pytest.approx(BOUNDS[step], abs=1e-6)
    assert Annealing(dimension=1).bound(step) == pytest.approx(BOUNDS[step] - 3, abs=1e-6)


@pytest.mark.parametrize("step", TEMPERATURES)
def test_at_the_annealing_bound_the_noise_is_the_temperature(step):
    """O3: n / (24 Qp^2) = T(t)."""
    for eta in (1.0, 0.5):
        resolution = eta * 2 ** Annealing(dimension=64).bound(step, eta)
        assert 64 / (24 * resolution**2) == pytest.approx(TEMPERATURES[step], rel=1e-6)


@pytest.mark.parametrize("base", [2, 3, 10])
@pytest.mark.parametrize("eta", [1.0, 7.0])
@pytest.mark.parametrize("step", [0, 1, 5, 100, 10_000])
def test_annealing_takes_the_least_index_above_the_bound(base, eta, step):
    """Unless it starts above it."""
    schedule = Annealing(dimension=64)
    index, least = schedule.index(-50, step, base, eta), 2 ** schedule.bound(step, eta)
    assert float(base) ** (index - 1) < least <= float(base) ** index
    assert schedule.index(40, step, base, eta) == 40


def test_the_schedule_of_2023():
    """O4: log2(Qp) by epochs, and the bound on Qp."""
    epochs = {0: 18, 0.71: 18, 0.72: 19, 5.38: 19, 5.40: 20, 52: 20, 53: 21, 199: 21}
    for epoch, index in epochs.items():
        assert Epochs(100).index(19, round(100 * epoch), 2, 1.0) == index
        assert 2.0**index <= 2**19 * log(epoch + 2)
    for power in (0, 1, 2, 3):
        before, after = (int(1000 * (exp(2**power) - 2)) + k for k in (0, 1))
        assert (
            Epochs(1000).index(19, after, 2, 1.0)
            == Epochs(1000).index(19, before, 2, 1.0) + 1
            == 19 + power
        )


def test_epochs_take_the_base():
    """h_0 + floor(log_b ln(t / B + 2)): ln = 3 at t / B = e^3 - 2."""
    assert [Epochs(10).index(5, step, 3, 1.0) for step in (0, 180, 181)] == [4, 5, 6]


def test_a_table_says_when():
    assert [Table((2, 3, 7)).index(4, step, 2, 1.0) for step in range(9)] == [
        4,
        4,
        5,
        6,
        6,
        6,
        6,
        7,
        7,
    ]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("fixed", [3] * 6),
        ("table", [0, 0, 0, 1, 1, 1]),
        ("annealing", [2, 5, 6, 8, 8, 9, 9, 10, 10, 10, 10, 10, 10, 11]),
        ("epochs", [18] * 8 + [19] * 4),
    ],
)
def test_updates_are_rounded_to_where_the_schedule_is(name, wanted):
    assert indices_of(COURSES[name], len(wanted)) == wanted


@pytest.mark.parametrize("name", COURSES)
def test_the_resolution_never_falls_and_stops_at_the_cap(name):
    lattice = COURSES[name]
    found = indices_of(lattice, 120)
    assert found == sorted(found) and found[-1] <= lattice.cap
    capped = {"annealing", "on-stall"}
    assert (found[-1] == lattice.cap) == (name in capped)


def test_every_schedule_is_tried():
    assert set(COURSES) == set(RESOLUTION_SCHEDULES)


@pytest.mark.parametrize(
    ("window", "wanted"),
    [(1, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (3, [1, 2, 3, 6, 9]), (20, list(range(1, 10)))],
)
def test_stalls_are_measured_early_and_then_once_a_window(window, wanted):
    assert [steps for steps in range(1, 10) if OnStall(window=window).due(steps)] == wanted


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("nonsense", "unknown method 'nonsense'; known: on-stall"),
        (
            {"name": "on-stall", "sharp": 0.1},
            "unknown setting 'sharp'; known: share, window, scope",
        ),
        ({"name": "on-stall", "share": 1.0}, "share.* must be a number, at least 0 and below 1"),
        ({"name": "on-stall", "share": -0.1}, "share.* must be a number, at least 0 and below 1"),
        ({"name": "on-stall", "window": 0}, "window.* must be a whole number, at least 1"),
        ({"name": "on-stall", "scope": "layer"}, "scope"),
        ({"name": "table"}, "'at' must be step numbers in rising order"),
        ({"name": "table", "at": [3, 3]}, "rising order"),
        ({"name": "table", "at": [-1, 3]}, "at.* must be a whole number, at least 0"),
        ({"name": "annealing", "temperature": 0.0}, "temperature.* must be a number, above 0"),
        ({"name": "annealing", "speed": -1.0}, "speed.* must be a number, at least 0"),
        ({"name": "annealing", "dimension": 0}, "dimension.* must be a whole number, at least 1"),
        ({"name": "epochs", "steps": 0}, "steps.* must be a whole number, at least 1"),
    ],
)
def test_bad_schedules_are_an_error(method, message):
    with pytest.raises(RecipeError, match=message):
        RESOLUTION_SCHEDULES.build(method)
    with pytest.raises(RecipeError, match=message):
        Lattice(schedule=method)
