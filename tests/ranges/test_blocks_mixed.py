"""Mixed grids: how bits are shared out among rows, and what rows of few bits become."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, PerChannel, Uniform, Widths
from subbyte.errors import NumericsError
from subbyte.ranges import Aciq, MinMax, Mse, fit_grid


@dataclass
class Given:
    """Hands out the given widths, and keeps what it was told."""

    widths: list[int]

    def bits(self, distortion: Tensor, spread: Tensor, mean_bits: float) -> Tensor:
        self.distortion, self.spread, self.mean_bits = distortion, spread, mean_bits
        return torch.tensor(self.widths)


def spec(*, symmetric: bool = False, signed: bool = True, mean: float = 3.0) -> GridSpec:
    return GridSpec(Widths(8, mean, signed, symmetric), PerChannel())


def values() -> Tensor:
    x = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    x[1] = -2 + 0.01 * x[1]  # all negative
    x[2] = 0.25  # constant
    x[3] = 0.0
    return x


@pytest.mark.parametrize("method", [MinMax(), Mse(), Aciq()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_method_is_told_what_each_width_costs(method, symmetric, weighted):
    x, importance = values(), None
    if weighted:
        importance = torch.rand(6, 30, generator=torch.Generator().manual_seed(1))
        importance[:, 0] = 0
    share = (torch.ones(6, 30) if importance is None else importance).double()
    told = Given([0] * 6)
    fit_grid(method, x, spec(symmetric=symmetric, mean=2.5), importance, told)
    mean = (share * x).sum(1, keepdim=True) / share.sum(1, keepdim=True)
    variance = (share * (x - mean).square()).sum(1)
    torch.testing.assert_close(told.distortion[:, 0], variance)
    torch.testing.assert_close(told.spread, (variance / share.sum(1)).sqrt())
    assert told.mean_bits == 2.5 and told.distortion.shape == (6, 9)
    for width in range(2, 9):
        alone = fit_grid(
            method, x, GridSpec(Uniform(width, symmetric=symmetric), PerChannel()), importance
        )
        error = (share * (alone.quantize(x) - x).double().square()).sum(1)
        torch.testing.assert_close(told.distortion[:, width], error)


@pytest.mark.parametrize("signed", [True, False])
def test_every_row_gets_the_grid_of_its_width(signed):
    x, widths = values(), [0, 0, 0, 0, 1, 5]
    grid = fit_grid(Mse(), x, spec(signed=signed), None, Given(widths))
    assert grid.own[:, 0].tolist() == widths
    q = grid.quantize(x)
    # rows of no bits are their mean
    torch.testing.assert_close(q[:4], x[:4].mean(1, keepdim=True).expand(4, 30))
    alone = fit_grid(Mse(), x, GridSpec(Uniform(5, signed, symmetric=False), PerChannel()))
    assert torch.equal(q[5], alone.quantize(x)[5])
    assert 0 in q[4] and len(q[4].unique()) == 2
    steps = torch.linspace(-3, 3, 2001)[:, None]
    # 0 or one other number
    best = float(torch.minimum(x[4].square(), (x[4] - steps).square()).sum(1).min())
    assert float((x[4] - q[4]).square().sum()) <= 1.02 * best


def test_weighted_rows_of_no_bits_are_their_weighted_mean():
    x, importance = values(), torch.rand(6, 30, generator=torch.Generator().manual_seed(2))
    grid = fit_grid(MinMax(), x, spec(), importance, Given([0] * 6))
    mean = (importance * x).sum(1) / importance.sum(1)
    torch.testing.assert_close(grid.quantize(x)[:, 0], mean)


def test_no_values_are_an_error():
    with pytest.raises(NumericsError, match="no values"):
        fit_grid(MinMax(), torch.empty(3, 0), GridSpec(Uniform(), PerChannel()))


def test_a_row_of_one_number_is_kept():
    x = torch.tensor([[3.0], [-1.5], [0.0]])
    grid: Grid = fit_grid(MinMax(), x, spec(mean=0), None, Given([0, 0, 0]))
    assert torch.equal(grid.quantize(x), x)
