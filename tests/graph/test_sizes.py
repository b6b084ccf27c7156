"""Images of other sizes: which networks take them, what is refused and why, what files say of
them.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.errors import CaptureError, DataError, ModelError, ParityError
from subbyte.exporters import onnx as onnx_exporter
from subbyte.graph import Axis, Network, Samples, of_other_sizes, prepare
from tests.reference.networks import Calls

torch.set_num_threads(1)


class Net(nn.Module):
    """Convolutions, one in steps of 2 and made as large again: its images have an even height."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, (2, 1), 1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.fc = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Linear(8, 5)
        self.shortcut = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.first(x)))
        y = F.interpolate(self.depthwise(y), scale_factor=(2.0, 1.0)) + self.shortcut(x)
        return self.fc(F.adaptive_avg_pool2d(F.relu(y), 1).flatten(1))


def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval().requires_grad_(False)


def pictures(height: int, width: int, count: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(count, 3, height, width, generator=generator)


@cache
def free() -> subbyte.QuantizedModel:
    """Quantized for all sizes; do not change it."""
    return subbyte.quantize(net(), pictures(8, 10), "w8a8", dynamic=["width", "height"])


@pytest.mark.parametrize(("height", "width"), [(8, 10), (14, 9), (6, 21)])
def test_images_of_other_sizes_pass(height, width):
    x = pictures(height, width)
    expected, found = net()(x), free()(x)
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max())


def test_a_file_says_which_sizes_differ_and_asks_for_the_same(tmp_path):
    subbyte.save(free(), tmp_path / "net.safetensors")
    again = subbyte.load(tmp_path / "net.safetensors", net())
    assert again.signature.described == "float32 [n, 3, height, width]"
    assert torch.equal(again(pictures(14, 9)), free()(pictures(14, 9)))
    for model in (free(), again):
        with pytest.raises(DataError, match=r"\[n, 3, height, width\].*x\.shape\[2\]") as said:
            model(pictures(7, 10, 3))
        assert "float32 [3, 3, 7, 10]; as it was captured it needs" in str(said.value)


@pytest.mark.parametrize("axes", [[], ["height", "width"]])
def test_no_samples_make_no_outputs(axes):
    model = free() if axes else subbyte.quantize(net(), pictures(8, 10), "w4")
    assert model(pictures(8, 10)[:0]).shape == (0, 5)


def test_one_axis_alone_may_differ():
    model = subbyte.quantize(net(), pictures(8, 10), "w4", dynamic=["width"])
    assert model(pictures(8, 17)).shape == (8, 5)
    with pytest.raises(DataError, match=r"\[n, 3, 8, width\]; it was called with .*10, 10\]; size"):
        model(pictures(10, 10))


def test_sizes_are_fixed_where_nobody_frees_them():
    model = subbyte.quantize(net(), pictures(8, 10), "w4")
    with pytest.raises(DataError, match=r"\[n, 3, 8, 10\].*`dynamic` frees height and width"):
        model(pictures(8, 11))


def test_multiplications_are_those_of_the_calibration_images():
    fixed = prepare(net(), pictures(8, 10))
    assert prepared(net()).multiplications == fixed.multiplications


def prepared(model: nn.Module, x: Tensor | None = None) -> Network:
    """Captured for all sizes."""
    samples = Samples.of(pictures(8, 10) if x is None else x)
    return prepare(model, samples.with_dynamic((Axis.HEIGHT, Axis.WIDTH)))


