"""Taps: which activations may be quantized, who reads them, and what only moves values."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from subbyte.graph import Edge, Network, find_taps, moves, prepare
from tests.reference.networks import NAMES, Calls, images, prepared, randomize

every_network = pytest.mark.parametrize("name", NAMES)


def listed(network: Network) -> list[tuple[str, tuple[str, ...], bool]]:
    """Taps by name, the layers they feed, and whether anything else reads them."""
    return [
        (tap.name, tuple(network.reader(edge).name for edge in tap.feeds), tap.others)
        for tap in network.taps
    ]


def taps_of(model: nn.Module, *shape: int) -> list[tuple[str, tuple[str, ...], bool]]:
    return listed(prepare(randomize(model), torch.randn(2, *shape)))


def nodes_and_values(graph_module: fx.GraphModule, x: torch.Tensor) -> dict[fx.Node, Any]:
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    with torch.no_grad():
        Recorder(graph_module).run(x)
    return values


TAPS = {
    "sequential": [
        ("input", ("0",), False),
        ("0:out", ("6",), False),
        ("6:out", ("8",), False),
        ("8:out", (), True),
    ],
    "residual": [
        ("input", ("stem",), False),
        ("stem:out", ("b1.conv1",), True),
        ("b1.conv1:out", ("b1.conv2",), False),
        ("b1.conv2:out", (), True),
        ("b1.add:out", ("b2.conv1",), True),
        ("b2.conv1:out", ("b2.conv2",), False),
        ("b2.conv2:out", (), True),
        ("b2.add:out", (), True),
        ("adaptive_avg_pool2d:out", ("fc",), False),
        ("fc:out", (), True),
    ],
    "split": [
        ("input", ("a",), False),
        ("a:out", ("b", "c"), True),
        ("b:out", (), True),
        ("c:out", (), True),
        ("cat:out", (), True),
    ],
    "views": [
        ("input", ("first",), False),
        ("first:out", ("second",), False),
        ("second:out", (), True),
    ],
    "shared": [
        ("input", ("inner",), False),
        ("inner:out", ("inner#2",), False),
        ("inner#2:out", ("head",), False),
        ("head:out", (), True),
    ],
    "clamps": [
        ("input", ("a",), False),
        ("a:out", (), True),
        ("add:out", ("b",), False),
        ("b:out", (), True),
        ("avg_pool2d:out", ("c",), False),
        ("c:out", (), True),
        ("mul:out", (), True),
    ],
    "shuffle": [("input", ("a",), False), ("a:out", ("b",), False), ("b:out", (), True)],
}


@pytest.mark.parametrize("name", TAPS)
def test_taps_their_layers_and_other_readers(name):
    taps = prepared(name).taps
    assert listed(prepared(name)) == TAPS[name]
    assert [tap.is_input for tap in taps] == [True] + [False] * (len(taps) - 1)


@every_network
def test_every_layer_is_fed_by_one_tap_through_moves_alone(name):
    network = prepared(name)
    feeders = Counter(edge for tap in network.taps for edge in tap.feeds)
    assert feeders == Counter(Edge(layer.node.name, 0) for layer in network.layers)
    at = {tap.node: tap for tap in network.taps}
    for layer in network.layers:
        node = layer.input
        while node not in at:
            assert moves(node), f"{node} before {layer.name} is neither tapped nor a move"
            node = node.args[0]
        assert Edge(layer.node.name, 0) in at[node].feeds


@every_network
def test_names_are_unique_readable_and_in_execution_order(name):
    taps = prepared(name).taps
    assert len({tap.name for tap in taps}) == len(taps) == len({tap.node for tap in taps})
    assert all(tap.name == "input" or tap.name.endswith(":out") for tap in taps)
    assert not any(set("<> '") & set(tap.name) for tap in taps), [tap.name for tap in taps]
    order = list(prepared(name).graph_module.graph.nodes)
    assert [tap.node for tap in taps] == sorted((tap.node for tap in taps), key=order.index)


@every_network
def test_moves_make_no_new_values(name):
    network = prepared(name)
    values = nodes_and_values(network.graph_module, images(name, 2))
    for node, value in values.items():
        if isinstance(value, torch.Tensor) and node.op == "call_function" and moves(node):
            source = node.args[0]
            before = values[source]
            while not isinstance(before, torch.Tensor):  # a piece of a split
                source = source.args[0]
                before = values[source]
            known = torch.cat([before.reshape(-1), torch.zeros(1)])
            assert bool(torch.isin(value, known).all()), f"{node} computes"


def test_finding_taps_changes_nothing():
    network = prepared("residual")
    before = str(network.graph_module.graph)
    found = find_taps(network.graph_module, list(network.layers), list(network.products))
    assert [(tap.name, tap.feeds) for tap in found] == [(t.name, t.feeds) for t in network.taps]
    assert str(network.graph_module.graph) == before


MOVES = {
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "zero pad": lambda x: F.pad(x, (1, 1, 1, 1)),
    "zero pad, said": lambda x: F.pad(x, (1, 1, 1, 1), value=0.0),
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "replication": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "slice": lambda x: x[:, :, ::2, 1:],
    "select": lambda x: x[:, :, 1:2].select(2, 0)[:, :, None],
    "transpose": lambda x: x.transpose(2, 3),
    "permute": lambda x: x.permute(0, 1, 3, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2).expand(-1, 4, -1, -1),
    "split": lambda x: x.split(2, 2)[1],
    "chunk": lambda x: x.chunk(3, 3)[0],
    "two": lambda x: F.pad(F.max_pool2d(x, 2), (0, 1, 0, 1)),
}
COMPUTES = {
    "padding with ones": lambda x: F.pad(x, (1, 1, 1, 1), value=1.0),
    "padding with minus infinity": lambda x: F.pad(x, (1, 0, 0, 0), value=-3.0),
    "average": lambda x: F.avg_pool2d(x, 2),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "doubling": lambda x: x * 2,
    "softmax": lambda x: x.softmax(1),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "gelu": F.gelu,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if k % 2 else []) for k, case in enumerate(MOVES)],
)
def test_moves_hand_the_tap_of_their_input_on(case):
    model = Calls(lambda m, x: m.b(MOVES[case](m.a(x))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 2, 1))
    assert taps_of(model, 4, 6, 6) == [
        ("input", ("a",), False),
        ("a:out", ("b",), False),
        ("b:out", (), True),
    ]


@pytest.mark.parametrize("case", COMPUTES)
def test_computations_have_a_tap_of_their_own(case):
    model = Calls(
        lambda m, x: m.b(COMPUTES[case](m.a(x))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 2, 1)
    )
    taps = taps_of(model, 4, 6, 6)
    if case == "softmax":  # scores have no quantizer: masks may follow
        taps.insert(1, ("a:out", (), True))
    assert len(taps) == 4 and taps[1] == ("a:out", (), True) and taps[2][1:] == (("b",), False)


@pytest.mark.parametrize(
    ("fill", "move"), [((), True), ((0,), True), ((0.0,), True), ((1,), False)]
)
def test_decomposed_padding_moves_only_with_zeros(fill, move):
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.ops.aten.constant_pad_nd.default, (x, [1, 1], *fill))
    assert moves(node) is move and not moves(x)


CLAMPS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.5),
    "clamp": lambda x: x.clamp(-1, 2),
    "clamp_min": lambda x: x.clamp(min=0.1),
}


@pytest.mark.parametrize("case", CLAMPS)
def test_clamps_are_fused_into_the_layers_tap(case):
    model = Calls(
        lambda m, x: m.b(CLAMPS[case](m.a(x))), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 2, 1)
    )
    network = prepare(model, torch.randn(2, 4, 3, 3))
    assert listed(network) == [
        ("input", ("a",), False),
        ("a:out", ("b",), False),
        ("b:out", (), True),
    ]
    assert network.taps[1].node is not network.layers[0].node, "the tap must be behind the clamp"
    assert network.taps[1].node.args[0] is network.layers[0].node


def test_a_clamp_is_not_fused_when_others_read_the_layer():
    def run(m, x):
        y = m.a(x)
        return m.b(F.relu(y)) + y

    network = prepare(
        Calls(run, a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1)), torch.randn(2, 4, 3, 3)
    )
    first = network.taps[1]
    assert (first.name, first.node, first.others) == ("a:out", network.layers[0].node, True)
    assert (
        listed(network)[2][1] == ("b",)
        and network.taps[2].node.target is torch.ops.aten.relu.default
    )


def test_an_input_that_layers_and_others_read():
    model = Calls(lambda m, x: m.a(x) + x, a=nn.Conv2d(4, 4, 1))
    assert taps_of(model, 4, 3, 3) == [
        ("input", ("a",), True),
        ("a:out", (), True),
        ("add:out", (), True),
    ]


def test_integers_have_no_taps():
    model = Calls(
        lambda m, x: m.head(m.table(x).mean(1)), table=nn.Embedding(10, 6), head=nn.Linear(6, 2)
    )
    network = prepare(model, torch.randint(0, 10, (3, 4)))
    assert listed(network) == [("mean:out", ("head",), False), ("head:out", (), True)]


def test_a_batch_norm_that_stays_has_a_readable_tap():
    def run(m, x):
        y = m.a(x)
        return m.b(m.bn(y)) + y

    model = Calls(run, a=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(4), b=nn.Conv2d(4, 4, 3, padding=1))
    names = [name for name, feeds, _ in taps_of(model, 4, 3, 3) if feeds == ("b",)]
    assert len(names) == 1 and names[0].startswith("bn") and "<" not in names[0]


def test_one_value_for_two_layers_is_one_tap():
    model = Calls(
        lambda m, x: m.b(m.a(x)) * m.c(m.a(x)),
        a=nn.Conv2d(4, 4, 1),
        b=nn.Conv2d(4, 4, 1),
        c=nn.Conv2d(4, 4, 1),
    )
    both = Calls(lambda m, x: (lambda y: m.b(y) * m.c(y))(m.a(x)), a=model.a, b=model.b, c=model.c)
    assert ("a:out", ("b", "c"), False) in taps_of(both, 4, 3, 3)
    separate = taps_of(model, 4, 3, 3)
    assert ("a:out", ("b",), False) in separate and ("a#2:out", ("c",), False) in separate


DIVIDED = {
    "a divisor": (lambda m, x: m.a(x) / (1 + (y := m.b(x)) * y), "a div"),
    "a root": (lambda m, x: (y := m.a(x)) * torch.rsqrt((y * y).mean(1, keepdim=True)), "a mul"),
    "a power": (lambda m, x: (y := m.a(x)) * (y * y).mean(1, keepdim=True).pow(-0.5), "a mul"),
    "a square": (lambda m, x: m.a(x).pow(2) * m.b(x).mul(2).pow(2), "a b mul mul#2"),
    "a logarithm": (lambda m, x: torch.log(1 + F.relu(m.a(x))), "log"),
    "a reciprocal": (lambda m, x: (1 + m.a(x) * m.b(x)).reciprocal(), "reciprocal"),
    "read elsewhere": (lambda m, x: m.a(x) / (y := m.b(x)) + y, "a b add"),
    "divides itself": (lambda m, x: (y := m.a(x)) / y, "a div"),
    "a layer before": (lambda m, x: m.c(m.a(x) * m.b(x)).reciprocal(), "a b mul reciprocal"),
}


@pytest.mark.parametrize("case", DIVIDED)
def test_what_leads_to_a_divisor_alone_has_no_tap(case):
    run, wanted = DIVIDED[case]
    layers = {"a": nn.Linear(4, 6), "b": nn.Linear(4, 6), "c": nn.Linear(6, 6)}
    model = Calls(lambda m, x: m.head(run(m, x)), head=nn.Linear(6, 3), **layers)
    assert [name for name, _, _ in taps_of(model, 4)] == [
        "input",
        *(f"{name}:out" for name in wanted.split()),
        "head:out",
    ]
