"""The quantized network: what it says of itself is what it holds."""

from math import ceil, isfinite

import pytest
import torch
from torch import Tensor, nn

import subbyte
from subbyte.core import GridSpec, PerChannel, PerGroup, QTensor, Uniform
from subbyte.engine.quantized import LedgerRow
from subbyte.graph import prepare, tensor_at
from tests.networks import NAMES, build, images, quantized, signal_to_noise

torch.set_num_threads(1)


def rows(model: subbyte.QuantizedModel, kind: str) -> dict[str, LedgerRow]:
    return {row.name: row for row in model.ledger if row.kind == kind}


def code_bytes(bits: int | str, count: int) -> int:
    """Ternary codes go five to a byte, others bit by bit."""
    return ceil(count / 5) if bits == "ternary" else ceil(count * int(bits) / 8)


@pytest.mark.parametrize(
    ("name", "recipe"), [("residual", "w4a4"), ("shared", "w3"), ("norm first", "ternary")]
)
def test_the_ledger_has_a_row_for_every_layer_and_tap(name, recipe):
    model = quantized(name, recipe)
    assert [row.name for row in model.ledger if row.kind == "layer"] == [
        layer.name for layer in model.plan.layers
    ]
    assert [row.name for row in model.ledger if row.kind == "activation"] == [
        tap.name for tap in model.plan.taps
    ]
    for row in model.ledger:
        assert row.sqnr_db is None or isfinite(row.sqnr_db)


@pytest.mark.parametrize(
    ("recipe", "bits"),
    [("w8a8", "8"), ("w4", "4"), ("w3", "3"), ("w2", "2"), ("ternary", "ternary")],
)
def test_rows_tell_what_was_asked_and_got(recipe, bits):
    for row in rows(quantized("residual", recipe), "layer").values():
        assert (row.asked, row.bits, row.reason) == (bits, bits, "")
        assert row.sqnr_db is not None and row.sqnr_db > 0


@pytest.mark.parametrize("recipe", ["w8a8", "w4", "w3", "w2", "ternary"])
def test_bytes_of_a_row_are_codes_scales_and_zero_points(recipe):
    model = quantized("residual", recipe)
    for name, row in rows(model, "layer").items():
        weight = model.layer(name).geometry.weight_shape
        stored = code_bytes(row.bits, torch.Size(weight).numel())
        # float32 scale, a zero point where the recipe has one
        per_row = 4 + (1 if recipe in ("w4", "w3", "w2") else 0)
        assert row.bytes == stored + weight[0] * per_row == model.weights[name].nbytes


