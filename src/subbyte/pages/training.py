"""The pages of training runs: loss, scores and resolution as they went, side by side.

Training loss and the share of codes that move are running means over logged rows where that is
asked for. All else is drawn as it was logged; the resolution, too, as the mean of two is none that
an update had. Several runs are told apart by colour, and training, test and validation images of a
run by the kind of line.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from subbyte.pages.deployment import deployment_sections
from subbyte.pages.figures import Chart, Line
from subbyte.pages.parts import Part, Section, Story, Table, Text
from subbyte.pages.scores import label, number, said
from subbyte.pages.subject import Subject, View
from subbyte.pages.tuning import before_and_after
from subbyte.pages.wording import on_grids, summary
from subbyte.records import RESULT, Result, Score, read_result
from subbyte.records.training import (
    EPOCHS,
    LOG,
    QUANTIZED,
    Epoch,
    Method,
    Run,
    Settings,
    Step,
    read_run,
)

_ABOUT_RESOLUTION = (
    "Where the optimizer quantizes: the resolution is the index of the lattice that updates are "
    "rounded to; with base 2, one more is half the step. Non-zero codes are the share of an update "
    "that survives the rounding."
)


@dataclass(frozen=True)
class Split:
    """Images that an epoch is measured on, and how a run's line of them is drawn."""

    name: str
    loss: Callable[[Epoch], float | None]
    dashed: bool = False
    dotted: bool = False


_TRAIN = Split("train", lambda row: row.train_loss)
_VALIDATION = Split("validation", lambda row: row.validation_loss, dotted=True)
_TEST = Split("test", lambda row: row.test_loss, dashed=True)
_SPLITS = (_TRAIN, _VALIDATION, _TEST)


@dataclass(frozen=True)
class Trained:
    """A training run, and the name that tells it from others. result: of the quantized network
    that came of it; None where a float one was trained.
    """

    name: str
    run: Run
    result: Result | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return self.run.settings

    @property
    def last(self) -> Epoch:
        """The run's last epoch."""
        return self.run.epochs[-1]

    @property
    def scores(self) -> dict[str, Score]:
        """Its scores by label, such as 'top-1 %', without values."""
        return {label(one, self.run.scoring.heads): one for one in self.run.scoring.scores}

    def column(self, images: str, title: str) -> Callable[[Epoch], float | None]:
        """The score of a label on some images, of an epoch; None where the run has no such score,
        or did not measure it.
        """
        scoring, score = self.run.scoring, self.scores.get(title)
        if score is None:
            return lambda row: None
        name = scoring.column(images, score)
        return lambda row: row.score(name)

    def tested(self, title: str) -> list[tuple[int, Score]]:
        """Epochs, and the score of a label on the test images where it was measured."""
        column = self.column(_TEST.name, title)
        return [
            (row.epoch, self.scores[title].model_copy(update={"value": value}))
            for row in self.run.epochs
            if (value := column(row)) is not None
        ]


class TrainingRuns(Subject[Trained]):
    """Folders of `subbyte train`."""

    title = "Training runs"
    holds = f"a training run ({EPOCHS})"
    files = (EPOCHS, LOG)
    options = ("smooth", "epochs")

    def read(self, name: str, folder: Path) -> Trained:
        """See `subject.Subject`."""
        quantized = folder / QUANTIZED
        there = (quantized / RESULT).is_file()
        return Trained(name, read_run(folder), read_result(quantized) if there else None)

    def tell(self, found: Sequence[Trained], view: View) -> Story:
        """See `subject.Subject`."""
        charts = charts_of(found, view)
        parts: list[Part] = [runs_table(found), *charts]
        if any(_quantizes(one) for one in found):
            parts.insert(0, Text(_ABOUT_RESOLUTION))
        if view.epochs:
            told = f"The charts show the first {view.epochs} epochs; words and table are of all."
            parts.insert(0, Text(told))
        settings = [
            Section(f"Settings of {one.name}", (_settings(one),), folded=len(found) > 1)
            for one in found
        ]
        course = Section("Course of training", tuple(parts))
        ends = [_end(one.name, one.result) for one in found if one.result is not None]
        return Story(tuple(map(describe, found)), (*ends, course, *settings))


def _end(name: str, result: Result) -> Section:
    """The quantized network that came of a run, beside the float one and what it began with."""
    parts: list[Part] = [Text(f"{summary(result)} {on_grids(result)}")]
    if result.tuning is not None:
        parts += before_and_after(result, result.tuning)
    for section in deployment_sections(result):
        parts += section.parts
    parts.append(Text(f"All about it is in {QUANTIZED}/report.html."))
    return Section(f"The quantized network of {name}", tuple(parts))


