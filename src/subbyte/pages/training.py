"""What training runs left behind, to look at: loss, accuracy and resolution as they went, side by
side.

Training loss and the share of codes that move are running means over logged rows where that is
asked for. All else is drawn as it was logged; the resolution, too, as the mean of two is none that
an update had. Several runs are told apart by colour, and training, test and validation images of a
run by the kind of line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError, RecipeError
from subbyte.pages.charts import Chart, Line, Table, write_html, write_png
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

PAGE = "trends.html"
_SPLITS = ("train", "validation", "test")
_RESOLUTION, _MOVED = "resolution_bits", "moved_percent"
ABOUT_RESOLUTION = (
    "Where the optimizer quantizes: the resolution is the index of the lattice that updates are "
    "rounded to; with "
    "base 2, one more is half the step. Non-zero codes are the share of an update that survives "
    "the rounding."
)


@dataclass(frozen=True)
class Run:
    """A training run as its folder holds it: finished epochs only, and the rows of their steps."""

    name: str
    settings: dict[str, Any]
    epochs: list[Row]
    steps: list[Row]


def draw(
    folders: Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] = (),
    smooth: int = 1,
    points: int = 0,
) -> list[Path]:
    """Draw runs into the folder `out`: loss.png, accuracy.png, where a run has them resolution.png
    and moved.png, and trends.html with all of them; returns their paths.

    names: of the runs; without, tails of their paths. smooth: logged rows in the running mean of
    training loss and of moved codes. points: epochs to draw, from the first; 0: all. Table and
    words are of whole runs in any case.
    Raises FormatError when a folder is not that of a run with a finished epoch, or damaged;
    RecipeError when names are too few, too many or alike, a folder is given twice, a number is out
    of range, or `out` can't be made.
    """
    if smooth < 1:
        raise RecipeError(f"smooth must be 1 row or more, got {smooth}")
    if points < 0:
        raise RecipeError(f"points must be 0 (all epochs) or more, got {points}")
    runs = [
        read_run(folder, name) for folder, name in zip(folders, _named(folders, names), strict=True)
    ]
    charts = charts_of(runs, smooth, points)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"{out} can't be made a folder to draw into: {error.strerror}") from error
    for name, chart in charts.items():
        write_png(chart, out / f"{name}.png")
    title = "Training runs" if len(runs) > 1 else f"Training run {runs[0].name}"
    write_html(title, _page(runs, charts, points), out / PAGE)
    return [*(out / f"{name}.png" for name in charts), out / PAGE]


def _named(folders: Sequence[Path], names: Sequence[str]) -> Sequence[str]:
    """The names given, checked, or names made of paths."""
    if not folders:
        raise RecipeError("no training run was given")
    if not names:
        return unique_names(folders)
    if len(names) != len(folders):
        raise RecipeError(f"as many names as runs are needed: got {len(names)} for {len(folders)}")
    if bad := next(
        (name for k, name in enumerate(names) if not name.strip() or name in names[:k]), None
    ):
        raise RecipeError(f"two runs are named {bad!r}" if bad.strip() else "a run's name is empty")
    return names


def unique_names(folders: Sequence[Path]) -> list[str]:
    """For each folder the shortest tail of its path that no other has, such as `run1`, or
    `sgd/run1`.

    Raises RecipeError when a folder is given twice.
    """
    paths = [folder.resolve().parts for folder in folders]
    if twice := next((folder for k, folder in enumerate(folders) if paths[k] in paths[:k]), None):
        raise RecipeError(f"{twice} is given twice")
    names = []
    for number, mine in enumerate(paths):
        others = paths[:number] + paths[number + 1 :]
        length = next(
            k for k in range(1, len(mine) + 1) if all(mine[-k:] != other[-k:] for other in others)
        )
        names.append(str(Path(*mine[-length:])))
    return names


def read_run(folder: Path, name: str) -> Run:
    """Read what `subbyte train` wrote into `folder`.

    Raises FormatError when it is not the folder of a run, has no finished epoch, or a file is
    damaged.
    """
    missing = [file for file in (LOG, EPOCHS, STEPS) if not (folder / file).is_file()]
    if missing:
        raise FormatError(
            f"{folder} is not a training run with a finished epoch: it has no {missing[0]}; give a "
            f"folder that "
            "`subbyte train` wrote"
        )
    epochs, steps = (
        read_rows(folder / EPOCHS, EPOCH_COLUMNS),
        read_rows(folder / STEPS, STEP_COLUMNS),
    )
    if not epochs:
        raise FormatError(f"{folder} has no finished epoch: {EPOCHS} has no rows")
    _check(epochs, ("epoch", "steps", "train_loss", "train_top1_percent"), "epoch", folder / EPOCHS)
    _check(steps, ("step", "epoch", "train_loss"), "step", folder / STEPS)
    last = epochs[-1]["epoch"]
    if not steps or steps[-1]["epoch"] < last:
        raise FormatError(f"{folder / STEPS} is cut short: {EPOCHS} has {last} epochs")
    return Run(name, read_settings(folder), epochs, [row for row in steps if row["epoch"] <= last])


def _check(rows: Sequence[Row], needed: Sequence[str], counter: str, path: Path) -> None:
    """Cells that are needed are there, none is NaN or infinite (but a temperature, at a rate of 0),
    counters rise.
    """
    before = 0
    for number, row in enumerate(rows, 1):
        for column, value in row.items():
            if value is None and column in needed:
                raise FormatError(f"{path}: row {number} is damaged: it has no {column}")
            if value is not None and (
                isnan(value) or not (isfinite(value) or column == "temperature")
            ):
                raise FormatError(f"{path}: row {number} is damaged: {column} is {value}")
        if row[counter] <= before:
            raise FormatError(
                f"{path}: row {number} is damaged: {counter} {row[counter]} comes after {before}"
            )
        before = row[counter]


def running_mean(values: Sequence[float], count: int) -> list[float]:
    """The mean of each value and the count - 1 before it; of fewer at the start."""
    if count == 1:
        return list(values)
    sums = list(accumulate(values, initial=0.0))
    starts = [max(0, end - count) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, 1)]


def charts_of(runs: Sequence[Run], smooth: int = 1, points: int = 0) -> dict[str, Chart]:
    """Charts by the name of their picture: loss, accuracy, and resolution and moved where a run has
    them.
    """
    charts = {"loss": _losses(runs, smooth, points), "accuracy": _accuracies(runs, points)}
    if any(_has(run, _RESOLUTION) for run in runs):
        charts["resolution"] = _quantized(
            runs, _RESOLUTION, "resolution of updates", "resolution index, bits", 1, points
        )
    if any(_has(run, _MOVED) for run in runs):
        charts["moved"] = _quantized(
            runs, _MOVED, "codes of updates that are not 0", "non-zero codes, %", smooth, points
        )
    return charts


def _has(run: Run, column: str) -> bool:
    return any(row[column] is not None for row in run.steps)


def _quantized(
    runs: Sequence[Run], column: str, title: str, label: str, smooth: int, points: int
) -> Chart:
    """A column of quantized updates by step, of the runs that have it."""
    lines = tuple(
        Line(run.name, *_by_step(run, column, smooth, points)) for run in runs if _has(run, column)
    )
    names = tuple(run.name for run in runs)
    return Chart(
        _title(runs, title + _smoothed(smooth)), "step", label, lines, whole_x=True, names=names
    )


def _losses(runs: Sequence[Run], smooth: int, points: int) -> Chart:
    """Training loss by step, other losses at the last step of their epoch."""
    lines = []
    for run in runs:
        lines.append(_line(runs, run, "train", *_by_step(run, "train_loss", smooth, points)))
        lines += _by_epoch(runs, run, ("validation", "test"), "loss", "steps", points)
    positive = all(loss > 0 for line in lines for loss in line.y)
    title = _title(runs, f"loss{_smoothed(smooth)}") + _kinds(runs, lines)
    return Chart(title, "step", "loss", tuple(lines), positive, whole_x=True, names=_legend(runs))


def _accuracies(runs: Sequence[Run], points: int) -> Chart:
    lines = [
        line
        for run in runs
        for line in _by_epoch(runs, run, _SPLITS, "top1_percent", "epoch", points)
    ]
    title = _title(runs, "accuracy") + _kinds(runs, lines)
    return Chart(title, "epoch", "top-1 %", tuple(lines), whole_x=True, names=_legend(runs))


def _by_step(run: Run, column: str, smooth: int, points: int) -> tuple[list[float], list[float]]:
    """Steps, and a column's running mean, of the first epochs."""
    rows = [
        row
        for row in run.steps
        if row[column] is not None and (not points or row["epoch"] <= points)
    ]
    return [row["step"] for row in rows], running_mean([row[column] for row in rows], smooth)


