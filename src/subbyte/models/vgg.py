"""The VGG networks of Simonyan and Zisserman 2015 ("Very deep convolutional networks", section 2,
table 1) with batch-norm, columns A, B, D and E.

    five times: some of [conv 3x3 - bn - relu], max pool 2        64, 128, 256, 512, 512 channels
    ImageNet:   mean to 7 x 7 - fc(4096) - relu - dropout - fc(4096) - relu - dropout - fc(classes)
    CIFAR:      32 x 32 pixels have become one: fc(classes)

Batch-norm came after the paper and is what these networks are trained with today. Parameters have
the names of torchvision's files: features.0, features.1, features.3 or 4, ..., classifier.0,
classifier.3, classifier.6; for CIFAR the one linear layer is `classifier`.
"""

import torch
from torch import Tensor, nn

from subbyte.errors import ModelError
from subbyte.models.initial import he_normal, small_normal

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Layers -> convolutions before each pooling."""
GRID = 7  # height and width of the maps that the classifier for ImageNet takes
HIDDEN = 4096


class VGG(nn.Module):
    """A network of `depth` layers for images [channels, 224, 224], or [channels, 32, 32] with the
    classifier for CIFAR.

    depth: 11, 13, 16 or 19; for CIFAR the name stays although two layers are gone. classes: number
        of logits.
    Raises ModelError for another depth and when classes is below 1.
    """

    def __init__(self, depth: int, classes: int, *, cifar: bool = False, channels: int = 3) -> None:
        super().__init__()
        if depth not in DEPTHS or classes < 1:
            known = ", ".join(map(str, DEPTHS))
            raise ModelError(
                f"VGG(depth={depth}, classes={classes}): depth must be one of {known}, classes at "
                f"least 1"
            )
        self.features = _features(DEPTHS[depth], channels)
        self.avgpool = nn.Identity() if cifar else nn.AdaptiveAvgPool2d(GRID)
        self.classifier: nn.Module
        if cifar:
            self.classifier = nn.Linear(WIDTHS[-1], classes)
        else:
            self.classifier = nn.Sequential(
                nn.Linear(WIDTHS[-1] * GRID * GRID, HIDDEN),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(HIDDEN, HIDDEN),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(HIDDEN, classes),
            )
        he_normal(self)
        small_normal(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, h, w] -> logits [b, classes]; for CIFAR h and w are 32."""
        x = self.avgpool(self.features(images))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _features(counts: tuple[int, ...], channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, count in zip(WIDTHS, counts, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
