"""Outputs of every kind: several in trees, numbers without an axis, what depends on no input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte import load_recipe
from subbyte.engine.limits import Limits
from subbyte.engine.walk import walk
from subbyte.graph import prepare
from subbyte.recipe import make_plan

OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "tree": lambda y: {"scores": y, "parts": (y[:, :2], [y[:, 2:]])},
    "number": lambda y: (y, y.mean()),
    "constant": lambda y: {"scores": y, "anchors": torch.arange(6.0).reshape(3, 2)},
}


@pytest.mark.parametrize("made", OUTPUTS)
def test_outputs_of_any_kind_go_all_the_way(made, tmp_path):
    """Surveyed for a budget, quantized, exported and proven."""

    class Heads(nn.Sequential):
        def forward(self, x: Tensor) -> Any:
            return OUTPUTS[made](super().forward(x))

    torch.manual_seed(0)
    x = torch.randn(24, 6)
    model = Heads(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8)).eval()
    q = subbyte.quantize(model, x, subbyte.load_recipe("w4a8", ["budget=7bits"]))
    assert q.bits_per_weight <= 7
    assert subbyte.export(q, tmp_path / "net.onnx", x).parity.samples == 24


def test_a_weight_that_comes_out_is_the_rounded_one_where_it_is_quantized():
    class Showing(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), self.weight

    model, x = Showing(6, 8).eval(), torch.randn(24, 6)
    network = prepare(model, x)
    found = walk(network, make_plan(network, load_recipe("w2")), x, limits=Limits(chunk=16))
    ours, theirs = found.outputs[1]
    (rounded,) = found.weights.values()
    assert torch.equal(ours[:8], model.weight) and torch.equal(theirs[:8], rounded.dequantize())
