"""Networks as they begin to be trained with low-bit weights: STE and LSQ against numbers worked out
one by one, grids that fit best, and what is refused.
"""

import logging

import pytest
import torch
from torch import Tensor, nn

from subbyte.core import GridSpec, Uniform, share_of
from subbyte.engine.limits import Limits
from subbyte.engine.trainable.measures import NUMBERS
from subbyte.engine.trainable.weights import TrainableLayer
from subbyte.errors import RecipeError
from subbyte.graph import Samples
from subbyte.learn.qat import begun
from subbyte.learn.qat.grid import OnGrid
from subbyte.learn.qat.lsq import Lsq
from subbyte.learn.qat.start import fitted
from subbyte.learn.qat.ste import Ste
from subbyte.learn.training import TrainSettings, train
from subbyte.methods import Learned, WeightQuantizer
from subbyte.tuning.estimators import Straight
from tests.learn.training.runs import Normed, digits, seeded
from tests.reference.training import rounded

IMAGES = digits().test.images(range(40))


def layer_of(weight: Tensor, bits: int, factor: float = 1.0) -> TrainableLayer:
    """The layer of a weight [rows, columns]; factor: on the scale that fits best."""
    grid = fitted(factor, weight, GridSpec(Uniform(bits), share_of("channel")))
    return TrainableLayer(grid, weight, torch.zeros(len(weight)), NUMBERS)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_values_and_gradients_are_those_worked_out_by_hand(bits):
    generator = torch.Generator().manual_seed(bits)
    weight, upstream = (torch.randn(6, 20, generator=generator) for _ in range(2))
    layer = layer_of(weight, bits, 0.6)  # so that there are weights beyond both ends
    found, _ = layer(Straight(), 0.0)
    (found * upstream).sum().backward()
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    outside = 0
    for k, scale in enumerate(layer.grid.scale[:, 0].tolist()):
        row, above = weight[k].tolist(), upstream[k].tolist()
        values, back, of_scale = rounded(row, scale, qmin, qmax, above, 20)
        # beyond an end the gradient that leads back stays
        stays = [
            g if (x / scale > qmax and g > 0) or (x / scale < qmin and g < 0) else b
            for x, g, b in zip(row, above, back, strict=True)
        ]
        outside += sum(a == 0 for a in stays)
        assert found[k].tolist() == pytest.approx(values, rel=1e-5, abs=1e-7)
        assert layer.latent.grad[k].tolist() == pytest.approx(stays, rel=1e-5, abs=1e-7)
        led = [x / scale * g for x, g, s, b in zip(row, above, stays, back, strict=True) if s != b]
        share = 1 / (20 * qmax) ** 0.5
        wanted = of_scale - share * sum(led)
        assert float(layer.growth.grad[k]) == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert outside > 0


@pytest.mark.parametrize("bits", [2, 4])
def test_the_scale_starts_with_the_least_square_error(bits):
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    layer = layer_of(weight, bits)
    found, _ = layer(Straight(), 0.0)
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for w, own in zip(weight.double(), found.detach().double(), strict=True):
        tried = torch.linspace(0.01, 1.2, 2000, dtype=torch.float64)[:, None] * w.abs().max()
        least = float((w - (w / tried).round().clamp(qmin, qmax) * tried).square().sum(1).min())
        assert float((w - own).square().sum()) <= 1.02 * least


def test_the_sign_of_a_learned_scale_does_not_matter_and_rows_of_zeros_stay_finite():
    layer = layer_of(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), 4)
    before, _ = layer(Straight(), 0.0)
    with torch.no_grad():
        layer.growth -= 2 * layer.grid.scale
    after, _ = layer(Straight(), 0.0)
    torch.testing.assert_close(after, before)
    empty = layer_of(torch.zeros(2, 4), 4)
    value, _ = empty(Straight(), 0.0)
    value.sum().backward()
    assert not value.any() and bool(torch.isfinite(empty.growth.grad).all())


def made(qat: WeightQuantizer, model: nn.Module, exempt: tuple[str, ...] = ()):
    return begun(model, Samples.of(IMAGES), qat, exempt, Straight(), Limits())[0]


@pytest.mark.parametrize("qat", [Ste(3), Lsq(3, activation_bits=4), OnGrid(3, reach=2.0)])
def test_what_is_kept_does_not_learn(qat):
    model = seeded(Normed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = made(qat, model)
    kinds = trained.kinds
    assert bool(kinds[Learned.SCALE]) == (qat == Lsq(3, activation_bits=4))
    assert bool(kinds[Learned.RANGE]) == (qat.activation_bits is not None)
    assert {str(row.bits) for row in trained.quantized.ledger if row.kind == "layer"} == {"3"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    scale = trained.layer("fc").grid.scale
    torch.testing.assert_close(scale, qat.widening * fitted(1, model.fc.weight.detach(), Q3).scale)


Q3 = GridSpec(Uniform(3), share_of("channel"))


def test_dropout_is_told_of_and_patterns_that_match_nothing_are_errors(caplog):
    with caplog.at_level(logging.WARNING, "subbyte"):
        made(Ste(3), seeded(lambda: Normed(dropout=0.3)))
    assert "dropout does nothing" in caplog.text
    with pytest.raises(RecipeError, match="fc9"):
        made(Ste(3), seeded(Normed), ("fc9",))


@pytest.mark.parametrize("bits", [1, 9, 0])
@pytest.mark.parametrize("cls", [Ste, Lsq, OnGrid])
def test_widths_are_from_2_to_8(cls, bits):
    with pytest.raises(RecipeError, match=f"bits must be .* at least 2 and at most 8, got {bits}"):
        cls(bits=bits)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lqs", "qat: unknown method 'lqs'; known: grid, ste, lsq"),
        (
            {"name": "lsq", "bit": 3},
            "qat lsq: unknown setting 'bit'; known: bits, activation_bits",
        ),
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
