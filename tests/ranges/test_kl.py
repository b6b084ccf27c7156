"""Entropy calibration, against a slow loop, and where the answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.core import TERNARY, GridSpec, Levels, PerChannel, Uniform
from subbyte.errors import RecipeError
from subbyte.ranges import Kl, MinMax, fit_grid
from subbyte.ranges.kl import divergence
from subbyte.ranges.minmax import grid_of_range
from tests.reference.grids import positions

INT8 = GridSpec(Uniform(8))
UINT4 = GridSpec(Uniform(4, signed=False, symmetric=False))
SPECS = {
    "int4": GridSpec(Uniform(4)),
    "uint4": UINT4,
    "levels": GridSpec(Levels((-4, -1, 0, 1, 2))),
}


def normal(n: int = 20_000, seed: int = 0) -> Tensor:
    return torch.randn(1, n, generator=torch.Generator().manual_seed(seed))


def slow(x: np.ndarray, mass: np.ndarray, low: float, high: float, levels: np.ndarray) -> float:
    """KL(P || Q) by its definition, bin by bin; levels: what the codes stand for."""
    inside = [k for k in range(len(x)) if low <= x[k] <= high and mass[k] > 0]
    p = {k: mass[k] for k in inside}
    p[inside[0]] += mass[x < low].sum()
    p[inside[-1]] += mass[x > high].sum()
    nearest = {k: int(np.abs(levels - x[k]).argmin()) for k in inside}
    q = {k: np.mean([mass[j] for j in inside if nearest[j] == nearest[k]]) for k in inside}
    total = sum(q.values())
    return float(sum(p[k] * np.log(p[k] / (q[k] / total)) for k in inside))


@pytest.mark.parametrize("name", SPECS)
def test_divergence_is_the_definition(name):
    spec = SPECS[name]
    centres = torch.linspace(-0.9, 1, 60, dtype=torch.float64)[None]
    mass = torch.rand(1, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mass[0, [4, 17, 59]] = 0
    mass /= mass.sum()
    ends = [(-0.9, 1.0), (-0.5, 0.5), (-0.31, 0.9)]
    low, high = torch.tensor(ends).T[:, :, None]
    scale, zero_point = grid_of_range(low, high, spec)
    got = divergence(centres, mass, low, high, scale, zero_point, spec)
    codes = positions(spec.alphabet)[0].numpy()
    for k, (a, b) in enumerate(ends):
        levels = (codes - int(zero_point[k])) * float(scale[k])
        wanted = slow(centres[0].numpy(), mass[0].numpy(), np.float32(a), np.float32(b), levels)
        assert float(got[k]) == pytest.approx(wanted, rel=1e-9)


def test_outliers_are_cut_off_and_uniform_values_are_not():
    outlier = torch.cat([normal(), torch.tensor([[40.0]])], 1)
    assert 2 < float(fit_grid(Kl(), outlier, INT8).scale) * 127 < 8
    x = torch.rand(1, 20_000, generator=torch.Generator().manual_seed(0))
    for spec in (UINT4, GridSpec(Uniform(8, symmetric=False))):
        grid, whole = fit_grid(Kl(), x, spec), fit_grid(MinMax(), x, spec)
        torch.testing.assert_close(grid.scale, whole.scale, rtol=0.02, atol=0)


def test_few_values_are_not_clipped():
    """Each is alone in its bin, so there is nothing to tell a better range by."""
    for n in (1, 2, 9, 40):
        x = normal(n, seed=n)
        for spec in (INT8, UINT4, GridSpec(Uniform(2)), GridSpec(TERNARY)):
            grid, whole = fit_grid(Kl(), x, spec), fit_grid(MinMax(), x, spec)
            torch.testing.assert_close(grid.scale, whole.scale)
            assert torch.equal(grid.zero_point, whole.zero_point)


def test_zeros_do_not_count():
    """They lie on every grid, and after a ReLU there are many of them."""
    x = normal().relu()
    more = torch.cat([x, torch.zeros(1, 50_000)], 1)
    torch.testing.assert_close(fit_grid(Kl(), more, UINT4).scale, fit_grid(Kl(), x, UINT4).scale)


def test_blocks_that_do_not_fit_at_once_are_split(monkeypatch):
    x = normal(3000).reshape(6, 500)
    spec = GridSpec(Uniform(4), PerChannel())
    whole = fit_grid(Kl(), x, spec)
    monkeypatch.setattr("subbyte.ranges.kl._MAX_ELEMENTS", 5000)
    parts = fit_grid(Kl(), x, spec)
    assert torch.equal(whole.scale, parts.scale)


def test_too_few_bins_are_refused():
    with pytest.raises(RecipeError, match="at least 256"):
        Kl(bins=100)
