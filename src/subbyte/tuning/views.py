"""Views: images as a student sees them, so strongly changed that a few hundred are enough to learn
from.

Distillation needs images, not labels: what a teacher says of any image is worth learning. Students
learn most of what a teacher knows from heavily changed crops of very few images (Asano, Saeed 2023,
"The augmented image prior"). A view is a part of an image, turned, mirrored and coloured anew; then
a batch may be mixed: Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019).
"""

from math import log, pi, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

_SHAPE = 4 / 3  # of a part, at most
_SHIFT = 1 / 8  # of an image's side, that whole images move by


def parts(images: Tensor, zoom: float, turn: float, generator: torch.Generator) -> Tensor:
    """A part of each image [b, C, H, W], in its whole size; mirrored for one in two.

    zoom: the smallest part of the area; turn: the largest angle, in degrees.
    """

    def random() -> Tensor:
        return torch.rand(len(images), generator=generator)

    def both() -> Tensor:
        return 2 * random() - 1

    area, shape = zoom + (1 - zoom) * random(), torch.exp(log(_SHAPE) * both())
    wide, high = (area * shape).sqrt(), (area / shape).sqrt()
    angle, mirrored = both() * turn * pi / 180, torch.where(random() < 0.5, 1.0, -1.0)
    right, down = (both() * (1 - side).clamp_min(_SHIFT) for side in (wide, high))
    across = torch.stack([wide * angle.cos() * mirrored, -high * angle.sin(), right], 1)
    along = torch.stack([wide * angle.sin() * mirrored, high * angle.cos(), down], 1)
    affine = torch.stack([across, along], 1).to(images.device)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def coloured(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Contrast, saturation, brightness and tint changed by up to a share of what they are.

    Images are normalized: 0 is the mean colour, and 1 a usual difference from it.
    """

    def random(*sizes: int) -> Tensor:
        drawn = torch.rand(len(images), *sizes, 1, 1, generator=generator)
        return strength * (2 * drawn - 1).to(images.device)

    channels = images.shape[1]
    mean = images.mean((2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + random(1))
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + random(1))
    images = images * (1 + random(channels) / 2)
    return images + random(1) + 0.3 * random(channels)


def mixed(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A batch of which, with probability `share`, every image is mixed with another: half the time
    by weights, half the time by rectangles.
    """
    chance = float(torch.rand((), generator=generator))
    if chance >= share:
        return images
    others = images[torch.randperm(len(images), generator=generator).to(images.device)]
    if chance < share / 2:
        weight = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
        return weight * images + (1 - weight) * others
    side = sqrt(1 - float(torch.rand((), generator=generator)))
    high, wide = (int(size * side) for size in images.shape[-2:])
    top, left = (
        int(torch.randint(0, size - own + 1, (), generator=generator))
        for size, own in zip(images.shape[-2:], (high, wide), strict=True)
    )
    images = images.clone()
    images[..., top : top + high, left : left + wide] = others[
        ..., top : top + high, left : left + wide
    ]
    return images
