"""MobileNetV2: names, shapes and size as torchvision's file has them, the block by hand."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from subbyte.errors import ModelError
from subbyte.models import MobileNetV2
from subbyte.models.mobilenet_v2 import InvertedResidual

# channels out of the 17 blocks, table 2
WIDTHS = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
# block with stride 2 -> the side that it takes, for images of 224 pixels
HALVING = {2: 112, 4: 56, 7: 28, 14: 14}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def on_meta(classes: int = 1000, *, cifar: bool = False) -> MobileNetV2:
    with torch.device("meta"):
        return MobileNetV2(classes, cifar=cifar).eval()


def norm(name: str, channels: int) -> Shapes:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def torchvision_mobilenet_v2() -> Shapes:
    """Names and shapes of the state dict, in order, written out from the paper's table 2."""
    yield "features.0.0.weight", (32, 3, 3, 3)
    yield from norm("features.0.1", 32)
    channels = 32
    for block, width in enumerate(WIDTHS, start=1):
        name, hidden, number = f"features.{block}.conv", channels, 0
        if block > 1:
            hidden = 6 * channels
            yield f"{name}.0.0.weight", (hidden, channels, 1, 1)
            yield from norm(f"{name}.0.1", hidden)
            number = 1
        yield f"{name}.{number}.0.weight", (hidden, 1, 3, 3)
        yield from norm(f"{name}.{number}.1", hidden)
        yield f"{name}.{number + 1}.weight", (width, hidden, 1, 1)
        yield from norm(f"{name}.{number + 2}", width)
        channels = width
    yield "features.18.0.weight", (1280, 320, 1, 1)
    yield from norm("features.18.1", 1280)
    yield "classifier.1.weight", (1000, 1280)
    yield "classifier.1.bias", (1000,)


@pytest.mark.parametrize("cifar", [False, True])
def test_names_and_shapes_are_torchvisions(cifar):
    shapes = [
        (name, tuple(tensor.shape)) for name, tensor in on_meta(cifar=cifar).state_dict().items()
    ]
    assert shapes == list(torchvision_mobilenet_v2())


def test_some_names_that_torchvisions_file_holds():
    names = on_meta().state_dict()
    assert names["features.1.conv.1.weight"].shape == (16, 32, 1, 1)
    assert names["features.17.conv.3.running_var"].shape == (320,)


def test_sizes():
    assert sum(p.numel() for p in on_meta().parameters()) == 3_504_872
    assert sum(p.numel() for p in on_meta(10, cifar=True).parameters()) == 2_236_682


@pytest.mark.parametrize("cifar", [False, True])
def test_the_maps_of_every_block(cifar):
    model = on_meta(cifar=cifar)
    found: list[tuple[int, ...]] = []
    for module in model.features:
        module.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[1:])))
    side = 32 if cifar else 224
    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, 1000)
    halves = {0, *HALVING} - ({0, 2} if cifar else set())
    wanted = []
    for block, width in enumerate([32, *WIDTHS, 1280]):
        if not cifar and block in HALVING:
            assert side == HALVING[block]
        side //= 2 if block in halves else 1
        wanted.append((width, side, side))
    assert found == wanted and side == (4 if cifar else 7)


@pytest.mark.parametrize(
    ("width", "expand", "stride", "residual"),
    [(4, 6, 1, True), (4, 1, 1, True), (5, 6, 1, False), (4, 6, 2, False)],
)
def test_a_block_is_the_papers(width, expand, stride, residual):
    torch.manual_seed(0)
    block = InvertedResidual(4, width, expand=expand, stride=stride).eval()
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == (2 if expand == 1 else 3)
    for bn in norms:
        bn.running_mean.uniform_(-1, 1)
        bn.running_var.uniform_(0.05, 0.5)
    x = y = 10 * torch.randn(2, 4, 6, 6)
    for number, (conv, bn) in enumerate(zip(convs, norms, strict=True)):
        deep = conv.weight.shape[-1] == 3
        groups = 4 * expand if deep else 1
        y = torch.conv2d(
            y, conv.weight, stride=stride if deep else 1, padding=int(deep), groups=groups
        )
        y = (y - bn.running_mean.view(-1, 1, 1)) / torch.sqrt(bn.running_var + 1e-5).view(-1, 1, 1)
        if number < len(convs) - 1:
            assert (y > 6).any()  # so that the clipping is seen
            y = y.clamp(0, 6)
    assert torch.allclose(block(x), x + y if residual else y, atol=1e-4)


def test_the_head_averages_and_drops():
    torch.manual_seed(0)
    model = MobileNetV2(6, cifar=True).eval()
    maps: list[torch.Tensor] = []
    model.features.register_forward_hook(lambda _m, _i, out: maps.append(out))
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 32, 32))
    linear = model.classifier[1]
    assert torch.allclose(
        logits, maps[0].flatten(2).sum(-1) / 16 @ linear.weight.T + linear.bias, atol=1e-5
    )
    assert model.classifier[0].p == 0.2


def test_the_first_weights_count_the_groups():
    torch.manual_seed(0)
    model = MobileNetV2(10)
    narrow, deep = model.features[17].conv[2], model.features[17].conv[1][0]
    assert narrow.weight.std().item() == pytest.approx(math.sqrt(2 / 320), rel=0.03)
    assert deep.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.03)
    assert model.classifier[1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (model.classifier[1].bias == 0).all()


def test_no_class_is_refused():
    with pytest.raises(ModelError, match=r"classes=0.*at least 1"):
        MobileNetV2(0)
