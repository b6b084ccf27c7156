"""What `subbyte quantize` leaves behind to be looked at: result.json, and figures.json with what a
page draws.

The contract between those who write them (`jobs`, `engine.evidence`) and those who draw them
(`pages.model`).
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from subbyte.errors import FormatError

RESULT, FIGURES, PLAN = "result.json", "figures.json", "plan.yaml"
VERSION = 1
Count = Annotated[int, Field(ge=0)]
Cell = tuple[Count, Count, Count]
"""Label, class that was named, and how often."""
Picture = Annotated[str, Field(pattern=r"^(data:image/png;base64,[A-Za-z0-9+/]+=*)?$")]


class Record(BaseModel):
    """Unknown keys are left for later versions; NaN and Inf are damage."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class Measured(Record):
    """Percent; agreement: with the float network, of an ONNX file with the torch model."""

    top1: float
    top5: float | None = None
    agreement: float | None = None


class Exported(Record):
    """The ONNX file."""

    top1: float
    agreement: float
    opset: int
    container: str


class Sizes(Record):
    """Bytes."""

    float_: int = Field(alias="float")
    packed: int
    onnx: int


class Parity(Record):
    """Outputs of ONNX Runtime beside those of the torch model, on calibration images."""

    max_abs: float
    mean_abs: float
    agreement: float
    images: int


class Row(Record):
    """A layer or tap of the ledger; see `quantized.LedgerRow`."""

    name: str
    asked: str
    bits: str
    reason: str = ""
    bytes: int
    sqnr_db: float | None = None
    zeros: float | None = None
    onnx: str = ""


class Choice(Record):
    """A layer in one width; see `sensitivity.Option`."""

    layer: str
    width: str
    bytes: int
    divergence: float
    chosen: bool
    rows: int = 0


class Left(Record):
    """What stays float, and why."""

    name: str
    reason: str


class Result(Record):
    """Contents of result.json."""

    model: str
    data: str
    recipe: str
    seed: int
    calibration: int
    images: int
    float_: Measured = Field(alias="float")
    quantized: Measured
    onnx: Exported
    bits_per_weight: float
    zeros_percent: float | None = None
    bytes: Sizes
    options: list[Choice] = []
    seconds: dict[str, float] = {}
    parity: Parity
    fold_error: float | None = None
    layers: list[Row] = Field(min_length=1)
    taps: list[Row] = []
    skipped: list[Left] = []
    settings: dict[str, Any] = {}
    about: dict[str, str] = {}
    versions: dict[str, str] = {}


class Spread(Record):
    """How the values of a tensor lie on its grid.

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

    unit: str = Field(pattern="^(codes|steps|values)$")
    start: float
    width: float = Field(gt=0)
    counts: list[Count] = Field(min_length=1)
    below: Count = 0
    above: Count = 0
    levels: list[float] = []
    taken: list[Count] = []
    rounded: list[Count] = []
    clipped_percent: float | None = None
    values: tuple[float, float]
    reach: tuple[float, float] | None = None
    scales: tuple[float, float, float, float, float] | None = None
    zero_points: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Spread":
        if self.taken and len(self.taken) != len(self.levels):
            raise ValueError(f"{len(self.taken)} counts for {len(self.levels)} levels")
        if self.rounded and len(self.rounded) != len(self.counts):
            raise ValueError(f"{len(self.rounded)} counts for {len(self.counts)} bins")
        if len(self.levels) == 1 or any(b <= a for a, b in pairwise(self.levels)):
            raise ValueError("levels must be two or more, and rise")
        return self


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


class Evidence(Record):
    """Contents of figures.json. images: of calibration, whose activations were looked at; layers,
    taps: by name.
    """

    version: int
    images: Count
    layers: dict[str, Spread]
    taps: dict[str, Spread]
    predictions: Predictions


R = TypeVar("R", bound=Record)


def read_result(folder: Path) -> Result:
    """The result in a folder. Raises FormatError, naming the file, when it is missing or
    damaged.
    """
    return _read(folder / RESULT, Result)


def read_evidence(folder: Path) -> Evidence | None:
    """What figures.json holds; None where there is none.

    Raises FormatError when it is damaged or of another version.
    """
    path = folder / FIGURES
    if not path.exists():
        return None
    found = _read(path, Evidence)
    if found.version != VERSION:
        raise FormatError(
            f"{path} is of version {found.version}; this subbyte reads version {VERSION}"
        )
    return found


def read_plan(folder: Path) -> str | None:
    """The text of plan.yaml; None where there is none. Raises FormatError when it can't be read."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} can't be read: {error}") from error


def _read(path: Path, kind: type[R]) -> R:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(
            f"{path} is damaged, or `subbyte quantize` did not write it: "
            f"{where + ': ' if where else ''}{first['msg']}"
        ) from error
