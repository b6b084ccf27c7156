"""The files of a training run: epochs.csv, a row an epoch; steps.csv, a row every few steps;
log.json, the settings, the scores by name, and the epochs.

Scores are columns of their own names, such as test_top1_percent and validation_mean_iou_percent.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, PositiveInt

from subbyte.errors import FormatError
from subbyte.io.files import write_text
from subbyte.records.base import (
    Document,
    Percent,
    Record,
    Seconds,
    read_cells,
    read_document,
    read_rows,
    table_text,
    write_document,
)
from subbyte.records.result import Result
from subbyte.records.scores import Score

EPOCHS, STEPS, LOG = "epochs.csv", "steps.csv", "log.json"
QUANTIZED = "quantized"
"""Where in the folder of a run the quantized network is that came of it, as `quantize` writes
one.
"""
SPLITS = ("train", "validation", "test")
"""Images that a loss and scores are of, as columns begin."""
_ADVICE = "is this the --out of `subbyte train`?"


def _number(value: float) -> float:
    if isnan(value):
        raise ValueError("it is no number")
    return value


Temperature = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_number)]
"""1 / (24 lr Qp^2): infinite at a learning rate of 0."""


class Scoring(Record):
    """The scores that a run logs: the first of each output.

    task: by which outputs are judged; heads: names of the network's outputs; scores: without
    values.
    """

    task: str
    heads: list[str] = Field(min_length=1)
    scores: list[Score] = Field(default_factory=list)

    def column(self, images: str, score: Score) -> str:
        """The column of a score on images of SPLITS, such as test_top1_percent; of one of several
        outputs test_output_place_relative_error.
        """
        head = [self.heads[score.head]] if len(self.heads) > 1 else []
        unit = "percent" if score.unit == "%" else score.unit
        return "_".join(filter(None, map(_slug, (images, *head, score.name, unit))))

    def columns(self, images: str) -> list[str]:
        """The columns of all scores on some images."""
        return [self.column(images, score) for score in self.scores]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("-", "")).strip("_")


class Row(Record):
    """A row of a log, with its scores beside what every run has; a score that there was nothing to
    measure on is left out.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    def score(self, column: str) -> float | None:
        """The score of a column; None where it was not measured."""
        return self.__pydantic_extra__.get(column)


class Step(Row):
    """A row of steps.csv: means over the steps since the row before, and the scores of all their
    images.

    The last four are None where the optimizer does not quantize. resolution_bits: index of the
    lattice that updates are rounded to; moved_percent: share of the update's codes that are not 0;
    saturated_percent: share of codes on a grid at one of its ends.
    """

    step: PositiveInt
    epoch: PositiveInt
    lr: float
    train_loss: float
    resolution_bits: float | None = None
    moved_percent: Percent | None = None
    saturated_percent: Percent | None = None
    temperature: Temperature | None = None


class Epoch(Row):
    """A row of epochs.csv: means over the epoch, and what was measured after it; the last four as
    in `Step`.
    """

    epoch: PositiveInt
    steps: PositiveInt
    seconds: Seconds | None = None
    lr: float
    train_loss: float
    validation_loss: float | None = None
    test_loss: float | None = None
    resolution_bits: float | None = None
    moved_percent: Percent | None = None
    saturated_percent: Percent | None = None
    temperature: Temperature | None = None


class Method(Record):
    """A method by its name, with all its settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """Values of JSON by name."""
        return dict(self.model_extra or {})


class Settings(Record):
    """The settings of a run; all are kept, those that a page speaks of have types.

    optimizer: what moved the weights; qat: what kept them on low-bit grids.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str = ""
    data: str = ""
    epochs: PositiveInt | None = None
    lr: float | None = None
    optimizer: Method | None = None
    qat: Method | None = None

    def plain(self) -> dict[str, Any]:
        """All of them by name, as they were written."""
        return self.model_dump(exclude_unset=True)


