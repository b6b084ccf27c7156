"""What settings of single methods do: chance, penalties, codebooks, preconditioning, the size of
blocks.
"""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from subbyte.core import GridSpec, PerChannel, Uniform, share_of, unpack
from subbyte.errors import RecipeError
from subbyte.precondition import Magr
from subbyte.precondition.magr import project_l1
from subbyte.ranges import GridFitter, MinMax
from subbyte.rounding import (
    ROUNDINGS,
    Descent,
    Gpfq,
    Gptaq,
    Gptq,
    Kmeans,
    Qronos,
    Spfq,
    Stochastic,
    sweeps,
    turns,
)
from subbyte.rounding.path import follow_path
from subbyte.testing.cases import INPUTS, SPECS, Fixed, Inputs, draw, fitter
from tests.rounding.test_rounding import LARGE, error, run

RANDOM = {
    "stochastic": lambda seed: Stochastic(draws=1, fallback=False, seed=seed),
    "spfq": lambda seed: Spfq(fallback=False, seed=seed),
    "gpfq": lambda seed: Gpfq(stochastic=True, seed=seed),
}
random_methods = pytest.mark.parametrize("method", RANDOM.values(), ids=RANDOM)


# ------------------------------------------------------------------------------------------------
# chance


@pytest.mark.parametrize("spec", SPECS)
def test_random_codes_are_neighbours_and_right_on_average(spec):
    """400 draws: the mean is within five standard deviations of the weight, where the grid reaches
    it.
    """
    given, draws = INPUTS["grouped"], 400
    grid = GridFitter(MinMax(), SPECS[spec])(given.weight)
    nearest = grid.encode(given.weight).long()
    below = torch.where(grid.decode(nearest) <= given.weight, nearest, nearest - 1).clamp(
        grid.spec.alphabet.qmin
    )
    above = torch.where(grid.decode(below) < given.weight, below + 1, below).clamp(
        max=grid.spec.alphabet.qmax
    )
    low, high = grid.decode(below), grid.decode(above)
    total = torch.zeros_like(given.weight, dtype=torch.float64)
    for seed in range(draws):
        q = RANDOM["stochastic"](seed).round(given.weight, Fixed(grid), given.stats)
        codes = q.codes.long()
        assert bool(((codes == below) | (codes == above) | (codes == nearest)).all())
        total += q.dequantize()
    inside = (low <= given.weight) & (given.weight <= high)
    deviation = ((high - given.weight) * (given.weight - low)).clamp_min(0).sqrt() / math.sqrt(
        draws
    )
    distance = (total / draws - given.weight).abs()
    step = (high - low).clamp_min(1e-9)
    assert inside.float().mean() > 0.8
    assert bool((distance <= 5 * deviation + 2e-3 * step)[inside].all())
    assert float((distance / step)[inside].mean()) < 0.02


