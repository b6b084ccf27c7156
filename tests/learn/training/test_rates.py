"""The learning rate where none is given."""

import pytest
from torch import nn

from subbyte.learn.optimizers import OPTIMIZERS
from subbyte.learn.training.rates import usual_rate
from subbyte.models import MODELS, new_model


@pytest.mark.parametrize(
    ("model", "optimizer", "rate"),
    [
        ("resnet20", "sgd", 0.1),
        ("resnet20", "qsgd", 0.1),
        ("resnet20", "adamw", 0.002),
        ("resnet20", "qtadamw-2023", 0.002),
        ("lenet-digits", "sgd", 0.05),
        ("lenet-digits", "qtadamw", 0.001),
        ("cnn", "sgd", 0.05),
        ("vgg11_bn-cifar", "sgd", 0.1),
    ],
)
def test_it_is_that_of_the_optimizer_less_without_normalization_and_from_weights(
    model, optimizer, rate
):
    network = new_model(model, None, MODELS[model].input_shape)
    chosen = OPTIMIZERS[optimizer]()
    assert usual_rate(chosen, network, trained=False) == rate
    assert usual_rate(chosen, network, trained=True) == pytest.approx(rate / 10)


def test_deep_networks_without_normalization_go_slowly():
    layers = [nn.Conv2d(3, 3, 1) for _ in range(6)]
    assert usual_rate(OPTIMIZERS["sgd"](), nn.Sequential(*layers), trained=False) == 0.01
    bare = nn.Sequential(*layers, nn.GroupNorm(1, 3))
    assert usual_rate(OPTIMIZERS["sgd"](), bare, trained=False) == 0.1