def _settings(one: Trained) -> Table:
    rows = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in one.settings.plain().items()
    ]
    judged = ("outputs are judged by", one.run.scoring.task)
    return Table("Settings", ("setting", "value"), (judged, *rows))


def running_mean(values: Sequence[float], count: int) -> list[float]:
    """The mean of each value and the count - 1 before it; of fewer at the start."""
    if count == 1:
        return list(values)
    sums = list(accumulate(values, initial=0.0))
    starts = [max(0, end - count) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, 1)]


def charts_of(runs: Sequence[Trained], view: View) -> list[Chart]:
    """Loss and scores; resolution and codes that move where a run has them."""
    charts = [_losses(runs, view), *(_scored(runs, title, view) for title in _titles(runs))]
    quantizing = [one for one in runs if _quantizes(one)]
    if quantizing:
        title, label = "resolution of updates", "resolution index, bits"
        whole = View(epochs=view.epochs)
        charts.append(_telemetry(runs, title, label, lambda row: row.resolution_bits, whole))
    if any(row.moved_percent is not None for one in quantizing for row in one.run.steps):
        title, label = "codes of updates that are not 0", "non-zero codes, %"
        charts.append(_telemetry(runs, title, label, lambda row: row.moved_percent, view))
    return charts


def _quantizes(one: Trained) -> bool:
    return any(row.resolution_bits is not None for row in one.run.steps)


def _telemetry(
    runs: Sequence[Trained],
    title: str,
    label: str,
    column: Callable[[Step], float | None],
    view: View,
) -> Chart:
    """A column of quantized updates by step, of the runs that have it."""
    curves = [(one.name, *_by_step(one, column, view)) for one in runs]
    lines = tuple(Line(name, x, y) for name, x, y in curves if x)
    names = tuple(one.name for one in runs)
    title = _title(runs, title + _smoothed(view))
    return Chart(title, "step", label, lines, whole_x=True, names=names)


def _losses(runs: Sequence[Trained], view: View) -> Chart:
    """Training loss by step, other losses at the last step of their epoch."""
    lines = []
    for one in runs:
        lines.append(_line(runs, one, _TRAIN, *_by_step(one, lambda row: row.train_loss, view)))
        for split in (_VALIDATION, _TEST):
            lines += _by_epoch(runs, one, split, split.loss, lambda row: row.steps, view)
    positive = all(loss > 0 for line in lines for loss in line.y)
    title = _title(runs, f"loss{_smoothed(view)}") + _styles(runs, lines)
    return Chart(title, "step", "loss", tuple(lines), positive, whole_x=True, names=_legend(runs))


def _titles(runs: Sequence[Trained]) -> list[str]:
    """The labels of all scores, in order."""
    return list(dict.fromkeys(title for one in runs for title in one.scores))


def _scored(runs: Sequence[Trained], title: str, view: View) -> Chart:
    """The score of a label by epoch, of the runs that have it."""
    lines = []
    for one, split in ((one, split) for one in runs for split in _SPLITS):
        column = one.column(split.name, title)
        lines += _by_epoch(runs, one, split, column, lambda row: row.epoch, view)
    named = title.removesuffix(" %")
    told = (f"{runs[0].name}: {named}" if len(runs) == 1 else named) + _styles(runs, lines)
    return Chart(told, "epoch", title, tuple(lines), whole_x=True, names=_legend(runs))


def _by_step(
    one: Trained, column: Callable[[Step], float | None], view: View
) -> tuple[list[float], list[float]]:
    """Steps, and a column's running mean, of the first epochs."""
    rows = [row for row in one.run.steps if not view.epochs or row.epoch <= view.epochs]
    found = [(row.step, value) for row in rows if (value := column(row)) is not None]
    return [step for step, _ in found], running_mean([value for _, value in found], view.smooth)


def _by_epoch(
    runs: Sequence[Trained],
    one: Trained,
    split: Split,
    column: Callable[[Epoch], float | None],
    place: Callable[[Epoch], int],
    view: View,
) -> list[Line]:
    """A line, where the split was measured."""
    rows = [row for row in one.run.epochs if not view.epochs or row.epoch <= view.epochs]
    found = [(place(row), value) for row in rows if (value := column(row)) is not None]
    if not found:
        return []
    return [_line(runs, one, split, [x for x, _ in found], [y for _, y in found])]


