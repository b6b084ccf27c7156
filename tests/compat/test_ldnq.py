"""What the functions of L-DNQ's authors return, run unmodified on inputs given by formulas, and
`compat: true`.

The golden values lie beside the repository, in ../shared/oracles; without them only the last tests
run.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subbyte.compat.ldnq import alternate, project, to_levels
from subbyte.core import GridSpec, Levels, PerChannel, Uniform
from subbyte.core.levels import POWER_COUNTS, powers
from subbyte.errors import RecipeError
from subbyte.ranges import GridFitter, MinMax
from subbyte.rounding import Ldnq
from subbyte.stats import LayerStats, Products
from subbyte.testing.cases import INPUTS, draw

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles" / "gradquant-ldnq.json"
POINTS, PROJECTIONS, RUNS = 17, 8, 20
counts = pytest.mark.parametrize("count", POWER_COUNTS)
runs = pytest.mark.parametrize("number", range(RUNS))


@cache
def golden(key: str) -> Any:
    if not ORACLES.parent.is_dir():
        pytest.skip(f"no golden values: {ORACLES.parent} does not exist")
    return json.loads(ORACLES.read_text())["ldnq"][key]


def wave(text: str) -> Tensor:
    """The oracles' formula: 'k*wave(shape,a,b,s)**p', s sin(a i + b) exp(-(37 i mod 11) / 8) for
    the flat index i.
    """
    factor, shape, numbers, power = re.fullmatch(
        r"(?:([\d.]+)\*)?wave\(\(([\d, ]+)\),([\d.,]+)\)(?:\*\*(\d))?", text
    ).groups()
    sizes = [int(size) for size in shape.split(",") if size.strip()]
    a, b, s = [*map(float, numbers.split(",")), 1.0][:3]
    i = torch.arange(int(torch.tensor(sizes).prod()), dtype=torch.float64)
    flat = s * torch.sin(a * i + b) * torch.exp(-((37 * i) % 11) / 8)
    return float(factor or 1) * flat.reshape(sizes) ** int(power or 1)


def problem(run: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """W [d, rows] and H [d, d]: a bias is one more row of W, with an input that is always 1."""
    kernel = wave(run["kernel"])
    W = kernel.reshape(len(kernel), -1).T
    if run["bias"] is not None:
        W = torch.cat([W, wave(run["bias"])[None]])
    X = wave(re.search(r"wave\(.*?\),[\d.,]+\)", run["hessian"]).group()).clamp_min(0)
    if "last column = 1" in run["hessian"]:
        X[:, -1] = 1
    return W, X.T @ X / len(X)


def error(G: Tensor, W: Tensor, H: Tensor) -> float:
    return float(((G - W).T @ H @ (G - W)).trace())


def sizes(G: Tensor) -> list[float]:
    """The different sizes of a quantized tensor's numbers, without 0."""
    found = sorted(set(G.abs().reshape(-1).tolist()) - {0.0})
    return [size for k, size in enumerate(found) if k == 0 or size > found[k - 1] * (1 + 1e-9)]


def test_the_golden_values_are_all_tried():
    assert {run["type"] for run in golden("ADMM")} == {"R", "C", "F", "F-"} and len(
        golden("ADMM")
    ) == RUNS
    assert len(golden("symmetric_projection")) == PROJECTIONS
    assert len(golden("quantize_alpha1")["V"]) == POINTS


@counts
def test_the_nearest_level_and_their_ties(count):
    points = golden("quantize_alpha1")
    got = to_levels(torch.tensor(points["V"], dtype=torch.float64), count)
    assert got.tolist() == points[str(count)]


@pytest.mark.parametrize("number", range(PROJECTIONS))
def test_the_projection(number):
    case = golden("symmetric_projection")[number]
    V = wave(case["V"])
    Q, scale, rounds = project(V, case["init_alpha"], case["kbits"])
    assert rounds == case["iters"]
    assert sizes(scale * Q) == pytest.approx(case["abs_levels"], abs=1e-8)
    assert float((V - scale * Q).square().sum()) == pytest.approx(case["sse"], rel=1e-9)


