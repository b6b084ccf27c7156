"""The paper's correction of weights: golden values of its authors' code, and what it is for.

The golden values lie beside the repository, in ../shared/oracles; without them the first test is
skipped.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, PerChannel, QTensor, Uniform
from subbyte.correct import CORRECTIONS, Weights
from subbyte.errors import RecipeError
from subbyte.ranges import GridFitter, MinMax
from subbyte.stats import LayerStats
from subbyte.testing.cases import SPECS, Inputs, draw, fitter, layer_stats, outputs

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles" / "aciq.json"
MIN_MAX_3 = GridSpec(Uniform(3, signed=False, symmetric=False), PerChannel())


def nearest(weight: Tensor, spec: GridSpec) -> QTensor:
    return QTensor.nearest(weight, GridFitter(MinMax(), spec)(weight))


def ones(columns: int, total: float = 1.0) -> LayerStats:
    """Inputs that are always the same, and whose sum is `total`: the bias then shows the shift of
    the mean weight.
    """
    x = torch.full((1, 4, columns), total / columns, dtype=torch.float64)
    return layer_stats(x, x)


@pytest.mark.skipif(not ORACLES.exists(), reason="needs ../shared/oracles")
@pytest.mark.parametrize(("method", "key"), [(Weights(norm=False), "bcw"), (Weights(), "vcw_bcw")])
def test_weights_and_shift_are_the_authors_weights(method, key):
    golden = json.loads(ORACLES.read_text())
    weight, zero = torch.tensor(golden["inputs"]["W"]), torch.zeros(3)
    rounded = nearest(weight, MIN_MAX_3)
    q, shift = method.correct(weight, zero, rounded, ones(12))
    torch.testing.assert_close(
        q.dequantize() + shift[:, None],
        torch.tensor(golden["bias_corr_3b"][key]),
        rtol=1e-6,
        atol=1e-6,
    )
    factor = (q.grid.scale / rounded.grid.scale)[:, 0]
    xi = torch.tensor(golden["bias_corr_3b"]["xi"]) if method.norm else torch.ones(3)
    torch.testing.assert_close(factor, xi, rtol=2e-6, atol=0)
    if not method.norm:
        torch.testing.assert_close(
            shift, torch.tensor(golden["bias_corr_3b"]["mean_shift"]), rtol=1e-5, atol=1e-8
        )


@pytest.mark.parametrize("spec", ["uint3 groups", "int4", "ternary", "levels"])
def test_norms_become_the_float_weights(spec):
    given = draw(3, 40, 11, 6, mismatch=0.3)
    rounded = QTensor.nearest(given.weight, fitter(SPECS[spec])(given.weight))
    q, _ = Weights().correct(given.weight, torch.zeros(6), rounded, given.stats)
    wanted = given.weight.double().var(1)
    assert bool(((rounded.dequantize().double().var(1) / wanted - 1).abs() > 1e-3).any())
    torch.testing.assert_close(q.dequantize().double().var(1), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", [Weights(), Weights(norm=False)])
def test_the_bias_gets_what_the_shift_of_every_weight_would_add(method):
    """Weight by weight and row of inputs by row, in three groups with inputs of their own."""
    given = draw(3, 40, 11, 6, mismatch=0.3)
    bias = torch.linspace(-1, 2, 6)
    q, corrected = method.correct(given.weight, bias, nearest(given.weight, MIN_MAX_3), given.stats)
    values = q.dequantize().double()
    shifted = values + (given.weight.double().mean(1) - values.mean(1))[:, None]
    torch.testing.assert_close(shifted.mean(1), given.weight.double().mean(1))
    wanted = (outputs(shifted, given.x_q) - outputs(values, given.x_q)).mean(0)
    torch.testing.assert_close(corrected.double(), bias + wanted, rtol=1e-5, atol=1e-6)


def positive(seed: int) -> Inputs:
    """Inputs behind a rectifier, all with a like mean: what the shift of a mean weight does most
    to.
    """
    given = draw(1, 200, 40, 16, seed=seed)
    x = (given.x + 1).relu()
    return Inputs(x, x, given.weight)


@pytest.mark.parametrize("seed", range(3))
def test_means_of_outputs_come_nearer_to_the_float_layers(seed):
    given, zero = positive(seed), torch.zeros(16)
    rounded = nearest(given.weight, MIN_MAX_3)
    wanted = outputs(given.weight, given.x).mean(0)

    def miss(q: QTensor, bias: Tensor) -> float:
        return float((outputs(q.dequantize(), given.x_q).mean(0) + bias - wanted).norm())

    before = miss(rounded, zero)
    for method in (Weights(), Weights(norm=False)):
        assert miss(*method.correct(given.weight, zero, rounded, given.stats)) < 0.75 * before, (
            method
        )


def grid(rows: int) -> Grid:
    return Grid.of(GridSpec(Uniform(3), PerChannel()), torch.full((rows, 1), 0.28))


def test_rows_without_a_spread_keep_their_scale():
    """Constant rows, rows of 0, one code for all of a row; a row of one weight."""
    weight = torch.tensor(
        [[0.1] * 9, [0.0] * 9, [0.01, 0.02, 0.03] * 3, [-1.0, 0.5, 1.0] * 3, [-7e-3] * 9]
    )
    weight[4, 0] = torch.nextafter(weight[4, 0], torch.tensor(1.0))  # constant but for float32
    rounded = QTensor.nearest(weight, grid(5))
    rounded.codes[[0, 4], 3] += 1  # as rounding does that looks at the inputs
    q, bias = Weights().correct(weight, torch.zeros(5), rounded, ones(9, total=2.0))
    assert torch.equal(q.grid.scale[[0, 1, 2, 4]], rounded.grid.scale[[0, 1, 2, 4]])
    assert bool(q.grid.scale[3] != rounded.grid.scale[3])
    torch.testing.assert_close(bias, 2 * (weight - q.dequantize()).mean(1))
    one = torch.tensor([[0.3], [-0.2]])
    rounded = QTensor.nearest(one, grid(2))
    q, bias = Weights().correct(one, torch.zeros(2), rounded, ones(1, total=3.0))
    assert torch.equal(q.grid.scale, rounded.grid.scale)
    torch.testing.assert_close(q.dequantize()[:, 0] * 3 + bias, one[:, 0] * 3)


def test_what_is_switched_off_is_left():
    given, bias = draw(1, 64, 12, 6), torch.linspace(-1, 2, 6)
    rounded = nearest(given.weight, MIN_MAX_3)
    q, same = Weights(mean=False).correct(given.weight, bias, rounded, given.stats)
    assert torch.equal(same, bias) and not torch.equal(q.grid.scale, rounded.grid.scale)
    q, _ = Weights(norm=False).correct(given.weight, bias, rounded, given.stats)
    assert torch.equal(q.grid.scale, rounded.grid.scale)
    shared = nearest(given.weight, SPECS["int4 tensor"])
    assert torch.equal(
        Weights().correct(given.weight, bias, shared, given.stats)[0].grid.scale, shared.grid.scale
    )
    with pytest.raises(RecipeError, match="neither mean nor norm"):
        CORRECTIONS["weights"](mean=False, norm=False)