def _line(
    runs: Sequence[Trained], one: Trained, split: Split, x: Sequence[float], y: Sequence[float]
) -> Line:
    """One run alone has a colour for each split; of several, each has a colour."""
    name = split.name if len(runs) == 1 else one.name
    return Line(name, x, y, dashed=split.dashed, dotted=split.dotted)


def _legend(runs: Sequence[Trained]) -> tuple[str, ...]:
    return tuple(one.name for one in (_SPLITS if len(runs) == 1 else runs))


def _title(runs: Sequence[Trained], what: str) -> str:
    return f"{runs[0].name}: {what}" if len(runs) == 1 else what.capitalize()


def _smoothed(view: View) -> str:
    return f", running mean over {view.smooth} logged rows" if view.smooth > 1 else ""


def _styles(runs: Sequence[Trained], lines: Sequence[Line]) -> str:
    """A note on the meaning of dashes and dots, where colours do not say it."""
    if len(runs) == 1:
        return ""
    dotted = "; dotted: validation" if any(line.dotted for line in lines) else ""
    return f" (solid: training; dashed: test{dotted})"


def describe(one: Trained) -> str:
    """A run in plain words: what was trained on what and how, how far it came, and where its
    resolution ended.
    """
    settings, done = one.settings, one.last.epoch
    planned = settings.epochs or done
    length = f"{done} epochs" if planned == done else f"{done} of {planned} epochs"
    told = (
        f"{one.name}: {settings.model or 'a network'} on "
        f"{settings.data or 'data without a name'}, {length} of {_optimizer(settings)} from a "
        f"learning rate of {_rate(settings)}."
    )
    scores = [text for title in one.scores if (text := _course(one, title))]
    told += f" On the test images: {'; '.join(scores) or 'not measured yet'}."
    if one.last.resolution_bits is not None:
        told += f" Updates ended at a resolution of {one.last.resolution_bits:.4g} bits."
    return told


def _course(one: Trained, title: str) -> str:
    """A score in words: at the end, and at its best; '' where it was never measured."""
    tested = one.tested(title)
    if not tested:
        return ""
    (epoch, last), (first, best) = tested[-1], _best(tested)
    head = f"{one.run.scoring.heads[last.head]}: " if len(one.run.scoring.heads) > 1 else ""
    value = " ".join(filter(None, (number(best), best.unit)))
    return f"{head}{said(last)} after epoch {epoch}, at best {value} after epoch {first}"


def _best(tested: Sequence[tuple[int, Score]]) -> tuple[int, Score]:
    """The first of the best epochs."""
    return max(tested, key=lambda pair: pair[1].merit)


def runs_table(runs: Sequence[Trained]) -> Table:
    """Runs side by side, a row a run; the best test scores are named as such, as they were chosen
    on the test images.
    """
    titles = _titles(runs)
    header = (
        "run",
        "model",
        "optimizer",
        "lr",
        "epochs",
        "last train loss",
        *(f"{what}{title}" for title in titles for what in _COLUMNS),
    )
    rows = []
    for one in runs:
        rows.append(
            (
                one.name,
                one.settings.model,
                _optimizer(one.settings),
                _rate(one.settings),
                f"{one.last.epoch}",
                f"{one.last.train_loss:.4g}",
                *(cell for title in titles for cell in _cells(one, title)),
            )
        )
    return Table("Runs", header, tuple(rows))


_COLUMNS = ("last test ", "best test ", "epoch of best ")


def _cells(one: Trained, title: str) -> tuple[str, str, str]:
    """The cells of _COLUMNS, empty where the score was not measured."""
    tested = one.tested(title)
    if not tested:
        return "", "", ""
    first, best = _best(tested)
    return number(tested[-1][1]), number(best), f"{first}"


def _optimizer(settings: Settings) -> str:
    """The methods that moved weights, such as `sgd (momentum 0.9), qat lsq (bits 3)`."""
    told = "an optimizer" if settings.optimizer is None else _method(settings.optimizer)
    return told if settings.qat is None else f"{told}, qat {_method(settings.qat)}"


def _method(method: Method) -> str:
    """A method and those of its settings that are on."""
    on = [
        name if value is True else f"{name} {_value(value)}"
        for name, value in method.settings.items()
        if value
    ]
    return f"{method.name} ({', '.join(on).replace('_', ' ')})" if on else method.name


def _value(value: Any) -> str:
    """A setting in words: a number, a name, a list, or a method within the method."""
    if isinstance(value, dict):
        return _method(Method.model_validate(value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _rate(settings: Settings) -> str:
    return "unknown" if settings.lr is None else f"{settings.lr:g}"
