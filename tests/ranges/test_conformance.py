"""What `methods.Range` promises, for every method in the registry: a new one is tested by being in
it.
"""

from dataclasses import replace

import pytest
import torch

from subbyte.core import Grid, GridSpec, PerGroup, PerTensor, share_of
from subbyte.errors import NumericsError
from subbyte.ranges import RANGES, MinMax, fit_grid
from subbyte.stats import histogram
from tests.ranges.cases import PAIRS, SPECS, suited, values
from tests.reference.grids import positions

methods = pytest.mark.parametrize(
    "method", [n for n, c in RANGES.items() if not getattr(c, "weights_only", False)]
)
every_pair = pytest.mark.parametrize(("method", "spec"), PAIRS)
specs = pytest.mark.parametrize("spec", SPECS)


def fit(
    method: str, x: torch.Tensor, spec: GridSpec, importance: torch.Tensor | None = None
) -> Grid:
    return fit_grid(RANGES[method](), x, spec, importance)


def error(grid: Grid, x: torch.Tensor) -> torch.Tensor:
    """Mean square error of each row."""
    return (grid.quantize(x) - x).double().square().mean(1)


@every_pair
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_scales_have_the_shape_of_the_spec(method, spec, granularity):
    share = share_of(granularity, 7 if granularity == "group" else None)
    wanted = replace(SPECS[spec], share=share)
    grid = fit(method, suited(method, values(), wanted), wanted)
    assert grid.spec == wanted
    # 30 columns are 4 groups of 7, and 2
    shapes = {"tensor": (), "channel": (5, 1), "group": (5, 5)}
    assert grid.scale.shape == shapes[granularity]
    assert (grid.scale.dtype, grid.zero_point.dtype) == (torch.float32, torch.int32)
    assert grid.zero_point.shape == grid.scale.shape
    assert bool((grid.scale > 0).all())


@methods
@specs
def test_blocks_do_not_know_of_one_another(method, spec):
    """Rows on their own, and groups as rows of their own: the ragged one without its padding."""
    x, wanted = values(3, 20), SPECS[spec]
    x[1] = x[1].abs()
    grid = fit(method, x, wanted)
    grouped = fit(method, x, replace(wanted, share=PerGroup(8)))
    whole = fit(method, x, replace(wanted, share=PerTensor()))
    for row in range(len(x)):
        alone = fit(method, x[row : row + 1], wanted)
        torch.testing.assert_close(grid.scale[row], alone.scale[0])
        assert torch.equal(grid.zero_point[row], alone.zero_point[0])
        for k, part in enumerate(x[row].split(8)):
            alone = fit(method, part[None], wanted)
            torch.testing.assert_close(grouped.scale[row, k], alone.scale[0, 0])
            assert torch.equal(grouped.zero_point[row, k], alone.zero_point[0, 0])
    alone = fit(method, x.reshape(1, -1), wanted)
    torch.testing.assert_close(whole.scale, alone.scale[0, 0])


@every_pair
def test_zeros_are_zeros_on_a_positive_scale(method, spec):
    x = suited(method, values(), SPECS[spec])
    x[2] = 0
    grid = fit(method, x, SPECS[spec])
    assert bool((grid.scale > 0).all())
    assert not grid.quantize(torch.zeros_like(x)).any()


@every_pair
@pytest.mark.parametrize("value", [0.7, -0.7, 1e-20, -3e20, 123456.0])
@pytest.mark.parametrize("columns", [1, 9])
def test_constant_blocks_are_met(method, spec, value, columns):
    """A block of one value, alone or repeated."""
    grid = fit(method, torch.full((1, columns), value), SPECS[spec])
    got = float(grid.quantize(torch.tensor([[value]])))
    assert float(grid.scale) > 0
    assert got == pytest.approx(value, rel=1e-3)


@every_pair
@pytest.mark.parametrize("sign", [1, -1])
def test_one_sided_blocks_spend_no_codes_on_the_other_side(method, spec, sign):
    """With a zero point the whole range lies on the values' side."""
    wanted = SPECS[spec]
    x = suited(method, sign * values(4, 200).abs(), wanted)
    grid = fit(method, x, wanted)
    assert bool((error(grid, x) <= x.double().square().mean(1)).all())
    if wanted.alphabet.has_zero_point:
        low, high = grid.reach
        other, side = (low, high) if sign > 0 else (-high, -low)
        assert bool((other >= 0).all() and (other <= 0).all() and (side > 0).all())


@every_pair
@pytest.mark.parametrize("exponent", [-40, -20, 20, 40])
def test_the_unit_of_the_values_does_not_matter(method, spec, exponent):
    x = suited(method, values(), SPECS[spec])
    grid, scaled = fit(method, x, SPECS[spec]), fit(method, x * 2.0**exponent, SPECS[spec])
    torch.testing.assert_close(scaled.scale, grid.scale * 2.0**exponent, rtol=1e-6, atol=0)
    assert torch.equal(scaled.zero_point, grid.zero_point)


