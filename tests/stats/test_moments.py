"""Second moments of layers against float64 over all patches at once."""

from functools import partial

import pytest
import torch
from torch import Tensor

from subbyte.core import Convolution, Geometry, Linear
from subbyte.errors import ContractError
from subbyte.stats import LayerStats, MomentCollector, PowerCollector, Products, moments
from tests.reference.geometries import FEW, GEOMETRIES
from tests.reference.operations import operate, patch_matrix, rows_of

every_kind = pytest.mark.parametrize(("geometry", "shape"), GEOMETRIES.values(), ids=GEOMETRIES)
few_kinds = pytest.mark.parametrize(("geometry", "shape"), FEW.values(), ids=FEW)
NAMES = ("H", "G", "F", "mean", "mean_q")


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Inputs in the float and in the quantized network, correlated and off centre."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) + 0.3
    return x, x + 0.5 * torch.randn(shape, generator=generator)


def collected(
    geometry: Geometry, *chunks: tuple[Tensor, Tensor], rows: int | None = None
) -> LayerStats:
    collector = MomentCollector(geometry, rows)
    for x, x_q in chunks:
        collector.add(x, x_q)
    return collector.finish()


def reference(geometry: Geometry, x: Tensor, x_q: Tensor) -> LayerStats:
    seen, seen_q = patch_matrix(x, geometry), patch_matrix(x_q, geometry)
    m = seen.shape[1]
    H, G, F = seen_q.mT @ seen_q, seen_q.mT @ seen, seen.mT @ seen
    return LayerStats(Products(H / m, G / m, F / m), seen.mean(1), seen_q.mean(1), m, m)


def assert_same(stats: LayerStats, expected: LayerStats) -> None:
    assert stats.rows == expected.rows
    for name in NAMES:
        got, wanted = getattr(stats, name), getattr(expected, name)
        assert got.dtype == torch.float64 and got.shape == wanted.shape, name
        named = partial("{}: {}".format, name)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=2e-6, msg=named)


@every_kind
def test_moments_are_those_of_all_patches(geometry, shape):
    x, x_q = inputs(shape)
    assert_same(collected(geometry, (x, x_q)), reference(geometry, x, x_q))


@few_kinds
def test_powers_alone_are_the_diagonals_of_the_moments(geometry, shape):
    (x, x_q), collector = inputs(shape), PowerCollector(geometry)
    for part, part_q in ((x[:2], x_q[:2]), (x[2:], x_q[2:])):
        collector.add(part, part_q)
    powers, wanted = collector.finish(), reference(geometry, x, x_q)
    assert powers.rows == wanted.rows
    for got, of in ((powers, wanted), (powers.of_float(), wanted.of_float())):
        for name in ("power", "mean", "mean_q"):
            torch.testing.assert_close(getattr(got, name), getattr(of, name), rtol=1e-5, atol=2e-6)
    with pytest.raises(ContractError, match="none of the layer's methods says that it reads them"):
        powers.H.sum()


@few_kinds
def test_one_input_for_both_networks_gives_one_moment(geometry, shape):
    x, _ = inputs(shape)
    stats = collected(geometry, (x, x))
    assert_same(stats, reference(geometry, x, x))
    assert torch.equal(stats.H, stats.G) and torch.equal(stats.H, stats.F)
    assert torch.equal(stats.mean, stats.mean_q)
    assert_same(collected(geometry, (x, x.clone())), stats)  # equal ones need not be one object


@few_kinds
def test_chunks_make_no_difference(geometry, shape, monkeypatch):
    x, x_q = inputs((5, *shape[1:]))
    whole = collected(geometry, (x, x_q))
    assert_same(collected(geometry, *zip(x.split(2), x_q.split(2), strict=True)), whole)
    assert_same(collected(geometry, *zip(x.split(1), x_q.split(1), strict=True)), whole)
    monkeypatch.setattr(moments, "_MAX_ELEMENTS", 1)
    assert_same(collected(geometry, (x, x_q)), whole)
    assert_same(collected(geometry, (x, x)), reference(geometry, x, x))


@pytest.mark.parametrize("agree", ["first", "last"])
def test_chunks_may_agree_in_one_place_and_differ_in_another(agree):
    geometry, shape = GEOMETRIES["conv2d"]
    (x, x_q), (y, _) = inputs(shape), inputs(shape)
    y = y.flip(0)
    chunks = [(y, y), (x, x_q)] if agree == "first" else [(x, x_q), (y, y)]
    floats, quantized = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    assert_same(collected(geometry, *chunks), reference(geometry, floats, quantized))


def test_a_large_batch_is_cut_to_the_size_that_fits(monkeypatch):
    geometry, shape = GEOMETRIES["conv2d"]
    sizes = []
    whole = moments.patches
    monkeypatch.setattr(moments, "_MAX_ELEMENTS", 5000)

    def measured(*given):
        sizes.append(whole(*given).numel())
        return whole(*given)

    monkeypatch.setattr(moments, "patches", measured)
    x, x_q = inputs((11, *shape[1:]))
    collected(geometry, (x, x_q))
    assert len(sizes) > 2 and max(sizes) <= 5000


@few_kinds
def test_output_error_is_the_one_measured_on_outputs(geometry, shape):
    x, x_q = inputs(shape)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(geometry.weight_shape, generator=generator)
    rounded = weight + 0.3 * torch.randn(geometry.weight_shape, generator=generator)
    output = operate(x.double(), weight.double(), geometry)
    output_q = operate(x_q.double(), rounded.double(), geometry)
    measured = rows_of(output - output_q, geometry).square().mean(0)
    got = collected(geometry, (x, x_q)).output_error(
        geometry.to_matrix(weight), geometry.to_matrix(rounded)
    )
    assert got.shape == (geometry.rows,) and got.dtype == torch.float64
    torch.testing.assert_close(got, measured, rtol=1e-4, atol=1e-6)


