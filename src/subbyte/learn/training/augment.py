"""Training images, moved and mirrored at random.

    none       as they are
    shift      moved by up to an eighth of their side in both directions, zeros coming in
    (CIFAR-10's 4 pixels) shift-flip the same, and mirrored left to right for one in two (He et al.
    2016, section 4.2)
    resized    a part of 8 to 100 % of the area, of shape 3:4 to 4:3, brought to the whole size;
               mirrored for one in two (Szegedy et al. 2015, section 6)

Zeros are the mean colour, as images are normalized. What is drawn depends on the seed, the epoch
and the place of the image in it, so that a run that goes on and one on several devices see the same
images.
"""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.io.registry import Registry
from subbyte.methods import Augmentation

DRAWS = 5
"""Random numbers an image: two of place, one of mirroring, one of area, one of shape."""
_SHIFT = 8  # the part of the side that images are moved by at most
_AREA, _SHAPE = (0.08, 1.0), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Unchanged(Augmentation):
    """Images as they are."""

    moves = False

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """See `Augmentation`."""
        return images


@dataclass(frozen=True)
class Shift(Augmentation):
    """Moved by up to an eighth of their side."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """See `Augmentation`."""
        high, wide = images.shape[-2:]
        reach = [max(1, high // _SHIFT), max(1, wide // _SHIFT)]
        padded = F.pad(images, (reach[1], reach[1], reach[0], reach[0]))
        top, left = ((draws[:, k] * (2 * reach[k] + 1)).long() for k in (0, 1))
        rows = (top[:, None] + torch.arange(high, device=images.device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(wide, device=images.device))[:, None, None, :]
        image = torch.arange(len(images), device=images.device)[:, None, None, None]
        channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        return padded[image, channel, rows, columns]


@dataclass(frozen=True)
class ShiftFlip(Augmentation):
    """Moved by up to an eighth of their side, and mirrored for one in two."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """See `Augmentation`."""
        return _flip(Shift().apply(images, draws), draws)


@dataclass(frozen=True)
class Resized(Augmentation):
    """A part of another size and shape, brought to the whole size, mirrored for one in two."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """See `Augmentation`."""
        area = _AREA[0] + (_AREA[1] - _AREA[0]) * draws[:, 3]
        shape = torch.exp(log(_SHAPE[0]) + (log(_SHAPE[1]) - log(_SHAPE[0])) * draws[:, 4])
        # shares of the sides
        wide, high = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
        zero = torch.zeros_like(wide)
        x, y = (2 * draws[:, 0] - 1) * (1 - wide), (2 * draws[:, 1] - 1) * (1 - high)
        affine = torch.stack([torch.stack([wide, zero, x], 1), torch.stack([zero, high, y], 1)], 1)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        return _flip(moved, draws)


def _flip(images: Tensor, draws: Tensor) -> Tensor:
    return torch.where(draws[:, 2, None, None, None] < 0.5, images.flip(-1), images)


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augment",
    Augmentation,
    {
        "none": Unchanged,
        "shift": Shift,
        "shift-flip": ShiftFlip,
        "resized": Resized,
    },
)
