"""The files that a training run leaves behind, and how they are read: a row an epoch, a row every
few steps, settings.

The contract between those who write them (`training.record`) and those who draw them
(`report.training`).
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError

EPOCHS, STEPS, LOG = "epochs.csv", "steps.csv", "log.json"
STEP_COLUMNS = (
    "step",
    "epoch",
    "lr",
    "train_loss",
    "train_top1_percent",
    "resolution_bits",
    "moved_percent",
    "saturated_percent",
    "temperature",
)
"""moved: share of the update's codes that are not 0; saturated: share of codes on a grid at one of
its ends;
temperature: 1 / (24 lr Qp^2); the last four are empty where the optimizer does not quantize.
"""
EPOCH_COLUMNS = (
    "epoch",
    "steps",
    "seconds",
    "lr",
    "train_loss",
    "train_top1_percent",
    "validation_loss",
    "validation_top1_percent",
    "test_loss",
    "test_top1_percent",
    "resolution_bits",
    "moved_percent",
    "saturated_percent",
    "temperature",
)

Row = dict[str, Any]


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of numbers, None where a cell is empty. Raises FormatError when the file is missing or
    damaged.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        if any(tuple(row) != tuple(columns) for row in rows):
            raise ValueError(f"its columns are not {', '.join(columns)}")
        return [{name: _number(text) for name, text in row.items()} for row in rows]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as reason:
        raise FormatError(f"{path} is not the log of a training run ({reason})") from reason


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    number = float(text)
    return int(text) if text.lstrip("-").isdigit() else number


def read_settings(out: Path) -> dict[str, Any]:
    """What log.json says of the run. Raises FormatError when it is missing or damaged."""
    try:
        settings = json.loads((out / LOG).read_text())["settings"]
        if not isinstance(settings, dict):
            raise ValueError("it has no settings")
        return settings
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise FormatError(f"{out / LOG} is not the log of a training run ({reason})") from reason
