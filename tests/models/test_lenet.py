"""LeNet: its size by the textbook, its wiring by hand."""

import pytest
import torch
import torch.nn.functional as F

from subbyte.errors import ModelError
from subbyte.models import LeNet, lenet


def test_the_number_of_parameters_is_lenet5s():
    assert sum(p.numel() for p in lenet().parameters()) == 61_706
    assert sum(p.numel() for p in lenet(3, 32).parameters()) == 62_006  # without padding


def test_a_relu_may_follow_the_last_layer():
    plain, model = lenet(3, 32), LeNet(3, 32, relu=True)
    model.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(model(images), plain(images).clamp(min=0)) and plain(images).min() < 0


@pytest.mark.parametrize("size", [4, 5, 8, 15, 16, 17, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_all_sizes_work_and_keep_a_map(size, channels):
    model = LeNet(channels, size, classes=7)
    assert model(torch.rand(2, channels, size, size)).shape == (2, 7)
    assert model.fc1.in_features >= 16


@pytest.mark.parametrize("size", [8, 28])
def test_the_wiring(size):
    model = lenet(size=size)
    images = torch.rand(3, 1, size, size)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    x = images
    for conv in convolutions:
        x = F.conv2d(x, conv.weight, conv.bias, padding=conv.padding).clamp(min=0)
        x = F.unfold(
            x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2].flatten(0, 1)[:, None],
            2,
            stride=2,
        )
        side = int(x.shape[-1] ** 0.5)
        x = x.amax(dim=1).view(3, conv.out_channels, side, side)
    x = x.reshape(3, -1)
    for layer in (model.fc1, model.fc2, model.fc3):
        # the first clamp does nothing after a pooling
        x = x.clamp(min=0) @ layer.weight.T + layer.bias
        x = x if layer is model.fc3 else x.clamp(min=0)
    assert torch.allclose(model(images), x, atol=1e-5)


@pytest.mark.parametrize("options", [{"size": 3}, {"channels": 0}, {"classes": 0}])
def test_impossible_networks_are_refused(options):
    with pytest.raises(ModelError, match="size must be at least 4"):
        LeNet(**options)


def test_it_learns():
    torch.manual_seed(0)
    model = lenet(size=8, classes=2)
    images = torch.rand(64, 1, 8, 8)
    labels = (images[:, 0, :, :4].mean(dim=(1, 2)) > images[:, 0, :, 4:].mean(dim=(1, 2))).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).float().mean() > 0.95
