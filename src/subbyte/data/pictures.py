"""Image files as they are meant: whole, upright, 8 bits a channel.

Files say more than pixels, and decoders leave out or clip a part of it without a word. Whatever of
that changes what a network sees is a note here, for readers to pass on.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from subbyte.errors import DataError

log = logging.getLogger("subbyte")

WIDE = ("I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of grey pixels of 16 bits; the first is of 32 bits that hold 16."""
_MOST = 2**16 - 1
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's making: one that begins with a dot, or that
    Windows or macOS leaves behind.
    """
    return name.startswith(".") or name.lower() in _JUNK


@dataclass(frozen=True)
class Picture:
    """An image, and what is to be known of how it was read."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def open_picture(path: Path) -> Picture:
    """The first frame of an image file in the mode that it is stored in, turned as its EXIF data
    say. Raises DataError when it is damaged or no image.
    """
    try:
        with Image.open(path) as file:
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(file)  # a copy in any case
            several = _has_more(file)
    except Exception as reason:  # Pillow's decoders raise errors of many types
        raise DataError(
            f"{path}: not a whole image file ({type(reason).__name__}: {reason}); fetch it again "
            f"or remove it"
        ) from reason
    notes = {
        "is turned upright, as its EXIF data say": turned,
        "holds several frames, of which the first is read": several,
    }
    return Picture(image, tuple(note for note, holds in notes.items() if holds))


def _has_more(file: Image.Image) -> bool:
    try:
        file.seek(1)
    except EOFError:
        return False
    return True


def open_rgb(path: Path) -> Picture:
    """An image file as RGB. 16 bits are scaled to 8, transparency and colour profiles are left out.

    Raises DataError as `open_picture`, and for pixels whose black and white no file says.
    """
    found = open_picture(path)
    image, notes = found.image, list(found.notes)
    if image.mode in WIDE:
        image = _in_bytes(image, path)
        notes.append("has 16 bits a pixel, which are scaled to 8")
    elif image.mode == "CMYK":
        notes.append("is CMYK, and becomes RGB without a colour profile")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("is transparent in part; its colours are read as if it were not")
    if image.mode == "F":
        raise DataError(
            f"{path}: its pixels are floating point (mode F), and no file says which of them are "
            f"black and white; save it with 8 or 16 bits a pixel, or all images as floats from 0 "
            f"to 1 in an .npz file (npz:FILE)"
        )
    return Picture(image.convert("RGB"), tuple(notes))


def _in_bytes(image: Image.Image, path: Path) -> Image.Image:
    """Grey pixels of 16 bits -> their upper 8, as decoders do with colours of 16 bits."""
    pixels = np.asarray(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > _MOST:
        raise DataError(
            f"{path}: its pixels are whole numbers from {low} to {high}, and no file says which of "
            f"them are black and white; save it with 8 or 16 bits a pixel"
        )
    return Image.fromarray((pixels >> 8).astype(np.uint8))


@dataclass(frozen=True)
class Remarks:
    """Passes notes on images on to the user, each once for all images of a data set."""

    said: set[str] = field(default_factory=set)

    def add(self, path: Path, notes: Iterable[str]) -> None:
        """Log what is new in the notes on an image."""
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                log.warning(
                    "%s %s; others of its kind are read so without further notice", path, note
                )
