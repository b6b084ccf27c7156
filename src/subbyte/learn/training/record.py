"""The log of a training run while it goes on: rows that are written whole after every epoch, and
read again when a run goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError
from subbyte.records.training import (
    EPOCHS,
    STEPS,
    Epoch,
    Run,
    Scoring,
    Settings,
    Step,
    read_epochs,
    read_steps,
)

Row = dict[str, Any]
"""Cells by column of `Epoch` or `Step`."""


@dataclass
class Record:
    """The rows of a run, in order. scoring: the names of its scores."""

    scoring: Scoring
    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write epochs.csv, steps.csv and log.json into the folder `out`; `about`: the settings,
        for log.json.
        """
        epochs = [Epoch.model_validate(row) for row in self.epochs]
        steps = [Step.model_validate(row) for row in self.steps]
        Run(Settings.model_validate(dict(about)), self.scoring, epochs, steps).write(out)

    @classmethod
    def read(cls, out: Path, epochs: int, scoring: Scoring) -> "Record":
        """The rows of the first `epochs` epochs. Raises FormatError when a file is damaged, or
        lacks one of them.
        """
        wanted = set(range(1, epochs + 1))
        found = [
            [row.model_dump() for row in rows if row.epoch in wanted]
            for rows in (read_epochs(out), read_steps(out))
        ]
        for name, rows in zip((EPOCHS, STEPS), found, strict=True):
            if {row["epoch"] for row in rows} != wanted:
                raise FormatError(
                    f"{out / name} is not the log of a training run (it lacks epochs of the "
                    f"{epochs} that are done); "
                    "delete checkpoint.pt to start anew, or choose another --out"
                )
        return cls(scoring, *found)
