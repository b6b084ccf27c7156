"""The rounding operator of section 1.1, by itself and as QSGD applies it."""

from fractions import Fraction
from math import erfc, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subbyte.learn.optimizers import QSGD, Lattice
from subbyte.learn.optimizers.update_roundings import UPDATE_ROUNDINGS
from tests.reference.examples import examples
from tests.reference.updates import nearest

DETERMINISTIC = ["half-up", "half-even"]
dyadic = st.lists(st.integers(-(2**30), 2**30).map(lambda k: k * 2.0**-12), min_size=1, max_size=6)
indices = st.integers(-2, 12)


def q(
    x, resolution: float, rounding: str = "half-up", dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """Q(x; Qp), by one step of QSGD from 0."""
    p = torch.zeros(len(x), dtype=dtype, requires_grad=True)
    p.grad = -torch.as_tensor(x, dtype=dtype)
    lattice = Lattice(0, eta=resolution, schedule="fixed", rounding=rounding)
    QSGD([p], 1.0, lattice=lattice).step()
    return p.detach()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("resolution", "x", "rounded"),
    [
        (1, [-2.5, -1.5, -0.5, -0.4999, 0.4999, 0.5, 1.5, 2.5], [-2, -1, 0, 0, 0, 1, 2, 3]),
        (4, [-0.375, -0.125, 0.124, 0.125, 0.3, 0.375], [-0.25, 0, 0, 0.25, 0.25, 0.5]),
        (8, [0.06, 0.0625, -0.0625, -0.07], [0, 0.125, 0, -0.125]),
        (100, [0.123456789], [0.12]),
    ],
)
def test_ties_go_up(resolution, x, rounded, dtype):
    """O1."""
    wanted = torch.tensor(rounded, dtype=dtype)
    torch.testing.assert_close(q(x, resolution, dtype=dtype), wanted, rtol=1e-7, atol=0)
    units = UPDATE_ROUNDINGS["half-up"].round(
        torch.tensor(x, dtype=dtype) * resolution, generator()
    )
    torch.testing.assert_close(units / resolution, wanted, rtol=1e-7, atol=0)


def test_ties_go_to_even():
    x = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.75, -0.75]
    assert q(x, 1.0, "half-even").tolist() == [-2, -2, 0, 0, 2, 2, 1, -1]


@given(dyadic, indices)
@examples(60)
def test_half_up_is_its_definition_in_fractions(x, index):
    assert q(x, 2.0**index).tolist() == [float(nearest(value, 2.0**index)) for value in x]


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@given(x=dyadic, index=indices)
@examples(40)
def test_rounding_twice_is_rounding_once(rounding, x, index):
    once = q(x, 2.0**index, rounding)
    assert torch.equal(q(once, 2.0**index, rounding), once)


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@given(x=dyadic, index=indices)
@examples(40)
def test_errors_are_at_most_half_a_step(rounding, x, index):
    errors = [
        abs(Fraction(float(u)) - Fraction(v))
        for u, v in zip(q(x, 2.0**index, rounding), x, strict=True)
    ]
    assert max(errors) <= Fraction(2.0 ** -(index + 1))


@pytest.mark.parametrize(("rounding", "even"), [("half-up", 1), ("half-even", 2)])
@given(x=dyadic, index=indices, steps=st.integers(-1000, 1000))
@examples(40)
def test_moving_by_steps_of_the_lattice_moves_the_result(rounding, even, x, index, steps):
    """Ties to even know odd from even steps."""
    by = even * steps * 2.0**-index
    assert torch.equal(
        q([v + by for v in x], 2.0**index, rounding), q(x, 2.0**index, rounding) + by
    )


@pytest.mark.parametrize("rounding", [*DETERMINISTIC, "stochastic"])
@pytest.mark.parametrize("base", [2, 3])
@given(x=dyadic, index=st.integers(0, 9))
@examples(30)
def test_lattices_nest(rounding, base, x, index):
    """Multiples of 1 / Qp are multiples of 1 / (b Qp): exact where b = 2."""
    coarse = q(x, float(base**index), rounding)
    fine = q(coarse, float(base ** (index + 1)), rounding if base == 2 else "half-up")
    torch.testing.assert_close(fine, coarse, rtol=0 if base == 2 else 1e-12, atol=0)


@pytest.mark.parametrize(
    ("rounding", "x", "rounded"),
    [
        ("half-up", 0.5 - 2.0**-24, 0),
        ("half-up", 2.0**22 + 1, 2**22 + 1),
        ("half-up", -(2.0**22) - 1, -(2**22) - 1),
        ("stochastic", 3.0, 3),
        ("half-even", 0.5 - 2.0**-25, 0),
        ("half-even", 2.0**23 + 1, 2**23 + 1),
    ],
)
def test_float32_rounds_right_up_to_its_ends(rounding, x, rounded):
    """Whole numbers stay what they are, and errors below half a step."""
    found = UPDATE_ROUNDINGS[rounding].round(torch.full((100,), x), generator())
    assert set(found.tolist()) == {rounded}


@pytest.mark.parametrize("part", [0.0, 0.05, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("whole", [-3, 0, 2])
def test_stochastic_rounding_keeps_the_mean_and_has_the_variance_of_a_coin(whole, part):
    """O11: E[Q] = x, Var[Q] = f (1 - f)."""
    count = 40_000
    x = torch.full((count,), whole + part, dtype=torch.float64)
    found = UPDATE_ROUNDINGS["stochastic"].round(x, generator(1))
    assert set(found.tolist()) <= {float(whole), whole + 1.0}
    spread = part * (1 - part)
    # f = 0 has no spread at all: nothing is allowed there
    assert abs(float(found.mean()) - (whole + part)) <= 4.5 * sqrt(spread / count)
    assert (
        abs(float(found.var()) - spread)
        <= 4.5 * abs(1 - 2 * part) * sqrt(spread / count) + 2 / count
    )


def test_gaussian_noise_has_the_variance_of_rounding_errors_and_is_normal():
    count = 200_000
    x = torch.linspace(-3, 3, count, dtype=torch.float64)
    error = UPDATE_ROUNDINGS["gaussian"].round(x.clone(), generator(2)) - x
    assert abs(float(error.mean())) < 4.5 / sqrt(12 * count)
    assert float(error.var()) * 12 == pytest.approx(1, abs=4.5 * sqrt(2 / count))
    beyond = float((error.abs() > 0.5).double().mean())  # uniform errors never are
    assert beyond == pytest.approx(erfc(sqrt(1.5)), abs=4.5 * sqrt(0.083 / count))


@pytest.mark.parametrize("rounding", UPDATE_ROUNDINGS)
def test_roundings_work_in_place_and_are_decided_by_the_seed(rounding):
    x = torch.linspace(-2, 2, 101)
    first, again, other = (
        UPDATE_ROUNDINGS[rounding].round(x.clone(), generator(seed)) for seed in (5, 5, 6)
    )
    assert UPDATE_ROUNDINGS[rounding].round(x, generator(5)) is x
    assert torch.equal(first, again) and torch.equal(first, x)
    assert torch.equal(first, other) == (rounding in DETERMINISTIC)
