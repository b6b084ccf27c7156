"""Outputs of every kind: several in trees, numbers without an axis, what depends on no input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import subbyte

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