def _by_epoch(
    runs: Sequence[Run], run: Run, splits: Sequence[str], column: str, x: str, points: int
) -> list[Line]:
    """A line for each split that was measured."""
    lines = []
    for split in splits:
        rows = [row for row in run.epochs if row[f"{split}_{column}"] is not None]
        rows = [row for row in rows if not points or row["epoch"] <= points]
        if rows:
            lines.append(
                _line(
                    runs,
                    run,
                    split,
                    [row[x] for row in rows],
                    [row[f"{split}_{column}"] for row in rows],
                )
            )
    return lines


def _line(
    runs: Sequence[Run], run: Run, split: str, x: Sequence[float], y: Sequence[float]
) -> Line:
    """One run alone has a colour for each split; of several, each has a colour."""
    name = split if len(runs) == 1 else run.name
    return Line(name, x, y, dashed=split == "test", dotted=split == "validation")


def _legend(runs: Sequence[Run]) -> tuple[str, ...]:
    return _SPLITS if len(runs) == 1 else tuple(run.name for run in runs)


def _title(runs: Sequence[Run], what: str) -> str:
    return f"{runs[0].name}: {what}" if len(runs) == 1 else what.capitalize()


def _smoothed(smooth: int) -> str:
    return f", running mean over {smooth} logged rows" if smooth > 1 else ""


