"""Turn pixels as stored into what a network is fed: resize the shorter side, crop the centre,
normalize.

Sizes are rounded as torchvision rounds them, so that accuracies can be compared with published
ones: the
longer side to floor(N * long / short), the corner of the crop to the nearest even of two.
"""

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from subbyte.data.normalize import Normalization
from subbyte.errors import DataError

log = logging.getLogger("subbyte")


class Interpolation(StrEnum):
    """The filter that images are resized with, by Pillow's name."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


BRIGHT = 2  # pixels from 0 to 1 end well below it, even where resizing overshoots


@dataclass(frozen=True)
class Preprocess:
    """The steps that every image of a data set goes through.

    resize: pixels of the shorter side, aspect kept. crop: of the centre square. None: not done.
    interpolation: of the resizing.
    Raises DataError when a size is below 1.
    """

    normalization: Normalization
    resize: int | None = None
    crop: int | None = None
    interpolation: Interpolation = Interpolation.BICUBIC

    def __post_init__(self) -> None:
        for option, size in (("--resize", self.resize), ("--crop", self.crop)):
            if size is not None and size < 1:
                raise DataError(f"{option} must be at least 1 pixel, got {size}")

    @property
    def reshapes(self) -> bool:
        """Whether images are resized or cropped at all."""
        return self.resize is not None or self.crop is not None

    def reshape(self, image: Image.Image, where: str) -> Image.Image:
        """Resize, then crop. Raises DataError, naming the image by `where`, if the crop is
        larger.
        """
        if self.resize is not None:
            short, long = min(image.size), max(image.size)
            to = {short: self.resize, long: self.resize * long // short}
            resample = Image.Resampling[self.interpolation.name]
            image = image.resize((to[image.width], to[image.height]), resample)
        if self.crop is not None:
            if min(image.size) < self.crop:
                raise DataError(
                    f"{where}: the image is {image.height} x {image.width} pixels (height x "
                    f"width), "
                    f"too small for --crop {self.crop}; give --resize {self.crop} or more"
                )
            top, left = round((image.height - self.crop) / 2), round((image.width - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return image

    def reshape_tensor(self, image: Tensor, where: str) -> Tensor:
        """`reshape` of one image uint8 or float32 [C, H, W], channel by channel; floats are not
        clipped.
        """
        planes = [self.reshape(Image.fromarray(plane.numpy()), where) for plane in image]
        return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))

    def finish(self, images: Tensor) -> Tensor:
        """Reshaped images uint8, or float32 from 0 to 1, [b, C, H, W] -> float32 [b, C, H, W],
        normalized.
        """
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return self.normalization.apply(pixels)

    def check_scale(self, images: Tensor, where: str) -> None:
        """Note that images to be used as they are look like bytes. Raises DataError where they are
        to be normalized as pixels from 0 to 1.
        """
        if hold_bytes(images) and max(self.normalization.mean, default=BRIGHT) <= 1:
            raise DataError(
                f"{where}: floating-point images go up to {float(images.max()):g}, and the "
                f"normalization is for pixels from 0 to 1; store them as uint8, or divide by 255"
            )
        note_bytes(images, where)


def hold_bytes(images: Any) -> bool:
    """Whether floating-point images [n, C, H, W] look like bytes that nobody divided by 255."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        return False
    low, high = map(float, images.aminmax()) if images.numel() else (0.0, 0.0)
    return low >= 0 and BRIGHT < high <= 255


def note_bytes(images: Any, where: str) -> None:
    """Tell the user when images that go into the network as they are look like bytes."""
    if hold_bytes(images):
        log.warning(
            "%s: floating-point images from %g to %g are used as they are; a network that was "
            "trained on pixels from 0 to 1, or normalized ones, needs them so",
            where,
            *map(float, images.aminmax()),
        )
