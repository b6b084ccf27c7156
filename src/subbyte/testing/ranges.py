"""The contract of `methods.Range`, as checks."""

from dataclasses import replace

import torch
from torch import Tensor

from subbyte.core import (
    TERNARY,
    Grid,
    GridSpec,
    Levels,
    PerChannel,
    PerGroup,
    PerTensor,
    Uniform,
    share_of,
)
from subbyte.errors import NumericsError, RecipeError
from subbyte.methods import Range
from subbyte.ranges import MinMax, fit_grid
from subbyte.stats import histogram
from subbyte.testing.checks import Suite, of, raises, require

SUITE: Suite[Range] = Suite()
SPECS = {
    "int2": GridSpec(Uniform(2), PerChannel()),
    "int4": GridSpec(Uniform(4), PerChannel()),
    "int4 narrow": GridSpec(Uniform(4, narrow=True), PerChannel()),
    "ternary": GridSpec(TERNARY, PerChannel()),
    "int8": GridSpec(Uniform(8), PerChannel()),
    "asymmetric int2": GridSpec(Uniform(2, symmetric=False), PerChannel()),
    "asymmetric int3": GridSpec(Uniform(3, symmetric=False), PerChannel()),
    "uint8": GridSpec(Uniform(8, signed=False, symmetric=False), PerChannel()),
    "uint4": GridSpec(Uniform(4, signed=False, symmetric=False), PerChannel()),
    "levels": GridSpec(Levels((-4, -2, -1, 0, 1, 2, 4)), PerChannel()),
    "lopsided levels": GridSpec(Levels((-1, 0, 1, 3)), PerChannel()),
}
VALUES = {"0.7": 0.7, "-0.7": -0.7, "1e-20": 1e-20, "-3e20": -3e20, "123456": 123456.0}


def values(rows: int = 5, columns: int = 30, seed: int = 0) -> Tensor:
    """Normal values [rows, columns]."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def working(method: Range) -> list[str]:
    """Grids that it does not refuse."""
    return [name for name, spec in SPECS.items() if method.refusal(spec) is None]


def following(method: Range) -> list[str]:
    """Grids of a method that goes by the values."""
    return [] if method.fixed else working(method)


def steady(method: Range) -> list[str]:
    """Grids of a method that does not."""
    return working(method) if method.fixed else []


def refused(method: Range) -> list[str]:
    """Grids that it refuses."""
    return [name for name, spec in SPECS.items() if method.refusal(spec) is not None]


def weighing(method: Range) -> list[str]:
    """Grids of a method that may be used for activations, or goes by the importance of weights."""
    return [] if method.weights_only else following(method)


def suited(method: Range, x: Tensor, spec: GridSpec) -> Tensor:
    """The values; for a range that takes only those on a grid, rounded to the one that covers
    them.
    """
    return fit_grid(MinMax(), x, spec).quantize(x) if method.weights_on_grid else x


def error(grid: Grid, x: Tensor) -> Tensor:
    """Mean square error of each row."""
    return (grid.quantize(x) - x).double().square().mean(1)


def same(got: Grid, wanted: Grid, what: str) -> None:
    """Both have one scale and zero point."""
    torch.testing.assert_close(got.scale, wanted.scale, rtol=1e-6, atol=0)
    require(torch.equal(got.zero_point, wanted.zero_point), f"{what} gives other zero points")


@SUITE.over(refused)
def grids_that_it_refuses_are_refused_when_choosing(method: Range, spec: str) -> None:
    """See `methods.Refusal`."""
    raises(RecipeError, lambda: fit_grid(method, values(), SPECS[spec]), "it has refused it")


@SUITE.over(working, of("tensor", "channel", "group"))
def scales_have_the_shape_of_the_spec(method: Range, spec: str, granularity: str) -> None:
    """30 columns are 4 groups of 7, and 2."""
    size = {"group": 7}.get(granularity)
    wanted = replace(SPECS[spec], share=share_of(granularity, size))
    grid = fit_grid(method, suited(method, values(), wanted), wanted)
    require(grid.spec == wanted, f"the grid is {grid.spec}")
    require(grid.scale.shape == fit_grid(MinMax(), values(), wanted).scale.shape, "other shape")
    types = (grid.scale.dtype, grid.zero_point.dtype)
    require(types == (torch.float32, torch.int32), f"types are {types}")
    require((grid.scale > 0).all(), "a scale is not positive")


@SUITE.over(weighing)
def blocks_do_not_know_of_one_another(method: Range, spec: str) -> None:
    """Rows on their own, and groups as rows of their own: the ragged one without its padding."""
    x, wanted = values(3, 20), SPECS[spec]
    x[1] = x[1].abs()
    grid = fit_grid(method, x, wanted)
    grouped = fit_grid(method, x, replace(wanted, share=PerGroup(8)))
    for row in range(len(x)):
        alone = fit_grid(method, x[row : row + 1], wanted)
        torch.testing.assert_close(grid.scale[row], alone.scale[0])
        for k, part in enumerate(x[row].split(8)):
            alone = fit_grid(method, part[None], wanted)
            torch.testing.assert_close(grouped.scale[row, k], alone.scale[0, 0])
            same_zero = torch.equal(grouped.zero_point[row, k], alone.zero_point[0, 0])
            require(same_zero, "a group alone has another zero point")
    whole = fit_grid(method, x, replace(wanted, share=PerTensor()))
    alone = fit_grid(method, x.reshape(1, -1), wanted)
    torch.testing.assert_close(whole.scale, alone.scale[0, 0])


@SUITE.over(working)
def zeros_are_zeros_on_a_positive_scale(method: Range, spec: str) -> None:
    """A row of zeros among others."""
    x = suited(method, values(), SPECS[spec])
    x[2] = 0
    grid = fit_grid(method, x, SPECS[spec])
    require((grid.scale > 0).all(), "a scale is not positive")
    require(not grid.quantize(torch.zeros_like(x)).any(), "0 is not on the grid")


@SUITE.over(following, of(*VALUES), of("1", "9"))
def constant_blocks_are_met(method: Range, spec: str, value: str, columns: str) -> None:
    """A block of one value, alone or repeated."""
    wanted = VALUES[value]
    grid = fit_grid(method, torch.full((1, int(columns)), wanted), SPECS[spec])
    got = float(grid.quantize(torch.tensor([[wanted]])))
    require(float(grid.scale) > 0, "the scale is not positive")
    require(abs(got - wanted) <= 1e-3 * abs(wanted), f"{wanted} becomes {got}")


@SUITE.over(following, of("1", "-1"))
def one_sided_blocks_spend_no_codes_on_the_other_side(method: Range, spec: str, sign: str) -> None:
    """With a zero point the whole range lies on the values' side."""
    wanted = SPECS[spec]
    x = suited(method, int(sign) * values(4, 200).abs(), wanted)
    grid = fit_grid(method, x, wanted)
    require((error(grid, x) <= x.double().square().mean(1)).all(), "worse than nothing but 0")
    if wanted.alphabet.has_zero_point:
        ends = grid.reach
        low, high = ends if int(sign) > 0 else (-ends[1], -ends[0])
        require((low >= 0).all() and (low <= 0).all() and (high > 0).all(), "codes are wasted")


