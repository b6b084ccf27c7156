"""Two alphabets that the package does not know go all the way: range, round, pack, save, load,
export and report, from this file alone.
"""

from dataclasses import dataclass, replace

import pytest
import torch

import subbyte
from subbyte.core import ALPHABETS, Alphabet, Grid, GridSpec, PerChannel, PerGroup, Share
from subbyte.engine.evidence import activation_distributions, weight_distributions
from subbyte.errors import FormatError, RecipeError
from subbyte.graph import Samples
from subbyte.pages import distributions
from subbyte.ranges import GridFitter, MinMax, Mse, fit_grid
from subbyte.recipe import Plan, make_plan
from subbyte.rounding import ROUNDINGS
from subbyte.testing.cases import INPUTS
from tests.networks import build, captured, images
from tests.reference.grids import assert_nearest

NETWORK = "functional"


@dataclass(frozen=True)
class SumsOfPowersOfThree(Alphabet):
    """0, +-(3^i + 3^j) for i, j below `terms`: whole numbers."""

    terms: int = 3

    kind = "sums of powers of three"

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        powers = [3.0**k for k in range(self.terms)]
        sums = {a + b for a in powers for b in powers}
        return tuple(sorted({0.0} | sums | {-level for level in sums}))


@dataclass(frozen=True)
class Logarithmic(Alphabet):
    """+-2^(k/2) for k below `halvings`: no whole numbers, and no 0."""

    halvings: int = 8

    kind = "logarithmic"

    @property
    def positions(self) -> tuple[float, ...]:
        """See `Alphabet`."""
        sizes = [2 ** (k / 2) for k in range(self.halvings)]
        return tuple([-size for size in reversed(sizes)] + sizes)


