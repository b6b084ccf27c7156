"""The mathematics of analytical clipping, against published tables, root conditions and brute
force.
"""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import laplace, norm

from subbyte.errors import RecipeError
from subbyte.stats.priors import (
    alpha,
    best_scale,
    exact_alpha,
    formula_mse,
    gauss_alpha,
    laplace_alpha,
    level_mse,
    mean_of_ratio,
    positive_part,
)

DENSITY = {"laplace": laplace.pdf, "gauss": norm.pdf}
BITS = (0, 1, 2, 3, 4, 5, 6, 7, 8)

# Coefficients for 2^M cells, M = 0 ... 8, one row a prior: research/aciq.md, 1.3; two decimals
# there are the authors'.
LAPLACE = (1.049909, 1.862817, 2.830683, 3.897229, 5.028640, 6.204766, 7.413126, 8.645620, 9.896760)
GAUSS = (0.765775, 1.239905, 1.710635, 2.151593, 2.559136, 2.936201, 3.286914, 3.615114, 3.924036)

# For 2^M levels: optimum, its error, and how much more the paper's rule and that of 2^M - 1 steps
# lose, in per cent; research/aciq.md, 1.4. Bits 1, 2, 3, 4, 5, 8.
EXACT = {
    ("laplace", False): (
        (1.0000, 1.0000, 74, 0.25),
        (2.3067, 3.9261e-1, 9.9, 0.45),
        (3.6179, 1.4350e-1, 1.8, 0.11),
        (4.8896, 5.0702e-2, 0.33, 0.02),
        (6.1374, 1.7426e-2, 0.06, 0),
        (9.8891, 6.0284e-4, 0, 0),
    ),
    ("laplace", True): (
        (2.0000, 2.6424e-1, 18, 0.69),
        (3.4864, 8.3087e-2, 3.4, 0.04),
        (4.8199, 2.7395e-2, 0.7, 0),
        (6.0980, 9.0851e-3, 0.16, 0),
        (7.3586, 2.9795e-3, 0.04, 0),
        (11.1555, 9.4033e-5, 0, 0),
    ),
    ("gauss", False): (
        (0.7979, 3.6338e-1, 54, 0.28),
        (1.4935, 1.1885e-1, 6.4, 0.09),
        (2.0511, 3.7440e-2, 1.2, 0.04),
        (2.5140, 1.1543e-2, 0.23, 0.01),
        (2.9162, 3.4952e-3, 0.04, 0),
        (3.9222, 8.7686e-5, 0, 0),
    ),
    ("gauss", True): (
        (1.2240, 9.5087e-2, 34, 0.04),
        (1.9523, 2.3430e-2, 4.4, 0.05),
        (2.4739, 6.4447e-3, 0.8, 0),
        (2.8987, 1.8466e-3, 0.15, 0),
        (3.2701, 5.3465e-4, 0.03, 0),
        (4.2147, 1.2504e-5, 0, 0),
    ),
}
kinds = pytest.mark.parametrize(("prior", "one_sided"), EXACT)


def levels(steps: int, one_sided: bool) -> np.ndarray:
    """Equally spaced, the outermost at 1."""
    return np.linspace(0 if one_sided else -1, 1, steps + 1)


def test_coefficients_of_the_paper():
    for bits in BITS:
        assert laplace_alpha(2**bits) == pytest.approx(LAPLACE[bits], abs=6e-7)
        assert gauss_alpha(2**bits) == pytest.approx(GAUSS[bits], abs=6e-7)
        for one in (laplace_alpha, gauss_alpha):  # after a ReLU as with one bit more
            assert one(2**bits, one_sided=True) == one(2 ** (bits + 1))
    assert laplace_alpha(2**8, one_sided=True) == pytest.approx(11.162685, abs=6e-7)
    assert gauss_alpha(2**8, one_sided=True) == pytest.approx(4.216330, abs=6e-7)


def test_errors_that_the_formula_promises():
    two_to_eight = np.array([2.0**bits for bits in BITS[2:]])
    for prior, wanted in {
        "laplace": (2.849e-1, 1.197e-1, 4.602e-2, 1.657e-2, 5.679e-3, 1.873e-3, 5.989e-4),
        "gauss": (8.715e-2, 3.143e-2, 1.049e-2, 3.323e-3, 1.013e-3, 3.002e-4, 8.708e-5),
    }.items():
        got = [float(formula_mse(prior, np.array(alpha(prior, n)), n)) for n in two_to_eight]  # type: ignore[arg-type]
        assert got == pytest.approx(wanted, rel=4e-4)
    # b = 2 and sigma = 2 in their code
    places = np.array([1, 2, 3, 5, 8])
    assert formula_mse("gauss", places, 4) == pytest.approx(
        [0.1715129, 0.09487079, 0.1879069, 0.5208334, 1.333333], rel=1e-6
    )
    four = 4 * formula_mse("gauss", places / 2, 16)
    assert four == pytest.approx([1.678416, 0.6079266, 0.1944948, 0.04214666, 0.08335805], rel=1e-6)