@runs
def test_the_alternation(number):
    run = golden("ADMM")[number]
    W, H = problem(run)
    start = float(W.abs().mean())
    first = start * to_levels(W / start, run["kbits"])
    Q, scale, iterations = alternate(W, H, run["kbits"])
    G = scale * Q
    assert error(first, W, H) == pytest.approx(run["init_error"], rel=1e-6)
    assert iterations == run["iters"]
    assert error(G, W, H) == pytest.approx(run["final_error"], rel=1e-6)
    assert sizes(G) == pytest.approx(run["abs_levels"], abs=1e-8)
    assert float(G.sum()) == pytest.approx(run["sum"], rel=1e-6, abs=1e-9)
    assert float(G.square().sum()) == pytest.approx(run["sumsq"], rel=1e-6)


def layer(run: dict[str, Any]) -> tuple[Tensor, LayerStats, GridFitter]:
    """A run of the oracles as a layer; mean inputs do not matter."""
    W, H = problem(run)
    mean = torch.zeros(1, len(H), dtype=torch.float64)
    stats = LayerStats(Products(H[None], H[None], H[None]), mean, mean, 60, 60)
    return (
        W.T.float().contiguous(),
        stats,
        GridFitter(MinMax(), GridSpec(Levels(powers(run["kbits"])))),
    )


@runs
def test_the_public_method_returns_the_same(number):
    run = golden("ADMM")[number]
    weight, stats, fit = layer(run)
    q = Ldnq(compat=True).round(weight, fit, stats)
    G = q.dequantize().double()
    assert q.grid.spec == fit.spec
    assert sizes(G) == pytest.approx(run["abs_levels"], rel=1e-6)
    W, H = problem(run)
    assert error(G.T, W, H) == pytest.approx(run["final_error"], rel=1e-5)
    assert float(G.square().sum()) == pytest.approx(run["sumsq"], rel=1e-6)


def test_our_own_mode_is_better_in_most_runs():
    """Not in all: both end in local minima."""
    ratios = []
    for run in golden("ADMM"):
        weight, stats, fit = layer(run)
        W, H = problem(run)
        ratios.append(
            error(Ldnq().round(weight, fit, stats).dequantize().double().T, W, H)
            / run["final_error"]
        )
    assert sum(ratio < 1 for ratio in ratios) >= 19
    assert float(torch.tensor(ratios).log().mean().exp()) < 0.4


@pytest.mark.parametrize("count", [9, 11])
def test_our_own_mode_is_better_where_their_scale_does_not_reach(count):
    """They start from mean |W| whatever the levels, so that the outer ones of many stay unused."""
    for seed in range(6):
        given = draw(1, 60, 12, 8, seed=seed)
        fit = GridFitter(MinMax(), GridSpec(Levels(powers(count))))
        ours, theirs = (
            given.stats.output_error(
                given.weight, method.round(given.weight, fit, given.stats).dequantize()
            ).sum()
            for method in (Ldnq(), Ldnq(compat=True))
        )
        assert ours < 0.9 * theirs


@pytest.mark.parametrize(
    "spec",
    [
        GridSpec(Levels(powers(5)), PerChannel()),
        GridSpec(Levels((-3, -1, 0, 1, 3))),
        GridSpec(Levels((-1, 1))),
        GridSpec(Uniform(3)),
    ],
)
def test_grids_that_they_do_not_know_are_refused(spec):
    given = INPUTS["dense"]
    with pytest.raises(RecipeError, match=r"ldnq.*compat"):
        Ldnq(compat=True).round(given.weight, GridFitter(MinMax(), spec), given.stats)


def test_grouped_layers_are_refused():
    given = INPUTS["grouped"]
    with pytest.raises(RecipeError, match="groups"):
        Ldnq(compat=True).round(
            given.weight, GridFitter(MinMax(), GridSpec(Levels(powers(3)))), given.stats
        )


def test_weights_of_zero_stay_zero():
    given = INPUTS["dense"]
    fit = GridFitter(MinMax(), GridSpec(Levels(powers(7))))
    q = Ldnq(compat=True).round(torch.zeros_like(given.weight), fit, given.stats)
    assert not q.dequantize().any()
