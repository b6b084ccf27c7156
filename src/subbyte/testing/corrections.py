"""The contract of `methods.Correction`, as checks."""

from functools import cache

import torch
from torch import Tensor

from subbyte.core import QTensor
from subbyte.methods import Correction, calls
from subbyte.testing.cases import INPUTS, QUICK, SPECS, Inputs, fitter, powers_only, same_statistics
from subbyte.testing.checks import Suite, of, require

SUITE: Suite[Correction] = Suite(QUICK)
every_spec = of(*SPECS)


def by_row(method: Correction) -> list[str]:
    """Grids whose scales rows do not share."""
    return [name for name, spec in SPECS.items() if not spec.share.one_scale]


def bias_of(given: Inputs) -> Tensor:
    """A bias for a layer."""
    return torch.linspace(-1, 2, len(given.weight))


def nearest(given: Inputs, spec: str) -> QTensor:
    """The nearest codes."""
    return QTensor.nearest(given.weight, fitter(SPECS[spec])(given.weight))


@cache
def corrected(method: Correction, spec: str, case: str) -> tuple[QTensor, Tensor]:
    """Nearest codes, corrected, and the new bias."""
    given = INPUTS[case]
    return calls.correct(method, given.weight, bias_of(given), nearest(given, spec), given.stats)


@SUITE.over(every_spec, of(*INPUTS))
def codes_stay_and_scales_are_positive(method: Correction, spec: str, case: str) -> None:
    """Only scales and the bias change."""
    given = INPUTS[case]
    before, (q, bias) = nearest(given, spec), corrected(method, spec, case)
    scale = q.grid.scale
    require(torch.equal(q.codes, before.codes), "codes are changed")
    require(q.grid.spec == before.grid.spec, f"the grid is {q.grid.spec}")
    require(scale.shape == before.grid.scale.shape, f"scales are {tuple(scale.shape)}")
    require(scale.dtype == torch.float32, f"scales are {scale.dtype}")
    require((scale > 0).all() and torch.isfinite(scale).all(), "a scale is no positive number")
    require(torch.equal(q.grid.zero_point, before.grid.zero_point), "zero points are changed")
    kind = (tuple(bias.shape), bias.dtype)
    require(kind == ((len(given.weight),), torch.float32), f"the bias is {kind}")
    require(torch.isfinite(bias).all(), "the bias is not finite")


@SUITE.over(every_spec, of(*INPUTS))
def the_same_call_gives_the_same_and_changes_no_argument(
    method: Correction, spec: str, case: str
) -> None:
    """No state, no hidden randomness."""
    given, stats, before = INPUTS[case], INPUTS[case].stats, INPUTS[case].stats
    weight, bias, rounded = given.weight.clone(), bias_of(given), nearest(given, spec)
    codes, scale = rounded.codes.clone(), rounded.grid.scale.clone()
    q, new = calls.correct(method, weight, bias, rounded, stats)
    first, first_bias = corrected(method, spec, case)
    require(torch.equal(q.grid.scale, first.grid.scale), "other scales the second time")
    require(torch.equal(new, first_bias), "another bias the second time")
    pairs = [(weight, given.weight), (bias, bias_of(given)), (rounded.codes, codes)]
    pairs += [(rounded.grid.scale, scale)]
    require(all(torch.equal(a, b) for a, b in pairs), "an argument is changed")
    require(same_statistics(stats, before), "the statistics are changed")


@SUITE.over(every_spec, of(*(name for name, given in INPUTS.items() if not given.mismatched)))
def exact_weights_on_the_same_inputs_need_no_correction(
    method: Correction, spec: str, case: str
) -> None:
    """Weights that lie on the grid."""
    given = INPUTS[case]
    exact = nearest(given, spec)
    q, bias = calls.correct(method, exact.dequantize(), bias_of(given), exact, given.stats)
    torch.testing.assert_close(q.grid.scale, exact.grid.scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(bias, bias_of(given), rtol=1e-5, atol=1e-6)


@SUITE.over(by_row, of("dense, x_q", "grouped, x_q", "depthwise, x_q"))
def rows_do_not_know_of_one_another(method: Correction, spec: str, case: str) -> None:
    """Rows in another order are corrected alike."""
    given = INPUTS[case]
    each = given.weight.shape[0] // given.x.shape[0]
    order = torch.cat([g * each + torch.arange(each).roll(1) for g in range(given.x.shape[0])])
    other = Inputs(given.x, given.x_q, given.weight[order])
    q, bias = calls.correct(
        method, other.weight, bias_of(given)[order], nearest(other, spec), given.stats
    )
    wanted, wanted_bias = corrected(method, spec, case)
    torch.testing.assert_close(q.grid.scale, wanted.grid.scale[order])
    torch.testing.assert_close(bias, wanted_bias[order])


@SUITE.over(every_spec)
def channels_of_zeros_keep_their_scale(method: Correction, spec: str) -> None:
    """Weights and codes of 0, whose outputs do not vary."""
    given = INPUTS["dense, x_q"]
    weight = given.weight.clone()
    weight[0] = 0
    rounded = nearest(Inputs(given.x, given.x_q, weight), spec)
    q, bias = calls.correct(method, weight, torch.zeros(len(weight)), rounded, given.stats)
    if q.grid.scale.ndim:
        same = torch.equal(q.grid.scale[0], rounded.grid.scale[0])
        require(same, "the scale of a row of zeros changes")
    require(float(bias[0]) == 0, "the bias of a row of zeros changes")


@SUITE.over(every_spec)
def second_moments_of_pairs_are_read_only_where_declared(method: Correction, spec: str) -> None:
    """Corrections that say that they read none get none, and give the same."""
    if method.reads_products:
        return
    given = INPUTS["dense, x_q"]
    before, stats = nearest(given, spec), powers_only(given.stats)
    got, bias = calls.correct(method, given.weight, bias_of(given), before, stats)
    q, wanted = corrected(method, spec, "dense, x_q")
    require(torch.equal(got.grid.scale, q.grid.scale), "scales are others without pairs of inputs")
    require(torch.equal(bias, wanted), "the bias is another without pairs of inputs")
