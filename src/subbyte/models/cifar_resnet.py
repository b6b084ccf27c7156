"""The ResNets for CIFAR-10 of He, Zhang, Ren, Sun 2016 ("Deep residual learning", section 4.2),
depth 6n + 2.

    conv 3x3 (16) - n blocks of 16 maps 32x32 - n blocks of 32 maps 16x16 - n blocks of 64 maps 8x8
    - mean -
    linear
    block:  relu( bn(conv( relu(bn(conv(x))) )) + shortcut(x) )

Where a block halves the maps and doubles the channels, the shortcut takes every second pixel and
pads the channels with zeros, and has no parameters (the paper's option A), or is a 1x1 convolution
with batch-norm (option B). The paper does not say on which side the zeros go. Weights published for
these networks expect half of them before and half after; others, the QSGD program's among them,
all of them after. Parameters are named conv1, bn1, layer1.0.conv1, layer1.0.bn1, ..., linear, and
layer2.0.downsample.0 with option B.
"""

from enum import Enum

import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.models import resnet

WIDTHS = (16, 32, 64)


class Shortcut(Enum):
    """Kinds of shortcuts where the shape changes."""

    AROUND = "zeros before and after the channels"
    AFTER = "zeros after the channels"
    CONVOLUTION = "a 1x1 convolution"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters; `stride` 2 halves the maps.

    around: whether half of the channels of zeros go before the others, or none.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, around: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        more = channels_out - channels_in
        self.padding = (more // 2, more // 2) if around else (0, more)

    def shortcut(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels_out, h/stride, w/stride]."""
        if self.stride == 1:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels_out, h/stride, w/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A network of 6 * blocks + 2 layers for images [channels, 32, 32].

    blocks: per stage, the n of 6n + 2. classes: number of logits. Raises ModelError when either is
        below 1.
    """

    def __init__(
        self,
        blocks: int,
        classes: int = 10,
        *,
        shortcut: Shortcut = Shortcut.AROUND,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if blocks < 1 or classes < 1:
            raise ModelError(
                f"CifarResNet(blocks={blocks}, classes={classes}): both must be at least 1"
            )
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, shortcut, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, shortcut, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, shortcut, stride=2)
        self.linear = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, 32, 32] -> logits [b, classes]."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(
    channels_in: int, channels_out: int, blocks: int, shortcut: Shortcut, *, stride: int
) -> nn.Sequential:
    sizes = [(channels_in, stride)] + [(channels_out, 1)] * (blocks - 1)
    if shortcut is Shortcut.CONVOLUTION:
        return nn.Sequential(*(resnet.BasicBlock(c, channels_out, step) for c, step in sizes))
    around = shortcut is Shortcut.AROUND
    return nn.Sequential(*(BasicBlock(c, channels_out, step, around=around) for c, step in sizes))


def resnet20(classes: int = 10) -> CifarResNet:
    """20 layers, 0.27 million parameters."""
    return CifarResNet(3, classes)


def resnet32(classes: int = 10) -> CifarResNet:
    """32 layers, 0.46 million parameters."""
    return CifarResNet(5, classes)


def resnet44(classes: int = 10) -> CifarResNet:
    """44 layers, 0.66 million parameters."""
    return CifarResNet(7, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """56 layers, 0.85 million parameters."""
    return CifarResNet(9, classes)


def resnet110(classes: int = 10) -> CifarResNet:
    """110 layers, 1.7 million parameters."""
    return CifarResNet(18, classes)
