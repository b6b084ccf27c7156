"""Facts about a network that its files carry with them: how pixels become inputs, and what classes
are called.
"""

from enum import StrEnum

from pydantic import Field, model_validator

from subbyte.records.base import Record


class Colours(StrEnum):
    """The order of an image's channels."""

    GRAY = "gray"
    RGB = "RGB"
    RGBA = "RGBA"
    UNKNOWN = "unknown"


class Preprocessing(Record):
    """The way from an image to what the network takes: resize its shorter side, crop the centre,
    then (pixel / 255 - mean) / std.

    resize, crop: pixels, None where that is not done; interpolation: of the resizing, "" where
    nothing is resized; mean, std: by channel, for pixels from 0 to 1, both empty where
    nothing is subtracted.
    Raises ValueError when there is not one positive std for every mean.
    """

    resize: int | None = Field(default=None, ge=1)
    crop: int | None = Field(default=None, ge=1)
    interpolation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    colours: Colours = Colours.UNKNOWN

    @model_validator(mode="after")
    def _paired(self) -> "Preprocessing":
        if len(self.mean) != len(self.std) or any(one <= 0 for one in self.std):
            raise ValueError(
                f"mean {self.mean} and std {self.std}: one of each for every channel, and std "
                f"above 0"
            )
        return self


class About(Record):
    """Facts that an exported file states for those who use it.

    preprocessing: None where it is not known; classes: the name of class k at k, none where they
    have no names.
    """

    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
