"""Shrunk moments: the formula by loops, and that they come closer to the truth than few rows do."""

import pytest
import torch
from torch import Tensor

from subbyte.core import Convolution, Linear
from subbyte.stats import LayerStats, MomentCollector, shrunk
from subbyte.testing.cases import layer_stats

NAMES = ("H", "G", "F")
THREE = Convolution((4, 8, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (0, 0))
ONE = Convolution((4, 8, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (0, 0))


def drawn(groups: int, m: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of columns that go together, off centre, in the float and in the quantized network."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=torch.Generator().manual_seed(7))
    x = (torch.randn(groups, m, columns, generator=generator) + 0.5) @ mix
    return x, x + 0.3 * torch.randn(x.shape, generator=generator)


def by_loops(x: Tensor, x_q: Tensor) -> dict[str, Tensor]:
    """The moments of one group, entry by entry."""
    m, columns = x.shape
    x, x_q = x.double(), x_q.double()
    pairs = {"H": (x_q, x_q), "G": (x_q, x), "F": (x, x)}
    covariance = (x_q - x_q.mean(0)).T @ (x_q - x_q.mean(0)) / m
    chance = common = 0.0
    for i in range(columns):
        for j in range(columns):
            if i != j:
                chance += float(covariance[i, i] * covariance[j, j] + covariance[i, j] ** 2) / m
                common += float(covariance[i, j] ** 2)
    rho = min(1.0, chance / common)
    result = {}
    for name, (a, b) in pairs.items():
        whole, of_means = a.T @ b / m, torch.outer(a.mean(0), b.mean(0))
        part = of_means + (1 - rho) * (whole - of_means)
        result[name] = part + torch.diag(whole.diagonal() - part.diagonal())
    return result


@pytest.mark.parametrize("m", [3, 12, 400])
def test_shrunk_moments_are_those_of_the_formula(m):
    x, x_q = drawn(2, m, 6)
    got = shrunk(layer_stats(x, x_q))
    for g in range(2):
        for name, wanted in by_loops(x[g], x_q[g]).items():
            torch.testing.assert_close(getattr(got, name)[g], wanted, msg=f"{name}, group {g}")


def test_the_error_is_less_and_the_less_the_more_rows():
    truth = layer_stats(*drawn(1, 100_000, 24, seed=1))

    def error(stats: LayerStats) -> float:
        return float((stats.H - truth.H).square().sum())

    shares = []
    for m in (6, 24, 400):
        seen = [layer_stats(*drawn(1, m, 24, seed)) for seed in range(2, 42)]
        before, after = (sum(map(error, each)) for each in (seen, map(shrunk, seen)))
        shares.append(after / before)
        assert after < before
    assert shares == sorted(shares)


def test_columns_without_input_stay_so_and_equal_networks_stay_equal():
    x, _ = drawn(1, 10, 6)
    x[..., 2] = 0
    got = shrunk(layer_stats(x, x))
    assert got.dead.tolist() == [[column == 2 for column in range(6)]]
    assert not bool(got.H[:, 2].any() | got.H[:, :, 2].any())
    torch.testing.assert_close(got.G, got.H)
    torch.testing.assert_close(got.F, got.H)


def test_constant_and_single_rows_are_left_as_they_are():
    for x in (drawn(1, 1, 4)[0], torch.ones(1, 5, 4), torch.ones(1, 5, 1)):
        stats = layer_stats(x, x)
        for name in NAMES:
            torch.testing.assert_close(getattr(shrunk(stats), name), getattr(stats, name))


@pytest.mark.parametrize(
    ("geometry", "shape", "expected"),
    [
        (Linear((3, 8)), (5, 8), 5),
        (Linear((3, 8)), (5, 7, 8), 35),
        (THREE, (5, 8, 12, 12), 5 * 16),
        (ONE, (5, 8, 12, 12), 5 * 144),
        (THREE, (5, 8, 2, 2), 5),
    ],
    ids=["vectors", "tokens", "overlapping", "apart", "smaller than the kernel"],
)
def test_overlapping_patches_count_once(geometry, shape, expected):
    collector = MomentCollector(geometry)
    for part in torch.ones(shape).split(3):
        collector.add(part, part)
    assert collector.finish().independent == expected
