"""Gradients with respect to weights against autograd, one image at a time, for layers of every
kind.
"""

import pytest
import torch
from torch import Tensor

from subbyte.core import Geometry, Linear
from subbyte.errors import NumericsError
from subbyte.stats import GradientCollector, GradientStats, gradients, position_weights
from tests.reference.geometries import FEW, GEOMETRIES
from tests.reference.operations import operate, rows_of

every_kind = pytest.mark.parametrize(("geometry", "shape"), GEOMETRIES.values(), ids=GEOMETRIES)
few_kinds = pytest.mark.parametrize(("geometry", "shape"), FEW.values(), ids=FEW)
IMAGES = 5
Call = tuple[Tensor, Tensor]


def call(geometry: Geometry, shape: tuple[int, ...], seed: int) -> Call:
    """An input and a gradient of the output, for 5 images."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((IMAGES, *shape[1:]), generator=generator)
    output = operate(x, torch.zeros(geometry.weight_shape), geometry)
    return x, torch.randn(output.shape, generator=generator)


def of_image(geometry: Geometry, calls: list[Call], i: int) -> Tensor:
    """One image's gradient by autograd: float64 [rows, columns]."""
    weight = torch.zeros(geometry.weight_shape, dtype=torch.float64, requires_grad=True)
    loss = sum(
        (operate(x[i : i + 1].double(), weight, geometry) * g[i : i + 1]).sum() for x, g in calls
    )
    return geometry.to_matrix(torch.autograd.grad(loss, weight)[0])


def collected(
    geometry: Geometry, *batches: list[list[Call]], share: Tensor | None = None
) -> GradientStats:
    """Every batch is a list of targets, every target a list of calls."""
    collector = GradientCollector(geometry)
    for targets in batches:
        for calls in targets:
            collector.add(calls, share)
        collector.end_batch()
    return collector.finish()


def same(got: Tensor, wanted: Tensor) -> None:
    assert got.dtype == torch.float64 and got.shape == wanted.shape
    torch.testing.assert_close(got, wanted.double(), rtol=1e-4, atol=1e-5)


@every_kind
def test_gradients_are_autograds(geometry, shape):
    check_gradients(geometry, shape)


@few_kinds
def test_gradients_are_autograds_piece_by_piece(geometry, shape, monkeypatch):
    monkeypatch.setattr(gradients, "_MAX_ELEMENTS", 1)
    check_gradients(geometry, shape)


def check_gradients(geometry: Geometry, shape: tuple[int, ...]) -> None:
    calls = [call(geometry, shape, 0), call(geometry, shape, 1)]  # a weight used twice
    each = torch.stack([of_image(geometry, calls, i) for i in range(IMAGES)])
    first, second = ([(x[part], g[part]) for x, g in calls] for part in (slice(3), slice(3, None)))
    stats = collected(geometry, [first], [second])
    assert stats.images == IMAGES
    same(stats.gradient, each.mean(0))
    same(stats.absolute, (each[:3].sum(0).abs() + each[3:].sum(0).abs()) / IMAGES)
    same(stats.fisher, each.square().mean(0))
    same(stats.outputs, sum(rows_of(g, geometry).square().sum(0) for _, g in calls) / IMAGES)


def test_targets_count_by_their_share():
    geometry, shape = GEOMETRIES["conv2d-groups"]
    targets = [[call(geometry, shape, seed)] for seed in (0, 1)]
    share = torch.tensor([0.0, 0.5, 1.0, 0.2, 0.7])
    collector = GradientCollector(geometry)
    collector.add(targets[0], share)
    collector.add(targets[1], 1 - share)
    collector.end_batch()
    stats = collector.finish()
    each = [torch.stack([of_image(geometry, calls, i) for i in range(IMAGES)]) for calls in targets]
    shares = [share[:, None, None], 1 - share[:, None, None]]
    mean = sum(s * e for s, e in zip(shares, each, strict=True)).mean(0)
    same(stats.gradient, mean)
    same(stats.absolute, mean.abs())
    same(stats.fisher, sum(s * e.square() for s, e in zip(shares, each, strict=True)).mean(0))


def test_an_image_may_have_several_entries_in_the_first_axis():
    geometry = Linear((5, 7))
    x, g = call(geometry, (IMAGES, 4, 7), 0)
    folded = [(x.reshape(-1, 2, 7), g.reshape(-1, 2, 5))]
    whole, parts = (
        collected(geometry, [[(x, g)]]),
        collected(geometry, [folded], share=torch.ones(IMAGES)),
    )
    for name in ("gradient", "absolute", "fisher", "outputs"):
        same(getattr(parts, name), getattr(whole, name))
    assert parts.images == IMAGES


def test_gradients_that_are_no_numbers_are_refused():
    geometry, shape = GEOMETRIES["conv2d"]
    x, g = call(geometry, shape, 0)
    g[1, 0, 0, 0] = torch.nan
    with pytest.raises(NumericsError, match="NaN"):
        collected(geometry, [[(x, g)]])


@few_kinds
def test_weights_of_positions_are_mean_squares_over_runs_of_channels(geometry, shape):
    _, g = call(geometry, shape, 0)
    parts = geometry.groups
    got = position_weights(g, geometry, parts)
    rows = rows_of(g, geometry).square().reshape(IMAGES, -1, parts, geometry.rows // parts)
    torch.testing.assert_close(got, rows.mean(3).transpose(1, 2))
