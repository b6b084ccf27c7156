"""Networks trained on grids are packed to the codes they were trained on; others are refused."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import NumericsError, RecipeError, SubbyteError
from subbyte.learn.training import PACKED, pack, train
from subbyte.learn.training import finish as finish_module
from subbyte.models import load_weights
from tests.learn.training.runs import ADAM, Normed, digits, few, replace, seeded

DATA = few(digits(), 500)
METHODS = {
    "sgd": ("sgd", "grid", 0.05),
    "adamw": ("adamw", "grid", 3e-3),
    "ste": ("adam", "ste", 3e-3),
    "lsq": ("adam", "lsq", 3e-3),
}
"""By name: optimizer, weight quantizer, learning rate."""
IMAGES = DATA.test.images(range(60))


def on_grid(weight: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Random codes of so many bits times a random step for each output channel, both ends among
    them.
    """
    rows = len(weight)
    codes = torch.randint(
        -(2 ** (bits - 1)), 2 ** (bits - 1), weight.shape, generator=generator
    ).float()
    codes.flatten(1)[:, 0], codes.flatten(1)[:, 1] = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    steps = torch.exp(torch.randn(rows, generator=generator)) * 0.1
    return codes * steps.reshape(-1, *[1] * (weight.ndim - 1))


def made(bits: int) -> nn.Module:
    """A network whose weights lie on grids, with batch-norms that have seen something."""
    model, generator = seeded(Normed), torch.Generator().manual_seed(bits)
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.fc):
            layer.weight.copy_(on_grid(layer.weight, bits, generator))
        for norm in (model.bn1, model.bn2):
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.2, 3, generator=generator)
            norm.bias.normal_(generator=generator)
    return model.eval()


def trained(
    out: Path, bits: int, method: str, network: Callable[[], nn.Module] = Normed, **more: Any
) -> nn.Module:
    """The plain network that a run on `bits` left in `out`."""
    optimizer, qat, lr = METHODS[method]
    chosen = {"name": qat, "bits": bits} | more.pop("grid", {})
    settings = replace(
        ADAM, epochs=2, batch_size=64, lr=lr, optimizer=optimizer, qat=chosen, **more
    )
    train(seeded(network), DATA, settings, out)
    model = seeded(network, 1)
    load_weights(model, out / "model.safetensors")
    return model.eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IMAGES)


def assert_same(found: nn.Module, expected: Tensor) -> None:
    """To float rounding: that of folded batch-norms, through three layers."""
    assert float((logits(found) - expected).abs().max()) < 2e-6 * float(expected.abs().max())


@pytest.fixture(scope="module")
def packed_at(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int], tuple[QuantizedModel, Path]]:
    """What becomes of `made(bits)`, and its file."""

    @cache
    def packed(bits: int) -> tuple[QuantizedModel, Path]:
        path = tmp_path_factory.mktemp("packed") / PACKED
        return pack(made(bits), DATA.test, bits, (), path), path

    return packed


@pytest.mark.parametrize(
    "bits", [2, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (3, 4, 8))]
)
def test_weights_on_a_grid_are_packed_as_they_are(bits, packed_at):
    model, (packed, path) = made(bits), packed_at(bits)
    assert_same(packed, logits(model))
    assert [(row.name, row.bits) for row in packed.ledger if row.kind == "layer"] == [
        (name, str(bits)) for name in ("conv1", "conv2", "fc")
    ]
    weight = packed.weights["fc"]  # no batch-norm behind it: its very weights
    torch.testing.assert_close(weight.dequantize(), model.fc.weight, rtol=3e-7, atol=0)
    assert len(weight.codes.unique()) == 2**bits
    loaded = subbyte.load(path, seeded(Normed, 3))
    assert torch.equal(logits(loaded), logits(packed))


def test_rows_that_use_few_of_their_codes_are_packed_too(tmp_path):
    model = made(4)
    with torch.no_grad():
        step = 0.037
        model.fc.weight[0] = 0
        model.fc.weight[1] = -7 * step * (torch.arange(216) % 5 == 0)
        model.fc.weight[2] = step * (1 + torch.arange(216) % 6)
        model.fc.weight[3] = 4 * step * (torch.arange(216) % 3 - 1)
    assert_same(pack(model, DATA.test, 4, (), tmp_path / PACKED), logits(model))


