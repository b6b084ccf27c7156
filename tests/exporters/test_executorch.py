"""ExecuTorch's programs: integer kernels where XNNPACK has them, one sample at a time."""

import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import ModelError, RecipeError
from subbyte.exporters import EXPORTERS, choose_exporters, export
from tests.networks import images, quantized


def test_channels_with_scales_of_their_own_are_refused_before_the_walk():
    model = quantized("residual", "w4a4", "activations.granularity=channel")
    assert EXPORTERS["executorch"].refusal(model.plan)
    with pytest.raises(RecipeError, match="executorch"):
        choose_exporters(["executorch"], model.plan)


@pytest.mark.slow
def test_layers_below_8_bits_are_exact(tmp_path):
    pytest.importorskip("executorch", reason="ExecuTorch is not installed")
    model, x = quantized("mobile", "w4a4"), images("mobile")
    made = export(model, tmp_path / "net.pte", x, to="executorch")
    assert made.parity.ratio <= 1 and set(made.notes.values()) == {"4 bits in INT8"}


@pytest.mark.slow
def test_outputs_without_an_axis_of_samples_are_refused(tmp_path):
    pytest.importorskip("executorch", reason="ExecuTorch is not installed")

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, x):
            return self.fc(x).transpose(0, 1)

    x = torch.randn(8, 3, 6)
    model = subbyte.quantize(Turned(), x, "w8a8")
    with pytest.raises(ModelError, match="one sample at a time"):
        export(model, tmp_path / "net.pte", x, to="executorch")
    assert list(tmp_path.iterdir()) == []
