"""Figures of a sweep: curves over an axis of settings with bands, heat maps of two axes, accuracy
against size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from subbyte.pages.canvas import COLOURS
from subbyte.pages.figure import Figure
from subbyte.pages.figures import Chart, Cloud, Dots, Heat, Line, Marks, Points, Rows, Spans, front
from subbyte.pages.wording import points
from subbyte.records.outcome import TOP1
from subbyte.records.sweep import Mean, Setting, Sweep, place

_LINES = len(COLOURS)  # that a chart holds before they are hard to tell apart
_LISTED = 40  # settings that are drawn one below the other
_HEATS = 6
_WITHIN = 0.0, 100.0  # accuracies
_LEAST = 0.01  # points, where bands end on a logarithmic scale
_TOP1, _LOST = TOP1.capitalize(), "Accuracy lost"
_FAR = 5.0  # points of accuracy that are a large price


@dataclass(frozen=True)
class Measure:
    """A quantity that curves show of settings. label: of its axis, with the unit; compared: whether
    settings are ranked by it, so that the float network and the best of the rest are said with it.
    """

    label: str
    of: Callable[[Setting], Mean]
    compared: bool = False

    @property
    def title(self) -> str:
        """The label without its unit."""
        return self.label.split(",")[0].capitalize()


def accuracy(sweep: Sweep) -> Measure:
    """The score that settings are compared by."""
    return Measure(f"{sweep.scored}, %", lambda one: one.score, compared=True)


SPARSITY = Measure("weights that are 0, %", lambda one: one.zeros)


def said(one: Setting) -> str:
    """A setting's accuracy, with the interval, and how far that is from float."""
    mean, spread = one.score.value, "" if one.score.half is None else f" ± {one.score.half:.2f}"
    return f"{mean:.2f}{spread} % ({points(mean - one.float_score)}, {one.float_score:.2f} %)"


def curves(sweep: Sweep, measure: Measure) -> list[Figure]:
    """A chart for each axis of numbers; all settings one below the other where there are not too
    many; nothing without settings.
    """
    if not sweep.settings:
        return []
    axes = [axis for axis in sweep.axes if sweep.numeric(axis)]
    long = [axis for axis in axes if len(sweep.values(axis)) > 2]
    curves = [_curve(sweep, axis, measure) for axis in long or axes]
    figures: list[Figure] = [
        figure for curve in curves for figure in (curve, _lost(curve)) if figure is not None
    ]
    words = any(not sweep.numeric(axis) for axis in sweep.axes) or not figures
    if measure.compared and words and len(sweep.settings) <= _LISTED:
        figures.append(_listed(sweep))
    return figures


def _curve(sweep: Sweep, axis: str, measure: Measure) -> Chart:
    others = [name for name in sweep.axes if name != axis and len(sweep.values(name)) > 1]
    groups = sweep.grouped(others)
    about = ""
    if len(groups) > _LINES:
        fitting = [name for name in others if len(sweep.values(name)) <= _LINES]
        others = [max(fitting, key=lambda name: len(sweep.values(name)))] if fitting else []
        groups = sweep.grouped(others)
        about = f", {'' if measure.compared else 'of '}the most accurate of all other settings"
    lines = [
        line(axis, measure, ", ".join(key) or "quantized", mine) for key, mine in groups.items()
    ]
    if measure.compared and (below := _float_line(sweep, axis)):
        lines.append(below)
    places = [place(value) for value in sweep.values(axis)]
    whole = all(one is not None and one == int(one) for one in places)
    title = f"{measure.title} against {axis}{about}"
    return Chart(title, axis, measure.label, tuple(lines), whole_x=whole)


def line(axis: str, measure: Measure, name: str, settings: Sequence[Setting]) -> Line:
    """The best of equal places."""
    at: dict[float, Setting] = {}
    for one in sorted(settings, key=lambda one: one.score.value):
        if (x := place(one.cells[axis])) is not None:
            at[x] = one
    places = sorted(at)
    means = [measure.of(at[x]) for x in places]
    low, high = _ends(means)
    return Line(name, places, [mean.value for mean in means], low=low, high=high)


def _halves(means: Sequence[Mean]) -> list[float]:
    """Half the confidence intervals; [] unless every mean has one."""
    found = [mean.half for mean in means if mean.half is not None]
    return found if len(found) == len(means) else []


def _ends(means: Sequence[Mean]) -> tuple[list[float], list[float]]:
    """The ends of the means' intervals, within 0 and 100 %; ([], []) unless every mean has one."""
    halves = _halves(means)
    pairs = [(mean.value, half) for mean, half in zip(means, halves, strict=bool(halves))]
    low, high = _WITHIN
    return [max(low, mean - half) for mean, half in pairs], [
        min(high, mean + half) for mean, half in pairs
    ]


