"""Normalization of images: (pixel - mean) / std by channel, on pixels from 0 to 1 (bytes divided by
255).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from subbyte.errors import DataError


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation by channel, in units of the pixel range 0 to 1; both empty:
    change nothing.

    Raises DataError when the counts differ, a number is not finite, or a standard deviation is not
    positive.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise DataError(
                f"normalization: {len(self.mean)} means but {len(self.std)} standard deviations; "
                f"{HOW}"
            )
        if not all(map(math.isfinite, self.mean + self.std)) or any(s <= 0 for s in self.std):
            raise DataError(
                f"normalization: mean {self.mean}, standard deviation {self.std}: "
                f"all must be finite numbers, and standard deviations above 0; {HOW}"
            )

    def check(self, channels: int) -> None:
        """Raise DataError when this is not for images of so many channels."""
        if self.mean and len(self.mean) != channels:
            raise DataError(
                f"normalization for {len(self.mean)} channels, mean {self.mean}, but the images "
                f"have {channels}; {HOW}"
            )

    def apply(self, images: Tensor) -> Tensor:
        """Normalize float [..., C, H, W] of pixels from 0 to 1; shape and type stay. Raises as
        `check`.
        """
        if not self.mean:
            return images
        self.check(images.shape[-3])
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
        return (images - mean) / std


HOW = (
    "give imagenet, cifar10, mnist, none, or M,M,M/S,S,S: mean and deviation by channel, for "
    "pixels 0 to 1"
)

NORMALIZATIONS: dict[str, Normalization] = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": Normalization((0.1307,), (0.3081,)),
    "none": Normalization(),
}


def parse_normalization(text: str) -> Normalization:
    """Read a key of NORMALIZATIONS, or 'M,M,M/S,S,S'. Raises DataError on anything else."""
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    means, slash, stds = text.partition("/")
    try:
        if not slash:
            raise ValueError("no '/' in it")
        return Normalization(
            tuple(map(float, means.split(","))), tuple(map(float, stds.split(",")))
        )
    except DataError:
        raise
    except ValueError as reason:
        raise DataError(f"normalization {text!r} cannot be read ({reason}); {HOW}") from reason
