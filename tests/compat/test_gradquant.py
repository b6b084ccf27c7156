"""What the functions of GradQuant's author return, run unmodified on inputs given by formulas, and
where they go wrong.

The golden values lie beside the repository, in ../shared/oracles; without them only the last tests
run.
"""

import json
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subbyte.compat.gradquant import distance, divergence, quantize, search, taylor
from subbyte.errors import NumericsError
from subbyte.ranges.clips import best, clip_spec, clipped_grid, fractions, scores
from subbyte.ranges.metrics import Evidence, Mse

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles" / "gradquant-ldnq.json"
CLIPS = fractions(0, 1, 100)


@cache
def golden(key: str) -> Any:
    if not ORACLES.parent.is_dir():
        pytest.skip(f"no golden values: {ORACLES.parent} does not exist")
    return json.loads(ORACLES.read_text())["gradquant"][key]


def wave(shape: tuple[int, ...], a: float, b: float, s: float) -> Tensor:
    """The oracles' formula: s sin(a i + b) exp(-(37 i mod 11) / 8) for the flat index i."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (s * torch.sin(a * i + b) * torch.exp(-((37 * i) % 11) / 8)).reshape(shape).float()


def given(key: str) -> Tensor:
    """An input [2, 27] as the oracle file spells it."""
    shape, numbers = re.fullmatch(r"wave\(\((.*)\),(.*)\)", golden("inputs")[key]).groups()  # type: ignore[union-attr]
    return wave(tuple(map(int, shape.split(","))), *map(float, numbers.split(","))).reshape(2, 27)


def blocks() -> Tensor:
    assert (
        golden("inputs")["hess"]
        == "per filter n: M=wave((27,27),0.37+0.1*n,0.5,1.0); H_n=(M+M^T)/2"
    )
    return torch.stack(
        [(M + M.T) / 2 for M in (wave((27, 27), 0.37 + 0.1 * n, 0.5, 1.0) for n in range(2))]
    )


def test_every_quantizer_and_metric_as_the_original():
    weight, gradient, hessian = given("param"), given("grad"), blocks()
    cases = golden("weightQuantize")
    assert len(cases) == 18
    for case in cases:
        q = quantize(weight, case["bits"], case["clipping"], symmetric=case["symmetric"])
        found = {"sum": float(q.double().sum()), "sumsq": float(q.double().square().sum())}
        expected = {"sum": case["sum"], "sumsq": case["sumsq"]}
        for metric, values in (
            ("mse", partial(distance, weight, q)),
            ("grad", partial(distance, weight, q, gradient=gradient)),
            ("hess", partial(distance, weight, q, gradient=gradient, hessian=hessian)),
            ("l3", lambda third, q=q: distance(weight, q, 1, gradient, hessian, third)),
            ("taylor", lambda order, q=q: taylor(weight, q, gradient, int(order))),
        ):
            found |= {f"{metric} {key}": float(values(float(key))) for key in case[metric]}
            expected |= {f"{metric} {key}": value for key, value in case[metric].items()}
        if case["klDivParam"] is not None:
            reach = float(weight.abs().max()) * case["clipping"]
            found["kl"], expected["kl"] = (
                float(divergence(weight, q, case["bits"], reach)),
                case["klDivParam"],
            )
        for key, value in expected.items():
            # terms of both signs cancel in the quadratic form: what float32 grants is 1e-6 of their
            # sizes
            form = key.startswith(("hess", "l3"))
            power = float(key.split()[1]) if key.startswith("hess") else 1.0
            size = (
                float(distance(weight, q, power, gradient, hessian.abs())) if form else abs(value)
            )
            assert found[key] == pytest.approx(value, abs=1e-6 * size, rel=0), (
                case["bits"],
                case["clipping"],
                key,
            )
        if case["levels"] is not None:
            assert q.unique().tolist() == pytest.approx(case["levels"], rel=1e-6, abs=1e-8)


def test_every_search_as_the_original():
    weight, gradient = given("param"), given("grad")
    cases = golden("layer_search")
    assert len(cases) == 18
    for case in cases:
        name, power = case["metric"][:-1], float(case["metric"][-1])
        clip, cost, q = search(
            weight, case["bits"], CLIPS, power, gradient if name == "grad" else None
        )
        assert clip == case["best_clip"]
        found = cost, float(q.double().sum()), float(q.double().square().sum())
        assert found == pytest.approx((case["value"], case["sum"], case["sumsq"]), rel=1e-6)


def default(weight: Tensor, bits: int, *, symmetric: bool) -> Tensor:
    """The weights on the grid that `clips` finds row by row for the mean square error."""
    spec = clip_spec(bits, symmetric=symmetric, per_channel=True)
    tried = CLIPS.expand(len(weight), -1)
    clip = best(scores(weight, spec, tried, tried, [Mse()], Evidence())[0], CLIPS)
    return clipped_grid(weight, spec, clip, clip).quantize(weight)


def test_ranges_without_zero_lose_less():
    """All weights of one sign: the original's range does not hold its own values once it is
    clipped.
    """
    weight = torch.linspace(0.5, 0.8, 7)[None]
    assert quantize(weight, 2, 0.5, symmetric=False).unique().tolist() == pytest.approx([0.4])
    spec = clip_spec(2, symmetric=False, per_channel=True)
    half = clipped_grid(weight, spec, torch.tensor([0.5]), torch.tensor([0.5]))
    assert half.quantize(torch.tensor([[0.0, 0.4]])).tolist() == [[0.0, pytest.approx(0.4)]]
    for sign in (1, -1):
        assert (
            default(sign * weight, 8, symmetric=False) - sign * weight
        ).abs().max() <= 0.8 / 255 / 2 + 1e-6


def test_zero_is_a_level():
    """Sparse weights: on the original's symmetric grids every 0 becomes half a step."""
    weight = torch.zeros(1, 50)
    weight[0, :4] = torch.tensor([0.4, -0.5, 0.3, 0.1])
    for bits in (2, 3, 4):
        theirs = min(
            float(distance(weight, quantize(weight, bits, c, symmetric=True), 2))
            for c in CLIPS.tolist()
        )
        ours = default(weight, bits, symmetric=True)
        assert float(distance(weight, ours, 2)) < theirs / 2 and not ours[0, 4:].any()


@pytest.mark.parametrize("value", [0.3, -0.3, 0.0])
def test_constant_channels_are_exact(value):
    weight = torch.full((1, 5), value)
    assert quantize(weight, 4, 0.5, symmetric=False).isnan().all()
    for bits in range(1, 9):
        for symmetric in (True, False):
            q = default(weight, bits, symmetric=symmetric)
            assert q[0].tolist() == pytest.approx(weight[0].tolist()), (bits, symmetric)


def test_kl_of_channels_without_positive_weights():
    with pytest.raises(NumericsError, match="above 0"):
        divergence(torch.tensor([[-0.2, -0.1]]), torch.tensor([[-0.2, -0.2]]), 2, -0.1)
