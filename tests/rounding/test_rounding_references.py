"""The recursions, without the fallback to nearest, against references that follow the definitions
in float64.

Float32 may decide a near-tie otherwise, and later codes of the row with it: such rows are few, and
as good.
"""

from dataclasses import replace

import pytest
import torch

from subbyte.core import TERNARY, Grid, GridSpec, PerChannel, QTensor
from subbyte.ranges import MinMax, fit_grid
from subbyte.rounding import Corrected, Gpfq, Gptq, Nearest
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.path import follow_path
from subbyte.rounding.solve import corrected_target
from subbyte.rounding.sweeps import descend, refit_scales
from subbyte.testing.cases import (
    INPUTS,
    SPECS,
    Inputs,
    draw,
    fitter,
    output_error,
    outputs,
)
from tests.reference import rounding as reference

specs = pytest.mark.parametrize("spec", SPECS)
SMALL = [
    "dense",
    "dense, x_q",
    "grouped, x_q",
    "depthwise, x_q",
    "few rows, x_q",
    "dead, x_q",
    "dead, x_q only",
]
WIDE = {  # wider than a block of the library's loops
    "wide": draw(1, 400, 150, 4, mismatch=0.3, seed=5),
    "wide, grouped": draw(2, 400, 140, 4, mismatch=0.3, seed=6),
}
LIVE = INPUTS | WIDE


def linear(given: Inputs) -> torch.Tensor:
    """What coordinate descent pulls towards when the target is the weight: float64 [groups, rows,
    columns].
    """
    return given.stats.grouped(given.weight) @ given.stats.H


def same_codes(
    got: QTensor, codes: torch.Tensor, grid: Grid, target: torch.Tensor, given: Inputs
) -> None:
    """Equal codes; at most a tenth of the rows (or one) may differ, by at most a tenth of their
    error.
    """
    rows = (got.codes.long() != codes).any(1)
    assert int(rows.sum()) <= max(1, rows.numel() // 10)
    ours = output_error(target, reference.on_grid(got.codes, grid), given.x, given.x_q)[rows]
    theirs = output_error(target, reference.on_grid(codes, grid), given.x, given.x_q)[rows]
    torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0)


def grid_of(spec: str, weight: torch.Tensor) -> Grid:
    return fitter(SPECS[spec])(weight)


@specs
@pytest.mark.parametrize("case", [*SMALL, *WIDE])
def test_gpfq_follows_the_residual(case, spec):
    given = LIVE[case]
    grid = grid_of(spec, given.weight)
    got = follow_path(given.weight, grid, given.stats)
    codes = reference.gpfq(given.weight, grid, given.x, given.x_q)
    same_codes(QTensor.nearest(got, grid), codes, grid, given.weight, given)
    assert torch.equal(got, grid.quantize(got))


def test_gpfq_rounds_weights_themselves_where_the_residual_says_nothing():
    given = draw(1, 60, 12, 24, mismatch=1.0, seed=7)  # inputs unlike those of the float network
    grid = grid_of("int4 tensor", given.weight)
    got = follow_path(given.weight, grid, given.stats, plain_at_zero=True)
    codes = reference.gpfq(given.weight, grid, given.x, given.x_q, plain_at_zero=True)
    same_codes(QTensor.nearest(got, grid), codes, grid, given.weight, given)
    first = grid.quantize(given.weight)[:, 0]  # nothing is before it
    assert torch.equal(got[:, 0], first)
    assert not torch.equal(follow_path(given.weight, grid, given.stats)[:, 0], first)


@specs
@pytest.mark.parametrize("order", ["natural", "diagonal"])
@pytest.mark.parametrize("case", [*SMALL, *WIDE])
def test_gptq_solves_the_remaining_columns_anew(case, order, spec):
    given = LIVE[case]
    grid = grid_of(spec, given.weight)
    got = Diffusion(given.stats, 0.01, order).round(given.weight, grid)
    codes = reference.gptq(given.weight, grid, given.x_q, 0.01, order)
    same_codes(QTensor.nearest(got, grid), codes, grid, given.weight, replace(given, x=given.x_q))
    assert torch.equal(got, grid.quantize(got))


