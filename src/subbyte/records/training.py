"""The files of a training run: epochs.csv, a row an epoch; steps.csv, a row every few steps;
log.json, the settings and the epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, PositiveInt

from subbyte.errors import FormatError
from subbyte.io.files import write_text
from subbyte.records.base import (
    Document,
    Percent,
    Record,
    Seconds,
    read_document,
    read_rows,
    table_text,
    write_document,
)

EPOCHS, STEPS, LOG = "epochs.csv", "steps.csv", "log.json"
_ADVICE = "is this the --out of `subbyte train`?"


def _number(value: float) -> float:
    if isnan(value):
        raise ValueError("it is no number")
    return value


Temperature = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_number)]
"""1 / (24 lr Qp^2): infinite at a learning rate of 0."""


class Step(Record):
    """A row of steps.csv: means over the steps since the row before.

    The last four are None where the optimizer does not quantize. resolution_bits: index of the
    lattice that updates are rounded to; moved_percent: share of the update's codes that are not 0;
    saturated_percent: share of codes on a grid at one of its ends.
    """

    step: PositiveInt
    epoch: PositiveInt
    lr: float
    train_loss: float
    train_top1_percent: Percent
    resolution_bits: float | None = None
    moved_percent: Percent | None = None
    saturated_percent: Percent | None = None
    temperature: Temperature | None = None


class Epoch(Record):
    """A row of epochs.csv: means over the epoch, and what was measured after it; the last four as
    in `Step`.
    """

    epoch: PositiveInt
    steps: PositiveInt
    seconds: Seconds | None = None
    lr: float
    train_loss: float
    train_top1_percent: Percent
    validation_loss: float | None = None
    validation_top1_percent: Percent | None = None
    test_loss: float | None = None
    test_top1_percent: Percent | None = None
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

    VERSION: ClassVar[int] = 2
    WRITER: ClassVar[str] = "subbyte train"

    settings: Settings
    epochs: list[Epoch] = Field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A training run as its folder holds it: finished epochs, and the rows of their steps."""

    settings: Settings
    epochs: list[Epoch]
    steps: list[Step]

    def write(self, out: Path) -> None:
        """Write the three files, each whole or not at all."""
        write_text(out / STEPS, _text(Step, self.steps))
        write_text(out / EPOCHS, _text(Epoch, self.epochs))
        write_document(out / LOG, Log(settings=self.settings, epochs=self.epochs))


R = TypeVar("R", Step, Epoch)


def _text(kind: type[R], rows: Sequence[R]) -> str:
    cells = (["" if v is None else v for _, v in row] for row in rows)
    return table_text(list(kind.model_fields), cells)


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
    settings = read_document(folder / LOG, Log).settings
    return Run(settings, epochs, [row for row in steps if row.epoch <= last])
