"""Zeros around what convolutions read are pads of theirs; other padding stays."""

from collections.abc import Callable

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from tests.reference.kinds.kind import Net


def two(m: Net, x: Tensor) -> Tensor:
    y = F.pad(m.a(x), (0, 1, 2, 1))
    return m.b(y) + m.c(y)


NETWORKS: dict[str, tuple[Callable[[Net, Tensor], Tensor], str, int]] = {
    "before a layer": (lambda m, x: m.b(F.pad(m.a(x), (0, 1, 2, 1))), "w8a8", 0),
    "of the input": (lambda m, x: m.a(F.pad(x, (1, 0, 1, 0))), "w4a4", 0),
    "twice": (lambda m, x: m.b(F.pad(F.pad(m.a(x), (1, 0)), (0, 0, 0, 1))), "w8a8", 0),
    "for two layers": (two, "w4a4", 0),
    "float activations": (lambda m, x: m.b(F.pad(m.a(x), (1, 1))), "w4", 0),
    "a number": (lambda m, x: m.b(F.pad(m.a(x), (1, 1), value=0.5)), "w8a8", 1),
    "reflected": (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 0, 0), mode="reflect")), "w8a8", 1),
    "cut": (lambda m, x: m.b(F.pad(m.a(x), (-1, 1))), "w8a8", 1),
    "channels": (lambda m, x: m.d(F.pad(m.a(x), (0, 0, 0, 0, 0, 2))), "w8a8", 1),
    "read elsewhere": (lambda m, x: m.b(y := F.pad(m.a(x), (1, 0)))[..., :5] * y.mean(), "w8a8", 1),
    "comes out": (lambda m, x: (m.b(y := F.pad(m.a(x), (1, 1))), y), "w8a8", 1),
    "pooled": (lambda m, x: F.avg_pool2d(F.pad(m.a(x), (1, 1)), 2), "w8a8", 1),
}
QUICK = {"before a layer", "cut"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NETWORKS],
)
def test_convolutions_pad(name, tmp_path):
    run, recipe, pads = NETWORKS[name]
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(4, 4, 3, padding=1), "d": nn.Conv2d(6, 4, 3)}
    layers |= {"b": nn.Conv2d(4, 4, 3, 2, padding=(1, 2)), "c": nn.Conv2d(4, 4, 3, 2, (1, 2), 1)}
    x = torch.randn(24, 4, 8, 9)
    q = subbyte.quantize(Net(run, **layers), x, recipe)
    path = subbyte.export(q, tmp_path / "net.onnx", x).path  # which compares outputs
    assert sum(node.op_type == "Pad" for node in onnx.load(path).graph.node) == pads