@pytest.mark.parametrize("damping", [0.0, 0.1, 1.0])
def test_gptq_damps_by_the_share_it_is_told(damping):
    given = draw(2, 60, 12, 40, seed=9)
    grid = grid_of("int4", given.weight)
    codes = reference.gptq(given.weight, grid, given.x_q, damping, "natural")
    got = QTensor.nearest(
        Diffusion(given.stats, damping, "natural").round(given.weight, grid), grid
    )
    same_codes(got, codes, grid, given.weight, given)


@pytest.mark.parametrize("damping", [0.01, 0.3])
@pytest.mark.parametrize("case", [*SMALL, *WIDE])
def test_the_corrected_target_is_the_ridge_solution(case, damping):
    given = LIVE[case]
    wanted = reference.corrected_target(given.weight, given.x, given.x_q, damping)
    got = corrected_target(given.weight, given.stats, damping)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-5)
    dead = given.dead
    assert torch.equal(got[dead], given.weight[dead])


def test_the_undamped_target_cannot_be_bettered():
    given = draw(1, 60, 12, 4, mismatch=0.4)
    target = corrected_target(given.weight, given.stats, 0.0)
    least = torch.linalg.lstsq(given.x_q[0], given.x[0] @ given.weight.double().T).solution.T
    torch.testing.assert_close(target.double(), least, rtol=1e-4, atol=1e-6)


@specs
@pytest.mark.parametrize("case", [*SMALL, *WIDE])
def test_a_sweep_refits_and_visits_one_column_after_the_other(case, spec):
    given = LIVE[case]
    start = QTensor.nearest(given.weight, grid_of(spec, given.weight))
    grid = refit_scales(linear(given), start, given.stats).grid
    (got,) = descend(linear(given), [start], given.stats, 1)
    codes = reference.sweep(given.weight, start.codes, grid, given.x_q)
    same_codes(got, codes, grid, given.weight, replace(given, x=given.x_q))


@specs
@pytest.mark.parametrize("case", SMALL)
def test_refit_scales_are_least_squares(case, spec):
    """Groups of a row are refitted in turn: after enough rounds that is their joint solution, if
    positive.
    """
    given = LIVE[case]
    start = QTensor.nearest(given.weight, grid_of(spec, given.weight))
    fitted = start
    for _ in range(300 if start.grid.spec.share.block else 1):
        fitted = refit_scales(linear(given), fitted, given.stats)
    assert torch.equal(fitted.codes, start.codes)
    units = start.grid.units(start.codes).double()
    size = start.grid.spec.share.block or units.shape[1]
    parts = [torch.zeros_like(units) for _ in range(0, units.shape[1], size)]
    for k, part in enumerate(parts):
        part[:, k * size : (k + 1) * size] = units[:, k * size : (k + 1) * size]
    # [rows, m, parts]
    columns = torch.stack([outputs(part, given.x_q).T for part in parts], -1)
    wanted = outputs(given.weight, given.x_q).T[..., None]
    if start.grid.spec.share.one_scale:
        columns, wanted = columns.reshape(1, -1, 1), wanted.reshape(1, -1, 1)
    solution = torch.linalg.lstsq(columns, wanted, driver="gelsd").solution[..., 0]
    sound = (solution > 0).all(1)
    scale = fitted.grid.scale.double().reshape(solution.shape)
    assert sound.any()
    torch.testing.assert_close(scale[sound], solution[sound], rtol=1e-4, atol=1e-9)
    assert bool((scale > 0).all())


def test_a_scale_that_would_turn_negative_stays():
    given = draw(1, 40, 6, 2)
    start = QTensor.nearest(given.weight, grid_of("int4", given.weight))
    fitted = refit_scales(-linear(given), start, given.stats)
    assert torch.equal(fitted.grid.scale, start.grid.scale)


