"""The ResNets for ImageNet of He, Zhang, Ren, Sun 2016 ("Deep residual learning", section 4.1,
table 1).

    conv 7x7 / 2 (64) - max pool 3x3 / 2 - stages of 64, 128, 256, 512 maps, the last three halve
    them - mean - fc
    basic block (18, 34):  relu( bn(conv3x3( relu(bn(conv3x3(x))) )) + shortcut(x) )
    bottleneck (50):       relu( bn(conv1x1( relu(bn(conv3x3( relu(bn(conv1x1(x))) ))) )) +
                           shortcut(x) ), 4 x as wide

Where the shape changes the shortcut is a 1x1 convolution with batch-norm (the paper's option B),
else the identity. Other than in the paper, a bottleneck that halves the maps does so in its 3x3
convolution and not in the first 1x1,
as is usual today ("v1.5"). Stems for CIFAR begin with a 3x3 convolution of stride 1; most have no
max pool, so that 32 x 32 pixels reach the last stage as 4 x 4, others keep it. Parameters have the
names of torchvision's files: conv1, bn1, layer1.0.conv1, ..., layer2.0.downsample.0, ..., fc.
"""

from enum import Enum

import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.models.initial import he_normal

WIDTHS = (64, 128, 256, 512)


class Stem(Enum):
    """The first convolution's size and stride, and whether a max pool follows it."""

    IMAGENET = (7, 2, True)
    CIFAR = (3, 1, False)
    CIFAR_POOL = (3, 1, True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; `stride` 2 halves the maps."""

    expansion = 1  # channels out are this times the width

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, width, h/stride, w/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; `stride` 2 halves the maps."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(channels_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, 4 width, h/stride, w/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


Block = type[BasicBlock] | type[Bottleneck]
DEPTHS: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
"""Layers -> kind of block, blocks in each stage."""


class ResNet(nn.Module):
    """A network of `depth` layers for images [channels, 224, 224], or [channels, 32, 32] with a
    stem for CIFAR.

    depth: 18, 34 or 50. classes: number of logits. Raises ModelError for another depth and when
        classes is below 1.
    """

    def __init__(
        self, depth: int, classes: int, *, stem: Stem = Stem.IMAGENET, channels: int = 3
    ) -> None:
        super().__init__()
        if depth not in DEPTHS or classes < 1:
            known = ", ".join(map(str, DEPTHS))
            raise ModelError(
                f"ResNet(depth={depth}, classes={classes}): depth must be one of {known}, classes "
                f"at least 1"
            )
        block, counts = DEPTHS[depth]
        size, stride, pool = stem.value
        self.conv1 = nn.Conv2d(
            channels, WIDTHS[0], size, stride=stride, padding=size // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.layer1 = _stage(block, WIDTHS[0], WIDTHS[0], counts[0], stride=1)
        self.layer2 = _stage(block, WIDTHS[0] * block.expansion, WIDTHS[1], counts[1], stride=2)
        self.layer3 = _stage(block, WIDTHS[1] * block.expansion, WIDTHS[2], counts[2], stride=2)
        self.layer4 = _stage(block, WIDTHS[2] * block.expansion, WIDTHS[3], counts[3], stride=2)
        self.fc = nn.Linear(WIDTHS[3] * block.expansion, classes)
        he_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, h, w] -> logits [b, classes]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _stage(
    block: Block, channels_in: int, width: int, blocks: int, *, stride: int
) -> nn.Sequential:
    first = block(channels_in, width, stride)
    return nn.Sequential(
        first, *(block(width * block.expansion, width, 1) for _ in range(blocks - 1))
    )
