"""LiteRT's files: integer kernels where they round once, float around what they round twice."""

from functools import cache
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import DataError, ModelError
from subbyte.exporters import EXPORTERS, contents, export, runner, seal
from tests.networks import images, quantized
from tests.reference.networks import randomize

NARROW = "weights.narrow=true"
installed = pytest.mark.skipif(
    find_spec("litert_torch") is None, reason="LiteRT's converter is not installed"
)


def test_weights_with_code_minus_128_are_refused_before_the_walk():
    refusal = EXPORTERS["litert"].refusal(quantized("residual", "w8a8").plan)
    assert "codes from -127; set weights.narrow=true" in str(refusal)
    assert EXPORTERS["litert"].refusal(quantized("residual", "w8a8", NARROW).plan) is None
    assert EXPORTERS["litert"].refusal(quantized("residual", "w4a4").plan) is None


def test_ranges_of_channels_are_refused_before_the_walk():
    model = quantized("residual", "w4a4", "activations.granularity=channel")
    assert "one scale" in str(EXPORTERS["litert"].refusal(model.plan))


class Pools(nn.Module):
    """Operations whose integer kernels have one grid for what they read and yield."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(144, 5)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.a(x)), 2)
        y = nn.functional.avg_pool2d(x, 2)
        z = torch.max_pool2d(nn.functional.leaky_relu(self.b(x)), 2)
        return self.fc(torch.cat([y, z], 1).flatten(1))


@cache
def pools(recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(40, 3, 12, 12)
        model = randomize(Pools(), 1).eval()
    return subbyte.quantize(model, x, subbyte.load_recipe(recipe, [NARROW])), x


@pytest.mark.slow
@installed
@pytest.mark.parametrize("recipe", ["w8a8", "w4a4"])
def test_what_integer_kernels_round_twice_stays_float_and_exact(recipe, tmp_path):
    model, x = pools(recipe)
    made = export(model, tmp_path / "net.tflite", x, to="litert")
    assert made.parity.ratio <= 1 and made.parity.classes == 100
    assert made.kernels.floats and made.kernels.integer_multiplications


@pytest.mark.slow
@installed
def test_a_network_of_layers_and_sums_is_integers_throughout(tmp_path):
    model, x = quantized("residual", "w8a8", NARROW), images("residual")
    made = export(model, tmp_path / "net.tflite", x, to="litert")
    assert made.kernels.floats == made.kernels.conversions == 0 and not made.notes
    assert made.kernels.multiplied_percent == 100
    weights = sum(weight.codes.numel() for weight in model.weights.values())
    assert weights < made.kernels.weights < 1.7 * weights  # a byte each, and biases
    held = contents(made.path)
    assert held.operations["CONV_2D"] == 5 and held.operations["FULLY_CONNECTED"] == 1


@pytest.mark.slow
@installed
def test_a_layer_that_is_called_on_several_grids_is_float_and_noted(tmp_path):
    model, x = quantized("shared", "w4a4"), images("shared")
    made = export(model, tmp_path / "net.tflite", x, to="litert")
    assert "several grids" in made.notes["inner"]
    assert made.kernels.multiplications > made.kernels.integer_multiplications


@pytest.mark.slow
@installed
def test_a_file_for_a_fixed_batch_takes_no_other(tmp_path):
    model, x = quantized("mobile", "w8a8", NARROW), images("mobile")
    made = export(model, tmp_path / "net.tflite", x, to="litert", static=4)
    assert torch.equal(runner(made.path)(x[:4]), model(x[:4]))
    with pytest.raises(DataError, match=r"takes float32 \[4, 3, 12, 12\]"):
        runner(made.path)(x[:3])


@pytest.mark.slow
@installed
def test_a_file_that_was_changed_is_told(tmp_path):
    model, x = quantized("mobile", "w8a8", NARROW), images("mobile")
    made = export(model, tmp_path / "net.tflite", x, to="litert")
    assert not seal(made.path).broken and seal(made.path).stated == made.digest
    content = bytearray(made.path.read_bytes())
    content[content.index(b"w8a8")] ^= 1
    made.path.write_bytes(bytes(content))
    assert seal(made.path).broken


@pytest.mark.slow
@installed
def test_an_operation_without_a_form_is_named(tmp_path):
    model = quantized("decoder", "w8a8", NARROW)
    with pytest.raises(ModelError, match=r"LiteRT can't convert the network: .*convolution"):
        export(model, tmp_path / "net.tflite", images("decoder"), to="litert")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@installed
def test_the_same_network_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        model = quantized("mobile", "w4a4")
        export(model, tmp_path / f"{name}.tflite", images("mobile"), to="litert")
    one, two = ((tmp_path / f"{name}.tflite").read_bytes() for name in ("one", "two"))
    assert one == two and str(tmp_path).encode() not in one