@specs
@pytest.mark.parametrize(
    "case", ["dense, x_q", "grouped, x_q", "few rows, x_q", "dead, x_q", "duplicate"]
)
def test_descent_never_goes_up_and_ends_where_no_single_step_helps(case, spec):
    given = INPUTS[case]
    start = QTensor.nearest(given.weight, grid_of(spec, given.weight))
    before = output_error(given.weight, start.dequantize(), given.x_q, given.x_q)
    for sweeps in (0, 1, 2, 50):
        (q,) = descend(linear(given), [start], given.stats, sweeps)
        after = output_error(given.weight, q.dequantize(), given.x_q, given.x_q)
        if start.grid.spec.share.one_scale:
            before, after = before.sum(), after.sum()
        assert bool((after <= before * (1 + 1e-5) + 1e-9).all())
        before = after
    again = reference.sweep(given.weight, q.codes, q.grid, given.x_q)
    better = output_error(given.weight, reference.on_grid(again, q.grid), given.x_q, given.x_q)
    torch.testing.assert_close(better.sum(), after.sum(), rtol=1e-5, atol=1e-9)


def test_corrected_is_its_steps():
    given = draw(2, 80, 20, 40, mismatch=0.4, seed=3)
    fit = fitter(SPECS["int4"])
    target = reference.corrected_target(given.weight, given.x, given.x_q, 0.02).float()
    grid = fit(target)
    codes = reference.gptq(target, grid, given.x_q, 0.02, "diagonal")
    for _ in range(3):
        grid = _refit(target, codes, grid, given.x_q)
        codes = reference.sweep(target, codes, grid, given.x_q)
    grid = _refit(target, codes, grid, given.x_q)
    got = Corrected(0.02, 3, (1.0,)).round(given.weight, fit, given.trusted)
    same_codes(got, codes, grid, given.weight, given)
    torch.testing.assert_close(got.grid.scale, grid.scale, rtol=0.05, atol=0)


@specs
@pytest.mark.parametrize("case", ["dense, x_q", "grouped, x_q"])
def test_every_row_keeps_the_best_of_its_starts(case, spec):
    """Or, where rows share a scale, the matrix; nearest is one of the candidates."""
    given, fit = INPUTS[case], fitter(SPECS[spec])

    def errors(method) -> torch.Tensor:
        q = method.round(given.weight, fit, given.trusted).dequantize()
        each = output_error(given.weight, q, given.x, given.x_q)
        return each.sum(0, keepdim=True) if SPECS[spec].share.one_scale else each

    starts = (0.7, 1.0, 1.4)
    single = [errors(Corrected(starts=(factor,))) for factor in starts]
    best = torch.stack([*single, errors(Nearest())]).amin(0)
    torch.testing.assert_close(errors(Corrected(starts=starts)), best, rtol=1e-6, atol=0)
    assert any(not torch.equal(each, best) for each in single)


def _refit(target: torch.Tensor, codes: torch.Tensor, grid: Grid, x_q: torch.Tensor) -> Grid:
    """Least squares of each row's one scale."""
    units = outputs(codes.double(), x_q)
    return grid.with_scale(((units * outputs(target, x_q)).sum(0) / units.square().sum(0))[:, None])


@pytest.mark.parametrize(
    "method", [Nearest(), Gptq(), Gptq(0.0), Gpfq(), Corrected(), Corrected(0.0, 50)]
)
@pytest.mark.parametrize("seed", range(4))
def test_no_codes_beat_all_codes(method, seed):
    given = draw(2, 20, 5, 6, mismatch=0.5, seed=seed)
    q = method.round(given.weight, fitter(GridSpec(TERNARY, PerChannel())), given.stats)
    bound = reference.best_codes(given.weight, q.grid, given.x, given.x_q)
    got = output_error(given.weight, q.dequantize(), given.x, given.x_q)
    assert bool((got >= bound * (1 - 1e-5)).all())
    by_moments = given.stats.output_error(given.weight, q.dequantize())
    torch.testing.assert_close(by_moments, got, rtol=1e-6, atol=1e-12)


def test_corrected_comes_close_to_the_best_codes():
    """Tiny layers: within a tenth of what trying every code on the same grid gives; nearest is far
    off.
    """
    total = torch.zeros(3, dtype=torch.float64)
    for seed in range(10):
        given = draw(1, 20, 5, 8, mismatch=0.3, seed=seed)
        fit = fitter(GridSpec(TERNARY, PerChannel()))
        q = Corrected(damping=0.0, sweeps=20).round(given.weight, fit, given.trusted)
        nearest = Nearest().round(given.weight, fit, given.stats)
        total[0] += reference.best_codes(given.weight, q.grid, given.x, given.x_q).sum()
        total[1] += output_error(given.weight, q.dequantize(), given.x, given.x_q).sum()
        total[2] += output_error(given.weight, nearest.dequantize(), given.x, given.x_q).sum()
    assert total[1] < 1.1 * total[0]
    assert total[2] > 1.3 * total[0]