@kinds
@pytest.mark.parametrize("steps", [0.5, 1, 2, 3, 6.5, 80])
def test_alpha_is_the_minimum_of_the_formula(prior, one_sided, steps):
    """For any number of steps, also where bits are no whole number."""
    best = alpha(prior, steps, one_sided)
    near = formula_mse(prior, best * np.array([0.999, 1, 1.001]), steps, one_sided)
    assert near[1] == min(near)


@kinds
def test_exact_optima_and_what_the_rules_lose(prior, one_sided):
    for bits, (place, error, paper, ours) in zip(
        (1, 2, 3, 4, 5, 8), EXACT[prior, one_sided], strict=True
    ):
        steps = 2**bits - 1
        shape = levels(steps, one_sided)
        best = exact_alpha(prior, steps, one_sided)
        least = float(level_mse(prior, best * shape, one_sided=one_sided))
        assert best == pytest.approx(place, abs=6e-5)
        assert least == pytest.approx(error, rel=6e-5)
        for rule, lost in ((steps + 1, paper), (steps, ours)):
            got = float(
                level_mse(prior, alpha(prior, rule, one_sided) * shape, one_sided=one_sided)
            )
            assert 100 * (got / least - 1) == pytest.approx(
                lost, abs=0.55 if lost > 10 else 0.055 if lost > 0.5 else 0.0105
            )


@pytest.mark.parametrize("prior", DENSITY)
@pytest.mark.parametrize(
    ("mean", "one_sided"), [(0.0, False), (1.3, False), (0.7, True), (-1.5, True)]
)
def test_the_error_of_levels_is_its_integral(prior, mean, one_sided):
    """Any levels, against quadrature."""
    q = np.array([-1.0, 0.0, 0.4, 1.5, 4.0])
    cells = [-30.0, *((q[1:] + q[:-1]) / 2), 30.0]
    wanted = 0.0
    for k, level in enumerate(q):
        start, end = (max(x, 0.0) if one_sided else x for x in cells[k : k + 2])
        wanted += quad(
            lambda x, q=level: (x - q) ** 2 * DENSITY[prior](x - mean),
            start,
            end,
            points=[mean] if start < mean < end else None,
            limit=200,
        )[0]
    assert float(level_mse(prior, q, mean, one_sided)) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize(
    ("bits", "mean", "place"),
    [(4, -2, 6.098), (4, 0, 6.098), (4, 0.5, 6.257), (4, 1, 6.571), (4, 2, 7.336), (2, 1, 3.744)],
)
def test_clipping_after_a_relu_follows_the_mean_before_it(bits, mean, place):
    """Laplace; research/aciq.md, 1.7, where it is found by search. The authors add the mean to
    alpha instead.
    """
    steps = 2**bits - 1
    best = exact_alpha("laplace", steps, one_sided=True, mean=mean)
    assert best == pytest.approx(place, rel=2e-3)
    shape = levels(steps, one_sided=True)
    ours, theirs = (
        float(level_mse("laplace", a * shape, mean, one_sided=True))
        for a in (best, max(mean, 0) + laplace_alpha(2**bits, one_sided=True))
    )
    lost = {(4, 1): 4.3, (4, 2): 9.1, (2, 1): 30.0, (4, 0.5): 2.4}.get((bits, mean), 0.15)
    assert 100 * (theirs / ours - 1) == pytest.approx(lost, abs=0.12 if lost < 10 else 0.6)


@pytest.mark.parametrize("prior", DENSITY)
def test_values_above_0_tell_the_mean(prior):
    for mean in (-2.9, -0.5, 0.0, 0.7, 2.0, 9.0):
        first, ratio = positive_part(prior, mean)
        moments = [
            quad(
                lambda x, p=p, m=mean: x**p * DENSITY[prior](x - m),
                0,
                40 + mean,
                points=[max(mean, 0)],
            )[0]
            for p in (0, 1, 2)
        ]
        assert first == pytest.approx(moments[1] / moments[0], rel=1e-7)
        assert ratio == pytest.approx(
            np.sqrt(moments[2] * moments[0] / moments[1] ** 2 - 1), rel=1e-6
        )
        if prior == "gauss" or mean > 0:
            assert mean_of_ratio(prior, ratio) == pytest.approx(mean, abs=1e-6)
    assert mean_of_ratio("laplace", 1.0) == 0.0 and mean_of_ratio("gauss", 1.0) == -3.0


def test_one_level_more_than_symmetric():
    """What GEMMLOWP makes of a window about 0: codes -8 ... 7, best at 4.960 b (research/aciq.md,
    1.4).
    """
    assert 7.5 * best_scale("laplace", range(-8, 8)) == pytest.approx(4.960, abs=6e-4)
    assert best_scale("laplace", (-1, 0, 1)) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("steps", [0, -1, float("nan")])
def test_no_steps_are_an_error(steps):
    with pytest.raises(RecipeError, match="one step or more"):
        laplace_alpha(steps)
