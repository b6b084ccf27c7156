"""The clip search: every metric against slow loops, the grids it tries, ends apart, rows with
nothing in them.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.core import Codebook, Grid, GridSpec, Levels, PerChannel, PerGroup, Uniform
from subbyte.errors import NumericsError, RecipeError
from subbyte.ranges import Clip, MinMax, clips, fit_grid
from subbyte.ranges.clips import best, clip_spec, clipped_grid, fractions, part_ends, scores
from subbyte.ranges.metrics import METRICS, Evidence, metric_name, parse_metric
from subbyte.stats import GradientStats
from tests.reference.grids import positions

EVERY = (
    "mse:2",
    "mse:0.5",
    "grad:1",
    "grad:1.5",
    "grad:1:signed",
    "fisher",
    "hessian",
    "gauss_newton",
    "kl",
)
CLIPS = fractions(0, 1, 9)


def test_fractions_are_decimals():
    assert fractions(0.5, 1, 100).tolist() == [(500 + 5 * k) / 1000 for k in range(1, 101)]
    assert fractions(0, 1, 3).tolist() == [0.333333333333, 0.666666666667, 1]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(rows: int = 4, columns: int = 12, groups: int = 2) -> tuple[Tensor, Evidence]:
    """A weight matrix with skewed rows, and evidence of all kinds."""
    weight = (draw(rows, columns) + torch.linspace(-1, 2, rows)[:, None]).float()
    x = draw(groups, 40, columns, seed=1)
    blocks = draw(rows, columns, columns, seed=2)
    gradients = GradientStats(
        draw(rows, columns, seed=3),
        draw(rows, columns, seed=4).abs(),
        draw(rows, columns, seed=5) ** 2,
        torch.arange(1, rows + 1).double(),
        40,
    )
    return weight, Evidence(gradients, (x.mT @ x / 40).float(), (blocks + blocks.mT).float())


def slow_kl(w: np.ndarray, levels: np.ndarray) -> float:
    n, bins = len(w), min(128, len(w))
    edges = np.linspace(min(w.min(), 0), max(w.max(), 0), bins + 1)[1:-1]
    middles = (levels[1:] + levels[:-1]) / 2
    knots = [2 * levels[0] - middles[0], *middles, 2 * levels[-1] - middles[-1]]
    heights = [0, *((w <= m).sum() for m in middles), n]

    def shares(below: np.ndarray) -> np.ndarray:
        return (np.diff([0, *below, n]) + 1 / bins) / (n + 1)

    p, q = (
        shares(np.array([(w <= e).sum() for e in edges])),
        shares(np.interp(edges, knots, heights)),
    )
    return float(n * (p * np.log(p / q)).sum())


def slow(
    name: str, w: np.ndarray, q: np.ndarray, row: int, evidence: Evidence, levels: np.ndarray
) -> float:
    """One row on one grid."""
    e, g = q - w, evidence.gradients
    assert g is not None and evidence.H is not None and evidence.hessian is not None
    H = evidence.H.double().numpy()[row // (len(evidence.hessian) // len(evidence.H))]
    gradient, absolute, fisher = (part[row].numpy() for part in (g.gradient, g.absolute, g.fisher))
    B = evidence.hessian[row].double().numpy()
    return {
        "mse:2": lambda: float((e**2).sum()),
        "mse:0.5": lambda: float((abs(e) ** 0.5).sum()),
        "grad:1": lambda: float((absolute * abs(e)).sum()),
        "grad:1.5": lambda: float((absolute * abs(e) ** 1.5).sum()),
        "grad:1:signed": lambda: abs(float(gradient @ e)),
        "fisher": lambda: float((fisher * e**2).sum() / 2),
        "hessian": lambda: float(gradient @ e + e @ B @ e / 2),
        "gauss_newton": lambda: float(g.outputs[row]) * float(e @ H @ e) / 2,
        "kl": lambda: slow_kl(w, levels),
    }[name]()


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("bits", "symmetric"), [(1, True), (1, False), (2, True), (3, False), (5, False)]
)
def test_every_metric_says_what_a_slow_loop_says(bits, symmetric, per_channel, monkeypatch):
    monkeypatch.setattr(clips, "_MAX_ELEMENTS", 200)  # several chunks
    weight, evidence = problem()
    spec = clip_spec(bits, symmetric=symmetric, per_channel=per_channel)
    units = len(weight) if per_channel else 1
    lower, upper = CLIPS.expand(units, -1), CLIPS.flip(0).expand(units, -1)
    found = scores(weight, spec, lower, upper, [parse_metric(name) for name in EVERY], evidence)
    assert found.shape == (len(EVERY), len(weight), len(CLIPS)) and found.dtype == torch.float64
    for k in range(len(CLIPS)):
        grid = clipped_grid(weight, spec, lower[:, k], upper[:, k])
        q = grid.quantize(weight).double().numpy()
        scale, zero = grid.scale.expand(len(weight), 1), grid.zero_point.expand(len(weight), 1)
        levels = ((positions(spec.alphabet) - zero) * scale).double().numpy()
        for m, name in enumerate(EVERY):
            expected = [
                slow(name, weight[row].double().numpy(), q[row], row, evidence, levels[row])
                for row in range(len(weight))
            ]
            assert found[m, :, k].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4), name


def test_the_hessian_is_exact_for_quadratic_losses():
    """L(q) - L(w), signs and the factor 1/2 included; where a layer has no blocks, Gauss-Newton
    stands in.
    """
    weight, evidence = problem(rows=1, groups=1)
    assert (
        evidence.hessian is not None and evidence.gradients is not None and evidence.H is not None
    )
    spec, B, lowest = (
        clip_spec(2, symmetric=False, per_channel=True),
        evidence.hessian[0].double(),
        draw(12, seed=9),
    )
    for blocks, curved in (
        (evidence.hessian, B),
        (None, evidence.H[0].double() * evidence.gradients.outputs[0]),
    ):

        def loss(w: Tensor, curved: Tensor = curved) -> Tensor:
            return (w - lowest) @ curved @ (w - lowest) / 2

        w = weight[0].double()
        g = GradientStats(
            (curved @ (w - lowest))[None], w[None], w[None], evidence.gradients.outputs, 1
        )
        found = scores(
            weight,
            spec,
            CLIPS[None],
            CLIPS[None],
            [METRICS["hessian"]()],
            Evidence(g, evidence.H, blocks),
        )
        for k, clip in enumerate(CLIPS):
            q = clipped_grid(weight, spec, clip[None], clip[None]).quantize(weight)[0].double()
            assert float(found[0, 0, k]) == pytest.approx(
                float(loss(q) - loss(w)), rel=1e-4, abs=1e-4
            )


@pytest.mark.parametrize("per_channel", [True, False])
def test_grids_grow_to_min_max_and_hold_zero(per_channel):
    weight, _ = problem()
    units = len(weight) if per_channel else 1
    for bits in range(1, 9):
        for symmetric in (True, False):
            spec = clip_spec(bits, symmetric=symmetric, per_channel=per_channel)
            assert spec.alphabet.count == 2**bits
            whole = clipped_grid(weight, spec, torch.ones(units), torch.ones(units))
            expected = fit_grid(MinMax(), weight, spec)
            assert torch.equal(whole.scale, expected.scale) and torch.equal(
                whole.zero_point, expected.zero_point
            )
            third = clipped_grid(
                weight, spec, torch.full((units,), 1 / 3), torch.full((units,), 1 / 3)
            )
            assert torch.allclose(third.scale, whole.scale / 3)
            if bits > 1 or not symmetric:
                assert not third.quantize(torch.zeros_like(weight)).any()


def test_ties_go_to_the_widest_clip():
    values = torch.tensor([[3.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    assert best(values, fractions(0, 1, 4)).tolist() == [0.75, 1.0, 0.25]
    assert fractions(0.2, 1, 4).tolist() == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_ends_apart_are_never_worse_and_cut_the_tail_only():
    weight = draw(6, 200, seed=7).float().clamp(-2, 2)
    weight[:, 0] = 8.0
    spec = clip_spec(3, symmetric=False, per_channel=True)
    tried = fractions(0, 1, 16)

    def score(lower: Tensor, upper: Tensor) -> Tensor:
        return scores(weight, spec, lower, upper, [METRICS["mse"]()], Evidence())[0]

    together = score(tried.expand(6, -1), tried.expand(6, -1))
    common = best(together, tried)
    lower, upper = part_ends(score, tried, common)
    cost = score(lower[:, None], upper[:, None])[:, 0]
    pairs = torch.cartesian_prod(tried, tried)
    of_all = score(pairs[:, 0].expand(6, -1), pairs[:, 1].expand(6, -1)).amin(1)
    assert bool((cost <= together.amin(1)).all()) and bool((cost >= of_all).all())
    assert cost.sum() < together.amin(1).sum() * 0.95
    assert lower.mean() > upper.mean()
    # no single move helps any more
    for end in tried:
        fixed = torch.full_like(lower, float(end))
        assert bool((score(fixed[:, None], upper[:, None])[:, 0] >= cost).all())
        assert bool((score(lower[:, None], fixed[:, None])[:, 0] >= cost).all())


@pytest.mark.parametrize(
    "row", [[0.0] * 4, [0.7] * 4, [-0.7] * 4, [-0.3], [1e-30, 0.0], [-5.0, -4.0, -1.0]]
)
def test_rows_with_little_in_them(row):
    """No NaN for any metric, and constant rows come out exactly."""
    weight = torch.tensor([row])
    ones = torch.ones(1, len(row)).double()
    evidence = Evidence(
        GradientStats(ones, ones, ones, ones[:, 0], 1), torch.eye(len(row))[None], None
    )
    for bits in range(1, 9):
        for symmetric in (True, False):
            spec = clip_spec(bits, symmetric=symmetric, per_channel=True)
            metrics = [parse_metric(name) for name in EVERY]
            found = scores(weight, spec, CLIPS[None], CLIPS[None], metrics, evidence)
            for name, values in zip(EVERY, found, strict=True):
                clip = best(values, CLIPS)
                q = clipped_grid(weight, spec, clip, clip).quantize(weight)
                assert bool(torch.isfinite(q).all())
                # with one sign of gradient the signed Hessian likes smaller weights better than
                # exact ones
                if len(set(row)) == 1 and name != "hessian":
                    assert q[0].tolist() == pytest.approx(row, rel=1e-6, abs=1e-30), (
                        name,
                        bits,
                        symmetric,
                    )


def test_metrics_as_text():
    for name in EVERY:
        assert metric_name(parse_metric(name)) == name
    assert (
        metric_name(parse_metric(" grad ")) == "grad:1"
        and metric_name(parse_metric("mse:2.0")) == "mse:2"
    )
    for bad in (
        "",
        "mes",
        "mse:two",
        "mse:2:3",
        "kl:5",
        "fisher:signed",
        "grad:2:signed",
        "mse:0",
        "mse:-1",
        "grad:nan",
    ):
        with pytest.raises(RecipeError):
            parse_metric(bad)


def test_bad_input_is_an_error():
    weight, evidence = problem()
    spec, mse = clip_spec(2, symmetric=True, per_channel=False), METRICS["mse"]()

    def run(
        weight: Tensor = weight, spec: GridSpec = spec, metric=mse, evidence: Evidence = evidence
    ) -> Tensor:
        return scores(weight, spec, CLIPS[None], CLIPS[None], [metric], evidence)

    with pytest.raises(NumericsError, match="1 weights are NaN or Inf"):
        run(torch.tensor([[1.0, math.inf]]))
    nan = GradientStats(*(torch.full((4, 12), math.nan),) * 3, torch.ones(4), 1)
    with pytest.raises(NumericsError, match="Fisher"):
        run(metric=METRICS["fisher"](), evidence=Evidence(nan))
    for name in ("fisher", "grad", "hessian", "gauss_newton"):
        with pytest.raises(RecipeError, match="was given none"):
            run(metric=METRICS[name](), evidence=Evidence())
    for wrong in (
        GridSpec(Uniform(4), PerGroup(4)),
        GridSpec(Codebook(4), PerChannel()),
        GridSpec(Levels((0, 1, 4)), PerChannel()),
    ):
        with pytest.raises(RecipeError, match="of a tensor or of each channel"):
            run(spec=wrong)
    for start, end, resolution in ((0, 0, 5), (-0.1, 1, 5), (0, 1, 0), (1, 0.5, 3)):
        with pytest.raises(RecipeError, match="clips must"):
            fractions(start, end, resolution)
    assert isinstance(clipped_grid(weight, spec, torch.ones(1), torch.ones(1)), Grid)


def test_the_range_of_stated_clips_is_the_grid_that_was_searched():
    (weight, _), spec = problem(), clip_spec(3, symmetric=False, per_channel=True)
    ends = [torch.tensor(part).double() for part in ((0.5, 0.75, 1, 0.1), (0.2, 0.3, 1.5, 1))]
    found = fit_grid(Clip(*(tuple(end.tolist()) for end in ends)), weight, spec)
    wanted = clipped_grid(weight, spec, *ends)
    assert torch.equal(found.scale, wanted.scale)
    assert torch.equal(found.zero_point, wanted.zero_point)
    for wrong, grid, message in (
        (Clip((0.5, 0.5), (0.5, 0.5)), spec, "for 2 channels, the layer has 4"),
        (Clip((0.5, 0.5)), spec, "as many numbers"),
        (Clip((0.5,) * 4, (0.5,) * 4), clip_spec(3, symmetric=True, per_channel=False), "channel"),
    ):
        with pytest.raises(RecipeError, match=message):
            fit_grid(wrong, weight, grid)