def _lost(curve: Chart) -> Chart | None:
    """The same as points below float on a logarithmic scale, where what is far does not hide what
    is near.
    """
    reference = next((line.y[0] for line in curve.lines if line.strong), None)
    lines = [line for line in curve.lines if not line.strong]
    if reference is None or min(y for line in lines for y in line.y) > reference - _FAR:
        return None
    turned = [
        replace(
            line,
            y=[max(_LEAST, reference - y) for y in line.y],
            low=[max(_LEAST, reference - y) for y in line.high],
            high=[reference - y for y in line.low],
        )
        for line in lines
    ]
    measured = curve.y_label.split(",")[0].capitalize()
    title = curve.title.replace(measured, _LOST if measured == _TOP1 else f"{measured} lost")
    return replace(
        curve,
        title=title,
        y_label=f"points below float, {_LEAST} at least",
        lines=tuple(turned),
        log_y=True,
    )


def _float_line(sweep: Sweep, axis: str) -> Line | None:
    """The float network, where it is one for all settings."""
    if sweep.float_score is None:
        return None
    places = [x for value in sweep.values(axis) if (x := place(value)) is not None]
    return Line(
        "float", [min(places), max(places)], [sweep.float_score] * 2, dashed=True, strong=True
    )


def _listed(sweep: Sweep) -> Rows:
    best_first = sorted(sweep.settings, key=lambda one: -one.score.value)
    notes = [f"{one.name}: {said(one)}" for one in best_first]
    marks: list[Marks] = [Dots("mean", [one.score.value for one in best_first], notes)]
    low, high = _ends([one.score for one in best_first])
    if low:
        marks.insert(0, Spans("95 % confidence", low, to=high, thin=True))
    names = tuple(one.name for one in best_first)
    return Rows("Settings, best first", "", accuracy(sweep).label, names, tuple(marks))


def heats(sweep: Sweep) -> list[Heat]:
    """A map for every two axes, a few at most."""
    axes = [axis for axis in sweep.axes if len(sweep.values(axis)) > 1]
    return [_heat(sweep, down, along) for down, along in combinations(axes, 2)][:_HEATS]


def _heat(sweep: Sweep, down: str, along: str) -> Heat:
    """The axis of more values lies along."""
    if len(sweep.values(down)) > len(sweep.values(along)):
        down, along = along, down
    rows, columns = sweep.values(down), sweep.values(along)
    best: dict[tuple[str, str], float] = {}
    for one in sweep.settings:
        cell = one.cells[down], one.cells[along]
        best[cell] = max(one.score.value, best.get(cell, one.score.value))
    values = tuple([best.get((row, column)) for column in columns] for row in rows)
    few = len(columns) <= 12
    texts = tuple(
        ["" if v is None else f"{v:.2f}" if few else f"{v:.1f}" for v in line] for line in values
    )
    more = len(sweep.axes) > 2
    about = "Mean over seeds, in percent" + ("; the best of all other settings." if more else ".")
    title = f"{accuracy(sweep).title} by {down} and {along}"
    return Heat(title, about, along, down, columns, rows, values, texts)


def against_size(sweep: Sweep) -> list[Points]:
    """A colour for each value of the first axis of words; none where all are of one size."""
    if len({one.bytes for one in sweep.settings}) < 2:
        return []
    words = next(
        (
            axis
            for axis in sweep.axes
            if not sweep.numeric(axis) and 1 < len(sweep.values(axis)) <= _LINES
        ),
        "",
    )
    groups = sweep.grouped([words] if words else [])
    named = {key[0] if key else "quantized": mine for key, mine in groups.items()}
    return [sized(named, accuracy(sweep))]


def sized(groups: Mapping[str, list[Setting]], measure: Measure) -> Points:
    """A colour for each group."""
    clouds = []
    for name, mine in groups.items():
        notes = [f"{one.name}: {said(one)}, {round(one.bytes):,} bytes" for one in mine]
        x, y = [one.bytes for one in mine], [one.score.value for one in mine]
        halves = _halves([one.score for one in mine])
        clouds.append(Cloud(name, x, y, (), notes, halves, _WITHIN))
    steps = front([(one.bytes, one.score.value) for mine in groups.values() for one in mine])
    about = (
        "Bytes of all tensors, without the file's header. Bars are 95 % confidence intervals. "
        "Dashed: the best "
        "accuracy that so many bytes buy."
    )
    return Points(
        "Accuracy against size",
        about,
        "bytes, packed",
        measure.label,
        tuple(clouds),
        True,
        steps,
        "Pareto front",
    )
