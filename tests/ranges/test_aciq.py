"""Analytical clipping of values: it finds the priors' optimum, is no worse than the authors', and
can be traced.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from subbyte.compat.aciq import Clip, quantize_activations
from subbyte.compat.aciq_coding import draw, simulated_mse
from subbyte.core import TERNARY, Grid, GridSpec, Levels, Uniform
from subbyte.errors import RecipeError
from subbyte.ranges import Aciq, MinMax, Mse, Sigma, fit_grid
from subbyte.stats.priors import alpha, best_scale, exact_alpha, laplace_alpha, level_mse
from tests.reference.grids import positions

UINT4 = GridSpec(Uniform(4, signed=False, symmetric=False))
UINT2 = GridSpec(Uniform(2, signed=False, symmetric=False))
INT4 = GridSpec(Uniform(4))
WIDE = GridSpec(Uniform(2, wide=True))
LEVELS = GridSpec(Levels((-4, -2, -1, 0, 1, 2, 4)))
N = 40_001  # draws: expectations are met to about 1 %
PRIORS = ("laplace", "gauss")


def sample(prior: str, mean: float = 0.0, n: int = N) -> Tensor:
    """A row whose order statistics are the prior's quantiles: without the noise of a draw, but
    without far tails.
    """
    p = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    if prior == "gauss":
        return (mean + torch.special.ndtri(p)).float()[None]
    return (mean + torch.sign(p - 0.5) * -torch.log1p(-(2 * p - 1).abs())).float()[None]


def error(grid: Grid, x: Tensor) -> float:
    return float((grid.quantize(x) - x).double().square().mean())


def expected(prior: str, grid: Grid, mean: float, one_sided: bool) -> float:
    """Exact expected error of a grid; of its mirror image for values of 0 and below."""
    codes = torch.arange(grid.spec.alphabet.qmin, grid.spec.alphabet.qmax + 1)
    levels = (grid.units(codes) * grid.scale).double().numpy()
    mirrored = one_sided and levels[-1] <= 0
    return float(level_mse(prior, -levels[::-1] if mirrored else levels, mean, one_sided))  # type: ignore[arg-type]


def top(grid: Grid) -> float:
    """Largest value of a grid."""
    return float((grid.spec.alphabet.qmax - grid.zero_point) * grid.scale)


@pytest.mark.parametrize("prior", PRIORS)
def test_signed_windows_lie_about_the_mean(prior):
    """n = 2^bits - 1 steps; alpha shifts with the values."""
    for bits in (2, 3, 4, 8):
        spec = GridSpec(Uniform(bits, symmetric=False))
        for mean in (0.0, 0.4):
            grid = fit_grid(Aciq(prior), sample(prior, mean), spec)
            assert float(grid.scale) * (2**bits - 1) / 2 == pytest.approx(
                alpha(prior, 2**bits - 1), rel=2e-3
            )
            middle = float(grid.scale) * (-0.5 - float(grid.zero_point))
            assert middle == pytest.approx(mean, abs=0.51 * float(grid.scale))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("mean", [-1.5, 0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_mean_before_a_relu_is_found(prior, mean):
    """From the values alone: the grid is the best for them, for both signs."""
    x = sample(prior, mean).relu()
    for bits in (2, 4):
        spec = GridSpec(Uniform(bits, signed=False, symmetric=False))
        steps = 2**bits - 1
        best = exact_alpha(prior, steps, one_sided=True, mean=mean)
        grid, mirrored = fit_grid(Aciq(prior), x, spec), fit_grid(Aciq(prior), -x, spec)
        assert int(grid.zero_point) == 0 and int(mirrored.zero_point) == spec.alphabet.qmax
        for found in (grid, mirrored):
            assert expected(prior, found, mean, True) <= 1.01 * float(
                level_mse(prior, best * np.linspace(0, 1, steps + 1), mean, True)
            )


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("spec", [INT4, WIDE, LEVELS, GridSpec(TERNARY), GridSpec(Uniform(2))])
@pytest.mark.parametrize("mean", [0.0, 0.6, -2.0])
def test_grids_without_a_zero_point_have_the_best_scale(prior, spec, mean):
    levels = tuple(positions(spec.alphabet)[0].tolist())
    for one_sided, x in ((False, sample(prior, mean)), (True, sample(prior, mean).relu())):
        best = best_scale(prior, levels, mean, one_sided) * np.array(levels, float)
        got = expected(prior, fit_grid(Aciq(prior), x, spec), mean, one_sided)
        assert got <= 1.01 * float(level_mse(prior, best, mean, one_sided))


@pytest.mark.parametrize("name", ["laplace", "gauss", "uniform", "relu", "outlier"])
@pytest.mark.parametrize(
    "spec", [UINT2, UINT4, GridSpec(Uniform(8, symmetric=False)), INT4, LEVELS]
)
def test_auto_is_never_worse_than_a_prior_or_minmax_and_near_the_search(name, spec):
    x = {
        "laplace": sample("laplace"),
        "gauss": sample("gauss", 0.3),
        "relu": sample("gauss", 1).relu(),
        "uniform": torch.linspace(0.2, 1, 4001)[None],
        "outlier": torch.cat([sample("gauss"), torch.tensor([[90.0]])], 1),
    }[name]
    auto, *others = (
        error(fit_grid(method, x, spec), x) for method in (Aciq(), Aciq("laplace"), Aciq("gauss"))
    )
    assert auto <= min(*others, error(fit_grid(MinMax(), x, spec), x)) * (1 + 1e-6)
    if name in ("laplace", "gauss", "relu"):
        assert auto <= 1.06 * error(fit_grid(Mse(), x, spec), x)


def test_the_spread_of_values_after_a_relu_ignores_how_many_are_0():
    """Zeros have many causes; they cost nothing."""
    x = sample("laplace", 1).relu()
    more = torch.cat([x, torch.zeros(1, 5 * N)], 1)
    for prior in PRIORS:
        one, other = (fit_grid(Aciq(prior), v, UINT4) for v in (x, more))
        torch.testing.assert_close(one.scale, other.scale, rtol=1e-5, atol=0)


def test_ours_is_better_than_the_authors_where_theirs_is_not_optimal():
    """By exact expected error, for Laplace: two bits, and after a ReLU with a positive mean."""
    shape = np.linspace(-1, 1, 4)
    ours, theirs = (float(level_mse("laplace", a * shape)) for a in (laplace_alpha(3), 2.83))
    assert theirs > 1.09 * ours
    for mean, lost in ((1.0, 1.04), (2.0, 1.09)):
        x = sample("laplace", mean)
        grid = fit_grid(Aciq("laplace"), x.relu(), UINT4)
        got = expected("laplace", grid, mean, one_sided=True)
        # their window, from the mean and b of what comes before the ReLU
        width = mean + 6.2
        paper = float(level_mse("laplace", width * np.linspace(0, 1, 16), mean, one_sided=True))
        assert paper > lost * got


def test_ours_never_clips_beyond_the_values():
    """Uniform ones in 0 ... 1: their window ends at 1.8 or so; research/aciq.md, 1.7."""
    x = torch.rand(1, 20_000, generator=torch.Generator().manual_seed(0))
    for bits, factor in ((8, 20), (4, 5)):
        theirs = quantize_activations(x[:, None, :, None], Clip.LAPLACE, bits, relu=False)[
            :, 0, :, 0
        ]
        grid = fit_grid(Aciq(), x, GridSpec(Uniform(bits, symmetric=False)))
        assert top(grid) <= 1.0001
        assert float((theirs - x).square().mean()) > factor * error(grid, x)


@pytest.mark.parametrize("method", [Aciq("laplace"), Aciq("gauss"), Aciq(compat=True), Sigma(9)])
def test_no_range_goes_beyond_the_values(method):
    for low, high in ((-0.3, 1.0), (-1.0, 0.3), (-0.9, 1.0), (0.2, 1.0), (-1.0, -0.2)):
        x = torch.linspace(low, high, 999)[None]
        grid = fit_grid(method, x, GridSpec(Uniform(8, symmetric=False)))
        widest = fit_grid(MinMax(), x, GridSpec(Uniform(8, symmetric=False)))
        assert float(grid.scale) <= float(widest.scale) * (1 + 1e-6)
        assert top(widest) - top(grid) + float(grid.scale) > -1e-3
        assert float(fit_grid(method, x, INT4).scale) <= float(
            fit_grid(MinMax(), x, INT4).scale
        ) * (1 + 1e-6)


def test_a_mean_far_from_0_has_a_level():
    """The best scale jumps there, and between two good ones lies a bad one."""
    for mean in (9.25, 9.75, 11.75):
        best = exact_alpha("gauss", 3, one_sided=True, mean=mean)
        least = float(level_mse("gauss", best * np.linspace(0, 1, 4), mean, one_sided=True))
        got = expected(
            "gauss", fit_grid(Aciq("gauss"), sample("gauss", mean), UINT2), mean, one_sided=True
        )
        assert got <= 1.25 * least


def test_compat_has_the_constants_of_the_paper():
    for bits, coefficient in ((2, 2.83), (4, 5.03), (8, 9.89)):
        spec = GridSpec(Uniform(bits, symmetric=False))
        grid = fit_grid(Aciq(compat=True), sample("laplace"), spec)
        assert float(grid.scale) * (2**bits - 1) / 2 == pytest.approx(coefficient, rel=3e-3)
        symmetric = fit_grid(Aciq(compat=True), sample("laplace"), GridSpec(Uniform(bits)))
        assert float(symmetric.scale) == pytest.approx(float(grid.scale), rel=3e-3)
    relu = fit_grid(Aciq("gauss", compat=True), sample("gauss").relu(), UINT4)
    assert top(relu) == pytest.approx(2.936, rel=3e-3)
    assert top(fit_grid(Aciq(compat=True), sample("laplace").relu(), UINT4)) == pytest.approx(
        6.2, rel=3e-3
    )


class Dynamic(nn.Module):
    """Quantizes every batch on its own range."""

    def __init__(self, method: Aciq | Sigma, spec: GridSpec) -> None:
        super().__init__()
        self.method, self.spec = method, spec

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.method.choose(x.reshape(1, -1), None, self.spec)


@pytest.mark.parametrize(
    "method", [Aciq("laplace"), Aciq("gauss"), Aciq("laplace", compat=True), Sigma(2)]
)
@pytest.mark.parametrize("spec", [UINT4, INT4])
def test_a_formula_can_be_traced(method, spec):
    """And the trace goes every way: signed, after a ReLU, all below 0, constant."""
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    assert method.closed_form and not Aciq().closed_form
    module = Dynamic(method, spec)
    traced = torch.export.export(
        module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=2)}}
    ).module()
    for value in (x, x.relu(), -x.relu(), torch.full((3, 30), 0.3), torch.zeros(2, 30)):
        for got, wanted in zip(traced(value), module(value), strict=True):
            torch.testing.assert_close(got, wanted)


def test_sigma_is_so_many_deviations_from_the_mean():
    x = sample("gauss", 0.5)
    grid = fit_grid(Sigma(2), x, GridSpec(Uniform(8, symmetric=False)))
    assert (
        float((grid.spec.alphabet.qmin - grid.zero_point) * grid.scale),
        top(grid),
    ) == pytest.approx((-1.5, 2.5), abs=0.02)
    assert top(fit_grid(Sigma(9), x, INT4)) <= float(x.abs().max()) * 1.0001
    counts = torch.tensor([[1.0, 2.0, 1.0]])  # mean 1, variance 4.5
    weighted = fit_grid(
        Sigma(0.5), torch.tensor([[-2.0, 1.0, 4.0]]), GridSpec(Uniform(8, symmetric=False)), counts
    )
    assert float(weighted.scale) * 255 == pytest.approx(4.5**0.5)


def test_their_simulation_has_one_level_too_many():
    """Which is why it agrees with their formula, though 2^bits levels do not; research/aciq.md,
    1.4.
    """
    place = laplace_alpha(4)
    got = simulated_mse("laplace", place, 2, 400_000, seed=0)
    assert got == pytest.approx(
        float(level_mse("laplace", place * np.linspace(-1, 1, 5))), rel=0.02
    )
    assert got < 0.7 * float(level_mse("laplace", place * np.linspace(-1, 1, 4)))
    values = draw("laplace", 200_000, torch.Generator().manual_seed(1))
    assert (float(values.mean()), float(values.abs().mean())) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize(
    "method", [lambda: Aciq("cauchy"), lambda: Sigma(0), lambda: Sigma(math.nan)]
)  # type: ignore[arg-type]
def test_settings_out_of_range_are_refused(method):
    with pytest.raises(RecipeError, match=r"aciq: prior must be|Sigma: width must be"):
        method()
