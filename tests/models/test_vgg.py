"""VGG with batch-norm: names, shapes and sizes as torchvision's files have them, the wiring by
hand.
"""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from subbyte.errors import ModelError
from subbyte.models import VGG

COLUMNS = {  # of table 1 of the paper; M: pooling
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
SIZES = {
    11: (132_868_840, 9_231_114),
    13: (133_053_736, 9_416_010),
    16: (138_365_992, 14_728_266),
    19: (143_678_248, 20_040_522),
}
"""Depth -> parameters for ImageNet with 1000 classes, for CIFAR with 10."""


def on_meta(depth: int, classes: int = 1000, *, cifar: bool = False) -> VGG:
    """On the meta device, because the classifier for ImageNet takes half a gigabyte."""
    with torch.device("meta"):
        return VGG(depth, classes, cifar=cifar).eval()


def features(depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the state dict's first part, in order."""
    position, channels = 0, 3
    for item in COLUMNS[depth].split():
        if item == "M":
            position += 1
            continue
        width = int(item)
        yield f"features.{position}.weight", (width, channels, 3, 3)
        yield f"features.{position}.bias", (width,)
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            yield f"features.{position + 1}.{tensor}", (width,)
        yield f"features.{position + 1}.num_batches_tracked", ()
        position, channels = position + 3, width


@pytest.mark.parametrize("depth", COLUMNS)
@pytest.mark.parametrize("cifar", [False, True])
def test_names_and_shapes(depth, cifar):
    shapes = [
        (name, tuple(tensor.shape))
        for name, tensor in on_meta(depth, cifar=cifar).state_dict().items()
    ]
    if cifar:
        head = [("classifier.weight", (1000, 512)), ("classifier.bias", (1000,))]
    else:
        wide = {
            "classifier.0": (4096, 25088),
            "classifier.3": (4096, 4096),
            "classifier.6": (1000, 4096),
        }
        head = [
            pair for k, s in wide.items() for pair in ((f"{k}.weight", s), (f"{k}.bias", s[:1]))
        ]
    assert shapes == [*features(depth), *head]


def test_some_names_that_torchvisions_files_hold():
    names = on_meta(16).state_dict()
    assert (
        names["features.40.weight"].shape == (512, 512, 3, 3)
        and "features.41.running_mean" in names
    )
    assert "features.49.weight" in on_meta(19).state_dict() and "features.43.weight" not in names


@pytest.mark.parametrize("depth", COLUMNS)
@pytest.mark.parametrize("cifar", [False, True])
def test_sizes(depth, cifar):
    model = on_meta(depth, 10 if cifar else 1000, cifar=cifar)
    assert sum(p.numel() for p in model.parameters()) == SIZES[depth][cifar]
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == depth - 2 * cifar


def test_the_large_network_pools_to_7_by_7_whatever_the_image():
    model = on_meta(11)
    seen: list[tuple[int, ...]] = []
    model.features.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    for size in (224, 96):
        assert model(torch.empty(1, 3, size, size, device="meta")).shape == (1, 1000)
    assert seen == [(1, 512, 7, 7), (1, 512, 3, 3)]
    kinds = [type(m) for m in model.classifier]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]
    assert [m.p for m in model.classifier if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_the_wiring():
    torch.manual_seed(0)
    model = VGG(11, 7, cifar=True).eval()
    images = torch.randn(2, 3, 32, 32)
    layers = [m for m in model.features if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for norm in layers[1::2]:
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
    pairs, x = iter(zip(layers[::2], layers[1::2], strict=True)), images
    with torch.no_grad():
        for item in COLUMNS[11].split():
            if item == "M":
                b, c, h, w = x.shape
                x = x.view(b, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5))
                continue
            conv, norm = next(pairs)
            x = F.conv2d(x, conv.weight, conv.bias, padding=1) - norm.running_mean.view(-1, 1, 1)
            x = (x / torch.sqrt(norm.running_var + 1e-5).view(-1, 1, 1)).clamp(min=0)
        assert x.shape == (2, 512, 1, 1)
        wanted = x.flatten(1) @ model.classifier.weight.T + model.classifier.bias
        assert torch.allclose(model(images), wanted, rtol=1e-4, atol=1e-5)


def test_the_first_weights():
    torch.manual_seed(0)
    model = VGG(11, 10, cifar=True)
    convs = [m for m in model.features if isinstance(m, nn.Conv2d)]
    for conv in convs:
        assert conv.weight.std().item() == pytest.approx(
            math.sqrt(2 / (9 * conv.out_channels)), rel=0.05
        )
        assert (conv.bias == 0).all()
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (model.classifier.bias == 0).all()


@pytest.mark.parametrize(("depth", "classes"), [(12, 10), (11, 0)])
def test_impossible_networks_are_refused(depth, classes):
    with pytest.raises(
        ModelError, match=rf"depth={depth}, classes={classes}.*one of 11, 13, 16, 19.*at least 1"
    ):
        VGG(depth, classes)
