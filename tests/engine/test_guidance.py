"""Gradients in the walk: rows of inputs that weigh by them, and ranges that go by the importance of
weights.
"""

import pytest
import torch
from torch import Tensor

import subbyte
from subbyte.core import Convolution, Geometry
from subbyte.engine.guidance import Guide, gradient_stats, look_ahead
from subbyte.engine.layers import layer_stats, round_layer
from subbyte.engine.limits import Limits
from subbyte.errors import RecipeError
from subbyte.graph import Memory, Pair, Samples, instrument, layer_gradients, outputs
from subbyte.io.cache import NO_CACHE
from subbyte.io.processes import ALONE
from subbyte.ranges import RANGES, fit_grid
from subbyte.recipe import Plan, make_plan
from subbyte.stats import LayerStats, MomentCollector, Products, moments
from tests.networks import captured, images, walked
from tests.reference.geometries import GEOMETRIES
from tests.reference.operations import patch_matrix

KINDS = [
    "linear-3d",
    "conv2d-1x1-stride",
    "conv2d-groups",
    "conv2d-depthwise",
    "transposed2d-groups",
]
every_kind = pytest.mark.parametrize(
    ("geometry", "shape"), [GEOMETRIES[kind] for kind in KINDS], ids=KINDS
)


def inputs(geometry: Geometry, shape: tuple[int, ...], k: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer sees in both networks, and positive weights [batch, groups * k, positions]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4, *shape[1:]), generator=generator) + 0.3
    positions = patch_matrix(x, geometry).shape[1] // 4
    weights = torch.rand((4, geometry.groups * k, positions), generator=generator) ** 4
    return x, x + 0.5 * torch.randn(x.shape, generator=generator), weights


