"""What a training run writes down: a row an epoch, and a row every few steps; CSV and JSON, whole at any moment."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError
from subbyte.files import write_json, write_text

EPOCHS, STEPS, LOG = "epochs.csv", "steps.csv", "log.json"
STEP_COLUMNS = (
    "step", "epoch", "lr", "train_loss", "train_top1_percent",
    "resolution_bits", "moved_percent", "saturated_percent", "temperature",
)  # fmt: skip
"""moved: share of the update's codes that are not 0; saturated: share of codes on a grid at one of its ends;
temperature: 1 / (24 lr Qp^2); the last four are empty where the optimizer does not quantize."""
EPOCH_COLUMNS = (
    "epoch", "steps", "seconds", "lr", "train_loss", "train_top1_percent", "validation_loss",
    "validation_top1_percent", "test_loss", "test_top1_percent",
    "resolution_bits", "moved_percent", "saturated_percent", "temperature",
)  # fmt: skip

Row = dict[str, Any]


@dataclass
class Record:
    """The rows of a run, in order."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write epochs.csv, steps.csv and log.json into the folder `out`; `about`: the settings, for log.json."""
        write_text(out / STEPS, _csv(self.steps, STEP_COLUMNS))
        write_text(out / EPOCHS, _csv(self.epochs, EPOCH_COLUMNS))
        write_json(out / LOG, {"settings": dict(about), "epochs": self.epochs})

    @classmethod
    def read(cls, out: Path, epochs: int) -> "Record":
        """The rows of the first `epochs` epochs. Raises FormatError when a file is damaged."""
        found = cls(read_rows(out / EPOCHS, EPOCH_COLUMNS), read_rows(out / STEPS, STEP_COLUMNS))
        return cls(*([row for row in rows if row["epoch"] <= epochs] for rows in (found.epochs, found.steps)))


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of numbers, None where a cell is empty. Raises FormatError when the file is missing or damaged."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        if any(tuple(row) != tuple(columns) for row in rows):
            raise ValueError(f"its columns are not {', '.join(columns)}")
        return [{name: _number(text) for name, text in row.items()} for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as reason:
        raise FormatError(f"{path} is not the log of a training run ({reason})") from reason


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    number = float(text)
    return int(text) if text.lstrip("-").isdigit() else number


def _csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if row.get(name) is None else row[name] for name in columns} for row in rows)
    return text.getvalue()


def read_settings(out: Path) -> dict[str, Any]:
    """What log.json says of the run. Raises FormatError when it is missing or damaged."""
    try:
        settings = json.loads((out / LOG).read_text())["settings"]
        if not isinstance(settings, dict):
            raise ValueError("it has no settings")
        return settings
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise FormatError(f"{out / LOG} is not the log of a training run ({reason})") from reason
