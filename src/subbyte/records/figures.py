"""Contents of figures.json, which `subbyte quantize` writes beside the result: how values lie on
their grids, who was taken for whom, and some of the images whose class changed.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from subbyte.records.base import Count, Document, Record, read_document

FIGURES = "figures.json"
Cell = tuple[Count, Count, Count]
"""Label, class that was named, and how often."""
Picture = Annotated[str, Field(pattern=r"^(data:image/png;base64,[A-Za-z0-9+/]+=*)?$")]
Unit = Literal["codes", "steps", "values"]


class Distribution(Record):
    """The distribution of a tensor's values on its grid.

    unit: of all positions: 'codes' (x / scale + zero_point, each value with the scale of its
    channel or group), 'steps' (x / scale), or 'values' (x itself: there is no grid). start, width:
    of the bins; counts: float values in each;
    below, above: float values beyond the bins. levels: what codes stand for; none where channels
        differ in them.
    taken: weights on each level; rounded: weights in each bin, where there are no common levels.
    clipped_percent: of the float values, those more than half a step beyond the outermost level.
    values: smallest and largest float value; reach: smallest and largest number on the grid.
    scales: smallest, 10 %, 50 %, 90 % quantile and largest; zero_points: smallest and largest.
    """

    unit: Unit
    start: float
    width: float = Field(gt=0)
    counts: list[Count] = Field(min_length=1)
    below: Count = 0
    above: Count = 0
    levels: list[float] = Field(default_factory=list)
    taken: list[Count] = Field(default_factory=list)
    rounded: list[Count] = Field(default_factory=list)
    clipped_percent: float | None = None
    values: tuple[float, float]
    reach: tuple[float, float] | None = None
    scales: tuple[float, float, float, float, float] | None = None
    zero_points: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Distribution":
        if self.taken and len(self.taken) != len(self.levels):
            raise ValueError(f"{len(self.taken)} counts for {len(self.levels)} levels")
        if self.rounded and len(self.rounded) != len(self.counts):
            raise ValueError(f"{len(self.rounded)} counts for {len(self.counts)} bins")
        if len(self.levels) == 1 or any(b <= a for a, b in pairwise(self.levels)):
            raise ValueError("levels must be two or more, and rise")
        return self

    def in_values(self) -> "Distribution":
        """The distribution with positions as real values, where all codes have one scale and zero
        point; else as it is.
        """
        if self.unit != "codes" or self.scales is None or self.zero_points is None:
            return self
        (scale, *_, largest), (zero, highest) = self.scales, self.zero_points
        if scale != largest or zero != highest:
            return self
        moved = {
            "unit": "values",
            "start": (self.start - zero) * scale,
            "width": self.width * scale,
            "levels": [(level - zero) * scale for level in self.levels],
        }
        return self.model_copy(update=moved)


class Changed(Record):
    """An image that the quantized network puts into another class; sure: softmax of the class
    named, percent.
    """

    index: Count
    label: Count
    float_class: Count
    quantized_class: Count
    float_sure: float
    quantized_sure: float
    picture: Picture = ""


class Predictions(Record):
    """Classes named, side by side.

    labels: images of each class; float_cells, quantized_cells: confusion, the rarest mistakes left
    out where there are too many cells. lost: images named right by the float network only; gained:
    by the quantized one only; moved: wrong by both, in two ways. changed: some of them, spread
    evenly.
    """

    classes: list[str]
    labels: list[Count]
    float_cells: list[Cell]
    quantized_cells: list[Cell]
    lost: Count
    gained: Count
    moved: Count
    changed: list[Changed]

    @model_validator(mode="after")
    def _known(self) -> "Predictions":
        """Every class has a name."""
        cells = [place for cell in (*self.float_cells, *self.quantized_cells) for place in cell[:2]]
        named = [
            place
            for one in self.changed
            for place in (one.label, one.float_class, one.quantized_class)
        ]
        most, count = max([*cells, *named, len(self.labels) - 1], default=0), len(self.classes)
        if most >= count:
            raise ValueError(f"class {most} has no name: there are {count}")
        return self


class Evidence(Document):
    """The data that a page draws of a quantized network besides its ledger.

    images: of calibration, on which activations were looked at; layers, activations: how their
    values lie, by name; predictions: None where outputs are no classes that labels tell of.
    """

    VERSION: ClassVar[int] = 2
    WRITER: ClassVar[str] = "subbyte quantize"

    images: Count
    layers: dict[str, Distribution]
    activations: dict[str, Distribution] = Field(default_factory=dict)
    predictions: Predictions | None = None


def read_evidence(folder: Path) -> Evidence | None:
    """Read figures.json; None where there is none.

    Raises FormatError when it is damaged or of another version.
    """
    path = folder / FIGURES
    return read_document(path, Evidence) if path.exists() else None
