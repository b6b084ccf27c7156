"""Files that take pixels compute what the network computes of the inputs that pixels make."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import DataError, ParityError, RecipeError
from subbyte.exporters import export, form_of, network_runner, pixels
from subbyte.methods import InputType
from subbyte.records import About, Preprocessing

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES = Preprocessing(mean=(0.5,) * 3, std=(0.2,) * 3)
PLAIN = Preprocessing()
GENERATOR = torch.Generator().manual_seed(3)
PIXELS = torch.randint(0, 256, (24, 3, 6, 6), generator=GENERATOR, dtype=torch.uint8)
PIXELS[:, :, 0, 0], PIXELS[:, :, 0, 1] = 0, 255


def normalized(preprocessing):
    """As torchvision does it, by hand."""
    x = PIXELS.float() / 255
    if not preprocessing.mean:
        return x
    mean, std = (torch.tensor(n).view(3, 1, 1) for n in (preprocessing.mean, preprocessing.std))
    return (x - mean) / std


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def quantized(network, preprocessing, recipe):
    return subbyte.quantize(network.eval(), normalized(preprocessing), recipe=recipe)


def kinds(path):
    """The operations on the way from the input to the first convolution."""
    graph = onnx.load(path).graph
    found, name = [], graph.input[0].name
    while "Conv" not in found:
        node = next(node for node in graph.node if name in node.input)
        found.append(node.op_type)
        name = node.output[0]
    return found


@pytest.mark.parametrize(
    ("preprocessing", "recipe", "way"),
    [
        (IMAGENET, "w8a8", ["DequantizeLinear", "Add", "QuantizeLinear", "DequantizeLinear"]),
        (IMAGENET, "w4", ["DequantizeLinear", "Add"]),
        (PLAIN, "w8a8", ["DequantizeLinear"]),
    ],
)
def test_pixels_are_normalized_in_the_file(network, preprocessing, recipe, way, tmp_path):
    model, path = quantized(network, preprocessing, recipe), tmp_path / "net.onnx"
    about = About(preprocessing=preprocessing)
    made = export(model, path, normalized(preprocessing), input="uint8", about=about)
    assert kinds(path) == [*way, "Conv"] and made.form.input is InputType.UINT8
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].type == "tensor(uint8)"
    (found,) = session.run(None, {"input": PIXELS.numpy()})
    wanted = model(normalized(preprocessing))
    assert torch.allclose(torch.from_numpy(found), wanted, atol=1e-5)
    assert torch.allclose(network_runner(path)(normalized(preprocessing)), wanted, atol=1e-5)
    assert form_of(path).about.preprocessing == preprocessing


def test_where_pixels_lie_on_borders_of_codes_torchs_own_operations_are_taken(network, tmp_path):
    """(u / 255 - 1/2) / 0.2 in steps of 1 / 255 is 5 u - 637.5: half way between two codes."""
    model, path = quantized(network, PLAIN, "w8a8"), tmp_path / "net.onnx"
    step = float(model.instrumented.tap("input").scale)
    assert step == pytest.approx(1 / 255)
    export(model, path, normalized(HALVES), input="uint8", about=About(preprocessing=HALVES))
    assert kinds(path)[:5] == ["Cast", "Div", "Sub", "Div", "QuantizeLinear"]


def test_a_wrong_shift_is_refused(network, monkeypatch, tmp_path):
    model, about = quantized(network, IMAGENET, "w8a8"), About(preprocessing=IMAGENET)
    right = pixels._Steps.of

    def wrong(preprocessing):
        steps = right(preprocessing)
        return pixels._Steps(steps.scale, steps.shift[::-1].copy())

    monkeypatch.setattr(pixels._Steps, "of", wrong)
    monkeypatch.setattr(pixels, "_codes", lambda node, inputs: None)
    with pytest.raises(ParityError):
        export(model, tmp_path / "net.onnx", normalized(IMAGENET), input="uint8", about=about)
    assert not list(tmp_path.iterdir())


def test_what_is_no_image_or_not_known_is_refused(network, tmp_path):
    path, model = tmp_path / "net.onnx", quantized(network, IMAGENET, "w4")
    with pytest.raises(RecipeError, match="nothing says how pixels become inputs"):
        export(model, path, normalized(IMAGENET), input="uint8")
    one = About(preprocessing=Preprocessing(mean=(0.5,), std=(0.5,)))
    with pytest.raises(RecipeError, match="1 means, but the network's images have 3 channels"):
        export(model, path, normalized(IMAGENET), input="uint8", about=one)
    with pytest.raises(DataError, match="the images would hold pixels from"):
        export(model, path, normalized(IMAGENET), input="uint8", about=About(preprocessing=PLAIN))
    rows = torch.randn(20, 6)
    flat = subbyte.quantize(nn.Sequential(nn.Linear(6, 4)).eval(), rows, recipe="w4")
    with pytest.raises(RecipeError, match=r"this one takes float32 \[n, 6\]"):
        export(flat, path, rows, input="uint8", about=About(preprocessing=PLAIN))
    with pytest.raises(RecipeError, match="torch: input is one of float, got uint8"):
        export(model, tmp_path / "net.pt2", normalized(IMAGENET), to="torch", input="uint8")
