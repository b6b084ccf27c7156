"""MobileNetV2 of Sandler, Howard, Zhu, Zhmoginov, Chen 2018 ("Inverted residuals and linear
bottlenecks", table 2).

    conv 3x3 / 2 (32) - 17 inverted residuals - conv 1x1 (1280) - mean - dropout 0.2 - fc
    inverted residual:  y = bn(conv1x1( relu6(bn(depthwise3x3( relu6(bn(conv1x1(x))) ))) ));  x + y
                        where shapes agree

The first 1x1 convolution makes the channels `expand` times as many; with `expand` 1 it is left out.
The network for CIFAR has stride 1 in its first convolution and in its first stage of stride 2, so
that 32 x 32 pixels reach the mean as 4 x 4. Parameters have the names of torchvision's files:
features.0.0, features.1.conv.0.0, ..., features.18.1, classifier.1.
"""

from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.models.initial import he_normal, small_normal

STEM, LAST = 32, 1280  # channels
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion t, channels c, blocks n, stride s of the first block: the rows of table 2."""
FIRST_HALVING = 1  # of STAGES


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; beside an identity where the shape stays. `stride` 2
    halves the maps.
    """

    def __init__(self, channels_in: int, channels_out: int, *, expand: int, stride: int) -> None:
        super().__init__()
        hidden = expand * channels_in
        widen = [] if expand == 1 else [_unit(channels_in, hidden, 1)]
        self.conv = nn.Sequential(
            *widen,
            _unit(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels_in, h, w] -> [b, channels_out, h/stride, w/stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The network of width 1 for images [channels, 224, 224], or with the strides for CIFAR for
    [channels, 32, 32].

    classes: number of logits. Raises ModelError when it is below 1.
    """

    def __init__(self, classes: int, *, cifar: bool = False, channels: int = 3) -> None:
        super().__init__()
        if classes < 1:
            raise ModelError(f"MobileNetV2(classes={classes}): classes must be at least 1")
        layers: list[nn.Module] = [_unit(channels, STEM, 3, stride=1 if cifar else 2)]
        channels = STEM
        for number, (expand, width, blocks, stride) in enumerate(STAGES):
            first = 1 if cifar and number == FIRST_HALVING else stride
            for block in range(blocks):
                layers.append(
                    InvertedResidual(channels, width, expand=expand, stride=1 if block else first)
                )
                channels = width
        layers.append(_unit(channels, LAST, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, classes))
        he_normal(self)
        small_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, h, w] -> logits [b, classes]."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def _unit(
    channels_in: int, channels_out: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch-norm and ReLU6, padded so that stride 1 keeps the size."""
    conv = nn.Conv2d(
        channels_in, channels_out, size, stride=stride, padding=size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU6())
