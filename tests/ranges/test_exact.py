"""The range `exact`: grids are found again, in what batch-norm folding leaves of them, and nothing
else is accepted.
"""

import pytest
import torch

from subbyte.core import GridSpec, PerChannel, PerGroup, QTensor, Uniform
from subbyte.errors import RecipeError
from subbyte.ranges import Exact, fit_grid
from subbyte.testing.ranges import SPECS, values

symmetries = pytest.mark.parametrize("symmetric", [True, False])


def on_a_grid(
    bits: int, *, seed: int, lowest: int | None = None, rows: int = 6, columns: int = 40
) -> torch.Tensor:
    """Whole numbers of `bits` bits, the lowest and highest among them, and 1: int64 [rows,
    columns].
    """
    low, high = -(2 ** (bits - 1)) if lowest is None else lowest, 2 ** (bits - 1) - 1
    codes = torch.randint(
        low, high + 1, (rows, columns), generator=torch.Generator().manual_seed(seed)
    )
    codes[:, :3] = torch.tensor([low, high, 1])
    return codes


def folded(codes: torch.Tensor, seed: int, sign: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes times scales times factors, each product in float32; and the scales that this makes,
    float64 [rows, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    scales, factors = torch.exp(2 * torch.randn(2, len(codes), 1, generator=generator))
    factors = sign * factors
    return codes.float() * scales * factors, scales.double() * factors.double()


def codes_of(x: torch.Tensor, spec: GridSpec) -> tuple[torch.Tensor, QTensor]:
    """Codes less zero points, as found by `exact`."""
    q = QTensor.nearest(x, fit_grid(Exact(), x, spec))
    return q.codes.long() - q.grid.zero_point, q


@pytest.mark.parametrize("bits", range(2, 9))
@symmetries
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_folded_codes_are_found_again(bits, symmetric, sign, seed):
    """Negative factors put the lowest code of a symmetric grid where it has none: there it is left
    out.
    """
    lowest = 1 - 2 ** (bits - 1) if symmetric and sign < 0 else None
    codes = on_a_grid(bits, seed=seed, lowest=lowest)
    x, scales = folded(codes, seed, sign)
    spec = GridSpec(Uniform(bits, symmetric=symmetric), PerChannel())
    found, q = codes_of(x, spec)
    assert torch.equal(found, sign * codes)
    torch.testing.assert_close(q.grid.scale.double(), scales.abs(), rtol=2e-7, atol=0)
    torch.testing.assert_close(q.dequantize(), x, rtol=5e-7, atol=0)


@pytest.mark.parametrize("bits", range(2, 9))
def test_asymmetric_grids_hold_zero_points_of_any_place(bits):
    """Whole numbers from all above 0 to all below 0; zero is a code, or next to one."""
    span = 2**bits - 1
    for lowest in {-span, -span // 2, -1, 0}:
        codes = torch.arange(lowest, lowest + span + 1).repeat(3, 1)
        x, scales = folded(codes, 7, 1)
        for signed in (True, False):
            spec = GridSpec(Uniform(bits, signed=signed, symmetric=False), PerChannel())
            found, q = codes_of(x, spec)
            assert torch.equal(found, codes)
            assert q.grid.zero_point.tolist() == [[spec.alphabet.qmin - lowest]] * 3
            torch.testing.assert_close(q.grid.scale.double(), scales, rtol=2e-7, atol=0)


def test_one_scale_for_all_rows():
    """Rows that do not reach the ends of the grid, of which the tensor's does."""
    codes = torch.tensor([[-8, 7, 3], [2, 0, 4], [0, 0, 0]])
    found, q = codes_of(codes.float() * 0.3, GridSpec(Uniform(4)))
    assert torch.equal(found, codes)
    assert float(q.grid.scale) == pytest.approx(0.3, rel=1e-6)
    each, _ = codes_of(codes.float() * 0.3, GridSpec(Uniform(4), PerChannel()))
    assert each.tolist() == [[-8, 7, 3], [1, 0, 2], [0, 0, 0]]


@symmetries
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_largest_scale_is_taken(bits, symmetric):
    """Of codes that all are even, half."""
    codes = 2 * torch.tensor([[-1, 1, 0, 1]])
    spec = GridSpec(Uniform(bits, symmetric=symmetric), PerChannel())
    found, q = codes_of(0.1 * codes.float(), spec)
    assert found.tolist() == [[-1, 1, 0, 1]] and float(q.grid.scale) == pytest.approx(0.2)


def test_scales_have_the_least_square_error():
    """To the bit of float32: folding leaves each weight an error of its own."""
    codes = on_a_grid(8, seed=9)
    x, _ = folded(codes, 9, 1)
    wanted = (codes * x.double()).sum(1, keepdim=True) / codes.square().sum(1, keepdim=True)
    assert torch.equal(
        fit_grid(Exact(), x, GridSpec(Uniform(8), PerChannel())).scale, wanted.float()
    )


@symmetries
def test_rows_of_zeros_stay_zeros_among_others(symmetric):
    x = on_a_grid(4, seed=0).float() * 0.1
    x[[1, 4]] = 0
    found, q = codes_of(x, GridSpec(Uniform(4, symmetric=symmetric), PerChannel()))
    assert not found[[1, 4]].any() and q.grid.scale[[1, 4]].tolist() == [[1], [1]]
    torch.testing.assert_close(q.dequantize(), x, rtol=5e-7, atol=0)
    assert fit_grid(Exact(), torch.zeros(3, 1), q.grid.spec).scale.tolist() == [[1]] * 3


@symmetries
@pytest.mark.parametrize("value", [0.7, -0.3, 1e-20, -3e20])
def test_rows_of_one_element_are_one_step(symmetric, value):
    found, q = codes_of(
        torch.tensor([[value]]), GridSpec(Uniform(3, symmetric=symmetric), PerChannel())
    )
    assert found.tolist() == [[1 if value > 0 else -1]]
    assert float(q.grid.scale) == pytest.approx(abs(value), rel=1e-6)


@pytest.mark.parametrize("spec", [name for name, spec in SPECS.items() if spec.alphabet.even])
def test_weights_that_lie_on_no_grid_are_refused_by_row(spec):
    x = torch.zeros(5, 30)
    x[[1, 3]] = values(2, 30)
    with pytest.raises(
        RecipeError, match=r"exact: 2 of 5 rows lie on no grid of .*, the first is row 1; train"
    ):
        fit_grid(Exact(), x, SPECS[spec])


@symmetries
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("part", "refused"), [(1e-5, False), (1e-3, True), (-0.3, True)])
def test_one_weight_off_the_grid_is_enough(bits, symmetric, part, refused):
    """Part of a step; a hundred-thousandth is what float32 may do."""
    x = on_a_grid(bits, seed=3).float()
    x[2, 5] = part + (x[2, 5] - 1 if x[2, 5] > 0 else x[2, 5])
    spec = GridSpec(Uniform(bits, symmetric=symmetric), PerChannel())
    if not refused:
        fit_grid(Exact(), x, spec)
        return
    with pytest.raises(RecipeError, match=r"1 of 6 rows .* row 2;"):
        fit_grid(Exact(), x, spec)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_grid_of_more_codes_than_there_are_is_refused(bits):
    x = on_a_grid(bits, seed=1).float()
    with pytest.raises(RecipeError, match="6 of 6 rows"):
        fit_grid(Exact(), x, GridSpec(Uniform(bits - 1, symmetric=False), PerChannel()))


def test_a_symmetric_grid_has_no_code_for_its_lowest_one_negated():
    """Folding with a negative factor: asymmetric grids, which `subbyte.learn.training.pack` asks
    for, have.
    """
    x = -on_a_grid(4, seed=0).float()
    with pytest.raises(RecipeError, match="with 0 in the middle"):
        fit_grid(Exact(), x, GridSpec(Uniform(4), PerChannel()))
    found, _ = codes_of(x, GridSpec(Uniform(4, symmetric=False), PerChannel()))
    assert torch.equal(found, x.long())


@pytest.mark.parametrize("spec", [name for name, spec in SPECS.items() if not spec.alphabet.even])
def test_levels_are_refused(spec):
    with pytest.raises(RecipeError, match="can't work with levels or a codebook"):
        fit_grid(Exact(), torch.zeros(2, 3), SPECS[spec])


def test_groups_off_the_grid_are_named_as_groups():
    """Counted row by row: a range is told of the groups alone, not of the rows that they are of."""
    x = torch.zeros(3, 12)
    x[1, 4:8] = torch.tensor([0.1, 0.73, -0.2, 0.9])
    with pytest.raises(RecipeError, match=r"2 of 12 groups .* group 5;"):
        fit_grid(Exact(), x, GridSpec(Uniform(4), PerGroup(3)))


def test_groups_have_grids_of_their_own():
    codes = on_a_grid(4, seed=5, rows=4, columns=10)
    scales = torch.tensor([0.1, 0.3, 1.0, 7.0]).repeat_interleave(3)[:10]
    x = codes.float() * scales
    grid = fit_grid(Exact(), x, GridSpec(Uniform(4), PerGroup(3)))
    torch.testing.assert_close(grid.quantize(x), x, rtol=5e-7, atol=0)
