"""The network for MNIST: its size as published, its wiring by hand."""

import pytest
import torch
import torch.nn.functional as F

from subbyte.errors import ModelError
from subbyte.models import CNN


def test_the_number_of_parameters():
    assert {k: tuple(v.shape) for k, v in CNN().state_dict().items()} == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "fc.weight": (10, 3136),
        "fc.bias": (10,),
    }
    assert sum(p.numel() for p in CNN().parameters()) == 50_186


def test_the_wiring():
    model = CNN(classes=7)
    images = x = torch.randn(2, 1, 28, 28)
    for conv in (model.conv1, model.conv2):
        side = x.shape[-1]
        windows = F.unfold(x, 3, padding=1)  # [b, 9 channels, side^2]
        maps = (conv.weight.flatten(1) @ windows + conv.bias[:, None]).clamp(min=0)
        x = maps.view(2, -1, side // 2, 2, side // 2, 2).amax(dim=(3, 5))
    logits = model(images)
    assert logits.shape == (2, 7)
    assert torch.allclose(logits, x.flatten(1) @ model.fc.weight.T + model.fc.bias, atol=1e-5)


def test_the_linear_layer_starts_as_glorot_and_bengio_have_it():
    torch.manual_seed(0)
    weight = CNN().fc.weight
    bound = (6 / (3136 + 10)) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_no_class_is_refused():
    with pytest.raises(ModelError, match=r"classes=0.*at least 1"):
        CNN(0)
