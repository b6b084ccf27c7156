"""Widths of channels: optimal against brute force, within the budget, and what happens at the
edges.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from subbyte.allocate import Aciq, Optimum
from subbyte.testing.allocations import distortion


def total(distortion: Tensor, widths: Tensor) -> float:
    return float(distortion.gather(1, widths[:, None]).sum())


@pytest.mark.parametrize("seed", range(6))
def test_the_optimum_is_that_of_brute_force(seed):
    generator = torch.Generator().manual_seed(seed)
    # neither convex nor falling
    curves = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    for mean in (0.0, 0.6, 1.25, 2.5, 4.0):
        widths = Optimum().bits(curves, torch.ones(4), mean)
        best = min(
            total(curves, torch.tensor(choice))
            for choice in product(range(5), repeat=4)
            if sum(choice) <= 4 * mean
        )
        assert int(widths.sum()) <= 4 * mean
        assert total(curves, widths) == pytest.approx(best, abs=1e-12)


def test_the_optimum_is_never_worse_than_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(200, generator=generator).exp()
    curves = distortion(spread)
    for mean in (1.0, 2.5, 4.0):
        closed, best = (method.bits(curves, spread, mean) for method in (Aciq(), Optimum()))
        assert int(best.sum()) <= int(closed.sum()) == 200 * mean
        assert total(curves, best) < 0.95 * total(curves, closed)


def test_equal_distortion_takes_fewer_bits():
    flat = torch.tensor([[1.0, 0.5, 0.5, 0.5], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    assert Optimum().bits(flat, torch.ones(2), 3.0).tolist() == [1, 0]


def test_the_closed_form_is_that_of_the_paper_at_some_goal():
    """The original gives these widths for a goal of 4 bits, and their mean is 3."""
    spread = torch.tensor([1, 2, 4, 8, 0.1, 0.001])
    widths = Aciq().bits(distortion(spread), spread, 3.0)
    assert widths.tolist() == [3, 4, 5, 5, 1, 0]
    bins = 6 * 2**4 * spread.double() ** (2 / 3) / (spread.double() ** (2 / 3)).sum()
    assert widths.tolist() == torch.log2(bins).round().clamp(0, 8).tolist()
    assert Aciq().bits(distortion(spread), spread, 4.0).sum() == 24


def test_thousands_of_channels_are_no_trouble():
    spread = torch.randn(2048, generator=torch.Generator().manual_seed(1)).exp()
    widths = Optimum().bits(distortion(spread), spread, 4.0)
    gains = -distortion(spread).diff(dim=1)  # falling: greedy is optimal
    worth = gains.reshape(-1).sort(descending=True).values[8191]
    assert widths.sum() == 8192 and torch.equal(widths, (gains >= worth).sum(1))