class Log(Document):
    """Contents of log.json."""

    VERSION: ClassVar[int] = 3
    WRITER: ClassVar[str] = "subbyte train"

    settings: Settings
    scoring: Scoring
    epochs: list[Epoch] = Field(default_factory=list)


class Trained(Record):
    """A run that has ended. result: of the quantized network, None where a float one was
    trained.
    """

    log: Log
    result: Result | None = None


@dataclass(frozen=True)
class Run:
    """A training run as its folder holds it: finished epochs, and the rows of their steps."""

    settings: Settings
    scoring: Scoring
    epochs: list[Epoch]
    steps: list[Step]

    def write(self, out: Path) -> None:
        """Write the three files, each whole or not at all."""
        write_text(out / STEPS, self._text(Step, self.steps))
        write_text(out / EPOCHS, self._text(Epoch, self.epochs))
        log = Log(settings=self.settings, scoring=self.scoring, epochs=self.epochs)
        write_document(out / LOG, log)

    def _text(self, kind: type[Row], rows: Sequence[Row]) -> str:
        columns = list(self._columns(kind))
        found = (row.model_dump() for row in rows)
        return table_text(columns, ([_cell(row.get(name)) for name in columns] for row in found))

    def _columns(self, kind: type[Row]) -> Iterator[str]:
        """Those that every run has, with the scores behind the loss on the same images."""
        scores = {f"{images}_loss": self.scoring.columns(images) for images in SPLITS}
        for name in kind.model_fields:
            yield name
            yield from scores.get(name, ())


def _cell(value: object) -> object:
    return "" if value is None else value


def read_epochs(out: Path) -> list[Epoch]:
    """Rows of epochs.csv. Raises FormatError when the file is missing or damaged."""
    rows = read_rows(out / EPOCHS, Epoch, _ADVICE)
    _rising([row.epoch for row in rows], "epoch", out / EPOCHS)
    return rows


def read_steps(out: Path) -> list[Step]:
    """Rows of steps.csv. Raises as `read_epochs`."""
    rows = read_rows(out / STEPS, Step, _ADVICE)
    _rising([row.step for row in rows], "step", out / STEPS)
    return rows


def _rising(counters: Sequence[int], name: str, path: Path) -> None:
    for number, (before, counter) in enumerate(zip([0, *counters], counters, strict=False), 1):
        if counter <= before:
            where = f"row {number}: {name} {counter} comes after {before}"
            raise FormatError(f"{path} is damaged ({where}); {_ADVICE}")


def read_run(folder: Path) -> Run:
    """Read what `subbyte train` wrote into `folder`.

    Raises FormatError when it is not the folder of a run, has no finished epoch, or a file is
    damaged.
    """
    missing = [file for file in (LOG, EPOCHS, STEPS) if not (folder / file).is_file()]
    if missing:
        raise FormatError(
            f"{folder} is not a training run with a finished epoch: it has no {missing[0]}; give a "
            "folder that `subbyte train` wrote"
        )
    epochs, steps = read_epochs(folder), read_steps(folder)
    if not epochs:
        raise FormatError(f"{folder} has no finished epoch: {EPOCHS} has no rows")
    last = epochs[-1].epoch
    if not steps or steps[-1].epoch < last:
        raise FormatError(f"{folder / STEPS} is cut short: {EPOCHS} has {last} epochs")
    log = read_document(folder / LOG, Log)
    _scored(log.scoring, folder / EPOCHS, SPLITS)
    _scored(log.scoring, folder / STEPS, SPLITS[:1])
    return Run(log.settings, log.scoring, epochs, [row for row in steps if row.epoch <= last])


def _scored(scoring: Scoring, path: Path, splits: Sequence[str]) -> None:
    """Raise FormatError where a table lacks a score that the log names."""
    header = read_cells(path, _ADVICE)[0]
    for column in (column for images in splits for column in scoring.columns(images)):
        if column not in header:
            raise FormatError(f"{path} is damaged (it has no column {column}); {_ADVICE}")
