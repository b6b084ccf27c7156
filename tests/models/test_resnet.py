"""ResNets for ImageNet: names, shapes and sizes as torchvision's files have them, the blocks by
hand.
"""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from subbyte.errors import ModelError
from subbyte.models import ResNet
from subbyte.models.resnet import BasicBlock, Bottleneck, Stem

SIZES = {18: (11_689_512, 11_173_962), 34: (21_797_672, 21_282_122), 50: (25_557_032, 23_520_842)}
"""Depth -> parameters for ImageNet with 1000 classes, for CIFAR with 10."""
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def on_meta(depth: int, classes: int = 1000, *, cifar: bool = False) -> ResNet:
    with torch.device("meta"):
        return ResNet(depth, classes, stem=Stem.CIFAR if cifar else Stem.IMAGENET).eval()


def norm(name: str, channels: int) -> Shapes:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def torchvision_resnet(depth: int) -> Shapes:
    """Names and shapes of the state dict, in order, written out from the paper's table 1."""
    yield "conv1.weight", (64, 3, 7, 7)
    yield from norm("bn1", 64)
    channels = 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        convs = (
            [(width, 1), (width, 3), (4 * width, 1)] if depth == 50 else [(width, 3), (width, 3)]
        )
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            before = channels
            for number, (out, size) in enumerate(convs, start=1):
                yield f"{name}.conv{number}.weight", (out, channels, size, size)
                yield from norm(f"{name}.bn{number}", out)
                channels = out
            if block == 0 and before != channels:
                yield f"{name}.downsample.0.weight", (channels, before, 1, 1)
                yield from norm(f"{name}.downsample.1", channels)
    yield "fc.weight", (1000, channels)
    yield "fc.bias", (1000,)


@pytest.mark.parametrize("depth", SIZES)
def test_names_and_shapes_are_torchvisions(depth):
    shapes = [(name, tuple(tensor.shape)) for name, tensor in on_meta(depth).state_dict().items()]
    assert shapes == list(torchvision_resnet(depth))


def test_some_names_that_torchvisions_files_hold():
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta(50).state_dict().items()}
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,) and shapes["fc.weight"] == (1000, 2048)
    names = set(on_meta(18).state_dict())
    assert (
        "layer2.0.downsample.1.running_mean" in names
        and "layer1.0.downsample.0.weight" not in names
    )


@pytest.mark.parametrize("depth", SIZES)
@pytest.mark.parametrize("cifar", [False, True])
def test_sizes(depth, cifar):
    model = on_meta(depth, 10 if cifar else 1000, cifar=cifar)
    assert sum(p.numel() for p in model.parameters()) == SIZES[depth][cifar]
    layers = [
        n
        for n, m in model.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "downsample" not in n
    ]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("cifar", "size", "sides"), [(False, 224, (56, 28, 14, 7)), (True, 32, (32, 16, 8, 4))]
)
@pytest.mark.parametrize("depth", [18, 50])
def test_the_maps_of_every_stage(depth, cifar, size, sides):
    model = on_meta(depth, cifar=cifar)
    found: list[tuple[int, ...]] = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _m, _i, out: found.append(tuple(out.shape[1:])))
    assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 1000)
    wider = 4 if depth == 50 else 1
    assert found == [(64 * wider * 2**k, side, side) for k, side in enumerate(sides)]


def test_resnet18_takes_other_sizes():
    with torch.no_grad():
        assert ResNet(18, 5).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def unsettle(model: nn.Module) -> None:
    """Batch-norms with statistics as after a training, so that a test sees them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)


def conv_norm(
    x: torch.Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d, *, stride: int = 1
) -> torch.Tensor:
    y = torch.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
    mean, var, gamma, beta = (
        t.view(-1, 1, 1) for t in (bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    return (y - mean) / torch.sqrt(var + 1e-5) * gamma + beta


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (6, 1), (6, 2)])
def test_a_basic_block_is_the_papers_formula(channels, stride):
    torch.manual_seed(0)
    block = BasicBlock(channels, 4, stride).eval()
    unsettle(block)
    x = torch.randn(2, channels, 6, 6)
    y = conv_norm(x, block.conv1, block.bn1, stride=stride).clamp(min=0)
    y = conv_norm(y, block.conv2, block.bn2)
    beside = x if channels == 4 else conv_norm(x, *block.downsample, stride=stride)
    assert torch.allclose(block(x), (y + beside).clamp(min=0), atol=1e-5)


@pytest.mark.parametrize(("channels", "stride"), [(12, 1), (3, 1), (12, 2)])
def test_a_bottleneck_is_the_papers_formula_with_the_stride_in_its_middle(channels, stride):
    torch.manual_seed(0)
    block = Bottleneck(channels, 3, stride).eval()
    unsettle(block)
    x = torch.randn(2, channels, 6, 6)
    y = conv_norm(x, block.conv1, block.bn1).clamp(min=0)
    y = conv_norm(y, block.conv2, block.bn2, stride=stride).clamp(min=0)
    y = conv_norm(y, block.conv3, block.bn3)
    beside = x if (channels, stride) == (12, 1) else conv_norm(x, *block.downsample, stride=stride)
    assert torch.allclose(block(x), (y + beside).clamp(min=0), atol=1e-5)


@pytest.mark.parametrize("stem", Stem)
def test_stem_and_head(stem):
    torch.manual_seed(0)
    model = ResNet(18, 6, stem=stem).eval()
    stride = 2 if stem is Stem.IMAGENET else 1
    unsettle(model)
    seen: dict[str, torch.Tensor] = {}
    model.layer1.register_forward_pre_hook(lambda _m, args: seen.update(stem=args[0]))
    model.layer4.register_forward_hook(lambda _m, _i, out: seen.update(maps=out))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
        x = conv_norm(images, model.conv1, model.bn1, stride=stride).clamp(min=0)
    if stem is not Stem.CIFAR:  # the largest of 3 x 3, at every second pixel
        x = nn.functional.pad(x, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(4, 5))
    assert torch.allclose(seen["stem"], x, atol=1e-4)
    pooled = seen["maps"].flatten(2).sum(-1) / seen["maps"][0, 0].numel()
    assert torch.allclose(logits, pooled @ model.fc.weight.T + model.fc.bias, rtol=1e-4, atol=1e-4)


def test_the_first_weights_are_hes():
    torch.manual_seed(0)
    model = ResNet(18, 10)
    for layer in (model.conv1, model.layer2[0].conv1, model.layer3[0].downsample[0]):
        wanted = math.sqrt(2 / (layer.out_channels * layer.kernel_size[0] ** 2))
        assert layer.weight.std().item() == pytest.approx(wanted, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.03 * wanted
    assert all(
        (m.weight == 1).all() and (m.bias == 0).all()
        for m in model.modules()
        if isinstance(m, nn.BatchNorm2d)
    )


@pytest.mark.parametrize(("depth", "classes"), [(20, 10), (18, 0)])
def test_impossible_networks_are_refused(depth, classes):
    with pytest.raises(
        ModelError, match=rf"depth={depth}, classes={classes}.*one of 18, 34, 50.*at least 1"
    ):
        ResNet(depth, classes)
