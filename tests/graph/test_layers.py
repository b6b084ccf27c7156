"""Layers of a graph: order, names, arithmetic; and whatever has weights but is no layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from subbyte.core import Convolution, Linear, TransposedConvolution
from subbyte.errors import ModelError
from subbyte.graph import (
    Edge,
    Layer,
    Network,
    argument,
    find_layers,
    give_biases,
    prepare,
    tensor_at,
)
from subbyte.graph.instrument import copied
from tests.reference.networks import NAMES, Calls, build, captured, images, prepared
from tests.reference.operations import operate

LAYERS = {
    "sequential": ["0", "6", "8"],
    "residual": ["stem", "b1.conv1", "b1.conv2", "b2.conv1", "b2.conv2", "fc"],
    "mixer": ["up", "down", "tokens", "head"],
    "split": ["a", "b", "c"],
    "views": ["first", "second"],
    "shared": ["inner", "inner#2", "head"],
    "functional": ["kernel", "other", "other#2", "weight"],
    "clamps": ["a", "b", "c"],
    "computed": ["body", "head"],
    "reused bias": ["full", "full#2"],
    "bare": ["weight"],
}


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.layers]


def single(model: nn.Module, x: torch.Tensor) -> tuple[Network, Layer]:
    network = prepare(model, x)
    assert len(network.layers) == 1
    return network, network.layers[0]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_come_in_execution_order_under_the_users_names(name):
    assert names(prepared(name)) == LAYERS[name]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique_and_tensors_are_where_they_are_said_to_be(name):
    network = prepared(name)
    assert len(set(names(network))) == len(network.layers)
    for layer in network.layers:
        assert (
            argument(layer.node, 1).target == layer.weight
            and argument(layer.node, 2).target == layer.bias
        )
        assert layer.input is argument(layer.node, 0)
        weight, bias = (
            tensor_at(network.graph_module, layer.weight),
            tensor_at(network.graph_module, layer.bias),
        )
        assert tuple(weight.shape) == layer.geometry.weight_shape and bias.shape == (
            layer.geometry.rows,
        )


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_geometries_compute_what_the_calls_compute(name):
    network = prepared(name)
    env: dict[str, torch.Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            env[n.name] = super().run_node(n)
            return env[n.name]

    Recorder(network.graph_module).run(images(name, 2))
    for layer in network.layers:
        weight, bias = (
            tensor_at(network.graph_module, layer.weight),
            tensor_at(network.graph_module, layer.bias),
        )
        axis = layer.geometry.channel_axis(layer.node.meta["val"].ndim)
        expected = operate(env[layer.input.name], weight, layer.geometry).movedim(axis, -1) + bias
        torch.testing.assert_close(env[layer.node.name].movedim(axis, -1), expected)


def test_geometries_are_those_of_the_modules():
    convs = {
        nn.Conv2d(4, 4, 3): {},
        nn.Conv2d(4, 4, 3, (2, 1)): {"stride": (2, 1)},
        nn.Conv2d(4, 4, 3, padding=(2, 1)): {"padding": ((2, 2), (1, 1))},
        nn.Conv2d(4, 4, 3, padding=1, dilation=2): {
            "padding": ((1, 1), (1, 1)),
            "dilation": (2, 2),
        },
        nn.Conv2d(4, 4, 3, groups=2): {"groups": 2},
        nn.Conv2d(4, 4, (2, 3), padding="same", dilation=(1, 2)): {
            "padding": ((0, 1), (2, 2)),
            "dilation": (1, 2),
        },
        nn.Conv2d(4, 4, 1, padding="valid"): {},
    }
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    expected = [
        Convolution(tuple(conv.weight.shape), **{**plain, **own}) for conv, own in convs.items()
    ]
    network = prepare(nn.Sequential(*convs), torch.randn(2, 4, 19, 19))
    assert [layer.geometry for layer in network.layers] == expected


def test_geometry_of_transposed_and_linear_layers():
    model = nn.Sequential(nn.ConvTranspose1d(4, 6, 3, 3, 1, 2, 2, dilation=2), nn.Linear(17, 3))
    transposed, linear = prepare(model, torch.randn(2, 4, 5)).layers
    assert transposed.geometry == TransposedConvolution((4, 3, 3), (3,), ((1, 1),), (2,), (2,), 2)
    assert linear.geometry == Linear((3, 17))


def test_every_call_of_a_shared_weight_is_a_layer_that_names_the_first():
    layers = prepared("shared").layers
    assert [layer.owner for layer in layers] == ["inner", "inner", "head"]
    assert layers[0].weight == layers[1].weight and layers[0].bias == layers[1].bias


def test_three_calls_are_numbered():
    model = Calls(lambda m, x: m.a(m.a(m.a(x))), a=nn.Linear(4, 4))
    layers = prepare(model, torch.randn(2, 4)).layers
    assert [layer.name for layer in layers] == ["a", "a#2", "a#3"]
    assert [layer.owner for layer in layers] == ["a", "a", "a"]


def test_two_modules_with_one_weight_share_it():
    first, second = prepared("tied").layers
    assert first.weight == second.weight and first.bias != second.bias
    assert second.name == f"{first.name}#2" and first.owner == second.owner == first.name


def test_calls_without_bias_are_given_a_zero_one():
    graph_module = copied(captured("bare")[1])
    give_biases(graph_module)
    layers, _ = find_layers(graph_module)
    assert torch.equal(tensor_at(graph_module, layers[0].bias), torch.zeros(3))
    expected = captured("bare")[0](images("bare"))
    torch.testing.assert_close(graph_module(images("bare")), expected)


def test_a_call_without_bias_does_not_borrow_the_modules():
    graph_module = copied(captured("reused bias")[1])
    give_biases(graph_module)
    layers, _ = find_layers(graph_module)
    assert layers[0].bias != layers[1].bias
    assert not bool(tensor_at(graph_module, layers[0].bias).any())
    assert torch.equal(tensor_at(graph_module, layers[1].bias), build("reused bias").full.bias)
    graph_module.recompile()
    x = images("reused bias")
    torch.testing.assert_close(graph_module(x), captured("reused bias")[0](x))


def test_looking_changes_nothing():
    graph_module = copied(captured("functional")[1])
    give_biases(graph_module)
    before = list(graph_module.state_dict()), str(graph_module.graph)
    find_layers(graph_module)
    give_biases(graph_module)
    assert (list(graph_module.state_dict()), str(graph_module.graph)) == before


def test_layers_are_found_by_name_and_by_where_they_read():
    network = prepared("shared")
    assert [layer.name for layer in network.owners] == ["inner", "head"]
    for layer in network.layers:
        edge = Edge(layer.node.name, 0)
        assert network.layer(layer.name) is network.reader(edge) is layer
        assert network.value_at(edge) is layer.input
    with pytest.raises(ModelError, match="'tail'"):
        network.layer("tail")
    with pytest.raises(ModelError, match="nowhere"):
        network.reader(Edge("nowhere", 0))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def test_looked_up_recurrent_and_bare_weights_are_layers():
    table, head = nn.Embedding(10, 6), nn.Linear(6, 2)
    mix = nn.Parameter(torch.randn(6, 4))
    network = prepare(
        Calls(lambda m, x: m.head(m.table(x).mean(1)), table=table, head=head),
        torch.randint(0, 10, (3, 4)),
    )
    assert [(layer.name, layer.kind) for layer in network.layers] == [
        ("table", "embedding"),
        ("head", "linear"),
    ]
    network = prepare(Recurrent(), torch.randn(3, 4, 6))
    assert [(layer.name, layer.kind) for layer in network.layers] == [
        ("cell.weight_ih_l0", "recurrent"),
        ("cell.weight_hh_l0", "recurrent"),
        ("head", "linear"),
    ]
    network, layer = single(Calls(lambda m, x: x @ m.mix, mix=mix), torch.randn(3, 6))
    assert layer.geometry == Linear((4, 6)), "the transposed weight"
    torch.testing.assert_close(network.graph_module(torch.ones(5, 6)), torch.ones(5, 6) @ mix)


@pytest.mark.parametrize(("kind", "operation"), [("norm", "layer_norm"), ("prelu", "prelu")])
def test_other_operations_with_weights_are_listed(kind, operation):
    other = {"norm": nn.LayerNorm(6), "prelu": nn.PReLU(6)}[kind]
    model = Calls(lambda m, x: m.head(m.other(x)), other=other, head=nn.Linear(6, 2))
    skipped = prepare(model, torch.randn(3, 6)).skipped
    assert skipped and all(s.name.startswith("other") and operation in s.reason for s in skipped)


def test_plain_networks_skip_nothing():
    for name in ("sequential", "residual", "functional", "views", "transposed2d"):
        assert prepared(name).skipped == ()


def test_weights_may_be_called_by_keyword_and_with_a_bias():
    def run(m, x):
        return F.linear(bias=m.shift, weight=m.kernel, input=x)

    model = Calls(run, kernel=nn.Parameter(torch.randn(3, 4)), shift=nn.Parameter(torch.randn(3)))
    network, layer = single(model, torch.randn(2, 4))
    assert (layer.name, layer.weight, layer.bias) == ("kernel", "kernel", "shift")
    torch.testing.assert_close(network.graph_module(torch.ones(5, 4)), model(torch.ones(5, 4)))
