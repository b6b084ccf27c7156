"""The ResNets for CIFAR-10 of He, Zhang, Ren, Sun 2016 ("Deep residual learning", section 4.2),
depth 6n + 2.

    conv 3x3 (16) - n blocks of 16 maps 32x32 - n blocks of 32 maps 16x16 - n blocks of 64 maps 8x8
    - mean -
    linear
    block:  relu( bn(conv( relu(bn(conv(x))) )) + shortcut(x) )

Shortcuts have no parameters (the paper's option A): where a block halves the maps and doubles the
channels,
the shortcut takes every second pixel and pads the channels with zeros, half of them before and half
after.
The paper does not say on which side the zeros go; this is where the weights published for these
networks
expect them. Parameters are named conv1, bn1, layer1.0.conv1, layer1.0.bn1, ..., linear.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.errors import ModelError

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters; `stride` 2 halves the maps."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.padding = (channels_out - channels_in) // 2

    def shortcut(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels_out, h/stride, w/stride]."""
        if self.stride == 1:
            return x
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels_out, h/stride, w/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A network of 6 * blocks + 2 layers for images [3, 32, 32].

    blocks: per stage, the n of 6n + 2. classes: number of logits. Raises ModelError when either is
        below 1.
    """

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        if blocks < 1 or classes < 1:
            raise ModelError(
                f"CifarResNet(blocks={blocks}, classes={classes}): both must be at least 1"
            )
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.linear = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, 3, 32, 32] -> logits [b, classes]."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(channels_in: int, channels_out: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(
        first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1))
    )


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
