"""Pixels, fixed batches and seals of the runtimes that are extras, each where it is installed; and
networks that training ended on grids.
"""

from importlib.util import find_spec

import pytest
import torch

import subbyte
from subbyte.errors import DataError
from subbyte.exporters import EXPORTERS, export, network_runner, runner, seal
from subbyte.exporters.feeding import pixels_of
from tests.networks import build, images, quantized

pytestmark = pytest.mark.slow
SHIFT = subbyte.Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
ABOUT = subbyte.About(preprocessing=SHIFT)


def exporters(*names):
    """A parameter for each, skipped where its runtime is not installed."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name,
                marks=pytest.mark.skipif(
                    find_spec(EXPORTERS[name].package) is None,
                    reason=f"{EXPORTERS[name].runtime} is not installed",
                ),
            )
            for name in names
        ],
    )


def written(name, folder, model, x, **form):
    path = folder / f"net{EXPORTERS[name].suffixes[0]}"
    return export(model, path, x, to=name, **form)


def of_pixels():
    """A network and images that pixels make."""
    pixels = torch.randint(0, 256, (40, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(part).view(-1, 1, 1) for part in (SHIFT.mean, SHIFT.std))
    x = (pixels / 255 - mean) / std
    return subbyte.quantize(build("residual"), x, "w8a8"), x


@exporters("openvino")
def test_files_take_pixels(name, tmp_path):
    model, x = of_pixels()
    made = written(name, tmp_path, model, x, input="uint8", about=ABOUT)
    found = runner(made.path)(pixels_of(x, SHIFT))
    assert (found.argmax(1) == model(x).argmax(1)).float().mean() >= 0.9
    assert torch.equal(network_runner(made.path)(x), found)


@exporters("openvino", "litert")
def test_files_of_a_fixed_batch_are_fed_any_number(name, tmp_path):
    model, x = quantized("mobile", "w8a8", "weights.narrow=true"), images("mobile")
    made = written(name, tmp_path, model, x, static=4)
    run = network_runner(made.path)
    assert torch.allclose(run(x[:7]), run(x)[:7], atol=1e-5)
    with pytest.raises(DataError, match="takes float32"):
        runner(made.path)(x[:3])


@exporters("openvino", "executorch", "litert")
def test_a_changed_file_is_told(name, tmp_path):
    model = quantized("mobile", "w4a4")
    made = written(name, tmp_path, model, images("mobile"))
    assert not seal(made.path).broken and seal(made.path).stated == made.digest
    content = bytearray(made.path.read_bytes())
    content[content.index(b"w4a4")] ^= 1
    made.path.write_bytes(bytes(content))
    assert seal(made.path).broken


@exporters("onnx-compact", "torch", "openvino", "executorch", "litert")
def test_a_network_that_training_ended_on_grids_is_exported(name, tmp_path):
    """Weights that lie on grids already, found again as the command `train` does."""
    x, on_grid = images("residual"), build("residual")
    with torch.no_grad():
        for weight in on_grid.parameters():
            if weight.ndim > 1:
                step = weight.abs().max() / 3
                weight.copy_((weight / step).round() * step)
    settings = ["weights.range=exact", "weights.rounding=nearest", "weights.correction=none"]
    recipe = subbyte.load_recipe("w3", [*settings, "weights.symmetric=false"])
    model = subbyte.quantize(on_grid, x, recipe)
    made = written(name, tmp_path, model, x)
    assert made.parity.ratio <= 1 and made.parity.classes == 100
