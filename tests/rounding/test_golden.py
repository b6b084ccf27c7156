"""Golden values of the original functions: the StepAlgorithm of GPFQ's authors and COMQ's quantizer, both run
unmodified in float64 on inputs given by formulas. Those of GPTQ, nearest and the projection are from other,
independent float64 code.

Errors are ||X W' - X_q Q'|| (Frobenius norm, over all rows of the inputs).
"""

import pytest
import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor
from subbyte.rounding import Corrected, Gpfq, Gptq, Nearest
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.path import follow_path
from subbyte.rounding.solve import corrected_target
from subbyte.stats import LayerStats
from tests.reference.rounding import layer_stats
from tests.rounding.cases import Fixed

Case = tuple[LayerStats, Tensor]


def inputs(m: int, d: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, x_q [1, m, d] and the weight [rows, d]."""
    i, j, n = torch.arange(m)[:, None], torch.arange(d)[None, :], torch.arange(rows)[:, None]
    x = ((7 * i + 3 * j + i * j) % 11 - 5).double() / 4
    x_q = x + ((5 * i + 2 * j) % 7 - 3).double() / 32
    return x[None], x_q[None], ((3 * n + 5 * j + 2 * n * j) % 13 - 6).float() / 8


X1, XQ1, W1 = inputs(6, 5, 3)  # rank 4 and 5: as ill-conditioned as small examples get
X2, XQ2, W2 = inputs(9, 4, 3)  # well conditioned
O1, O2 = (layer_stats(X1, XQ1), W1), (layer_stats(X2, XQ2), W2)
O1_FLOAT = (layer_stats(X1, X1), W1)


def steps(step: float, reach: int) -> Grid:
    """The authors' alphabet {k * step, |k| <= reach}, the same for all rows."""
    spec = GridSpec.level_set(tuple(range(-reach, reach + 1)), granularity="tensor")
    return Grid.of(spec, torch.tensor(step))


def check(q: Tensor, case: Case, grid: Grid, codes: list[list[int]], error: float) -> None:
    stats, weight = case
    assert grid.units(QTensor.nearest(q, grid).codes).tolist() == codes
    total = stats.output_error(weight, q).sum() * stats.rows
    assert float(total.sqrt()) == pytest.approx(error, rel=1e-6)


def test_the_inputs_are_the_published_ones():
    assert W1.tolist() == [
        [-0.75, -0.125, 0.5, -0.5, 0.125],
        [-0.375, 0.5, -0.25, 0.625, -0.125],
        [0.0, -0.5, 0.625, 0.125, -0.375],
    ]
    assert torch.linalg.matrix_rank(X1[0]) == 4 and torch.linalg.matrix_rank(XQ1[0]) == 5
    stats, _ = O2
    assert (stats.H[0].diagonal() * 9).tolist() == [6.2431640625, 6.771484375, 4.763671875, 3.802734375]
    assert float(stats.G[0, 0, 0] * 9) == 6.2265625


GPFQ = {
    "b1": (O1, 2.32 / 3, 1, [[-1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, -1, 1, 0, -1]], 1.6081186169),
    "b2": (O1, 1.16 / 3, 2, [[-2, 0, 1, -1, 0], [-1, 1, -1, 1, 0], [0, -1, 2, 1, -1]], 0.8753514175),
    "b3": (O1, 0.58 / 3, 4, [[-4, -1, 3, -3, 0], [-2, 2, -1, 3, -1], [0, -2, 3, 1, -2]], 0.4511645810),
    "b3 median": (O1, 1.45 / 12, 4, [[-4, 0, 4, -2, 1], [-3, 4, -2, 4, -1], [0, -4, 4, 1, -3]], 0.6588211120),
    "b3 x": (O1_FLOAT, 0.58 / 3, 4, [[-4, -1, 2, -3, 1], [-2, 3, -1, 4, 0], [0, -3, 3, 0, -2]], 0.3944154430),
    "O2 b2": (O2, 1.16 / 3, 2, [[-2, 0, 1, -1], [-1, 1, -1, 2], [0, -1, 2, 0]], 0.8726283334),
    "O2 b3": (O2, 0.58 / 3, 4, [[-4, -1, 3, -3], [-2, 2, -1, 3], [0, -2, 3, 1]], 0.4455221850),
    "O2 b4": (O2, 0.375 / 3, 8, [[-6, -1, 4, -4], [-3, 4, -2, 5], [0, -4, 5, 1]], 0.3168399805),
}


@pytest.mark.parametrize("name", GPFQ)
def test_gpfq(name):
    case, step, reach, codes, error = GPFQ[name]
    grid = steps(step, reach)
    check(follow_path(case[1], grid, case[0]), case, grid, codes, error)


def test_gpfq_relative_errors_of_single_rows():
    stats, weight = O1
    errors = stats.output_error(weight, follow_path(weight, steps(0.58 / 3, 4), stats))
    power = stats.output_error(weight, torch.zeros_like(weight))
    wanted = torch.tensor([0.122029351, 0.1732768362, 0.0930779529], dtype=torch.float64)
    torch.testing.assert_close((errors / power).sqrt(), wanted, rtol=1e-5, atol=0)


def test_comq_is_gpfq_on_float_inputs_and_an_asymmetric_grid():
    spec = GridSpec(bits=3, signed=False, symmetric=False, granularity="channel")
    scale = (W1.amax(1) - W1.amin(1))[:, None] / 7
    assert scale[:, 0].tolist() == pytest.approx([0.17857143, 0.14285714, 0.16071429])
    grid = Grid.of(spec, scale, torch.tensor([[4], [3], [3]]))
    codes = [[-4, -1, 3, -3, 1], [-3, 3, -2, 4, -1], [0, -3, 4, 1, -2]]
    check(follow_path(W1, grid, O1_FLOAT[0]), O1_FLOAT, grid, codes, 0.2719552573)


GPTQ = {
    "b2": (O1, 1.16 / 3, 2, [[-2, 0, 1, -1, 0], [-1, 1, -1, 1, 0], [0, -1, 2, 1, -1]], 0.8753514175),
    "b3": (O1, 0.58 / 3, 4, [[-4, -1, 2, -3, 1], [-2, 3, -1, 4, 0], [0, -3, 3, 0, -2]], 0.6055604254),
    "O2 b2": (O2, 1.16 / 3, 2, [[-2, 0, 1, -1], [-1, 1, -1, 2], [0, -1, 2, 0]], 0.8726283334),
    "O2 b3": (O2, 0.58 / 3, 4, [[-4, -1, 3, -3], [-2, 3, -1, 3], [0, -3, 3, 1]], 0.5893312918),
    "O2 b4": (O2, 0.375 / 3, 8, [[-6, -1, 4, -4], [-3, 4, -2, 5], [0, -4, 5, 1]], 0.3168399805),
}


@pytest.mark.parametrize("name", GPTQ)
def test_gptq_undamped_in_natural_order(name):
    case, step, reach, codes, error = GPTQ[name]
    grid = steps(step, reach)
    check(Diffusion(case[0], 0.0, "natural").round(case[1], grid), case, grid, codes, error)


@pytest.mark.parametrize(
    ("case", "codes", "error"),
    [
        (O1, [[-4, -1, 3, -3, 1], [-2, 3, -1, 3, -1], [0, -3, 3, 1, -2]], 0.6213074252),
        (O2, [[-4, -1, 3, -3], [-2, 3, -1, 3], [0, -3, 3, 1]], 0.5893312918),
    ],
)
def test_nearest_at_3_bits(case, codes, error):
    grid = steps(0.58 / 3, 4)
    check(Nearest().round(case[1], Fixed(grid), case[0]).dequantize(), case, grid, codes, error)


def test_projection_undamped():
    """Where H is well conditioned; where it is not, the target leaves the grid and clipping destroys it."""
    grid = steps(0.58 / 3, 4)
    target = corrected_target(W2, O2[0], 0.0)
    check(Diffusion(O2[0], 0.0, "natural").round(target, grid), O2, grid, GPFQ["O2 b3"][3], GPFQ["O2 b3"][4])
    target = corrected_target(W1, O1[0], 0.0)
    q = Diffusion(O1[0], 0.0, "natural").round(target, grid)
    assert float((O1[0].output_error(W1, q).sum() * 6).sqrt()) == pytest.approx(1.9911727508, rel=1e-5)


@pytest.mark.parametrize("case", [O1, O2], ids=["O1", "O2"])
def test_whole_methods_do_no_worse_than_nearest_here(case):
    stats, weight = case
    grid = steps(0.58 / 3, 4)
    nearest = Nearest().round(weight, Fixed(grid), stats).dequantize()
    for method in (Gpfq(), Corrected(damping=0.0), Corrected()):
        q = method.round(weight, Fixed(grid), stats).dequantize()
        assert stats.output_error(weight, q).sum() <= stats.output_error(weight, nearest).sum() * (1 + 1e-9)
    matched = LayerStats(stats.H, stats.H, stats.H, stats.mean_q, stats.mean_q, stats.rows)
    q = Gptq(damping=0.0, order="natural").round(weight, Fixed(grid), stats).dequantize()
    assert matched.output_error(weight, q).sum() <= matched.output_error(weight, nearest).sum() * (1 + 1e-9)
