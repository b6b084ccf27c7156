"""The contract of `methods.Rounding`, as checks."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from subbyte.core import Codebook, Grid, GridSpec, PerChannel, QTensor, Uniform
from subbyte.errors import NumericsError, RecipeError
from subbyte.methods import Objective, Rounding, calls
from subbyte.stats import shrunk
from subbyte.testing.cases import (
    INPUTS,
    QUICK,
    SPECS,
    Fixed,
    Inputs,
    draw,
    fitter,
    output_error,
    powers_only,
    same_statistics,
)
from subbyte.testing.checks import Suite, of, raises, require

SUITE: Suite[Rounding] = Suite(QUICK)


def working(method: Rounding) -> list[str]:
    """Grids that it does not refuse."""
    return [name for name, spec in SPECS.items() if method.refusal(spec) is None]


def refused(method: Rounding) -> list[str]:
    """Grids that it refuses."""
    return [name for name, spec in SPECS.items() if method.refusal(spec) is not None]


def by_row(method: Rounding) -> list[str]:
    """Grids that it does not refuse, with scales that rows do not share."""
    return [name for name in working(method) if not SPECS[name].share.one_scale]


def fine(method: Rounding) -> list[str]:
    """Inputs that a fine grid hardly changes."""
    return ["dense", "dense, x_q", "grouped, x_q"]


_ROOTS = {"4": 2.0, "2**-40": 2.0**-20}
"""Factors on the second moments of inputs, and on the inputs themselves."""
every_input = of(*INPUTS)
mismatched = of(*(name for name, given in INPUTS.items() if given.mismatched))
alike = of(*(name for name, given in INPUTS.items() if not given.mismatched))


@cache
def rounded(method: Rounding, spec: str, case: str) -> QTensor:
    """Codes of a case."""
    given = INPUTS[case]
    return calls.round_weight(method, given.weight, fitter(SPECS[spec]), given.stats)


def _power(given: Inputs, q: Tensor) -> Tensor:
    """Columns without input count as little as the weakest."""
    power = given.stats.power
    floor = power[power > 0].min() if bool((power > 0).any()) else torch.tensor(1.0)
    error = given.stats.grouped(given.weight - q).square() * power.clamp_min(floor)[:, None]
    return error.sum(-1).reshape(-1)


MEASURES: dict[Objective, Callable[[Inputs, Tensor], Tensor]] = {
    Objective.WEIGHTS: lambda given, q: (given.weight - q).double().square().sum(1),
    Objective.POWER: _power,
    Objective.INPUTS: lambda given, q: output_error(given.weight, q, given.x_q, given.x_q),
    Objective.OUTPUTS: lambda given, q: output_error(given.weight, q, given.x, given.x_q),
    Objective.EXPECTED: lambda given, q: shrunk(given.stats).output_error(given.weight, q),
}
"""Each objective, of rounded weights [rows, columns]: float64 [rows]."""
UNREAD = {
    Objective.WEIGHTS: {"x", "x_q", "both"},
    Objective.POWER: {"x"},
    Objective.INPUTS: {"x"},
    Objective.OUTPUTS: set(),
    Objective.EXPECTED: set(),
}
"""Inputs that methods of an objective do not read."""


@SUITE.over(refused)
def grids_that_it_refuses_are_refused_when_rounding(method: Rounding, spec: str) -> None:
    """See `methods.Refusal`."""
    given = INPUTS["dense"]
    raises(
        RecipeError,
        lambda: calls.round_weight(method, given.weight, fitter(SPECS[spec]), given.stats),
        "it begins with self.check(fit.spec)",
    )


@SUITE.over(working, every_input)
def codes_are_a_matrix_on_a_grid_of_the_spec(method: Rounding, spec: str, case: str) -> None:
    """Shapes and types are those of the grid that was asked for."""
    q, weight, wanted = rounded(method, spec, case), INPUTS[case].weight, SPECS[spec]
    if method.fits_levels:
        wanted = GridSpec(Codebook(wanted.alphabet.count), wanted.share)
    scale = fitter(SPECS[spec])(weight).scale
    require(q.grid.spec == wanted, f"the grid is {q.grid.spec}, not {wanted}")
    require(q.codes.shape == weight.shape, f"codes are {tuple(q.codes.shape)}")
    require(q.codes.dtype == wanted.alphabet.code_dtype, f"codes are {q.codes.dtype}")
    require(q.grid.scale.shape == scale.shape, f"scales are {tuple(q.grid.scale.shape)}")
    require(q.grid.scale.dtype == torch.float32, f"scales are {q.grid.scale.dtype}")
    require(q.grid.zero_point.dtype == torch.int32, f"zero points are {q.grid.zero_point.dtype}")
    low, high = int(q.codes.min()), int(q.codes.max())
    require(
        wanted.alphabet.qmin <= low and high <= wanted.alphabet.qmax,
        f"codes reach from {low} to {high}",
    )
    require(torch.equal(q.grid.encode(q.dequantize()), q.codes), "codes are not their values'")


@SUITE.over(working, mismatched)
def the_same_call_gives_the_same_and_changes_no_argument(
    method: Rounding, spec: str, case: str
) -> None:
    """No state, no hidden randomness."""
    given, stats, weight = INPUTS[case], INPUTS[case].stats, INPUTS[case].weight.clone()
    before = INPUTS[case].stats
    again, first = (
        calls.round_weight(method, weight, fitter(SPECS[spec]), stats),
        rounded(method, spec, case),
    )
    require(torch.equal(again.codes, first.codes), "other codes the second time")
    require(torch.equal(again.grid.scale, first.grid.scale), "other scales the second time")
    require(torch.equal(weight, given.weight), "the weight is changed")
    require(same_statistics(stats, before), "the statistics are changed")


@SUITE.over(working, every_input)
def never_worse_than_nearest_in_its_own_objective(method: Rounding, spec: str, case: str) -> None:
    """Row by row, or as a whole where rows share a scale."""
    given, measure = INPUTS[case], MEASURES[method.objective]
    nearest = QTensor.nearest(given.weight, fitter(SPECS[spec])(given.weight))
    got, bound = (measure(given, q.dequantize()) for q in (rounded(method, spec, case), nearest))
    if SPECS[spec].share.one_scale:
        got, bound = got.sum(), bound.sum()
    power = measure(given, torch.zeros_like(given.weight)).max()
    worse = (got > bound * (1 + 1e-9) + 1e-12 * power).sum()
    require(worse == 0, f"{int(worse)} rows are worse than nearest in {method.objective.value}")


@SUITE.over(working, alike)
def weights_on_the_grid_come_back_exactly(method: Rounding, spec: str, case: str) -> None:
    """Where the inputs of both networks are the same."""
    given = INPUTS[case]
    grid, generator = fitter(SPECS[spec])(given.weight), torch.Generator().manual_seed(1)
    low, high = grid.spec.alphabet.qmin, grid.spec.alphabet.qmax
    codes = torch.randint(low, high + 1, given.weight.shape, generator=generator)
    codes = codes.to(grid.spec.alphabet.code_dtype)
    again = calls.round_weight(method, grid.decode(codes), Fixed(grid), given.stats)
    same = method.fits_levels or torch.equal(again.codes, codes)  # its codes count other levels
    require(same, "other codes")
    torch.testing.assert_close(again.dequantize(), grid.decode(codes), rtol=1e-6, atol=0)


@SUITE.over(by_row, mismatched)
def rows_do_not_know_of_one_another(method: Rounding, spec: str, case: str) -> None:
    """Rows in another order get the same codes."""
    given = INPUTS[case]
    each = given.weight.shape[0] // given.x.shape[0]
    order = torch.cat([g * each + torch.arange(each).roll(1) for g in range(given.x.shape[0])])
    permuted = calls.round_weight(method, given.weight[order], fitter(SPECS[spec]), given.stats)
    same = torch.equal(permuted.codes, rounded(method, spec, case).codes[order])
    require(same, "rows in another order get other codes")


@SUITE.over(working, of("grouped, x_q", "few rows", "dead, x_q"), of(*_ROOTS))
def the_unit_of_the_inputs_does_not_matter(
    method: Rounding, spec: str, case: str, factor: str
) -> None:
    """Inputs times a power of 2 give the same codes."""
    given, root = INPUTS[case], _ROOTS[factor]
    scaled = replace(given, x=given.x * root, x_q=given.x_q * root)
    q = calls.round_weight(method, given.weight, fitter(SPECS[spec]), scaled.stats)
    require(torch.equal(q.codes, rounded(method, spec, case).codes), "other codes")


@SUITE.over(working, of(*(name for name, given in INPUTS.items() if given.dead.any())))
def weights_that_see_no_input_keep_their_nearest_codes(
    method: Rounding, spec: str, case: str
) -> None:
    """They may matter on other images."""
    given, q = INPUTS[case], rounded(method, spec, case)
    wanted = q.grid.encode(given.weight)
    require(torch.equal(q.codes[given.dead], wanted[given.dead]), "codes are not the nearest")


@SUITE.over(working)
def zeros_stay_zeros(method: Rounding, spec: str) -> None:
    """A layer of zeros."""
    given = INPUTS["dense, x_q"]
    q = calls.round_weight(method, torch.zeros_like(given.weight), fitter(SPECS[spec]), given.stats)
    require(not q.dequantize().any(), "zeros become something else")


@SUITE.over(of("int4"), of("x", "x_q", "both"))
def nan_in_the_inputs_is_an_error_unless_they_are_not_read(
    method: Rounding, spec: str, bad: str
) -> None:
    """Which inputs are read follows from the objective."""
    given = draw(1, 40, 8, 4, mismatch=0.3)
    x, x_q = given.x.clone(), given.x_q.clone()
    for name, rows in (("x", x), ("x_q", x_q)):
        if bad in (name, "both"):
            rows[0, 3, 2] = float("nan")
    fit, spoilt = fitter(SPECS[spec]), replace(given, x=x, x_q=x_q)
    if bad in UNREAD[method.objective]:
        got, wanted = (
            calls.round_weight(method, given.weight, fit, g.stats).codes for g in (spoilt, given)
        )
        require(torch.equal(got, wanted), f"reads {bad} though its objective does not")
        return
    raises(
        NumericsError,
        lambda: calls.round_weight(method, given.weight, fit, spoilt.stats),
        "NaN in inputs",
    )


@SUITE.over(of("int4"))
def nan_in_the_weights_is_an_error(method: Rounding, spec: str) -> None:
    """The error is raised with a grid that is chosen, and with one that is given."""
    given = draw(1, 40, 8, 4)
    weight = given.weight.clone()
    weight[1, 2] = float("nan")
    grid = Grid.of(SPECS[spec], torch.full((4, 1), 0.1))
    for fit in (fitter(SPECS[spec]), Fixed(grid)):
        act = partial(calls.round_weight, method, weight, fit, given.stats)
        raises(NumericsError, act, "NaN in weights")


@SUITE.over(of("int8"), fine)
def fine_grids_lose_next_to_nothing(method: Rounding, spec: str, case: str) -> None:
    """With 8 bits the outputs are those of the float layer, as far as the inputs allow."""
    given = INPUTS[case]
    q = calls.round_weight(
        method, given.weight, fitter(GridSpec(Uniform(8), PerChannel())), given.stats
    )
    matched = method.objective in (Objective.WEIGHTS, Objective.INPUTS)
    seen = replace(given, x=given.x_q) if matched else given
    power = output_error(given.weight, torch.zeros_like(given.weight), given.x_q, given.x_q)
    limit = output_error(given.weight, given.weight, seen.x, seen.x_q)
    got = output_error(given.weight, q.dequantize(), seen.x, seen.x_q)
    require((got < limit + 1e-3 * power).all(), "the outputs differ")


@SUITE.over(of("int4", "ternary"))
def second_moments_of_pairs_are_read_only_where_declared(method: Rounding, spec: str) -> None:
    """Methods whose objective reads none get none, and give the same codes."""
    if method.refusal(SPECS[spec]) is not None or method.objective.reads_products:
        return
    given, fit = INPUTS["dense, x_q"], fitter(SPECS[spec])
    got = calls.round_weight(method, given.weight, fit, powers_only(given.stats))
    wanted = calls.round_weight(method, given.weight, fit, given.stats)
    require(torch.equal(got.codes, wanted.codes), "codes are others without pairs of inputs")
