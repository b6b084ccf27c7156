"""Kinds of folders that a page can be made of. A new one is a `Kind` and a line in `KINDS`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError
from subbyte.pages import clips, training
from subbyte.pages.charts import Table
from subbyte.pages.compare import tell as tell_of_models
from subbyte.pages.model import Model
from subbyte.pages.parts import Part, Section, Story
from subbyte.pages.runs import EPOCHS, LOG
from subbyte.pages.sweep_files import MARK, Sweep
from subbyte.pages.sweeps import tell as tell_of_sweeps
from subbyte.records.quantized import RESULT

Source = tuple[str, Path]
"""A folder, and the name that tells it from the others of a page."""
_WINDOW = 0.15  # of clips, to either side of the best


@dataclass(frozen=True)
class Kind:
    """title: of its part in a page of several kinds; holds: what such a folder holds, for errors;
    owns: whether a folder is one, by the names of its files; tell: what there is to say of one or
    several, raises FormatError where one is damaged.
    """

    title: str
    holds: str
    owns: Callable[[Path], bool]
    tell: Callable[[Sequence[Source]], Story]


def _models(sources: Sequence[Source]) -> Story:
    return tell_of_models([Model.read(name, folder) for name, folder in sources])


def _sweeps(sources: Sequence[Source]) -> Story:
    return tell_of_sweeps([Sweep.read(name, folder) for name, folder in sources])


def _runs(sources: Sequence[Source]) -> Story:
    runs = [training.read_run(folder, name) for name, folder in sources]
    charts = training.charts_of(runs)
    parts: list[Part] = [training.runs_table(runs), *charts.values()]
    if len(charts) > 2:
        parts.insert(0, training.ABOUT_RESOLUTION)
    settings = [
        Section(f"Settings of {run.name}", (_settings(run.settings),), folded=len(runs) > 1)
        for run in runs
    ]
    return Story(
        tuple(map(training.describe, runs)),
        (Section("Course of training", tuple(parts)), *settings),
    )


def _scans(sources: Sequence[Source]) -> Story:
    sections, sentences = [], []
    for name, folder in sources:
        try:
            charts = list(clips.charts_of(folder, _WINDOW).values())
            parts: list[Part] = [*charts, *clips.summaries(folder), clips.accuracy_table(folder)]
            sentences.append(_of_scan(name, folder, len(charts)))
        except (KeyError, ValueError) as reason:
            if isinstance(reason, FormatError):
                raise
            raise FormatError(f"{folder} is damaged: a CSV file in it lacks {reason}") from reason
        if (folder / "settings.json").exists():
            parts.append(_settings(_read_json(folder / "settings.json")))
        sections.append(Section(f"Clip search {name}", tuple(parts), folded=len(sources) > 1))
    return Story(tuple(sentences), tuple(sections))


def _of_scan(name: str, folder: Path, widths: int) -> str:
    choices = clips.read_rows(folder / "choices.csv")
    best = max(choices, key=lambda row: float(row["test"]))
    return (
        f"{name}: a search of where to clip weights, over {widths} bit width{'s' * (widths > 1)}. "
        f"Best on the "
        f"test images: {best['metric']} at {best['bits']} bits, one clip a {best['granularity']}, "
        f"{float(best['test']):.2f} % top-1."
    )


def _settings(settings: dict[str, Any]) -> Table:
    rows = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in settings.items()
    ]
    return Table("Settings", ("setting", "value"), tuple(rows))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("it holds no settings")
        return found
    except (OSError, ValueError) as reason:
        raise FormatError(f"{path} is damaged ({reason})") from reason


KINDS: dict[str, Kind] = {
    "model": Kind(
        "Quantized networks",
        f"a quantized network ({RESULT})",
        lambda folder: (folder / RESULT).is_file(),
        _models,
    ),
    "sweep": Kind("Sweeps", f"a sweep ({MARK})", lambda folder: (folder / MARK).is_file(), _sweeps),
    "training": Kind(
        "Training runs",
        f"a training run ({EPOCHS})",
        lambda folder: (folder / EPOCHS).is_file() or (folder / LOG).is_file(),
        _runs,
    ),
    "clips": Kind(
        "Clip searches",
        "a clip search (scan.csv)",
        lambda folder: (folder / "scan.csv").is_file(),
        _scans,
    ),
}


def kind_of(folder: Path) -> str | None:
    """The kind's key in KINDS; None when it is none of them."""
    return next((name for name, kind in KINDS.items() if kind.owns(folder)), None)
