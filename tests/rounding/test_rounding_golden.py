"""Golden values of the original functions: the StepAlgorithm of GPFQ's authors, SPFQ's and COMQ's
quantizers, all run unmodified in float64 on inputs given by formulas. Those of GPTQ, nearest, the
projection, Qronos and Beacon are from other, independent float64 code.

Errors are ||X W' - X_q Q'|| (Frobenius norm, over all rows of the inputs).
"""

import pytest
import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, Levels, PerChannel, QTensor, Uniform
from subbyte.precondition.magr import project_l1
from subbyte.ranges import GridFitter, MinMax, RowMax
from subbyte.rounding import Beacon, Corrected, Descent, Gpfq, Gptq, Nearest, Qronos, Spfq
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.path import align, follow_path
from subbyte.rounding.qronos import first_exact
from subbyte.rounding.solve import corrected_target
from subbyte.stats import LayerStats
from subbyte.testing.cases import Fixed, layer_stats

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
    spec = GridSpec(Levels(tuple(range(-reach, reach + 1))))
    return Grid.of(spec, torch.tensor(step))


def wide(bits: int, scalar: float = 1.16, percentile: float = 1.0) -> GridFitter:
    """Their alphabet and step, the way a recipe asks for it."""
    return GridFitter(RowMax(percentile), GridSpec(Uniform(bits, wide=True)), scalar=scalar)


def total(q: Tensor, case: Case) -> float:
    stats, weight = case
    return float((stats.output_error(weight, q).sum() * stats.rows).sqrt())


def check(q: Tensor, case: Case, grid: Grid, codes: list[list[int]], error: float) -> None:
    assert grid.units(QTensor.nearest(q, grid).codes).tolist() == codes
    assert total(q, case) == pytest.approx(error, rel=1e-6)


def check_method(q: QTensor, case: Case, codes: list[list[int]], error: float) -> None:
    check(q.dequantize(), case, q.grid, codes, error)


def test_the_inputs_are_the_published_ones():
    assert W1.tolist() == [
        [-0.75, -0.125, 0.5, -0.5, 0.125],
        [-0.375, 0.5, -0.25, 0.625, -0.125],
        [0.0, -0.5, 0.625, 0.125, -0.375],
    ]
    assert torch.linalg.matrix_rank(X1[0]) == 4 and torch.linalg.matrix_rank(XQ1[0]) == 5
    stats, _ = O2
    assert (stats.H[0].diagonal() * 9).tolist() == [
        6.2431640625,
        6.771484375,
        4.763671875,
        3.802734375,
    ]
    assert float(stats.G[0, 0, 0] * 9) == 6.2265625