@methods
@specs
@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1e-30, 1e30, 1e38])
def test_the_ends_of_float32(method, spec, magnitude):
    """Squares of such values do not fit float32; the grid must, and be no worse than one that
    covers them.
    """
    x = values().clamp(-1, 1) * magnitude
    grid, whole = fit(method, x, SPECS[spec]), fit_grid(MinMax(), x, SPECS[spec])
    assert bool(torch.isfinite(grid.scale).all() and (grid.scale > 0).all())
    got, bound = (
        ((g.quantize(x) - x).double() / magnitude).square().mean(1) for g in (grid, whole)
    )
    assert bool((got <= bound * (1 + 1e-3)).all())


@every_pair
def test_negated_values_get_the_mirrored_grid(method, spec):
    """Grids that are their own mirror image; asymmetric ones mirror their zero point."""
    wanted = SPECS[spec]
    codes, free = positions(wanted.alphabet)[0], wanted.alphabet.has_zero_point
    if not free and codes[0] != -codes[-1]:
        return  # one more code on the negative side
    x = suited(method, values(6, 501), wanted)
    grid, mirrored = fit(method, x, wanted), fit(method, -x, wanted)
    torch.testing.assert_close(mirrored.scale, grid.scale, rtol=1e-6, atol=0)
    if free:
        ends = wanted.alphabet.qmin + wanted.alphabet.qmax
        assert int((mirrored.zero_point - (ends - grid.zero_point)).abs().max()) <= 1


@every_pair
def test_the_order_of_the_values_does_not_matter_and_they_are_not_changed(method, spec):
    x = suited(method, values(), SPECS[spec])
    before = x.clone()
    importance = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) + 0.1
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    grid = fit(method, x, SPECS[spec], importance)
    permuted = fit(method, x[:, order], SPECS[spec], importance[:, order])
    torch.testing.assert_close(permuted.scale, grid.scale, rtol=1e-6, atol=0)
    assert torch.equal(x, before)


@methods
@specs
def test_equal_importance_is_no_importance(method, spec):
    x = values()
    plain = fit(method, x, SPECS[spec])
    for importance in (torch.ones_like(x), torch.full_like(x, 0.25), torch.full((1, 1), 2.0)):
        grid = fit(method, x, SPECS[spec], importance)
        torch.testing.assert_close(grid.scale, plain.scale, rtol=1e-6, atol=0)
        assert torch.equal(grid.zero_point, plain.zero_point)


@methods
@specs
@pytest.mark.parametrize("outlier", [30.0, -1000.0])
def test_values_of_no_importance_do_not_matter(method, spec, outlier):
    """Such as the weights of dead input columns: the grid is the one without them."""
    x = values(4, 40)
    importance = torch.ones_like(x)
    importance[:, [3, 17]] = 0
    without = x[:, importance[0] > 0]
    x[:, 3] = outlier
    grid, plain = fit(method, x, SPECS[spec], importance), fit(method, without, SPECS[spec])
    torch.testing.assert_close(grid.scale, plain.scale, rtol=1e-6, atol=0)
    assert torch.equal(grid.zero_point, plain.zero_point)


@methods
@specs
def test_a_block_of_no_importance_at_all_still_fits_its_values(method, spec):
    """A channel that saw no input: its weights may matter on other images, so they are not thrown
    away.
    """
    x = 0.1 * values(4, 40)
    importance = torch.ones_like(x)
    importance[1] = 0
    grid, plain = fit(method, x, SPECS[spec], importance), fit(method, x, SPECS[spec])
    assert float(error(grid, x)[1]) <= 2 * float(error(plain, x)[1])


@methods
@specs
def test_histograms_stand_for_their_values(method, spec):
    """Values [1, n] with counts: as if each came that often."""
    wanted = replace(SPECS[spec], share=PerTensor())
    x = torch.tensor([[-1.5, -0.25, 0.0, 0.5, 0.75, 3.0]])
    counts = torch.tensor([[3.0, 40.0, 100.0, 70.0, 20.0, 1.0]])
    each = x.repeat_interleave(counts[0].long(), 1)
    grid, wide = fit(method, x, wanted, counts), fit(method, each, wanted)
    torch.testing.assert_close(grid.scale, wide.scale, rtol=1e-6, atol=0)
    assert torch.equal(grid.zero_point, wide.zero_point)


@methods
@pytest.mark.parametrize("spec", ["uint8", "uint4", "int8"])
def test_the_histogram_of_a_tap_is_as_good_as_its_values(method, spec):
    """Through `stats.histogram`, as in the walk."""
    wanted = replace(SPECS[spec], share=PerTensor())
    x = torch.randn(64, 500, generator=torch.Generator().manual_seed(3)).relu() * 2
    seen = histogram(list(x.split(10)))
    got, best = fit(method, seen.values, wanted, seen.counts), fit(method, x.reshape(1, -1), wanted)
    torch.testing.assert_close(got.scale, best.scale, rtol=0.02, atol=0)
    assert float(error(got, x).mean()) == pytest.approx(float(error(best, x).mean()), rel=0.02)


@pytest.mark.parametrize("method", RANGES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_an_error(method, bad):
    x = values()
    x[3, 4] = bad
    with pytest.raises(NumericsError, match="1 values are NaN or Inf"):
        fit(method, x, SPECS["int4"])