def test_no_difference_is_no_error_and_never_a_negative_one():
    geometry, shape = GEOMETRIES["conv2d-groups"]
    x, _ = inputs(shape)
    stats = collected(geometry, (x, x))
    weight = torch.randn(geometry.weight_shape, generator=torch.Generator().manual_seed(1))
    matrix = geometry.to_matrix(weight)
    error = stats.output_error(matrix, matrix)
    assert bool((error >= 0).all()) and float(error.max()) < 1e-9


def test_grouped_is_a_view_by_groups():
    geometry, shape = GEOMETRIES["conv2d-groups"]
    x, x_q = inputs(shape)
    matrix = torch.arange(72.0).reshape(6, 12)
    grouped = collected(geometry, (x, x_q)).grouped(matrix)
    assert grouped.dtype == torch.float64
    assert torch.equal(grouped.float(), matrix.reshape(3, 2, 12))


def test_dead_columns_are_those_without_quantized_input():
    geometry = Convolution((4, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), groups=2)
    x, x_q = inputs((3, 4, 4, 4))
    x_q[:, 1] = 0  # second channel of the first group
    x[:, 2] = 0  # first channel of the second group, in the float network only
    dead = collected(geometry, (x, x_q)).dead
    assert dead.shape == (2, 18)
    assert dead[0].tolist() == [False] * 9 + [True] * 9 and not bool(dead[1].any())


def test_kernel_positions_over_padding_only_are_dead():
    geometry = Convolution((1, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    x = torch.ones(2, 1, 2, 2)
    dead = collected(geometry, (x, x)).dead.reshape(3, 3)
    assert dead.tolist() == [[True, True, True], [True, False, False], [True, False, False]]


@every_kind
def test_a_part_of_the_rows_is_the_same_part_in_both_networks(geometry, shape):
    x, _ = inputs((4, *shape[1:]))
    available = patch_matrix(x, geometry).shape[1] // 4
    taken = max(1, available // 2)
    # other rows in one of them would break proportions
    stats = collected(geometry, (x, 2 * x), rows=taken)
    assert stats.rows == 4 * taken
    for name, factor in (("H", 4), ("G", 2)):
        torch.testing.assert_close(getattr(stats, name), factor * stats.F, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stats.mean_q, 2 * stats.mean, rtol=1e-5, atol=1e-6)
    assert_same(collected(geometry, (x, 2 * x), rows=taken), stats)


@every_kind
def test_all_rows_are_taken_when_more_are_asked_for(geometry, shape):
    x, x_q = inputs(shape)
    assert_same(collected(geometry, (x, x_q), rows=10**6), reference(geometry, x, x_q))


def test_rows_are_drawn_without_replacement_from_every_image():
    geometry = Convolution((1, 1, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    x = 2.0 ** torch.arange(20.0).reshape(1, 1, 4, 5)  # a sum tells which positions are in it
    sums = [round(collected(geometry, (x, x), rows=n).mean.item() * n) for n in (1, 7, 19)]
    assert [bin(total).count("1") for total in sums] == [1, 7, 19], "a position was drawn twice"
    ones = torch.ones(6, 1, 5, 5)
    assert collected(geometry, (ones, ones), rows=7).rows == 42


def test_a_part_of_the_rows_stands_for_all():
    geometry, shape = GEOMETRIES["conv2d"]
    x, x_q = inputs((400, *shape[1:]))
    whole, part = collected(geometry, (x, x_q)), collected(geometry, (x, x_q), rows=15)
    assert part.rows == whole.rows // 2
    for name in NAMES:
        torch.testing.assert_close(getattr(part, name), getattr(whole, name), rtol=0, atol=0.12)


def test_the_drawn_rows_do_not_depend_on_the_chunks(monkeypatch):
    geometry, shape = GEOMETRIES["conv2d"]
    x, x_q = inputs((10, *shape[1:]))
    whole = collected(geometry, (x, x_q), rows=5)
    assert_same(collected(geometry, *zip(x.split(3), x_q.split(3), strict=True), rows=5), whole)
    monkeypatch.setattr(moments, "_MAX_ELEMENTS", 1)
    assert_same(collected(geometry, (x, x_q), rows=5), whole)


def test_inputs_stay_as_they_are():
    geometry, shape = GEOMETRIES["transposed2d"]
    x, x_q = inputs(shape)
    before = x.clone(), x_q.clone()
    collected(geometry, (x, x_q))
    assert torch.equal(x, before[0]) and torch.equal(x_q, before[1])


def test_a_collector_may_go_on_after_finish():
    geometry, shape = GEOMETRIES["conv2d"]
    x, x_q = inputs(shape)
    collector = MomentCollector(geometry)
    collector.add(x[:1], x_q[:1])
    first = collector.finish()
    kept = first.H.clone()
    collector.add(x[1:], x_q[1:])
    assert_same(collector.finish(), reference(geometry, x, x_q))
    assert torch.equal(first.H, kept)


@pytest.mark.parametrize("columns", [200, 192, 1000])
def test_symmetric_moments_are_symmetric_and_those_of_plain_products(columns):
    x = torch.randn(50, columns)
    x_q = x + 0.1 * torch.randn(50, columns)
    stats = collected(Linear((1, columns)), (x, x_q))
    for matrix, rows in ((stats.H, x_q), (stats.F, x)):
        assert torch.equal(matrix, matrix.mT)
        wanted = (rows.double().T @ rows.double())[None] / 50
        torch.testing.assert_close(matrix, wanted, rtol=1e-5, atol=1e-6)