THREES, LOGARITHMIC = SumsOfPowersOfThree(), Logarithmic()
both = pytest.mark.parametrize("alphabet", [THREES, LOGARITHMIC], ids=lambda a: a.kind)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Files name alphabets: their names are looked up here."""
    for alphabet in (SumsOfPowersOfThree, Logarithmic):
        monkeypatch.setitem(ALPHABETS, alphabet.kind, alphabet)


def plan_of(alphabet: Alphabet, share: Share, rounding: str) -> Plan:
    """A plan in which every weight has this alphabet."""
    plan = make_plan(captured(NETWORK), subbyte.load_recipe("w4a8"))
    spec, method = GridSpec(alphabet, share), ROUNDINGS[rounding]()
    layers = [replace(layer, spec=spec, rounding=method) for layer in plan.layers]
    return replace(plan, layers=tuple(layers))


@both
@pytest.mark.parametrize(
    ("share", "rounding"),
    [(PerChannel(), "gptq"), (PerGroup(5), "nearest")],
    ids=["channel", "group"],
)
def test_from_range_to_report(alphabet, share, rounding, tmp_path):
    network, x = captured(NETWORK), images(NETWORK)
    q = subbyte.quantize(build(NETWORK), x, plan_of(alphabet, share, rounding))
    bits = 4 + 1  # a code, and little more than its part of the scales
    for weight in q.weights.values():
        assert weight.grid.spec == GridSpec(alphabet, share)
        units = weight.grid.units(weight.codes)
        assert set(units.unique().tolist()) <= set(torch.tensor(alphabet.positions).tolist())
        assert len(weight.pack()) <= -(-weight.codes.numel() * bits // 8)
    assert {row.bits for row in q.ledger if row.kind == "layer"} == {alphabet.label}

    subbyte.save(q, tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", build(NETWORK, seed=2))
    assert torch.equal(again(x), q(x)) and again.plan == q.plan and again.ledger == q.ledger

    exported = subbyte.export(q, tmp_path / "net.onnx", x, to="onnx-int8")
    held = {exported.notes[name] for name in q.weights}
    if alphabet is THREES:
        assert held == {f"{alphabet.label} bits in INT8"}
    else:
        assert held == {"stored as float32: the levels are not whole numbers"}

    found = weight_distributions(network, q)
    for name, one in found.items():
        assert one.unit == "steps" and sum(one.taken) == q.weights[name].codes.numel()
        assert one.levels == pytest.approx(alphabet.positions, rel=1e-5)
    assert len(distributions.weights(found).items()) == len(q.weights)


@both
@pytest.mark.parametrize(
    "rounding", ["nearest", "stochastic", "corrected", "gptq", "gpfq", "descent"]
)
def test_roundings_stay_on_them_and_are_no_worse_than_nearest(alphabet, rounding):
    given = INPUTS["dense, x_q"]
    fit = GridFitter(Mse(steps=12), GridSpec(alphabet, PerChannel()))
    q = ROUNDINGS[rounding]().round(given.weight, fit, given.stats)
    assert q.grid.spec == fit.spec and torch.equal(q.grid.encode(q.dequantize()), q.codes)
    nearest = fit(given.weight).quantize(given.weight)
    got, bound = (given.stats.output_error(given.weight, w) for w in (q.dequantize(), nearest))
    assert rounding in ("stochastic", "gptq") or bool((got <= bound * (1 + 1e-6)).all())


@both
@pytest.mark.parametrize("share", [PerChannel(), PerGroup(5)], ids=lambda share: share.kind)
def test_ranges_are_searched_and_values_go_to_the_nearest(alphabet, share):
    x = torch.randn(6, 21, generator=torch.Generator().manual_seed(0))
    grid = fit_grid(Mse(), x, GridSpec(alphabet, share))
    assert_nearest(grid.encode(x), x, grid)
    error = (grid.quantize(x) - x).square().mean()
    for factor in (0.8, 1.25):
        other = grid.with_scale(factor * grid.scale)
        assert error < (other.quantize(x) - x).square().mean()
    assert GridSpec.from_dict(grid.spec.to_dict()) == grid.spec
    assert torch.equal(Grid.of_stored(grid.spec, grid.stored).scale, grid.scale)


@both
def test_activations_take_them(alphabet, tmp_path):
    x, plan = images(NETWORK), make_plan(captured(NETWORK), subbyte.load_recipe("w4a8"))
    taps = [replace(tap, spec=GridSpec(alphabet)) for tap in plan.taps]
    q = subbyte.quantize(build(NETWORK), x, replace(plan, taps=tuple(taps)))
    subbyte.save(q, tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", build(NETWORK, seed=2))
    assert torch.equal(again(x), q(x))
    found = activation_distributions(captured(NETWORK), q, Samples.of(x))
    assert all(len(one.levels) == alphabet.count for one in found.values())
    exported = subbyte.export(q, tmp_path / "net.onnx", x, to="onnx-int8")
    assert all(exported.notes[tap.name].endswith("levels in float32") for tap in taps)
    gap = (subbyte.runner(tmp_path / "net.onnx")(x) - q(x)).abs()
    assert float((gap < 1e-5).double().mean()) > 0.9  # near ties may fall to the other side
    apart = [replace(tap, dynamic=True, range=MinMax()) for tap in taps]
    q = subbyte.quantize(build(NETWORK), x, replace(plan, taps=tuple(apart)))
    with pytest.raises(RecipeError, match="differ by channel or batch"):
        subbyte.export(q, tmp_path / "other.onnx", x, to="onnx-int8")


def test_a_file_that_names_an_unknown_alphabet_is_refused(tmp_path, monkeypatch):
    q = subbyte.quantize(build(NETWORK), images(NETWORK), plan_of(THREES, PerChannel(), "nearest"))
    subbyte.save(q, tmp_path / "net.safetensors")
    monkeypatch.delitem(ALPHABETS, THREES.kind)
    with pytest.raises(FormatError, match=THREES.kind):
        subbyte.load(tmp_path / "net.safetensors", build(NETWORK))