def test_bits_per_weight_by_hand():
    weights = {
        "stem": 8 * 27,
        "b1.conv1": 8 * 72,
        "b1.conv2": 8 * 72,
        "b2.conv1": 16 * 72,
        "b2.conv2": 16 * 144,
        "fc": 80,
    }
    outputs = {"stem": 8, "b1.conv1": 8, "b1.conv2": 8, "b2.conv1": 16, "b2.conv2": 16, "fc": 5}
    count = sum(weights.values())
    four = sum(n // 2 + 5 * outputs[name] for name, n in weights.items())
    assert quantized("residual", "w4").bits_per_weight == pytest.approx(8 * four / count)
    two = sum(n // 4 + 5 * outputs[name] for name, n in weights.items())
    assert quantized("residual", "w2").bits_per_weight == pytest.approx(8 * two / count)
    skipped = quantized(
        "residual", "w4", "layers={fc: {skip: true}, b1.conv1: {weights: {bits: null}}}"
    )
    mixed = four + sum(
        4 * weights[n] - weights[n] // 2 - 5 * outputs[n] for n in ("fc", "b1.conv1")
    )
    assert skipped.bits_per_weight == pytest.approx(8 * mixed / count)
    grouped = quantized("residual", "w4", "weights.granularity=group", "weights.group_size=10")
    groups = sum(outputs[name] * ceil(n / outputs[name] / 10) for name, n in weights.items())
    assert grouped.bits_per_weight == pytest.approx(8 * (count // 2 + 5 * groups) / count)
    whole = quantized("residual", "w4", "weights.granularity=tensor")
    assert whole.bits_per_weight == pytest.approx(8 * (count // 2 + 5 * len(weights)) / count)


def test_a_float_network_takes_32_bits():
    model = quantized("residual", "w4", "weights.bits=null")
    assert model.bits_per_weight == 32
    for row in rows(model, "layer").values():
        assert (row.asked, row.bits) == ("float", "float") and row.reason
    assert torch.allclose(
        model(images("residual")), build("residual")(images("residual")), atol=1e-4
    )


def test_shared_weights_count_once():
    model = quantized("shared", "w4")
    own, again, head = rows(model, "layer").values()
    assert (again.name, again.bytes, again.bits) == ("inner#2", 0, "4") and "inner" in again.reason
    assert own.bytes == 4 * 36 // 2 + 4 * 5 and head.bytes == 3 * 4 // 2 + 3 * 5
    assert model.bits_per_weight == pytest.approx(8 * (own.bytes + head.bytes) / (4 * 36 + 12))


def test_packed_bytes_are_everything_the_network_needs():
    model = quantized("norm first", "w8a8")
    weights = 6 * 27 + 6 * 54 + 4 * 6
    rest = 4 * (6 + 6 + 4) + 4 * (6 + 6 + 4)  # scales, biases
    assert model.packed_bytes == weights + rest + 5 * len(model.plan.taps)
    assert model.packed_bytes < quantized("norm first", "w8a8", "weights.bits=null").packed_bytes


def test_skipped_layers_say_why():
    model = quantized(
        "residual", "w4a4", 'layers={"b1.*": {skip: true}, fc: {weights: {bits: null}}}'
    )
    found = rows(model, "layer")
    assert "skipped" in found["b1.conv1"].reason and "skipped" in found["b1.conv2"].reason
    assert found["b1.conv1"].bits == found["fc"].bits == "float" and found["fc"].reason
    assert found["b1.conv1"].bytes == 4 * 8 * 72


def test_taps_have_the_bits_of_their_readers():
    found = {
        name: (row.asked, row.bits)
        for name, row in rows(quantized("residual", "w4a4"), "activation").items()
    }
    assert found["input"] == ("8", "8") and found["fc:out"] == ("8", "8")
    assert found["b1.conv1:out"] == ("4", "4") and found["b1.conv2:out"] == ("8", "8")
    assert found["stem:out"] == ("8", "8") and found["stem:out:feed"] == ("4", "4")
    assert rows(quantized("residual", "w4"), "activation") == {}


@pytest.mark.parametrize("name", NAMES)
def test_weights_lie_on_their_grids(name):
    for recipe in ("w8a8", "w2"):
        model = quantized(name, recipe)
        assert model.weights
        for layer_name, weight in model.weights.items():
            layer = model.layer(layer_name)
            matrix = layer.geometry.to_matrix(tensor_at(model.graph_module, layer.weight))
            assert torch.equal(QTensor.nearest(matrix, weight.grid).dequantize(), matrix)
            assert torch.equal(weight.dequantize(), matrix)
            assert len(matrix[0].unique()) <= weight.grid.spec.alphabet.count
            assert (
                int(weight.codes.min()) >= weight.grid.spec.alphabet.qmin
                and int(weight.codes.max()) <= weight.grid.spec.alphabet.qmax
            )


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("residual", "w8a8"),
        ("residual", "w4a4"),
        ("mobile", "w8a8"),
        ("decoder", "w8a8"),
        ("shared", "w8a8"),
    ],
)
def test_biases_lie_on_the_int32_grid_of_input_and_weight(name, recipe):
    model = quantized(name, recipe)
    for layer_name, weight in model.weights.items():
        layer = model.layer(layer_name)
        grid = model.input_grid(layer)
        assert grid is not None
        step = (grid.scale.double() * weight.grid.scale.double()).flatten()
        codes = tensor_at(model.graph_module, layer.bias).double() / step
        assert float((codes - codes.round()).abs().max()) < 1e-3 + 1e-6 * float(
            codes.abs().max()
        ), layer_name
        assert float(codes.abs().max()) < 2**31
        assert torch.allclose(model.bias_scale(layer).double(), step, rtol=1e-6)


def test_biases_are_free_where_the_input_is_float():
    model = quantized("residual", "w4")
    assert all(
        model.input_grid(layer) is None and model.bias_scale(layer) is None
        for layer in model.layers
    )


class Faint(nn.Module):
    """A layer whose weights are nothing beside its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        with torch.no_grad():
            self.conv.weight.mul_(1e-9)
            self.conv.bias.copy_(torch.tensor([3.0, -2.0, 1.0, 5.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def test_a_bias_beyond_int32_makes_steps_wider_and_the_ledger_says_so():
    torch.manual_seed(0)
    x = torch.randn(16, 3, 6, 6)
    model = subbyte.quantize(Faint(), x, "w8a8")
    found = rows(model, "layer")
    assert found["conv"].reason.startswith("steps of 4 of 4 ") and "int32" in found["conv"].reason
    assert found["fc"].reason == ""
    step = model.bias_scale(model.layer("conv"))
    assert step is not None and 2**29 < 3.0 / float(step[0]) <= 2**30
    assert tensor_at(model.graph_module, "conv.bias")[0] == pytest.approx(3.0, abs=1e-5)


def test_outputs_use_no_more_levels_than_their_tap_has():
    model = quantized("residual", "w8a8", "others.bits=4")
    assert len(model(images("residual", 300, seed=9)).unique()) <= 16


@pytest.mark.parametrize("name", ["mobile", "tokens", "shared", "norm first"])
def test_the_users_model_is_left_alone(name):
    model, x = build(name).train(), images(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    names = [key for key, _ in model.named_parameters()]
    quantized_model = subbyte.quantize(model, x, "w3")
    after = model.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[key], state[key]) for key in state)
    assert [key for key, _ in model.named_parameters()] == names and model.training
    own = {value.data_ptr() for value in model.state_dict().values() if value.numel()}
    assert not own & {
        value.data_ptr() for value in quantized_model.state_dict().values() if value.numel()
    }


def test_quantized_models_run_like_modules():
    model, x = quantized("residual", "w4a4"), images("residual")
    assert isinstance(model, nn.Module) and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    whole = model(x)
    assert whole.shape == (40, 5) and torch.equal(whole, model(x))
    assert torch.allclose(torch.cat([model(part) for part in x.split(7)]), whole, atol=1e-5)


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_number_of_bits_is_kept(bits):
    model, x = build("functional"), images("functional")
    result = subbyte.quantize(
        model, x, subbyte.load_recipe("w4", [f"weights.bits={bits}", "weights.rounding=nearest"])
    )
    assert all(weight.grid.label == str(bits) for weight in result.weights.values())
    assert signal_to_noise(model(x), result(x)) > 6 * bits - 10


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["symmetric=false"], GridSpec(Uniform(3, symmetric=False), PerChannel())),
        (["narrow=true"], GridSpec(Uniform(3, narrow=True), PerChannel())),
        (["granularity=tensor"], GridSpec(Uniform(3))),
        (
            ["granularity=group", "group_size=4"],
            GridSpec(Uniform(3), PerGroup(4)),
        ),
    ],
)
def test_grids_are_as_asked(settings, expected):
    settings = [
        "weights.bits=3",
        "weights.symmetric=true",
        *(f"weights.{setting}" for setting in settings),
    ]
    model = quantized("functional", "w4", *settings)
    for weight in model.weights.values():
        assert weight.grid.spec == expected
        codes = weight.codes
        assert (
            int(codes.min()) >= expected.alphabet.qmin
            and int(codes.max()) <= expected.alphabet.qmax
            and len(codes.unique()) > 4
        )


def test_the_fold_error_is_reported():
    network = prepare(build("residual"), images("residual"))
    assert 0 <= network.fold_error < 1e-5
    assert quantized("residual", "w4").findings.fold_error < 1e-5
