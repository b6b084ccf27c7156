"""Activations with a scale a channel, bits of their own or a range for every batch; weights with
bits of their own.
"""

import re
from functools import cache

import pytest
import torch
from torch import nn

import subbyte
from subbyte.core import Grid, GridSpec, PerChannel, Widths
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import RecipeError
from subbyte.graph import FakeQuantize
from subbyte.recipe import load_recipe

CHANNEL = "activations.granularity=channel"
SETTINGS = {
    "scales": [
        CHANNEL,
        "activations.symmetric=true",
        "others.granularity=channel",
        "input.granularity=channel",
    ],
    "bits": [CHANNEL, "activations.allocate=optimum", "activations.bits=4.5"],
    "batches": ["activations.dynamic=true", "activations.range=minmax"],
    "batches, scales": [
        CHANNEL,
        "activations.dynamic=true",
        "activations.range={name: aciq, prior: laplace}",
    ],
    "weights": ["weights.allocate=optimum", "weights.bits=2.5"],
    "levels": [
        "budget=5bits",
        "budget_for=channels",
        "weights.rounding=gptq",
        "widths=[ternary, 2 odd, 3 wide, 6]",
    ],
    "weights, asymmetric": [
        "weights.allocate=aciq",
        "weights.symmetric=false",
        "weights.rounding=nearest",
    ],
}
every_setting = pytest.mark.parametrize("name", SETTINGS)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 8, 3, groups=4, stride=2),
            nn.Hardswish(),
            nn.Flatten(1, 2),
            nn.Linear(4, 6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(192, 5),
        ).eval()


def images(count: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(1))


@cache
def quantized(name: str) -> QuantizedModel:
    return subbyte.quantize(network(), images(), load_recipe("w4a4", SETTINGS[name]))


@every_setting
def test_it_stays_near_the_float_network(name):
    wanted, got = network()(images()).detach(), quantized(name)(images())
    assert float((got - wanted).square().mean() / wanted.var()) < 0.25


@every_setting
def test_the_packed_file_brings_it_back(name, tmp_path):
    subbyte.save(quantized(name), tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", network())
    assert torch.equal(again(images()), quantized(name)(images()))
    assert again.ledger == quantized(name).ledger
    assert again.bits_per_weight == quantized(name).bits_per_weight


FILES = ("scales", "bits", "batches", "levels")
"""Weights of widths of their own are in a file as activations with such are."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FILES else pytest.mark.slow) for name in SETTINGS],
)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    export = subbyte.export(quantized(name), tmp_path / "net.onnx", images())
    # codes that lie on the edge go either way: how many depends on the processor's float sums
    assert export.parity.outputs[0].mean <= 0.05
    if "bits" in name or "weights" in name:
        assert any("channels of 0 to 8 bits" in note for note in export.notes.values())
    if name == "levels":
        notes = [note for layer, note in export.notes.items() if layer in quantized(name).weights]
        assert len(notes) == 4 and all(
            re.fullmatch(r"channels of 2 to \d+ levels in INT8", note) for note in notes
        )


@every_setting
def test_budgets_are_kept_and_told(name):
    model = quantized(name)
    taps = [model.instrumented.tap(tap.name).grid for tap in model.plan.taps]
    grids = [*filter(None, taps), *(weight.grid for weight in model.weights.values())]
    mixed = [grid for grid in grids if grid.spec.alphabet.own == "widths"]
    assert bool(mixed) == (name.split(",")[0] in ("bits", "weights"))
    for grid in mixed:
        assert float(grid.own.double().mean()) <= grid.spec.alphabet.mean
    rows = {row.name: row for row in model.ledger}
    for tap in model.plan.taps:
        assert ("range of every batch" in rows[tap.name].reason) == tap.dynamic
        assert ("a scale a channel" in rows[tap.name].reason) == (tap.place.axis is not None)
    if name == "weights":
        assert all(
            row.asked == "2.5 mixed" and row.bits.endswith("mixed")
            for row in rows.values()
            if row.kind == "layer"
        )


def test_channels_are_found_on_the_right_axis():
    model = quantized("scales")
    axes = {tap.name: tap.place.axis for tap in model.plan.taps}
    assert axes["0:out"] == 1  # convolutions: [n, channels, height, width]
    assert axes["6:out"] == 2  # linear layers on several vectors: [n, vectors, features]
    assert model.instrumented.tap("0:out").scale.shape == (12,)
    vectors = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    vector = subbyte.quantize(vectors, torch.randn(9, 4), load_recipe("w4a4", [CHANNEL]))
    assert any("one value a channel" in row.reason for row in vector.ledger)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (5, 3, 7)])
@pytest.mark.parametrize("signed", [True, False])
def test_a_tap_rounds_each_channel_on_its_own_grid(shape, signed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    spec = GridSpec(Widths(mean=4.0, bits=8, signed=signed, symmetric=False), PerChannel())
    zero = torch.tensor([[-1], [2], [1]]) if not signed else torch.tensor([[1], [2], [-3]])
    grid = Grid.of(
        spec, torch.tensor([[0.3], [0.2], [0.05]]), zero, own=torch.tensor([[0], [3], [8]])
    )
    tap = FakeQuantize("tap", 1)
    tap.set_grid(grid)
    wanted = (
        grid.quantize(x.movedim(1, 0).flatten(1))
        .reshape(shape[1], shape[0], *shape[2:])
        .movedim(0, 1)
    )
    torch.testing.assert_close(tap(x), wanted)


def test_dynamic_ranges_follow_the_batch():
    model = quantized("batches")
    few = images(4)
    once, larger = model.instrumented.tap("0:out"), 10 * torch.rand(2, 12, 3, 3)
    assert float((once(larger) - larger).abs().max()) <= float(larger.max()) / 15 / 2 * 1.001
    assert not torch.equal(model(few)[:1], model(few[:1]))  # the range is the batch's


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["activations.allocate=optimum"], "granularity channel"),
        (["activations.bits=2.5"], "allocate"),
        (["weights.bits=2.5"], "allocate"),
        (
            [
                CHANNEL,
                "activations.allocate=optimum",
                "activations.dynamic=true",
                "activations.range=minmax",
            ],
            "dynamic",
        ),
        (["activations.dynamic=true"], "closed form"),
        (["activations.dynamic=true", "activations.range=aciq"], "closed form"),
        (["weights.allocate=optimum", "weights.granularity=tensor"], "granularity channel"),
        (["weights.allocate=optimum", "weights.levels=odd"], "levels"),
        (["weights.allocate=optimum", "weights.bits=ternary"], "ternary"),
        (["weights.allocate=best"], "known: optimum"),
        (["weights.allocate=optimum", "weights.bits=0.5"], "2 to 8"),
        (["weights.allocate=optimum", "weights.rounding=kmeans"], "kmeans"),
        (["weights.allocate=optimum", "weights.rounding=beacon"], "beacon"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        subbyte.quantize(network(), images(4), load_recipe("w4a4", settings))