@SUITE.over(following, of("-40", "-20", "20", "40"))
def the_unit_of_the_values_does_not_matter(method: Range, spec: str, exponent: str) -> None:
    """Values times a power of 2 have scales times it."""
    x, factor = suited(method, values(), SPECS[spec]), 2.0 ** int(exponent)
    grid, scaled = fit_grid(method, x, SPECS[spec]), fit_grid(method, x * factor, SPECS[spec])
    same(scaled, grid.with_scale(grid.scale * factor), "another unit")


@SUITE.over(weighing, of("1e-45", "1e-38", "1e-30", "1e30", "1e38"))
def the_ends_of_float32(method: Range, spec: str, magnitude: str) -> None:
    """Squares of such values do not fit float32; the grid must, and be no worse than one that
    covers them.
    """
    x = values().clamp(-1, 1) * float(magnitude)
    grids = fit_grid(method, x, SPECS[spec]), fit_grid(MinMax(), x, SPECS[spec])
    scale = grids[0].scale
    require(torch.isfinite(scale).all() and (scale > 0).all(), "a scale is no positive number")
    got, bound = (
        ((grid.quantize(x) - x).double() / float(magnitude)).square().mean(1) for grid in grids
    )
    require((got <= bound * (1 + 1e-3)).all(), "worse than a grid that covers all")


@SUITE.over(following)
def negated_values_get_the_mirrored_grid(method: Range, spec: str) -> None:
    """Grids that are their own mirror image; asymmetric ones mirror their zero point."""
    wanted = SPECS[spec]
    free, levels = wanted.alphabet.has_zero_point, wanted.alphabet.positions
    if not free and levels[0] != -levels[-1]:
        return
    x = suited(method, values(6, 501), wanted)
    grid, mirrored = fit_grid(method, x, wanted), fit_grid(method, -x, wanted)
    torch.testing.assert_close(mirrored.scale, grid.scale, rtol=1e-6, atol=0)
    if free:
        expected = wanted.alphabet.qmin + wanted.alphabet.qmax - grid.zero_point
        require((mirrored.zero_point - expected).abs().max() <= 1, "the zero point is not mirrored")


