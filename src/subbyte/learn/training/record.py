"""What a training run writes down: a row an epoch, and a row every few steps; CSV and JSON, whole
at any moment.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError
from subbyte.io.files import write_json, write_text
from subbyte.pages.runs import (
    EPOCH_COLUMNS,
    EPOCHS,
    LOG,
    STEP_COLUMNS,
    STEPS,
    Row,
    read_rows,
    read_settings,
)

__all__ = [
    "EPOCHS",
    "EPOCH_COLUMNS",
    "LOG",
    "STEPS",
    "STEP_COLUMNS",
    "Record",
    "Row",
    "read_rows",
    "read_settings",
]


@dataclass
class Record:
    """The rows of a run, in order."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write epochs.csv, steps.csv and log.json into the folder `out`; `about`: the settings,
        for log.json.
        """
        write_text(out / STEPS, _csv(self.steps, STEP_COLUMNS))
        write_text(out / EPOCHS, _csv(self.epochs, EPOCH_COLUMNS))
        write_json(out / LOG, {"settings": dict(about), "epochs": self.epochs})

    @classmethod
    def read(cls, out: Path, epochs: int) -> "Record":
        """The rows of the first `epochs` epochs. Raises FormatError when a file is damaged, or
        lacks one of them.
        """
        wanted = list(range(1, epochs + 1))
        found = []
        for name, columns in ((EPOCHS, EPOCH_COLUMNS), (STEPS, STEP_COLUMNS)):
            rows = [row for row in read_rows(out / name, columns) if row["epoch"] in wanted]
            if sorted({row["epoch"] for row in rows}) != wanted:
                raise FormatError(
                    f"{out / name} is not the log of a training run (it lacks epochs of the "
                    f"{epochs} that are done); "
                    "delete checkpoint.pt to start anew, or choose another --out"
                )
            found.append(rows)
        return cls(*found)


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "" if row.get(name) is None else row[name] for name in columns} for row in rows
    )
    return text.getvalue()