QUICK = {("sgd", 3), ("lsq", 2)}


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        pytest.param(method, bits, marks=() if (method, bits) in QUICK else pytest.mark.slow)
        for method in METHODS
        for bits in (2, 3, 4, 8)
    ],
)
def test_trained_networks_are_found_again(method, bits, tmp_path):
    model = trained(tmp_path, bits, method)
    expected = logits(model)
    packed = pack(model, DATA.test, bits, (), tmp_path / PACKED)
    assert_same(packed, expected)
    assert torch.equal(logits(subbyte.load(tmp_path / PACKED, seeded(Normed))), logits(packed))
    assert packed.bits_per_weight < bits + 1.5
    assert min(model.bn1.weight.min(), model.bn2.weight.min()) < 0, (
        "no batch-norm turns signs: the test is void"
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_scale_for_a_whole_tensor_is_found_again(method, tmp_path):
    model = trained(tmp_path, 3, method, grid={"granularity": "tensor"})
    assert_same(pack(model, DATA.test, 3, (), tmp_path / PACKED), logits(model))


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 4])
def test_packed_networks_are_exported_and_checked(bits, packed_at, tmp_path):
    packed, _ = packed_at(bits)
    found = subbyte.export(packed, tmp_path / "net.onnx", IMAGES)
    assert found.parity.samples == 60 and found.parity.classes == 100
    assert (
        found.parity.outputs[0].largest < 1e-4 * float(logits(packed).abs().max())
        and (tmp_path / "net.onnx").stat().st_size
    )


def test_exempt_layers_stay_float_to_the_bit(tmp_path):
    model = trained(tmp_path, 3, "sgd", float_layers=("conv*",))
    expected = logits(model)
    packed = pack(model, DATA.test, 3, ("conv*",), tmp_path / PACKED)
    assert_same(packed, expected)
    bits = {row.name: row.bits for row in packed.ledger if row.kind == "layer"}
    assert bits == {"conv1": "float", "conv2": "float", "fc": "3"} and set(packed.weights) == {"fc"}
    with pytest.raises(RecipeError, match="layer 'conv"):
        pack(model, DATA.test, 3, (), tmp_path / "other")
    with pytest.raises(RecipeError, match="no layer matches 'body'"):
        pack(model, DATA.test, 3, ("body",), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("layer", ["conv2", pytest.param("fc", marks=pytest.mark.slow)])
def test_a_weight_off_its_grid_is_refused_by_name(layer, tmp_path):
    model = made(4)
    with torch.no_grad():
        weight = model.get_submodule(layer).weight
        weight[2].flatten()[3] += 0.02 * float(weight[2].abs().max()) / 8
    with pytest.raises(
        RecipeError,
        match=rf"layer '{layer}': .*exact: 1 of \d+ rows lie on no grid of 4 bits.* is row 2",
    ):
        pack(model, DATA.test, 4, (), tmp_path / PACKED)
    assert list(tmp_path.iterdir()) == []


def test_too_few_bits_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="lie on no grid of 3 bits"):
        pack(made(4), DATA.test, 3, (), tmp_path / PACKED)
    assert list(tmp_path.iterdir()) == []


def test_a_packed_network_that_says_something_else_is_never_written(tmp_path, monkeypatch):
    def tampered(model: nn.Module, images: Tensor, recipe: Any, **given: Any) -> Any:
        with torch.no_grad():
            model.fc.bias += 0.01 * float(model(images).abs().max())
        found = subbyte.quantize(model, images, recipe, **given)
        with torch.no_grad():
            model.fc.bias -= 0.02 * float(model(images).abs().max())
        return found

    monkeypatch.setattr(finish_module, "quantize", tampered)
    with pytest.raises(NumericsError, match="the packed network's outputs differ by"):
        pack(made(4), DATA.test, 4, (), tmp_path / PACKED)
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_its_quantizers_still_on_is_packed_or_clearly_refused(tmp_path):
    model = seeded(Normed)
    train(model, DATA, replace(ADAM, epochs=1, qat="lsq", lr=3e-3), tmp_path)
    try:
        packed = pack(model, DATA.test, 4, (), tmp_path / PACKED)
    except SubbyteError as error:
        assert "model.safetensors" in str(error) or "quantizer" in str(error)
    else:
        assert_same(packed, logits(model))


class Up(nn.Module):
    """Transposed convolutions, one of them in groups, among other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 6, 2, 2)
        self.grouped, self.fc = nn.ConvTranspose2d(6, 8, 3, groups=2), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.grouped(F.relu(self.up(F.relu(self.down(x)))))).mean((2, 3)))


@pytest.mark.parametrize("method", ["sgd", pytest.param("lsq", marks=pytest.mark.slow)])
def test_transposed_convolutions_are_found_again(method, tmp_path):
    model = trained(tmp_path, 4, method, Up)
    assert_same(pack(model, DATA.test, 4, (), tmp_path / PACKED), logits(model))