FIXED = """
import torch
from torch import nn


class Flat(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(320, 2))

    def forward(self, x):
        return super().forward(x)  # line 11


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        self.table = nn.Parameter(torch.zeros(4, 8, 1))

    def forward(self, x):
        return self.fc((self.conv(x) + self.table).mean((2, 3)))  # line 21


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3))) * (2 if x.shape[2] == 8 else 3)
"""


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("fixed") / "fixed.py"
    path.write_text(FIXED)
    spec = importlib.util.spec_from_file_location("fixed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Flat", r"height 8 and width 10: at twice .*fixed\.py:11: mat1 and mat2 .*multiplied"),
        ("Positions", r"height 8: at twice the size it raises at .*fixed\.py:21: The size of tens"),
        ("Number", "height 8: its code compares that size with a number"),
    ],
)
def test_a_network_that_fixes_sizes_says_which_and_why(fixed, name, message):
    with pytest.raises(CaptureError, match=f"dynamic: {name} is fixed to {message}"):
        prepared(getattr(fixed, name)())


@dataclass
class Scores:
    scores: Tensor


def test_networks_of_free_sizes_may_return_dataclasses():
    model = Calls(lambda m, x: Scores(m.net(x)), net=net())
    assert prepared(model).output_names == ["output"]


def padded(x: Tensor) -> Tensor:
    return F.pad(x, (0, 1, 0, 1)) if x.shape[-1] % 2 else x


CHOICES = {
    "large images are halved": (lambda x: F.avg_pool2d(x, 2) if x.shape[-1] > 12 else x, 8, 12, 13),
    "odd images are padded": (padded, 9, 17, 12),
    "none is larger": (lambda x: F.avg_pool2d(x, 2) if x.shape[-1] > 8 else x, 8, 7, 9),
}


@pytest.mark.parametrize("case", CHOICES)
def test_what_code_asks_of_sizes_is_no_error_of_the_capture(case, tmp_path):
    choose, calibrated, held, broken = CHOICES[case]
    layers = {"first": nn.Conv2d(3, 4, 3, padding=1), "last": nn.Conv2d(4, 2, 1)}
    net = Calls(lambda m, x: m.last(F.relu(m.first(choose(x)))), **layers)
    x = pictures(calibrated, calibrated)
    model = subbyte.quantize(net, x, "w8a8", dynamic=["height", "width"])
    free = Samples.of(x).with_dynamic((Axis.HEIGHT, Axis.WIDTH))
    compared = of_other_sizes(free, model.signature.conditions)
    assert [compared.size_along(axis) for axis in Axis] == [held, held]
    wanted = net(pictures(held, held)).detach()
    assert float((model(pictures(held, held)) - wanted).abs().mean()) < 0.1 * wanted.abs().mean()
    with pytest.raises(DataError, match="as it was captured it needs"):
        model(pictures(broken, broken))
    subbyte.export(model, tmp_path / "net.onnx", x)


def test_bounds_that_sizes_give_are_kept():
    net = Calls(lambda m, x: m.conv(x.clamp(0, x.shape[-1] - 9)), conv=nn.Conv2d(3, 2, 1))
    x = 3 * pictures(8, 12)
    assert torch.allclose(prepared(net).graph_module(x), net(x), atol=1e-5)


def test_axes_are_of_images():
    with pytest.raises(ModelError, match="unknown axis 'depth'; known: height, width"):
        subbyte.quantize(net(), pictures(8, 10), dynamic=["depth"])
    with pytest.raises(ModelError, match=r"height is an axis of images .* float32 \[4, 6\]"):
        subbyte.quantize(nn.Linear(6, 2), torch.randn(4, 6), dynamic=["height"])


def test_an_onnx_file_takes_other_sizes_and_is_proven_on_them(tmp_path, monkeypatch):
    path, x = tmp_path / "net.onnx", pictures(8, 10)
    subbyte.export(free(), path, x)
    (given,) = onnx.load(path).graph.input
    sizes = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    other = pictures(14, 9)
    assert torch.allclose(subbyte.runner(path)(other), free()(other), atol=1e-4)
    path.unlink()
    honest = onnx_exporter._runner

    def wrong_when_large(path, settings):
        run = honest(path, settings)
        return lambda x: run(x) + (x.shape[3] > 10)

    monkeypatch.setattr(onnx_exporter, "_runner", wrong_when_large)
    with pytest.raises(ParityError):
        subbyte.export(free(), path, x)
    assert not Path(path).exists()
