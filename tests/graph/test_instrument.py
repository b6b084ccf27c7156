"""Taps in the graph: silent until they have a grid, then exactly where they were asked for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from subbyte.core import Grid, GridSpec, Levels, Uniform
from subbyte.graph import (
    Edge,
    FakeQuantize,
    Instrumented,
    Layer,
    Network,
    TapPlace,
    grid_source,
    instrument,
    prepare,
)
from tests.reference.networks import NAMES, Calls, images, prepared

every_network = pytest.mark.parametrize("name", NAMES)
COARSE = Grid.of(GridSpec(Uniform(3)), torch.tensor(0.5))
FINE = Grid.of(
    GridSpec(Uniform(8, signed=False, symmetric=False)), torch.tensor(0.03), torch.tensor(120)
)


def at(layer: Layer) -> Edge:
    return Edge(layer.node.name, 0)


def everywhere(network: Network) -> list[TapPlace]:
    """A tap behind every tap point, and one in front of every layer."""
    places = [TapPlace(tap.name, tap.node.name) for tap in network.taps]
    return places + [TapPlace(f"{x.name}:in", x.input.name, (at(x),)) for x in network.layers]


@torch.no_grad()
def run(instrumented: Instrumented, x: torch.Tensor) -> torch.Tensor:
    return instrumented.graph_module(x)


@every_network
def test_outputs_are_the_same_before_grids_are_set(name):
    network = prepared(name)
    instrumented = instrument(network, everywhere(network))
    for count in (1, 5):
        x = images(name, count)
        with torch.no_grad():
            assert torch.equal(run(instrumented, x), network.graph_module(x))


def test_the_network_itself_gets_no_taps():
    network = prepared("residual")
    before, x = str(network.graph_module.graph), images("residual")
    state = {key: value.clone() for key, value in network.graph_module.state_dict().items()}
    with torch.no_grad():
        expected = network.graph_module(x)
        instrumented = instrument(network, everywhere(network))
        for tap in instrumented.taps:
            instrumented.tap(tap).set_grid(COARSE)
        changed = run(instrumented, x)
        assert not torch.equal(changed, expected), "the grids do nothing: the test is void"
        assert torch.equal(network.graph_module(x), expected)
    assert str(network.graph_module.graph) == before
    after = network.graph_module.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[key], state[key]) for key in state)


@every_network
def test_every_reader_of_a_value_reads_its_tap(name):
    network = prepared(name)
    instrumented = instrument(network, [TapPlace(tap.name, tap.node.name) for tap in network.taps])
    assert list(instrumented.taps) == [tap.name for tap in network.taps]
    assert list(instrumented.layers) == [layer.name for layer in network.layers]
    for node in instrumented.taps.values():
        readers = [
            user for user in node.args[0].users if user.target is not torch.ops.aten.sym_size.int
        ]
        assert readers == [node]


@every_network
def test_edge_taps_are_in_front_of_their_layers_only(name):
    network = prepared(name)
    for chosen in network.layers:
        place = TapPlace("edge", chosen.input.name, (at(chosen),))
        instrumented = instrument(network, [place])
        (tap,) = instrumented.taps.values()
        assert list(tap.users) == [instrumented.layers[chosen.name]]
        for layer in network.layers:
            reads = instrumented.layers[layer.name].args[0].name
            assert reads == (tap.name if layer is chosen else layer.input.name)


def residual() -> Network:
    torch.manual_seed(3)

    def forward(m, x):
        y = F.relu(m.a(x))
        return m.b(y) + F.relu(m.c(y)) + y

    return prepare(
        Calls(forward, **{n: nn.Conv2d(3, 3, 1) for n in "abc"}), torch.randn(2, 3, 4, 4)
    )


def expected(network: Network, x: torch.Tensor, common, at_b, at_c) -> torch.Tensor:
    def layer(name: str, value: torch.Tensor) -> torch.Tensor:
        state = network.graph_module.state_dict()
        return F.conv2d(value, state[f"{name}.weight"], state[f"{name}.bias"])

    y = common(F.relu(layer("a", x)))
    return layer("b", at_b(y)) + F.relu(layer("c", at_c(y))) + y


@pytest.mark.parametrize("place", ["value", "edge", "both edges", "value and edge"])
def test_values_are_rounded_where_the_tap_is(place):
    network, x = residual(), torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    node = network.taps[1].node.name

    def same(y: torch.Tensor) -> torch.Tensor:
        return y

    at_b, at_c = at(network.layer("b")), at(network.layer("c"))
    value, edge = TapPlace("value", node), TapPlace("edge", node, (at_b,))
    places, rounded = {
        "value": ([value], (FINE.quantize, same, same)),
        "edge": ([edge], (same, COARSE.quantize, same)),
        "both edges": (
            [TapPlace("edge", node, (at_b, at_c))],
            (same, COARSE.quantize, COARSE.quantize),
        ),
        "value and edge": ([value, edge], (FINE.quantize, COARSE.quantize, same)),
    }[place]
    instrumented = instrument(network, places)
    for tap in instrumented.taps:
        instrumented.tap(tap).set_grid(FINE if tap == "value" else COARSE)
    with torch.no_grad():
        torch.testing.assert_close(run(instrumented, x), expected(network, x, *rounded))
        assert not torch.allclose(run(instrumented, x), network.graph_module(x), atol=1e-3)


SPECS = {
    "int8": GridSpec(Uniform(8)),
    "uint8": GridSpec(Uniform(8, signed=False, symmetric=False)),
    "int4": GridSpec(Uniform(4, signed=True, symmetric=False)),
    "uint4": GridSpec(Uniform(4, signed=False)),
    "uint1": GridSpec(Uniform(1, signed=False, symmetric=False)),
    "narrow": GridSpec(Uniform(2, narrow=True)),
    "levels": GridSpec(Levels((-3.0, -1.0, -0.25, 0.0, 1.5))),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_fake_quantize_is_the_grid(spec):
    """Exactly; up to ties where gradients go through."""
    zero = torch.tensor(spec.alphabet.zero_points[-2:][0])
    grid = Grid.of(spec, torch.tensor(0.0371), zero)
    tap = FakeQuantize("somewhere")
    tap.set_grid(grid)
    for shape in ((2, 3, 4, 100), ()):
        x = (
            torch.randn(shape, generator=torch.Generator().manual_seed(0))
            * 0.0371
            * spec.alphabet.count
        )
        assert torch.equal(tap(x), grid.quantize(x))
        away = ((x.double() / 0.0371) % 1 - 0.5).abs() > 1e-3
        got = tap(x.clone().requires_grad_()).detach()
        assert got.shape == x.shape and got.dtype == torch.float32
        assert int(away.sum()) > 0.9 * x.numel()
        torch.testing.assert_close(got[away], grid.quantize(x)[away], rtol=1e-6, atol=0)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_fake_quantize_saturates_as_the_grid_does(spec):
    grid = Grid.of(spec, torch.tensor(0.25))
    x = torch.tensor([torch.inf, -torch.inf, 3e38, -3e38, 1e12, -1e12, 0.0, -0.0])
    tap = FakeQuantize("somewhere")
    tap.set_grid(grid)
    assert torch.equal(tap(x), grid.quantize(x))


def test_a_tap_without_a_grid_passes_its_input_on():
    x = torch.randn(3)
    tap = FakeQuantize("somewhere")
    assert tap(x) is x
    with pytest.raises(AssertionError, match="somewhere"):
        _ = tap.grid


@pytest.mark.parametrize("grid", [COARSE, FINE])
def test_a_tap_gives_its_grid_back(grid):
    tap = FakeQuantize("somewhere")
    tap.set_grid(Grid.of(grid.spec, grid.scale.reshape(1), grid.zero_point.reshape(1)))
    assert tap.grid.spec == grid.spec and tap.grid.scale.shape == ()
    assert (tap.grid.scale, tap.grid.zero_point) == (grid.scale, grid.zero_point)
    other = FakeQuantize("elsewhere")
    assert other.spec is None and other.scale == 1


def moved(m, x):
    y = F.max_pool2d(F.pad(F.relu(m.a(x)), (1, 1, 1, 1)), 2)
    y = m.b(y[:, :, 1:])
    left, right = F.avg_pool2d(y, 2).split(2, 1)
    return m.c(left.flatten(1)) + m.d(right.sigmoid().flatten(1))


def test_the_grid_of_a_layers_input_is_found_behind_moves():
    model = Calls(
        moved, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1), c=nn.Linear(4, 2), d=nn.Linear(4, 2)
    )
    network = prepare(model, torch.randn(2, 3, 6, 6))
    points = {tap.name: tap.node.name for tap in network.taps}
    pool = next(name for name in points if "avg_pool" in name)
    instrumented = instrument(network, [TapPlace(name, points[name]) for name in ("a:out", pool)])
    found = {name: grid_source(node.args[0]) for name, node in instrumented.layers.items()}
    taps = instrumented.taps
    assert found == {"a": None, "b": taps["a:out"], "c": taps[pool], "d": None}
    assert grid_source(taps[pool]) is taps[pool]
    assert grid_source(3) is None and grid_source(None) is None


@every_network
def test_with_a_tap_at_every_point_every_layers_input_has_a_grid(name):
    network = prepared(name)
    instrumented = instrument(network, [TapPlace(tap.name, tap.node.name) for tap in network.taps])
    feeder = {network.reader(edge).name: tap.name for tap in network.taps for edge in tap.feeds}
    for layer, node in instrumented.layers.items():
        assert grid_source(node.args[0]) is instrumented.taps[feeder[layer]]


def test_a_padding_that_is_not_zero_leaves_the_grid():
    def run(m, x):
        return m.b(F.pad(m.a(x), (1, 1, 1, 1), value=1.0))

    model = Calls(run, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 4, 1))
    network = prepare(model, torch.randn(2, 3, 4, 4))
    instrumented = instrument(network, [TapPlace("a:out", network.layers[0].node.name)])
    assert grid_source(instrumented.layers["b"].args[0]) is None