GPFQ = {
    "b1": (O1, 2.32 / 3, 1, [[-1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, -1, 1, 0, -1]], 1.6081186169),
    "b2": (
        O1,
        1.16 / 3,
        2,
        [[-2, 0, 1, -1, 0], [-1, 1, -1, 1, 0], [0, -1, 2, 1, -1]],
        0.8753514175,
    ),
    "b3": (
        O1,
        0.58 / 3,
        4,
        [[-4, -1, 3, -3, 0], [-2, 2, -1, 3, -1], [0, -2, 3, 1, -2]],
        0.4511645810,
    ),
    "b3 median": (
        O1,
        1.45 / 12,
        4,
        [[-4, 0, 4, -2, 1], [-3, 4, -2, 4, -1], [0, -4, 4, 1, -3]],
        0.6588211120,
    ),
    "b3 x": (
        O1_FLOAT,
        0.58 / 3,
        4,
        [[-4, -1, 2, -3, 1], [-2, 3, -1, 4, 0], [0, -3, 3, 0, -2]],
        0.3944154430,
    ),
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
    spec = GridSpec(Uniform(3, signed=False, symmetric=False), PerChannel())
    scale = (W1.amax(1) - W1.amin(1))[:, None] / 7
    assert scale[:, 0].tolist() == pytest.approx([0.17857143, 0.14285714, 0.16071429])
    grid = Grid.of(spec, scale, torch.tensor([[4], [3], [3]]))
    codes = [[-4, -1, 3, -3, 1], [-3, 3, -2, 4, -1], [0, -3, 4, 1, -2]]
    check(follow_path(W1, grid, O1_FLOAT[0]), O1_FLOAT, grid, codes, 0.2719552573)


GPTQ = {
    "b2": (
        O1,
        1.16 / 3,
        2,
        [[-2, 0, 1, -1, 0], [-1, 1, -1, 1, 0], [0, -1, 2, 1, -1]],
        0.8753514175,
    ),
    "b3": (
        O1,
        0.58 / 3,
        4,
        [[-4, -1, 2, -3, 1], [-2, 3, -1, 4, 0], [0, -3, 3, 0, -2]],
        0.6055604254,
    ),
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
    """Where H is well conditioned; where it is not, the target leaves the grid and clipping
    destroys it.
    """
    grid = steps(0.58 / 3, 4)
    target = corrected_target(W2, O2[0], 0.0)
    check(
        Diffusion(O2[0], 0.0, "natural").round(target, grid),
        O2,
        grid,
        GPFQ["O2 b3"][3],
        GPFQ["O2 b3"][4],
    )
    target = corrected_target(W1, O1[0], 0.0)
    q = Diffusion(O1[0], 0.0, "natural").round(target, grid)
    assert float((O1[0].output_error(W1, q).sum() * 6).sqrt()) == pytest.approx(
        1.9911727508, rel=1e-5
    )


@pytest.mark.parametrize("case", [O1, O2], ids=["O1", "O2"])
def test_whole_methods_do_no_worse_than_nearest_here(case):
    stats, weight = case
    grid = steps(0.58 / 3, 4)
    nearest = Nearest().round(weight, Fixed(grid), stats).dequantize()
    for method in (Gpfq(), Corrected(damping=0.0), Corrected()):
        q = method.round(weight, Fixed(grid), stats).dequantize()
        assert stats.output_error(weight, q).sum() <= stats.output_error(weight, nearest).sum() * (
            1 + 1e-9
        )
    matched = stats.of_quantized()
    q = Gptq(damping=0.0, order="natural").round(weight, Fixed(grid), stats).dequantize()
    assert matched.output_error(weight, q).sum() <= matched.output_error(weight, nearest).sum() * (
        1 + 1e-9
    )


@pytest.mark.parametrize(
    ("bits", "scalar", "percentile", "step"),
    [
        (1, 1.16, 1.0, 0.7733333333),
        (2, 1.16, 1.0, 0.3866666667),
        (3, 1.16, 1.0, 0.1933333333),
        (3, 1.16, 0.5, 0.1208333333),
        (4, 1.5, 1.0, 0.125),
    ],
)
def test_rowmax_and_the_scalar_give_their_steps(bits, scalar, percentile, step):
    grid = wide(bits, scalar, percentile)(W1)
    assert (grid.spec.alphabet.count, grid.scale.shape) == (2**bits + 1, ())
    assert float(grid.scale) == pytest.approx(step, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "fit"),
    [("b1", wide(1)), ("b2", wide(2)), ("b3", wide(3)), ("b3 median", wide(3, percentile=0.5))],
)
def test_gpfq_as_a_recipe_asks_for_it(name, fit):
    """With 1 and 2 bits nearest does better here, and the method says so; the path itself is
    theirs.
    """
    case, _, _, codes, error = GPFQ[name]
    check(follow_path(W1, fit(W1), case[0]), case, fit(W1), codes, error)
    q = Gpfq().round(W1, fit, case[0])
    if "b3" in name:
        check_method(q, case, codes, error)
    else:
        assert torch.equal(q.codes, fit(W1).encode(W1)) and total(q.dequantize(), case) < error


def test_gpfq_with_l0():
    """Levels are sign * (0.05 + k * step), and 0; theirs, by code: 5 is 0, 6 and 4 are +-0.05."""
    q = Gpfq(regularizer="L0", penalty=0.05).round(W1, wide(3), O1[0])
    right = [0.05 + 0.1808333333 * k for k in range(5)]
    assert q.grid.own[0].tolist() == pytest.approx(
        [*(-x for x in reversed(right)), 0, *right], rel=1e-6
    )
    signs = [[-1, -1, 1, -1, 1], [-1, 1, -1, 1, -1], [0, -1, 1, 1, -1]]
    steps_beyond = [[4, 0, 3, 2, 0], [2, 2, 1, 3, 0], [0, 2, 3, 1, 2]]
    codes = [
        [5 + s * (k + 1) for s, k in zip(*both, strict=True)]
        for both in zip(signs, steps_beyond, strict=True)
    ]
    assert q.codes.tolist() == codes
    assert total(q.dequantize(), O1) == pytest.approx(0.4621360220, rel=1e-6)


SCALARS = (-1.3, -0.75, -0.5, -0.25, -0.1, 0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.3)
TIES = (-0.75, -0.25, 0.25, 0.75)
THRESHOLDS = {
    "none": (Gpfq(), 0.5, (-1, None, -0.5, None, 0, 0, 0, 0, None, 0.5, None, 1)),
    "L1": (
        Gpfq(regularizer="L1", penalty=0.1),
        0.5,
        (-1, -0.5, -0.5, 0, 0, 0, 0, 0, 0, 0.5, 0.5, 1),
    ),
    "L0": (
        Gpfq(regularizer="L0", penalty=0.1),
        0.55,
        (-1.1, -0.6, -0.6, -0.1, 0, 0, 0, 0, 0.1, 0.6, 0.6, 1.1),
    ),
}


@pytest.mark.parametrize("regularizer", THRESHOLDS)
def test_scalars_with_a_step_of_one_half(regularizer):
    """One column: the argument is the weight. Exact ties between levels are left out: theirs go up,
    ours to the even multiple on uniform grids and to the lower one on codebooks. With L0 their step
    is reach / K - penalty / K.
    """
    method, scale, wanted = THRESHOLDS[regularizer]
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    fit = Fixed(Grid.of(GridSpec(Uniform(2, wide=True)), torch.tensor(scale)))
    got = (
        method.round(torch.tensor(SCALARS)[:, None], fit, layer_stats(x, x))
        .dequantize()[:, 0]
        .tolist()
    )
    tried = [k for k, value in enumerate(wanted) if value is not None]
    assert {SCALARS[k] for k in range(12) if k not in tried} <= set(TIES)
    assert [got[k] for k in tried] == pytest.approx([wanted[k] for k in tried], rel=1e-6)


def test_spfqs_aligned_weights():
    aligned = align(W1, O1[0], 2)
    assert aligned[0].tolist() == pytest.approx(
        [-0.75154439, -0.12041714, 0.56805771, -0.49772699, 0.10473264], abs=1e-7
    )
    assert float(aligned.abs().amax(1).mean()) == pytest.approx(0.6519778772, rel=1e-6)


SPFQ = {
    "b2": (2, 1.16, [[-2, 0, 2, -1, 0], [-1, 1, -1, 1, -1], [0, -1, 2, 1, -1]], 0.7834548171),
    "b3": (3, 1.16, [[-4, -1, 3, -3, 0], [-2, 2, -2, 2, -1], [0, -2, 3, 1, -2]], 0.3795954199),
    "b4": (4, 1.5, [[-6, -1, 5, -4, 1], [-3, 4, -2, 5, -1], [0, -4, 5, 1, -3]], 0.2471876509),
}


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("name", SPFQ)
def test_spfq_of_order_2_without_chance(name, fallback):
    bits, scalar, codes, error = SPFQ[name]
    q = Spfq(order=2, stochastic=False, fallback=fallback).round(W1, wide(bits, scalar), O1[0])
    check_method(q, O1, codes, error)


QRONOS = {
    "b2": (O1, 1.16, 2, [[-2, 0, 2, -1, 0], [-1, 1, -1, 1, 0], [0, -1, 2, 1, -1]], 0.8227386939),
    "b3": (O1, 1.16, 3, [[-4, -1, 3, -3, 0], [-2, 2, -2, 2, -1], [0, -2, 3, 1, -2]], 0.3646076778),
    "b4": (O1, 1.5, 4, [[-6, -1, 5, -4, 1], [-3, 4, -2, 5, -1], [0, -3, 5, 2, -3]], 0.2848350074),
    "O2 b2": (O2, 1.16, 2, GPFQ["O2 b2"][3], 0.8726283334),
    "O2 b3": (O2, 1.16, 3, GPFQ["O2 b3"][3], 0.4455221850),
    "O2 b4": (O2, 1.5, 4, GPFQ["O2 b4"][3], 0.3168399805),
}


@pytest.mark.parametrize("name", QRONOS)
def test_qronos_undamped_in_natural_order(name):
    (stats, weight), scalar, bits, codes, error = QRONOS[name]
    grid = wide(bits, scalar)(W1)
    check(first_exact(weight, grid, stats, 0.0, "natural"), (stats, weight), grid, codes, error)
    q = Qronos(damping=0.0, order="natural").round(weight, Fixed(grid), stats)
    check_method(q, (stats, weight), codes, error)


def comq(sweeps: int, order: str, fit) -> QTensor:
    method = Descent(sweeps=sweeps, order=order, refit=False, start="weights", data="float")
    return method.round(W1, fit, O1[0])


COMQ_FIT = GridFitter(MinMax(), GridSpec(Uniform(3, signed=False, symmetric=False), PerChannel()))


@pytest.mark.parametrize("sweeps", [1, 2, 3, 5])
def test_comq_is_descent_from_the_weights(sweeps):
    q = comq(sweeps, "natural", COMQ_FIT)
    assert q.grid.scale[:, 0].tolist() == pytest.approx([0.17857143, 0.14285714, 0.16071429])
    assert q.grid.zero_point[:, 0].tolist() == [4, 3, 3]
    codes = [[-4, -1, 3, -3, 1], [-3, 3, -2, 4, -1], [0, -3, 4, 1, -2]]
    check_method(q, O1_FLOAT, codes, 0.2719552573)


def test_comqs_greedy_order():
    """The second row begins with a tie, 0.5 / (1 / 7) = 3.5, which a hair's smaller scale decides
    as theirs is.
    """
    grid = COMQ_FIT(W1)
    scale = grid.scale.clone()
    scale[1] = 1 / 7 - 1e-8
    q = comq(1, "greedy", Fixed(grid.with_scale(scale)))
    codes = [[-4, -1, 3, -3, 1], [-3, 4, -2, 4, -1], [0, -3, 4, 1, -2]]
    check_method(q, O1_FLOAT, codes, 0.3471538394)


BEACON = {
    2: (
        [[-2, 0, 1, -1], [-1, 1, -1, 1], [0, -1, 1, 0]],
        [0.4158343036, 0.4115302724, 0.5361960859],
        0.8799474692,
    ),
    3: (GPFQ["O2 b3"][3], [0.1883006289, 0.2021890932, 0.2055601461], 0.4208680959),
    4: (
        [[-8, -1, 5, -5], [-4, 6, -3, 7], [0, -5, 7, 2]],
        [0.1004571500, 0.0834284462, 0.0873921727],
        0.2930769993,
    ),
}


@pytest.mark.parametrize("bits", BEACON)
def test_beacon_from_the_greedy_start(bits):
    codes, scales, error = BEACON[bits]
    fit = GridFitter(MinMax(), GridSpec(Uniform(bits), PerChannel()))
    q = Beacon(start="greedy", first="smallest").round(W2, fit, O2[0])
    check_method(q, O2, codes, error)
    assert q.grid.scale[:, 0].tolist() == pytest.approx(scales, rel=1e-6)


def test_the_projection_on_the_l1_ball():
    assert project_l1(torch.tensor([3.0, 1.0, -2.0]), 2.0).tolist() == [1.5, 0.0, -0.5]
