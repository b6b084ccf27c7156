"""look.json, which `subbyte look` writes: what is in a data set, and some of its images."""

from pathlib import Path
from typing import ClassVar

from pydantic import model_validator

from subbyte.records.base import Count, Document, Record, read_document
from subbyte.records.figures import Picture

LOOK = "look.json"


class Channel(Record):
    """The values of a channel, as the network takes them, and its mean and standard deviation as
    pixels from 0 to 1; None where it is not known how pixels become inputs.
    """

    mean: float
    std: float
    low: float
    high: float
    pixel_mean: float | None = None
    pixel_std: float | None = None


class Sample(Record):
    """An image of a split. label: its class, None where there are no class labels; picture: a PNG
    as a data URI.
    """

    index: Count
    label: Count | None = None
    picture: Picture


class Part(Record):
    """A split of a data set.

    images: how many; shape: channels, height and width, as the network takes them; counts: images
    of each class, none where there are no class labels; channels: over `measured` of the images,
    spread evenly; samples: some of the images, class by class.
    """

    name: str
    images: Count
    shape: tuple[Count, Count, Count]
    counts: list[Count]
    measured: Count
    channels: list[Channel]
    samples: list[Sample]


class Look(Document):
    """A data set. classes: their names; seed: by which the samples were drawn."""

    VERSION: ClassVar[int] = 1
    WRITER: ClassVar[str] = "subbyte look"

    data: str
    fingerprint: str
    classes: list[str]
    seed: Count
    parts: list[Part]

    @model_validator(mode="after")
    def _whole(self) -> "Look":
        for part in self.parts:
            if len(part.counts) not in (0, len(self.classes)):
                raise ValueError(f"{len(part.counts)} counts for {len(self.classes)} classes")
            if any(
                one.label is not None and one.label >= len(self.classes) for one in part.samples
            ):
                raise ValueError("a sample of a class that there is not")
        return self


def read_look(folder: Path) -> Look:
    """The look.json in a folder. Raises FormatError when it is missing or damaged."""
    return read_document(folder / LOOK, Look)
