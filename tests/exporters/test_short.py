"""Files with short names are the same programs, and hold hardly more than their numbers."""

from functools import cache

import onnx
import pytest
import torch
from onnx import GraphProto, numpy_helper
from torch import nn

import subbyte
from subbyte.exporters import export, runner
from subbyte.exporters import onnx as exporting
from subbyte.methods import Exported
from tests.networks import images, quantized

CASES = [
    ("residual", "w4a4", "onnx-int8"),
    pytest.param("decoder", "w2", "onnx-compact", marks=pytest.mark.slow),
    pytest.param("tokens", "w8a8", "onnx-int8", marks=pytest.mark.slow),
    ("functional", "ternary", "onnx-compact"),
]


def shape_of(graph: GraphProto) -> list:
    """The graph with values called by the order in which they turn up."""
    order: dict[str, int] = {"": -1}
    held = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}

    def number(name: str) -> int | bytes:
        return held[name] if name in held else order.setdefault(name, len(order))

    return [(n.op_type, [*map(number, n.input)], [*map(number, n.output)]) for n in graph.node]


@pytest.mark.parametrize(("name", "recipe", "to"), CASES)
def test_only_names_and_defaults_are_dropped(name, recipe, to, tmp_path, monkeypatch):
    model, x = quantized(name, recipe), images(name, 9, seed=8)
    short, long = tmp_path / "short.onnx", tmp_path / "long.onnx"
    export(model, short, images(name), to=to)
    monkeypatch.setattr(exporting, "shorten", lambda program, named: {})
    export(model, long, images(name), to=to)
    one, other = onnx.load(short).graph, onnx.load(long).graph
    assert shape_of(one) == shape_of(other)
    assert torch.equal(runner(short)(x), runner(long)(x))
    assert [v.SerializeToString() for v in (*one.input, *one.output)] == [
        v.SerializeToString() for v in (*other.input, *other.output)
    ]
    names = [v.name for v in one.input] + [t.name for t in one.initializer]
    names += [value for node in one.node for value in node.output]
    assert len(names) == len(set(names)) and not one.value_info
    assert short.stat().st_size < 0.7 * long.stat().st_size


def test_codes_have_the_name_of_their_layer(tmp_path):
    model = quantized("residual", "w4")
    export(model, tmp_path / "net.onnx", images("residual"), to="onnx-compact")
    held = {t.name: list(t.dims) for t in onnx.load(tmp_path / "net.onnx").graph.initializer}
    for layer in model.owners:
        assert held[layer.name] == list(layer.geometry.weight_shape)


class Named(nn.Module):
    """Parameters with names that short ones are, and that layers have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.linear = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b, self.input = nn.Parameter(torch.rand(4)), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.input(self.linear(torch.relu(self.a(x) * self.b)))


def test_names_that_are_taken_already_do_not_clash(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = subbyte.quantize(Named().eval(), x, recipe="w8a8")
    export(model, tmp_path / "net.onnx", x)
    assert torch.allclose(runner(tmp_path / "net.onnx")(x), model(x), atol=1e-4)


@cache
def wide(depth: int, recipe: str) -> subbyte.QuantizedModel:
    torch.manual_seed(0)
    network = nn.Sequential(*[nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU()) for _ in range(depth)])
    return subbyte.quantize(network.eval(), torch.randn(4, 32, 8, 8), recipe)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function that exports a network of wide layers once."""

    @cache
    def make(depth: int, recipe: str, to: str) -> Exported:
        path = tmp_path_factory.mktemp("wide") / "net.onnx"
        return export(wide(depth, recipe), path, torch.randn(4, 32, 8, 8), to=to)

    return make


@pytest.mark.parametrize(
    ("recipe", "to"),
    [
        pytest.param("w3", "onnx-compact", marks=pytest.mark.slow),
        ("ternary", "onnx-compact"),
        ("w4a4", "onnx-int8"),
    ],
)
def test_files_hold_hardly_more_than_their_numbers(recipe, to, written):
    """A layer of 9,216 weights: 2,304 bytes in INT2, and 256 of scales and biases."""
    made = {n: written(n, recipe, to) for n in (1, 3)}
    each = (made[3].bytes - made[1].bytes) / (made[3].holds - made[1].holds)
    assert 1 < each < 1.06


def test_the_numbers_of_a_file_are_those_of_its_types(written):
    """A convolution of 32 x 288 weights, 32 scales and biases."""
    holds = {
        (recipe, to): written(1, recipe, to).holds
        for recipe, to in (("w3", "onnx-compact"), ("ternary", "onnx-compact"), ("w3", "onnx-int8"))
    }
    assert holds["w3", "onnx-compact"] in (n := 32 * 288 // 2 + 2 * 4 * 32, n + 16)
    assert holds["ternary", "onnx-compact"] == 32 * 288 // 4 + 2 * 4 * 32
    assert holds["w3", "onnx-int8"] == 32 * 288 + 2 * 4 * 32
