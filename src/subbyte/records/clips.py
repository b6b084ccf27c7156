"""The files of a clip search, as CSV that grows row by row.

scan.csv         bits, clip; what every metric gives for it; with images to evaluate on the true
                 loss, the divergence from the float network, and the accuracy
choices.csv      bits, granularity, metric; the clip that the metric chose, what it costs, and
                 top-1 on the test split
clips_*.csv      layer, channel; every clip of a choice that has more than one
correlation.csv  bits, metric; rank correlations with true loss and divergence, where the
                 images to evaluate on say them
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from subbyte.errors import FormatError
from subbyte.io.complaints import short
from subbyte.io.texts import parse_mapping, read_text
from subbyte.records.base import Percent, Record, first_error, read_cells

SCAN, CHOICES, CORRELATION, SETTINGS = (
    "scan.csv",
    "choices.csv",
    "correlation.csv",
    "settings.json",
)
EVIDENCE = "evidence.safetensors"
LOSS, MINMAX = "loss", "minmax"
JUDGED = (LOSS, "divergence", "accuracy")
"""Columns that are measured on the network, not read off its weights."""
SCAN_KEY, CHOICES_KEY = ("bits", "clip"), ("bits", "granularity", "metric")
CORRELATION_COLUMNS = ("bits", "metric", LOSS, "divergence")
_WORDS = ("granularity", "metric", "layer")
_ADVICE = "delete what is damaged, and the same `subbyte gradquant` command makes it again"


class Judged(Record):
    """The cost of clips to the network: mean cross-entropy, mean divergence from the float
    network's output, accuracy.
    """

    loss: float
    divergence: float
    accuracy: Percent


class Tried(Record):
    """A row of scan.csv. metrics: what each gives, by name; judged: None where there are no images
    to evaluate on.
    """

    bits: int
    clip: float
    metrics: dict[str, float]
    judged: Judged | None


class Choice(Record):
    """A row of choices.csv. lower, upper: fractions of the range that are kept, means where each
    layer or channel has its own; test: top-1.
    """

    bits: int
    granularity: str
    metric: str
    lower: float
    upper: float
    judged: Judged | None
    test: Percent


class Clip(Record):
    """A row of clips_*.csv. channel: none where the layer has one clip."""

    layer: str
    channel: int | None = None
    lower: float
    upper: float


class Correlation(Record):
    """A row of correlation.csv: Spearman's rank correlations over the clips of the scan; None where
    either side is constant.
    """

    bits: int
    metric: str
    loss: float | None = None
    divergence: float | None = None


@dataclass(frozen=True)
class Ends:
    """The clips of a layer: fractions of the range below and above 0, one or one a channel."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]


@dataclass(frozen=True)
class Search:
    """A folder of a clip search. settings: by name, none where there is no settings.json."""

    scan: list[Tried]
    choices: list[Choice]
    correlations: list[Correlation]
    settings: dict[str, object]

    @property
    def metrics(self) -> list[str]:
        """Names of those that were scanned."""
        return list(self.scan[0].metrics)

    @property
    def judged(self) -> bool:
        """Whether the true loss was measured, too."""
        return self.scan[0].judged is not None

    def of_bits(self, bits: Collection[int]) -> "Search":
        """The part of some widths."""
        return replace(
            self,
            scan=[row for row in self.scan if row.bits in bits],
            choices=[row for row in self.choices if row.bits in bits],
            correlations=[row for row in self.correlations if row.bits in bits],
        )


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of one of the CSV files as text, one or more; columns that are no words hold numbers or
    nothing.

    Raises FormatError when the file is missing, damaged or empty.
    """
    rows = read_cells(path, _ADVICE)
    if not rows:
        raise FormatError(f"{path} has no rows; {_ADVICE}")
    for number, row in enumerate(rows, 1):
        for column, text in row.items():
            if column not in _WORDS and text and not _is_number(text):
                raise FormatError(
                    f"{path} is damaged (row {number}: {column} is {short(text)}); {_ADVICE}"
                )
    return rows


def clips_file(bits: int, granularity: str, metric: str) -> str:
    """Name of the file with every clip of a choice."""
    return f"clips_{bits}_{granularity}_{metric.replace(':', '-')}.csv"


def read_clips(folder: Path, choice: Choice) -> dict[str, Ends]:
    """Every clip of a choice that has more than one, by layer. Raises FormatError as `read_table`
    does.
    """
    path = folder / clips_file(choice.bits, choice.granularity, choice.metric)
    found: dict[str, Ends] = {}
    for clip in _records(path, Clip, list(map(_filled, read_table(path)))):
        before = found.get(clip.layer, Ends((), ()))
        found[clip.layer] = Ends((*before.lower, clip.lower), (*before.upper, clip.upper))
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_search(folder: Path) -> Search:
    """All that a folder holds. Raises FormatError, naming the file, when one is missing or
    damaged.
    """
    scan, choices = read_table(folder / SCAN), read_table(folder / CHOICES)
    metrics = [name for name in scan[0] if name not in (*SCAN_KEY, *JUDGED)]
    found: list[Correlation] = []
    if (folder / CORRELATION).exists():
        rows = read_table(folder / CORRELATION)
        found = _records(folder / CORRELATION, Correlation, list(map(_filled, rows)))
    tried = [
        row | {"metrics": {name: row[name] for name in metrics}, "judged": _judged(row)}
        for row in scan
    ]
    chosen = [row | {"judged": _judged(row)} for row in choices]
    return Search(
        _records(folder / SCAN, Tried, tried),
        _records(folder / CHOICES, Choice, chosen),
        found,
        _settings(folder / SETTINGS),
    )


R = TypeVar("R", Tried, Choice, Correlation, Clip)


def _filled(row: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in row.items() if text}


def _judged(row: dict[str, str]) -> dict[str, str] | None:
    found = {name: row[name] for name in JUDGED if name in row}
    return found or None


def _records(path: Path, kind: type[R], rows: Sequence[Mapping[str, object]]) -> list[R]:
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(kind.model_validate(row))
        except ValidationError as error:
            raise FormatError(
                f"{path} is damaged (row {number}: {first_error(error)}); {_ADVICE}"
            ) from error
    return found


def _settings(path: Path) -> dict[str, object]:
    return parse_mapping(read_text(path), f"{path} is damaged") if path.exists() else {}