@random_methods
@pytest.mark.parametrize("spec", ["int4", "ternary", "levels"])
def test_the_seed_decides(method, spec):
    given = LARGE["large"]
    first, again, other = (run(method(seed), given, spec).codes for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fallback", [True, False])
def test_more_draws_are_no_worse(fallback):
    """They go on from the same ones."""
    given = LARGE["large"]
    errors = [error(given, run(Stochastic(n, fallback), given, "int4")) for n in (1, 2, 8, 32)]
    assert all(bool((b <= a * (1 + 1e-9)).all()) and b.sum() < a.sum() for a, b in pairwise(errors))


# ------------------------------------------------------------------------------------------------
# penalties


@pytest.mark.parametrize(
    ("regularizer", "penalties"),
    [("L1", (0.0, 0.04, 0.08, 0.12)), ("L0", (0.005, 0.04, 0.08, 0.12))],
)
@pytest.mark.parametrize("spec", ["int4", "int4 tensor"])
def test_a_higher_penalty_gives_more_zeros(regularizer, penalties, spec):
    """With L0 from the first penalty on: without one its 0 has no neighbour nearer than a step, and
    draws in more.
    """
    given = draw(1, 100, 40, 30, mismatch=0.2, seed=21)
    fit = GridFitter(MinMax(), SPECS[spec])
    zeros = [
        Gpfq(regularizer=regularizer, penalty=penalty).round(given.weight, fit, given.stats).zeros
        for penalty in penalties
    ]
    assert all(b > a + 1 for a, b in pairwise(zeros))


@pytest.mark.parametrize("spec", ["int4", "int4 tensor"])
@pytest.mark.parametrize("penalty", [0.01, 0.05])
def test_l0s_codes_are_zero_or_beyond_the_penalty(penalty, spec):
    given = LARGE["large"]
    q = Gpfq(regularizer="L0", penalty=penalty).round(
        given.weight, GridFitter(MinMax(), SPECS[spec]), given.stats
    )
    grid = GridFitter(MinMax(), SPECS[spec])(given.weight)
    values = q.dequantize()
    assert bool(((values == 0) | (values.abs() >= penalty * (1 - 1e-6))).all())
    assert (values == 0).any() and (values != 0).any()
    ends = grid.scale.reshape(-1) * torch.tensor(
        [[grid.spec.alphabet.qmin], [grid.spec.alphabet.qmax]]
    )
    below = (
        penalty
        + (grid.scale.reshape(-1) - penalty / grid.spec.alphabet.qmax) * -grid.spec.alphabet.qmin
    )
    torch.testing.assert_close(q.grid.own[:, -1], ends[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(q.grid.own[:, 0], -below, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("bits", "wide", "count"), [(4, False, 18), (4, True, 19), (8, False, 258), (8, True, 259)]
)
def test_l0_has_two_levels_more_than_the_grid(bits, wide, count):
    """+-penalty; with 8 bits that is more than bytes count."""
    given = LARGE["large"]
    fit = GridFitter(MinMax(), GridSpec(Uniform(bits, wide=wide), PerChannel()))
    q = Gpfq(regularizer="L0", penalty=1e-3).round(given.weight, fit, given.stats)
    assert q.grid.own.shape == (len(given.weight), count)
    assert torch.equal(q.grid.encode(q.dequantize()), q.codes)
    assert torch.equal(unpack(q.pack(), q.grid, tuple(q.codes.shape)), q.codes)


@pytest.mark.parametrize("spec", ["int4", "ternary", "int4 tensor"])
@pytest.mark.parametrize("regularizer", ["L0", "L1"])
def test_no_penalty_is_the_path_itself(regularizer, spec):
    given = LARGE["large"]
    grid = fitter(SPECS[spec])(given.weight)
    q = Gpfq(regularizer=regularizer).round(given.weight, Fixed(grid), given.stats)
    torch.testing.assert_close(
        q.dequantize(), follow_path(given.weight, grid, given.stats), rtol=1e-6, atol=0
    )


def test_penalties_that_leave_no_room_are_refused():
    given = LARGE["large"]
    reach = float((fitter(SPECS["int4"])(given.weight).scale * 7).min())
    with pytest.raises(RecipeError, match="lower it"):
        run(Gpfq(regularizer="L0", penalty=1.01 * reach), given, "int4")
    run(Gpfq(regularizer="L0", penalty=0.9 * reach), given, "int4")
    assert not run(Gpfq(regularizer="L1", penalty=1e3), given, "int4").dequantize().any()


@pytest.mark.parametrize("spec", ["uint2", "uint3 groups", "levels"])
def test_l0_needs_a_symmetric_uniform_grid(spec):
    with pytest.raises(RecipeError, match="symmetric"):
        run(Gpfq(regularizer="L0", penalty=0.01), LARGE["large"], spec)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gpfq(penalty=0.1),
        lambda: Gpfq(regularizer="L1", penalty=-0.1),
        lambda: Spfq(order=0),
        lambda: Stochastic(draws=0),
        lambda: Descent(sweeps=0),
        lambda: Gptaq(damping=-1),
        lambda: Qronos(damping=-1),
        lambda: Kmeans(keep_mean=True).check(SPECS["int4 tensor"]),
        lambda: Gpfq(regularizer="L0", penalty=1e-46),
        lambda: Gptaq(strength=-1),
        lambda: Magr(strength=0),
        lambda: Magr(steps=0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(RecipeError):
        make()


# ------------------------------------------------------------------------------------------------
# k-means


def importance(given: Inputs) -> Tensor:
    """H's diagonal for every weight."""
    power = given.stats.power
    return power[:, None].expand_as(given.stats.grouped(given.weight)).reshape(given.weight.shape)


CLUSTERED = draw(2, 60, 80, 12, seed=31)


@pytest.mark.parametrize("spec", ["int4", "ternary", "uint2"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_every_used_level_is_the_mean_of_its_weights(granularity, weighted, spec):
    """But for rows that keep the levels which the search started from."""
    given, fit = CLUSTERED, fitter(replace(SPECS[spec], share=share_of(granularity)))
    q = Kmeans(weighted=weighted).round(given.weight, fit, given.stats)
    shares = importance(given) if weighted else torch.ones_like(given.weight, dtype=torch.float64)
    rows = 1 if granularity == "tensor" else len(given.weight)
    start = fit(given.weight)
    codes = torch.arange(start.spec.alphabet.qmin, start.spec.alphabet.qmax + 1).expand(rows, -1)
    kept = torch.isclose(start.decode(codes), q.grid.own).all(1)
    assert q.grid.own.shape == (rows, SPECS[spec].alphabet.count) and not kept.all()
    blocks = (x.reshape(rows, -1) for x in (given.weight, shares, q.codes.long()))
    for w, share, own, levels in zip(*(x[~kept] for x in (*blocks, q.grid.own)), strict=True):
        for code in own.unique():
            mean = (share * w)[own == code].sum() / share[own == code].sum()
            assert float(mean) == pytest.approx(
                float(levels[code]), abs=1e-5 * float(w.abs().max())
            )


@pytest.mark.parametrize("spec", ["int4", "ternary", "levels"])
def test_keep_mean_keeps_the_mean_of_every_row(spec):
    given, fit = CLUSTERED, fitter(SPECS[spec])
    plain, kept = (Kmeans(keep_mean=k).round(given.weight, fit, given.stats) for k in (False, True))
    wanted = given.weight.double().mean(1)
    torch.testing.assert_close(kept.dequantize().double().mean(1), wanted, rtol=0, atol=1e-6)
    assert float((plain.dequantize().double().mean(1) - wanted).abs().max()) > 1e-3
    assert torch.equal(kept.codes, plain.codes)


def test_few_different_weights_are_kept_exactly():
    weight = torch.tensor([[0.3, -0.1, 0.3, 0.7], [0.0, 0.0, 0.0, 0.0]])
    for spec in ("int4", "int4 tensor"):
        q = Kmeans().round(weight, fitter(SPECS[spec]), draw(1, 9, 4, 2).stats)
        assert torch.equal(q.dequantize(), weight)


# ------------------------------------------------------------------------------------------------
# MagR


@pytest.mark.parametrize("case", ["large", "large, grouped"])
def test_magr_pulls_in_the_largest_weights_and_keeps_the_outputs(case):
    given = LARGE[case]
    z = Magr().prepare(given.weight, given.stats)
    assert z.shape == given.weight.shape and z.dtype == torch.float32
    assert bool((z.abs().amax(1) < given.weight.abs().amax(1)).all())
    difference = given.stats.of_quantized().output_error(given.weight, z)
    power = given.stats.of_quantized().output_error(given.weight, torch.zeros_like(z))
    assert bool((difference < 0.01 * power).all())


def test_magr_is_free_to_move_what_the_inputs_do_not_see():
    """Fewer rows than columns: peaks shrink much more than the outputs change."""
    given = draw(1, 8, 40, 10, seed=41)
    z = Magr(strength=1e-3, steps=3000).prepare(given.weight, given.stats)
    shrunk = z.abs().amax(1) / given.weight.abs().amax(1)
    lost = given.stats.output_error(given.weight, z) / given.stats.output_error(given.weight, 0 * z)
    assert float(shrunk.max()) < 0.8 and float(lost.max()) < 1e-3


@pytest.mark.parametrize(("strength", "steps"), [(0.003, 5000), (0.03, 1000)])
@pytest.mark.parametrize("seed", range(3))
def test_magr_solves_its_problem(seed, strength, steps):
    """Against a general solver of the smooth form: t instead of max|z|, with -t <= z <= t."""
    given = draw(1, 40, 7, 4, seed=seed)
    H = given.stats.H[0].numpy() / float(torch.linalg.eigvalsh(given.stats.H[0])[-1])
    got = Magr(strength=strength, steps=steps).prepare(given.weight, given.stats).double().numpy()
    for row, w in enumerate(given.weight.double().numpy()):
        pull = strength * np.sqrt((w**2).mean())

        def objective(z: np.ndarray, w: np.ndarray = w, pull: float = pull) -> float:
            return float(0.5 * (z - w) @ H @ (z - w) + pull * np.abs(z).max())

        bounds = {"type": "ineq", "fun": lambda v: np.concatenate([v[-1] - v[:-1], v[-1] + v[:-1]])}
        found = minimize(
            lambda v, w=w, pull=pull: 0.5 * (v[:-1] - w) @ H @ (v[:-1] - w) + pull * v[-1],
            np.append(w, np.abs(w).max()),
            jac=lambda v, w=w, pull=pull: np.append(H @ (v[:-1] - w), pull),
            constraints=bounds,
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-14},
        )
        best = objective(found.x[:-1])
        assert objective(got[row]) <= best * (1 + 2e-3) + 1e-9
        assert best <= objective(w)


@pytest.mark.parametrize("radius", [0.1, 1.0, 5.0, 100.0])
def test_the_projection_on_the_l1_ball_is_the_nearest_point(radius):
    """In the ball, and at an obtuse angle to every corner of it; points inside stay."""
    points = torch.randn(20, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = project_l1(points, radius)
    assert bool((got.abs().sum(1) <= radius * (1 + 1e-12)).all())
    inside = points.abs().sum(1) <= radius
    assert torch.equal(got[inside], points[inside])
    for corner in torch.cat([torch.eye(9), -torch.eye(9)]).double() * radius:
        assert bool((((points - got) * (corner - got)).sum(1) <= 1e-9).all())


# ------------------------------------------------------------------------------------------------
# blocks

WIDE = draw(1, 500, 300, 12, mismatch=0.3, seed=51)
BLOCKED = {
    "gpfq": Gpfq(),
    "gpfq, x": Gpfq(data="float", order="diagonal"),
    "gptq": Gptq(),
    "gptaq": Gptaq(strength=1.0),
    "qronos": Qronos(),
    "descent": Descent(sweeps=2),
}


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.parametrize("size", [7, 300])
def test_blocks_do_not_change_the_codes(name, size, monkeypatch):
    """Float32 sums in another order may decide a near-tie otherwise: at most one row, no worse."""
    whole = run(BLOCKED[name], WIDE, "int4")
    monkeypatch.setattr(turns, "_FEW", size)
    monkeypatch.setattr(sweeps, "_BLOCK", size)
    monkeypatch.setattr(sweeps, "_TOGETHER", size)
    parted = run(BLOCKED[name], WIDE, "int4")
    differ = (whole.codes != parted.codes).any(1)
    assert int(differ.sum()) <= 1
    torch.testing.assert_close(
        error(WIDE, parted)[differ], error(WIDE, whole)[differ], rtol=0.05, atol=0
    )
    torch.testing.assert_close(
        error(WIDE, parted)[~differ], error(WIDE, whole)[~differ], rtol=1e-5, atol=0
    )


# ------------------------------------------------------------------------------------------------
# ends of float32


@pytest.mark.parametrize("method", ROUNDINGS)
def test_inputs_so_small_that_their_power_is_nearly_nothing(method):
    """One column, or all: 1e-42 is not 0 in float64, and less than float32 has numbers for."""
    given = draw(1, 40, 8, 4, mismatch=0.3)
    fit = fitter(SPECS["int4"])
    wanted = ROUNDINGS[method]().round(given.weight, fit, given.stats)
    tiny = replace(given, x=given.x * 1e-21, x_q=given.x_q * 1e-21)
    assert torch.equal(ROUNDINGS[method]().round(given.weight, fit, tiny.stats).codes, wanted.codes)
    x, x_q = given.x.clone(), given.x_q.clone()
    x[..., 3] *= 1e-21
    x_q[..., 3] *= 1e-21
    q = ROUNDINGS[method]().round(given.weight, fit, replace(given, x=x, x_q=x_q).stats)
    assert torch.isfinite(q.dequantize()).all()