def reference(geometry: Geometry, x: Tensor, x_q: Tensor, weights: Tensor) -> LayerStats:
    """Row by row."""
    seen, seen_q = patch_matrix(x, geometry), patch_matrix(x_q, geometry)
    flat = weights.double().transpose(0, 1).flatten(1)  # [groups * k, rows]
    k = len(flat) // geometry.groups
    found: dict[str, list[Tensor]] = {name: [] for name in ("H", "G", "F", "mean", "mean_q")}
    for number, weight in enumerate(flat):
        rows, rows_q = seen[number // k], seen_q[number // k]
        pairs = {"H": (rows_q, rows_q), "G": (rows_q, rows), "F": (rows, rows)}
        for name, (left, right) in pairs.items():
            found[name].append(torch.einsum("m,mc,md->cd", weight, left, right) / weight.sum())
        found["mean"].append(weight @ rows / weight.sum())
        found["mean_q"].append(weight @ rows_q / weight.sum())
    H, G, F, mean, mean_q = (torch.stack(values) for values in found.values())
    return LayerStats(Products(H, G, F), mean, mean_q, seen.shape[1], seen.shape[1])


def assert_same(stats: LayerStats, wanted: LayerStats) -> None:
    for name in ("H", "G", "F", "mean", "mean_q"):
        torch.testing.assert_close(
            getattr(stats, name), getattr(wanted, name), rtol=1e-4, atol=1e-5
        )
    assert stats.rows == wanted.rows


@every_kind
@pytest.mark.parametrize("k", [1, 2])
def test_weighted_moments_are_weighted_sums_over_rows(geometry, shape, k, monkeypatch):
    x, x_q, weights = inputs(geometry, shape, k)
    monkeypatch.setattr(moments, "_MAX_ELEMENTS", 1)  # image by image
    collector = MomentCollector(geometry)
    collector.add(x[:1], x[:1].clone(), weights[:1])
    collector.add(x[1:3], x_q[1:3], weights[1:3])
    collector.add(x[3:], x_q[3:], weights[3:])
    assert_same(collector.finish(), reference(geometry, x, torch.cat([x[:1], x_q[1:]]), weights))


def test_chunks_may_agree_before_they_differ():
    geometry, shape = GEOMETRIES["conv2d-groups"]
    x, x_q, weights = inputs(geometry, shape, 2)
    collector = MomentCollector(geometry)
    collector.add(x[:2], x[:2], weights[:2])
    collector.add(x[2:], x_q[2:], weights[2:])
    assert_same(collector.finish(), reference(geometry, x, torch.cat([x[:2], x_q[2:]]), weights))


@every_kind
def test_equal_weights_change_nothing_and_the_rows_drawn_are_the_same(geometry, shape):
    x, x_q, weights = inputs(geometry, shape, 1)
    positions = weights.shape[2]
    plain, weighted = (MomentCollector(geometry, max(1, positions // 2)) for _ in range(2))
    plain.add(x, x_q)
    weighted.add(x, x_q, torch.full_like(weights, 3.0))
    assert_same(weighted.finish(), plain.finish())


def test_drawn_rows_keep_their_own_weights():
    geometry = Convolution((1, 1, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    x = torch.rand(6, 1, 5, 5) + 1
    collector = MomentCollector(geometry, 3)
    # sum of x / x over sum of 1 / x: the harmonic mean of the rows
    collector.add(x, x, 1 / x.reshape(6, 1, 25))
    stats = collector.finish()
    assert float(stats.H[0, 0, 0]) == pytest.approx(
        float(stats.mean[0, 0] * seen_sum(x, geometry)), rel=1e-5
    )


def seen_sum(x: Tensor, geometry: Geometry) -> float:
    """Plain mean of the rows that are drawn: with weights 1 / x, H / mean."""
    collector = MomentCollector(geometry, 3)
    collector.add(x, x)
    return float(collector.finish().mean)


def planned(name: str, recipe: str, *settings: str) -> Plan:
    return make_plan(captured(name), subbyte.load_recipe(recipe, list(settings)))


def looked(name: str, plan: Plan) -> Guide:
    network = captured(name)
    share = Limits(16).share(Samples.of(images(name)))
    return look_ahead(
        network,
        plan,
        instrument(network, []),
        share,
        Memory(2**30),
        "cpu",
        NO_CACHE,
    )


def test_importance_is_that_of_gradient_stats_for_layers_that_want_it():
    settings = (
        "weights.range=fisher",
        "layers.fc.weights.range=gradient",
        "layers.stem.weights.range=mse",
    )
    guide = looked("residual", planned("residual", "w4", *settings))
    stats = gradient_stats(captured("residual"), images("residual"), batch=16)
    assert set(guide.importance) == set(stats) - {"stem"}
    for name, importance in guide.importance.items():
        wanted = stats[name].absolute if name == "fc" else stats[name].fisher
        assert torch.equal(importance, wanted) and float(importance.max()) > 0


def test_weights_of_rows_are_mean_squared_gradients_relative_to_their_mean():
    plan = planned("mobile", "w4", "weights.guided=3", "layers.stem*.weights.guided=0")
    guide, network = looked("mobile", plan), captured("mobile")
    # of 8 groups of 1, 8, 4 groups of 3, 4 channels
    parts = {"depthwise.0": 8, "point.0": 2, "grouped": 12, "fc": 2}
    generator = torch.Generator().manual_seed(0)
    squares: dict[str, list[Tensor]] = {name: [] for name in parts}
    for chunk in Samples.of(images("mobile")).split(16):
        ((_, calls),) = layer_gradients(
            instrument(network, []), chunk, outputs(generator), {name: name for name in parts}
        )
        for name, count in parts.items():
            ((_, g),) = calls[name]
            squares[name].append(g.reshape(len(g), count, -1, g[0, 0].numel()).square().mean(2))
    for name, count in parts.items():
        taken = guide.take(name)
        assert [len(chunk) for chunk in taken] == [16, 24] and taken[0].shape[1] == count
        whole = torch.cat(squares[name])
        mean = whole.mean((0, 2), keepdim=True)
        wanted = whole / torch.where(mean > 0, mean, 1.0)
        torch.testing.assert_close(torch.cat(taken), wanted, rtol=0.02, atol=1e-4)
    with pytest.raises(KeyError):
        guide.take("stem.0")


def test_rows_on_which_nothing_depends_weigh_alike():
    guide = Guide(Memory(2**20), ALONE)
    guide.add("fc", torch.zeros(2, 1, 3))
    (taken,) = guide.take("fc")
    assert bool((taken > 0).all()) and len(taken.unique()) == 1


def test_memory_is_given_back():
    memory = Memory(2**30)
    guide = Guide(memory, ALONE)
    guide.add("fc", torch.rand(4, 2, 8).bfloat16())
    assert memory.used == 4 * 2 * 8 * 2
    guide.take("fc")
    assert memory.used == 0


def test_only_rounding_is_guided():
    """Nearest does not look at statistics, so range, codes and correction must be those without
    guidance.
    """
    settings = ("weights.rounding=nearest", "weights.range=mse")
    plain, guided = (
        walked("mobile", "w3", *settings),
        walked("mobile", "w3", *settings, "weights.guided=2"),
    )
    for name, rounded in plain.weights.items():
        assert torch.equal(rounded.codes, guided.weights[name].codes)
        assert torch.equal(rounded.grid.scale, guided.weights[name].grid.scale)
        assert torch.equal(plain.biases[name], guided.biases[name])


@pytest.mark.parametrize("name", ["mobile", "decoder", "shared"])
def test_rounding_gets_the_guided_statistics(name):
    settings = ("weights.rounding=gptq", "weights.correction=none", "weights.guided_power=1")
    plan = planned(name, "w2", *settings, "weights.guided=2")
    plain, guided = walked(name, "w2", *settings), walked(name, "w2", *settings, "weights.guided=2")
    # the same inputs in all networks
    first, x = captured(name).layers[0], images(name)
    chunks = [x[:16], x[16:]]
    inputs = Pair(chunks, chunks)
    stats = layer_stats(first, inputs, Limits(rows=0), looked(name, plan).take(first.name))
    weight = first.geometry.to_matrix(captured(name).graph_module.state_dict()[first.weight])
    bias = captured(name).graph_module.state_dict()[first.bias]
    wanted, _ = round_layer(
        plan.layers[0], weight, bias, layer_stats(first, inputs, Limits(rows=0)), stats
    )
    assert torch.equal(guided.weights[first.name].codes, wanted.codes)
    assert not torch.equal(plain.weights[first.name].codes, wanted.codes)


def test_a_walk_goes_by_the_importance_that_the_range_wants():
    network, settings = (
        captured("residual"),
        ("weights.rounding=nearest", "weights.correction=none"),
    )
    stats = gradient_stats(network, images("residual"), batch=16)
    for name, importance in (("fisher", "fisher"), ("gradient", "absolute")):
        found = walked("residual", "w2", *settings, f"weights.range={name}")
        for layer in network.layers:
            weight = layer.geometry.to_matrix(network.graph_module.state_dict()[layer.weight])
            spec = found.weights[layer.name].grid.spec
            wanted = fit_grid(RANGES["mse"](), weight, spec, getattr(stats[layer.name], importance))
            assert torch.equal(found.weights[layer.name].grid.scale, wanted.scale)


def test_settings_reach_the_plan_and_wrong_ones_are_refused():
    plan = planned(
        "residual", "w4", "weights.guided=4", "weights.range={name: gradient, power: 1.5}"
    )
    assert all(layer.guided == 4 and layer.importance == "gradient" for layer in plan.layers)
    assert Plan.from_dict(plan.to_dict()) == plan
    for setting in (
        "weights.guided=-1",
        "weights.guided=1.5",
        "activations.range=fisher",
        "input.range=gradient",
    ):
        with pytest.raises(RecipeError, match=setting.split("=")[0]):
            planned("residual", "w4", setting)
    for name in ("fisher", "gradient"):
        with pytest.raises(RecipeError, match=f"{name.title()}: steps"):
            RANGES[name](steps=0)