def _kinds(runs: Sequence[Run], lines: Sequence[Line]) -> str:
    """What kinds of lines mean, where colours do not say it."""
    if len(runs) == 1:
        return ""
    dotted = "; dotted: validation" if any(line.dotted for line in lines) else ""
    return f" (solid: training; dashed: test{dotted})"


def _page(runs: Sequence[Run], charts: dict[str, Chart], points: int) -> list[Chart | Table | str]:
    parts: list[Chart | Table | str] = [describe(run) for run in runs]
    if points:
        parts.append(
            f"The charts show the first {points} epochs; words and table are of all epochs."
        )
    if len(charts) > 2:
        parts.append(ABOUT_RESOLUTION)
    return [*parts, runs_table(runs), *charts.values()]


def describe(run: Run) -> str:
    """A run in plain words: what was trained on what and how, how far it came, and where its
    resolution ended.
    """
    settings, last = run.settings, run.epochs[-1]
    planned = settings.get("epochs", last["epoch"])
    length = (
        f"{last['epoch']} epochs"
        if planned == last["epoch"]
        else f"{last['epoch']} of {planned} epochs"
    )
    told = (
        f"{run.name}: {settings.get('model') or 'a network'} on "
        f"{settings.get('data') or 'data without a name'}, "
        f"{length} of {_optimizer(run)} from a learning rate of {_setting(settings.get('lr'))}."
    )
    measured = _measured(run)
    if measured:
        end, best = measured[-1], _best(measured)
        told += (
            f" Top-1 accuracy on the test images: {end['test_top1_percent']:.2f} % after epoch "
            f"{end['epoch']}, "
            f"at best {best['test_top1_percent']:.2f} % after epoch {best['epoch']}."
        )
    else:
        told += " Accuracy on the test images was not measured yet."
    if last["resolution_bits"] is not None:
        told += f" Updates ended at a resolution of {last['resolution_bits']:.4g} bits."
    return told


def runs_table(runs: Sequence[Run]) -> Table:
    """Runs side by side, a row a run; the best test accuracy is named as such, as it was chosen on
    the test images.
    """
    header = (
        "run",
        "model",
        "optimizer",
        "lr",
        "epochs",
        "last train loss",
        "last test top-1 %",
        "best test top-1 %",
        "epoch of the best",
    )
    rows = []
    for run in runs:
        last, measured = run.epochs[-1], _measured(run)
        tests: tuple[str, ...] = ("", "", "")
        if measured:
            best = _best(measured)
            tests = (
                f"{measured[-1]['test_top1_percent']:.2f}",
                f"{best['test_top1_percent']:.2f}",
                f"{best['epoch']}",
            )
        model, rate = str(run.settings.get("model") or ""), _setting(run.settings.get("lr"))
        rows.append(
            (
                run.name,
                model,
                _optimizer(run),
                rate,
                f"{last['epoch']}",
                f"{last['train_loss']:.4g}",
                *tests,
            )
        )
    return Table("Runs", header, tuple(rows))


def _measured(run: Run) -> list[Row]:
    return [row for row in run.epochs if row["test_top1_percent"] is not None]


def _best(measured: Sequence[Row]) -> Row:
    """The first of the best."""
    return max(measured, key=lambda row: float(row["test_top1_percent"]))


def _optimizer(run: Run) -> str:
    """Such as `sgd (momentum 0.9, nesterov)`."""
    chosen = run.settings.get("optimizer", "an optimizer")
    if not isinstance(chosen, dict):
        return str(chosen)
    parts = [
        name if value is True else f"no {name}" if value is False else f"{name} {_setting(value)}"
        for name, value in chosen.items()
        if name != "name" and value is not None
    ]
    name = str(chosen.get("name", "an optimizer"))
    return f"{name} ({', '.join(parts).replace('_', ' ')})" if parts else name


def _setting(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, int | float)
        else "unknown"
        if value is None
        else str(value)
    )