@pytest.mark.parametrize("method", [Gptq(0.0), Gptq(0.0, "natural"), Corrected(0.0)])
@pytest.mark.parametrize("m", [1, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_no_damping_and_too_few_rows_still_give_codes(method, m, seed):
    """H is singular then: the factorization has to be helped, not to fail."""
    given = draw(1, m, 10, 4, mismatch=0.2, seed=seed)
    fit = fitter(SPECS["int4"])
    q, nearest = (
        method.round(given.weight, fit, given.trusted),
        Nearest().round(given.weight, fit, given.stats),
    )
    x = given.x_q if isinstance(method, Gptq) else given.x
    errors = [output_error(given.weight, each.dequantize(), x, given.x_q) for each in (q, nearest)]
    assert bool((errors[0] <= errors[1] * (1 + 1e-9) + 1e-12).all())


def test_permuting_the_inputs_permutes_gptqs_codes():
    """Ordered by the diagonal, it does not matter in which order the columns came."""
    given = draw(2, 80, 30, 8, seed=2)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    permuted = Inputs(given.x[:, :, order], given.x_q[:, :, order], given.weight[:, order])
    grid = grid_of("int4", given.weight)
    first = Diffusion(given.stats, 0.01, "diagonal").round(given.weight, grid)
    second = Diffusion(permuted.stats, 0.01, "diagonal").round(permuted.weight, grid)
    assert torch.equal(first[:, order], second)


@pytest.mark.parametrize(
    "method", [Gptq(), Gptq(order="natural"), Gpfq(), Corrected(0.01, 0, (1.0,))]
)
@specs
def test_uncorrelated_inputs_leave_nothing_to_gain(method, spec):
    """x = x_q and H diagonal: nothing can make up for a rounding, so every method rounds to
    nearest.
    """
    powers = torch.tensor([2.0, 0.5, 1.0, 3.0, 0.25, 1.5, 1.0, 4.0])
    x = torch.diag(powers.double().sqrt())[None]
    weight = draw(1, 8, 8, 6, seed=4).weight
    fit, stats = fitter(SPECS[spec]), Inputs(x, x, weight).trusted
    q, nearest = (each.round(weight, fit, stats) for each in (method, Nearest()))
    assert torch.equal(q.codes, nearest.codes)


def test_rows_that_nearest_serves_better_are_rounded_to_nearest():
    """GPFQ often loses to nearest with clipping grids; then the row, and only it, is nearest's."""
    fit = fitter(GridSpec(TERNARY, PerChannel()))
    changed = kept = 0
    for seed in range(20):
        given = draw(1, 60, 10, 8, seed=seed)
        grid = fit(given.weight)
        path, nearest = follow_path(given.weight, grid, given.stats), grid.quantize(given.weight)
        q = Gpfq().round(given.weight, fit, given.stats).dequantize()
        errors = [output_error(given.weight, each, given.x, given.x_q) for each in (path, nearest)]
        better = errors[0] <= errors[1]
        assert torch.equal(q, torch.where(better[:, None], path, nearest))
        changed, kept = changed + int(better.sum()), kept + int((~better).sum())
    assert changed > 0 and kept > 0


def test_the_range_is_fitted_to_the_weights_that_are_rounded():
    """Corrected asks for the grid of its target, and of the weights themselves for the fallback."""
    given = draw(1, 60, 10, 4, mismatch=0.5)
    asked: list[torch.Tensor] = []

    def fit(weight):
        asked.append(weight.clone())
        return fit_grid(MinMax(), weight, SPECS["int4"])

    Corrected(damping=0.05).round(given.weight, fit, given.trusted)
    torch.testing.assert_close(asked[0], corrected_target(given.weight, given.stats, 0.05))
    assert torch.equal(asked[1], given.weight)
