"""Operations taken apart ahead of torch.onnx compute the same, and none is left to take apart."""

import pytest
import torch
from torch import nn

from subbyte.graph import capture, holds_any, take_apart
from subbyte.graph.capture import exported_program
from subbyte.graph.samples import Samples

aten = torch.ops.aten
APART = {
    "mean over a line": (nn.AdaptiveAvgPool1d(1), (3, 7), aten.adaptive_avg_pool1d.default),
    "mean over an image": (nn.AdaptiveAvgPool2d(1), (3, 5, 4), aten.adaptive_avg_pool2d.default),
    "line": (
        nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, bias=False),
        (4, 5),
        aten.conv_transpose1d.default,
    ),
    "image": (
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 0), dilation=(1, 2)),
        (4, 5, 3),
        aten.conv_transpose2d.input,
    ),
    "volume": (nn.ConvTranspose3d(2, 3, 2), (2, 3, 4, 2), aten.conv_transpose3d.input),
}


@pytest.mark.parametrize(("layer", "shape", "operation"), APART.values(), ids=APART)
def test_what_is_taken_apart_computes_the_same(layer, shape, operation):
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    graph_module = capture(layer, x)
    expected = graph_module(x)
    assert operation in {node.target for node in graph_module.graph.nodes}
    take_apart(graph_module)
    assert torch.equal(graph_module(x), expected)
    program = exported_program(graph_module, Samples.of(x))
    assert not holds_any(program, {operation}, ())


def test_means_of_parts_stay():
    x = torch.randn(2, 3, 4, 4)
    graph_module = capture(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(2)), x)
    before = [node.target for node in graph_module.graph.nodes]
    take_apart(graph_module)
    assert [node.target for node in graph_module.graph.nodes] == before


def test_operations_that_change_their_argument_are_found():
    program = exported_program(nn.ReLU(inplace=True), Samples.of(torch.randn(2, 3)))
    assert holds_any(program, (), ())
    assert not holds_any(exported_program(nn.ReLU(), Samples.of(torch.randn(2, 3))), (), ())


def test_operations_that_torch_composes_are_found_unless_they_are_known_as_they_are():
    norm = exported_program(nn.BatchNorm2d(3).eval(), Samples.of(torch.randn(2, 3, 4, 4)))
    assert holds_any(norm, (), ())
    assert not holds_any(norm, (), {aten.batch_norm.default})
