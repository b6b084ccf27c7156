"""What each correction claims.

Means and variances are those of the outputs on the calibration rows, computed from the rows.
"""

import pytest
import torch

from subbyte.core import TERNARY, GridSpec, Linear, PerChannel, QTensor
from subbyte.correct import CORRECTIONS
from subbyte.stats import LayerStats, MomentCollector
from subbyte.testing.cases import INPUTS, SPECS, Inputs, draw, fitter, layer_stats, outputs
from subbyte.testing.corrections import bias_of, nearest
from subbyte.testing.corrections import corrected as corrected_by

methods = pytest.mark.parametrize("method", CORRECTIONS)
specs = pytest.mark.parametrize("spec", SPECS)
inputs = pytest.mark.parametrize("case", INPUTS)


def corrected(method: str, spec: str, case: str) -> tuple[QTensor, torch.Tensor]:
    return corrected_by(CORRECTIONS[method](), spec, case)


def float_outputs(given: Inputs) -> torch.Tensor:
    return outputs(given.weight, given.x) + bias_of(given)


def quantized_outputs(given: Inputs, q: QTensor, bias: torch.Tensor) -> torch.Tensor:
    return outputs(q.dequantize(), given.x_q) + bias


@specs
@inputs
def test_none_returns_what_it_got(spec, case):
    q, bias = corrected("none", spec, case)
    assert torch.equal(q.grid.scale, nearest(INPUTS[case], spec).grid.scale)
    assert torch.equal(bias, bias_of(INPUTS[case]))


@specs
@inputs
@pytest.mark.parametrize("method", ["bias", "moments"])
def test_the_means_of_the_outputs_are_the_float_layers(method, spec, case):
    given = INPUTS[case]
    wanted, got = float_outputs(given), quantized_outputs(given, *corrected(method, spec, case))
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-5, atol=1e-6)


@specs
@inputs
def test_bias_alone_leaves_the_scales(spec, case):
    assert torch.equal(
        corrected("bias", spec, case)[0].grid.scale, nearest(INPUTS[case], spec).grid.scale
    )


@specs
@inputs
def test_moments_match_variances_where_rows_have_scales_of_their_own(spec, case):
    given = INPUTS[case]
    before = nearest(given, spec)
    q, bias = corrected("moments", spec, case)
    if SPECS[spec].share.one_scale:
        assert torch.equal(q.grid.scale, before.grid.scale)
        return
    wanted, got = float_outputs(given), quantized_outputs(given, q, bias)
    varies = (outputs(before.dequantize(), given.x_q).std(0, correction=0) > 1e-6) & (
        wanted.std(0, correction=0) > 1e-6
    )
    torch.testing.assert_close(
        got.std(0, correction=0)[varies], wanted.std(0, correction=0)[varies], rtol=1e-5, atol=1e-7
    )
    assert torch.equal(q.grid.scale[~varies], before.grid.scale[~varies])
    factor = q.grid.scale / before.grid.scale
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))  # one factor a channel


@methods
@specs
def test_channels_that_do_not_vary_keep_their_scale(method, spec):
    """Weights of 0, and codes of 0 for weights that are not."""
    given = draw(1, 50, 10, 4, mismatch=0.2)
    weight = given.weight.clone()
    weight[0] = 0
    rounded = nearest(Inputs(given.x, given.x_q, weight), spec)
    zero = rounded.grid.encode(torch.zeros_like(weight))
    first_two = torch.tensor([True, True, False, False])[:, None]
    rounded = QTensor(torch.where(first_two, zero, rounded.codes), rounded.grid)
    q, bias = CORRECTIONS[method]().correct(weight, torch.zeros(4), rounded, given.stats)
    unchanged = slice(0, 2) if q.grid.scale.ndim else ...
    assert torch.equal(q.grid.scale[unchanged], rounded.grid.scale[unchanged])
    assert float(bias[0]) == 0
    if method in ("bias", "moments"):
        wanted = outputs(weight, given.x).mean(0)
        got = (outputs(q.dequantize(), given.x_q) + bias).mean(0)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def collected(x: torch.Tensor, rows: int) -> LayerStats:
    collector = MomentCollector(Linear((rows, x.shape[1])))
    collector.add(x, x)
    return collector.finish()


@pytest.mark.parametrize("method", ["none", "bias", "moments"])
@specs
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("collector", ["float32", "float64"])
def test_inputs_that_do_not_vary_leave_the_scales(method, spec, seed, collector):
    """The variance is 0, and what the moments leave of it is rounding: no ground to rescale a
    channel.
    """
    given = draw(1, 1, 10, 6, seed=seed)
    x = (3 + given.x[0]).expand(70, -1)
    stats = collected(x.float(), 6) if collector == "float32" else layer_stats(x[None], x[None])
    rounded = nearest(given, spec)
    q, _ = CORRECTIONS[method]().correct(given.weight, torch.zeros(6), rounded, stats)
    torch.testing.assert_close(q.grid.scale, rounded.grid.scale, rtol=1e-3, atol=0)


def test_a_mean_far_above_the_spread_is_no_obstacle():
    """Inputs whose mean is 30 times their standard deviation, through float32 sums."""
    given = draw(1, 4000, 8, 4)
    x = (30 + given.x[0]).float()
    rounded = nearest(given, "int4")
    q, bias = CORRECTIONS["moments"]().correct(
        given.weight, torch.zeros(4), rounded, collected(x, 4)
    )
    wanted, got = outputs(given.weight, x[None]), outputs(q.dequantize(), x[None]) + bias
    torch.testing.assert_close(got.std(0), wanted.std(0), rtol=2e-3, atol=0)
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-5, atol=1e-4)


def test_moments_reach_through_zero_points():
    """An asymmetric grid: the zero point is worth its part of the mean."""
    given = draw(1, 60, 8, 4, mismatch=0.3)
    rounded = nearest(given, "uint2")
    assert rounded.grid.zero_point.any()
    q, bias = CORRECTIONS["moments"]().correct(given.weight, bias_of(given), rounded, given.stats)
    wanted, got = float_outputs(given), quantized_outputs(given, q, bias)
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.var(0), wanted.var(0), rtol=1e-4, atol=0)


def test_ternary_layers_get_their_power_back():
    """Nearest ternary codes lose much of a row's power; moments restore it."""
    given = draw(1, 200, 20, 8)
    spec = GridSpec(TERNARY, PerChannel())
    rounded = QTensor.nearest(given.weight, fitter(spec)(given.weight))
    q, bias = CORRECTIONS["moments"]().correct(given.weight, bias_of(given), rounded, given.stats)
    wanted = float_outputs(given).std(0)
    torch.testing.assert_close(quantized_outputs(given, q, bias).std(0), wanted, rtol=1e-5, atol=0)
    assert bool(((outputs(rounded.dequantize(), given.x_q).std(0) / wanted - 1).abs() > 0.01).any())
