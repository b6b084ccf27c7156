"""STE and LSQ against numbers worked out one by one, and the plain weights that come of them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from subbyte.errors import RecipeError
from subbyte.learn.qat import layers_of, plain_state
from subbyte.learn.qat.lsq import Lsq
from subbyte.learn.qat.ste import Ste
from subbyte.learn.training import TrainSettings, train
from tests.learn.training.runs import Normed, digits, seeded
from tests.reference.training import rounded

QUANTIZERS = {"ste": Ste, "lsq": Lsq}
LAYERS = {
    "linear": lambda: nn.Linear(20, 6),
    "conv": lambda: nn.Conv2d(4, 6, 3),
    "grouped": lambda: nn.Conv2d(6, 6, 3, groups=3),
    "conv1d": lambda: nn.Conv1d(3, 5, 4),
}


def attached(layer: nn.Module, quantizer: Ste) -> tuple[nn.Module, Tensor, Tensor]:
    """The layer with rounded weights, the float ones behind, and the scale."""
    quantizer.attach({"layer": layer})
    found = layer.parametrizations["weight"]  # type: ignore[index]
    return layer, found.original, found[0].scale


def ends(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_values_and_gradients_are_those_worked_out_by_hand(name, kind, granularity, bits):
    quantizer = QUANTIZERS[name](bits, granularity)
    layer, weight, scale = attached(seeded(LAYERS[kind]), quantizer)
    with torch.no_grad():  # off the scale it began with, so that there are weights beyond both ends
        scale *= 0.6
    rows = weight.shape[0]
    upstream = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    found = layer.weight
    (found * upstream).sum().backward()
    scales = scale.detach().reshape(-1).tolist()
    assert len(scales) == (rows if granularity == "channel" else 1)
    shared, (qmin, qmax) = weight.numel() // len(scales), ends(bits)
    flat = [tensor.detach().reshape(len(scales), -1).tolist() for tensor in (weight, upstream)]
    outside = 0
    for k, each in enumerate(scales):
        values, back, of_scale = rounded(flat[0][k], each, qmin, qmax, flat[1][k], shared)
        outside += sum(gradient == 0 for gradient in back)
        assert found.detach().reshape(len(scales), -1)[k].tolist() == pytest.approx(
            values, rel=1e-6, abs=1e-9
        )
        assert weight.grad.reshape(len(scales), -1)[k].tolist() == pytest.approx(
            back, rel=1e-6, abs=1e-9
        )
        if name == "lsq":
            assert float(scale.grad.reshape(-1)[k]) == pytest.approx(of_scale, rel=1e-4, abs=1e-5)
    assert outside > 0 and (name == "lsq" or (scale.grad is None and not scale.requires_grad))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_gradient_of_a_few_weights(name):
    layer = nn.Linear(6, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-0.9, -0.4, -0.1, 0.1, 0.2, 0.9]]))
    layer, weight, scale = attached(layer, QUANTIZERS[name](bits=2))
    with torch.no_grad():
        # weights of -3.6, -1.6, -0.4, 0.4, 0.8 and 3.6 steps; codes are -2, -1, 0 and 1
        scale.fill_(0.25)
    layer.weight.sum().backward()
    assert layer.weight.tolist() == [[-0.5, -0.5, 0.0, 0.0, 0.25, 0.25]]
    assert weight.grad.tolist() == [[0, 1, 1, 1, 1, 0]]
    if name == "lsq":
        assert float(scale.grad) == pytest.approx(
            (-2 - 0.4 + 0.4 - 0.4 + 0.2 + 1) / 6**0.5, rel=1e-5
        )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_lie_on_the_grid(kind, bits):
    layer, weight, scale = attached(seeded(LAYERS[kind]), Lsq(bits=bits))
    weight, scale = weight.detach(), scale.detach()
    codes = layer.weight.detach() / scale
    qmin, qmax = ends(bits)
    torch.testing.assert_close(codes, codes.round().clamp(qmin, qmax), rtol=1e-6, atol=0)
    inside = (weight / scale >= qmin) & (weight / scale <= qmax)
    assert float((weight / scale - codes)[inside].abs().max()) <= 0.5 + 1e-5
    assert len(codes.round().unique()) > min(2**bits, weight.numel()) / 2


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bits", [2, 4])
def test_the_scale_starts_with_the_least_square_error(name, bits):
    layer, weight, _ = attached(seeded(LAYERS["linear"]), QUANTIZERS[name](bits=bits))
    qmin, qmax = ends(bits)
    for row in range(6):
        w = weight[row].detach().double()
        tried = torch.linspace(0.01, 1.2, 2000, dtype=torch.float64)[:, None] * w.abs().max()
        least = float((w - (w / tried).round().clamp(qmin, qmax) * tried).square().sum(1).min())
        error = float((w - layer.weight[row].detach().double()).square().sum())
        assert error <= 1.02 * least


def test_the_sign_of_a_learned_scale_does_not_matter_and_a_layer_of_zeros_stays_finite():
    layer, _, scale = attached(seeded(LAYERS["linear"]), Lsq())
    before = layer.weight.detach().clone()
    with torch.no_grad():
        scale.neg_()
    assert torch.equal(layer.weight, before)
    empty = nn.Linear(4, 2)
    nn.init.zeros_(empty.weight)
    empty, weight, scale = attached(empty, Lsq())
    empty(torch.ones(3, 4)).sum().backward()
    assert torch.equal(empty.weight, torch.zeros(2, 4))
    assert bool(torch.isfinite(weight.grad).all() and torch.isfinite(scale.grad).all())


@pytest.mark.parametrize("name", QUANTIZERS)
def test_training_moves_the_scale_of_lsq_alone(name, tmp_path):
    model = seeded(Normed)
    before = {n: m.weight.detach().clone() for n, m in layers_of(model).items()}
    start = seeded(Normed)
    QUANTIZERS[name](bits=3).attach(layers_of(start))
    train(
        model,
        digits(),
        TrainSettings.of(epochs=1, lr=3e-3, optimizer="adam", qat={"name": name, "bits": 3}),
        tmp_path,
    )
    for n in before:
        part, first = (module.get_submodule(n).parametrizations.weight for module in (model, start))
        assert torch.equal(part[0].scale, first[0].scale) == (name == "ste")
        assert not torch.equal(part.original, before[n])


def test_only_layers_not_exempt_are_rounded(tmp_path):
    model = seeded(Normed)
    settings = TrainSettings.of(
        epochs=1, lr=3e-3, optimizer="adam", qat="ste", float_layers=("conv1", "f*")
    )
    train(model, digits(), settings, tmp_path)
    rounded = {n for n, m in model.named_modules() if parametrize.is_parametrized(m)}
    assert rounded == {"conv2"} and len(model.conv1.weight.unique()) == model.conv1.weight.numel()


def test_the_plain_state_is_that_of_the_network_without_quantizers():
    images = digits().test.images(range(40))
    model = seeded(Normed)
    model(images)  # in training mode: batch-norms take statistics in
    names = list(model.state_dict())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain_state(model).items())
    Lsq(bits=3).attach(layers_of(model, ("fc",)))
    state = plain_state(model)
    assert sorted(state) == sorted(names) and not any(
        tensor.requires_grad for tensor in state.values()
    )
    changed = {name for name in names if not torch.equal(state[name], before[name])}
    assert changed == {"conv1.weight", "conv2.weight"}
    plain = seeded(Normed, 1)
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), model.eval()(images))


def test_layers_are_found_by_name_and_pattern():
    model = nn.ModuleDict(
        {
            "stem": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv1d(2, 2, 1)),
            "head": nn.Sequential(
                nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.ConvTranspose2d(1, 1, 1)
            ),
        }
    )
    assert list(layers_of(model)) == ["stem.0", "stem.2", "head.1", "head.3"]
    assert layers_of(model)["head.1"] is model["head"][1]
    assert list(layers_of(model, ("stem.*",))) == ["head.1", "head.3"]
    assert list(layers_of(model, ("*.0", "head.3"))) == ["stem.2", "head.1"]
    assert list(layers_of(model, ("*",))) == []
    with pytest.raises(
        RecipeError, match=r"no layer matches 'body\.\*'; the layers are stem\.0, stem\.2, head\.1"
    ):
        layers_of(model, ("stem.*", "body.*"))
    with pytest.raises(RecipeError, match="no layer matches 'stem'"):
        layers_of(model, ("stem",))


@pytest.mark.parametrize("bits", [1, 9, 0])
@pytest.mark.parametrize("cls", [Ste, Lsq])
def test_widths_are_from_2_to_8(cls, bits):
    with pytest.raises(RecipeError, match=f"bits must be .* at least 2 and at most 8, got {bits}"):
        cls(bits=bits)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lqs", "qat: unknown method 'lqs'; known: grid, ste, lsq"),
        (
            {"name": "lsq", "bit": 3},
            "qat lsq: unknown setting 'bit'; known: bits, granularity",
        ),
        ({"name": "lsq", "granularity": "row"}, "qat lsq: granularity: "),
        (
            {"name": "ste", "bits": 16},
            "qat ste: bits: must be a whole number, at least 2 and at most 8",
        ),
    ],
)
def test_unknown_quantizers_and_settings_are_errors(method, message, tmp_path):
    with pytest.raises(RecipeError) as error:
        train(seeded(), digits(), TrainSettings.of(epochs=1, qat=method), tmp_path / "out")
    assert str(error.value).startswith(message) and not (tmp_path / "out").exists()