@SUITE.over(working)
def the_order_of_the_values_does_not_matter_and_they_are_not_changed(
    method: Range, spec: str
) -> None:
    """The same holds when every value has an importance."""
    x = suited(method, values(), SPECS[spec])
    before = x.clone()
    importance = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) + 0.1
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    grid = fit_grid(method, x, SPECS[spec], importance)
    permuted = fit_grid(method, x[:, order], SPECS[spec], importance[:, order])
    torch.testing.assert_close(permuted.scale, grid.scale, rtol=1e-6, atol=0)
    require(torch.equal(x, before), "the values are changed")


@SUITE.over(weighing)
def equal_importance_is_no_importance(method: Range, spec: str) -> None:
    """Whatever its size."""
    x = values()
    plain = fit_grid(method, x, SPECS[spec])
    for importance in (torch.ones_like(x), torch.full_like(x, 0.25), torch.full((1, 1), 2.0)):
        same(fit_grid(method, x, SPECS[spec], importance), plain, "equal importance")


@SUITE.over(weighing, of("30", "-1000"))
def values_of_no_importance_do_not_matter(method: Range, spec: str, outlier: str) -> None:
    """Such as the weights of dead input columns: the grid is the one without them."""
    x = values(4, 40)
    importance = torch.ones_like(x)
    importance[:, [3, 17]] = 0
    without = x[:, importance[0] > 0]
    x[:, 3] = float(outlier)
    grid = fit_grid(method, x, SPECS[spec], importance)
    same(grid, fit_grid(method, without, SPECS[spec]), "a value of no importance")


@SUITE.over(weighing)
def a_block_of_no_importance_at_all_still_fits_its_values(method: Range, spec: str) -> None:
    """A channel that saw no input: its weights may matter on other images."""
    x = 0.1 * values(4, 40)
    importance = torch.ones_like(x)
    importance[1] = 0
    grid, plain = fit_grid(method, x, SPECS[spec], importance), fit_grid(method, x, SPECS[spec])
    require(error(grid, x)[1] <= 2 * error(plain, x)[1], "its values are thrown away")


@SUITE.over(weighing)
def histograms_stand_for_their_values(method: Range, spec: str) -> None:
    """Values [1, n] with counts: as if each came that often."""
    wanted = replace(SPECS[spec], share=PerTensor())
    x = torch.tensor([[-1.5, -0.25, 0.0, 0.5, 0.75, 3.0]])
    counts = torch.tensor([[3.0, 40.0, 100.0, 70.0, 20.0, 1.0]])
    each = x.repeat_interleave(counts[0].long(), 1)
    same(fit_grid(method, x, wanted, counts), fit_grid(method, each, wanted), "a histogram")


@SUITE.over(lambda method: [k for k in weighing(method) if k in ("uint8", "uint4", "int8")])
def the_histogram_of_an_activation_is_as_good_as_its_values(method: Range, spec: str) -> None:
    """Through `stats.histogram`, as in the walk."""
    wanted = replace(SPECS[spec], share=PerTensor())
    x = torch.randn(64, 500, generator=torch.Generator().manual_seed(3)).relu() * 2
    seen = histogram(list(x.split(10)))
    got = fit_grid(method, seen.values, wanted, seen.counts)
    best = fit_grid(method, x.reshape(1, -1), wanted)
    torch.testing.assert_close(got.scale, best.scale, rtol=0.02, atol=0)
    errors = [float(error(grid, x).mean()) for grid in (got, best)]
    require(abs(errors[0] - errors[1]) <= 0.02 * errors[1], f"errors are {errors}")


@SUITE.over(of("int4"), of("nan", "inf", "-inf"))
def values_that_are_no_numbers_are_an_error(method: Range, spec: str, bad: str) -> None:
    """One among many."""
    x = values()
    x[3, 4] = float(bad)
    raises(NumericsError, lambda: fit_grid(method, x, SPECS[spec]), bad)


@SUITE.over(steady)
def a_fixed_range_is_that_of_any_other_values(method: Range, spec: str) -> None:
    """It declares that it does not go by them."""
    x = values()
    for other in (-3 * x, torch.zeros_like(x)):
        same(fit_grid(method, other, SPECS[spec]), fit_grid(method, x, SPECS[spec]), "values")
