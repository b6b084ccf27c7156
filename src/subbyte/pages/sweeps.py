"""What a sweep says: accuracy against every setting with error bands, heat maps of two of them,
size, what was chosen.

Means are over seeds, bands and bars are 95 % confidence intervals of them: of chance in calibration
and rounding, not of the choice of test images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from subbyte.pages.canvas import COLOURS
from subbyte.pages.figures import Chart, Cloud, Dots, Heat, Line, Marks, Points, Rows, Spans, front
from subbyte.pages.parts import Part, Raw, Section, Story, Table
from subbyte.pages.subject import Subject, View
from subbyte.pages.wording import points, signed, size, standard_error, two_digits
from subbyte.records.sweep import MARK, Cells, Mean, Setting, Sweep, place

_LINES = len(COLOURS)  # that a chart holds before they are hard to tell apart
_LISTED = 40  # settings that are drawn one below the other
_HEATS = 6
_LEAST = 0.01  # points, where bands end on a logarithmic scale
_NEAR, _FAR = 0.5, 5.0  # points of accuracy that are a small price, and a large one


@dataclass(frozen=True)
class Measure:
    """What curves show of settings. label: of its axis, with the unit; compared: whether it is what
    settings are ranked by, so that the float network and the best of the rest are said with it.
    """

    label: str
    of: Callable[[Setting], Mean]
    compared: bool = False

    @property
    def title(self) -> str:
        """The label without its unit."""
        return self.label.split(",")[0].capitalize()


_ACCURACY = Measure("top-1 accuracy, %", lambda one: one.top1, compared=True)
_SPARSITY = Measure("weights that are 0, %", lambda one: one.zeros)


class Sweeps(Subject[Sweep]):
    """Folders of `subbyte sweep`: one in full, or several side by side and each behind its name."""

    title = "Sweeps"
    holds = f"a sweep ({MARK})"
    files = (MARK,)

    def read(self, name: str, folder: Path) -> Sweep:
        """See `subject.Subject`."""
        return Sweep.read(name, folder)

    def tell(self, found: Sequence[Sweep], view: View) -> Story:
        """See `subject.Subject`."""
        sentences = [sentence for sweep in found for sentence in _words(sweep)]
        if len(found) == 1:
            (sweep,) = found
            return Story(tuple(sentences), tuple(_sections(sweep)), f"Sweep {sweep.title}")
        if len({_measured_on(sweep) for sweep in found}) > 1:
            sentences.append(
                "They are not all measured on the same images, so accuracies compare only within "
                "each."
            )
        sections = [
            Section(f"Sweep {sweep.name}", tuple(_sections(sweep)), folded=True) for sweep in found
        ]
        done = [sweep for sweep in found if sweep.settings]
        if len(done) > 1:
            sections.insert(0, Section("Comparison", tuple(_comparison(done))))
        return Story(tuple(sentences), tuple(sections))


def _words(sweep: Sweep) -> list[str]:
    """What was done, the best setting, the smallest that is nearly as good, what was chosen, what
    failed.
    """
    seeds = len({row["seed"] for row in sweep.rows})
    told = [
        f"{sweep.title}: {len(sweep.rows)} runs, {len(sweep.settings)} settings"
        f"{f' with {seeds} seeds each' if seeds > 1 else ''}, of {_all(sweep, 'model')} on "
        f"{_all(sweep, 'data')}, "
        f"measured on {_measured_on(sweep)}."
    ]
    if len(sweep.rows) < sweep.runs:
        told.append(
            f"It has not ended: {len(sweep.rows)} of {sweep.runs} runs are there; the same command "
            f"goes on."
        )
    if sweep.settings:
        told += _best(sweep)
    for one in sweep.chosen:
        told.append(
            f"Chosen on validation images: {one.name}; on the test images it reaches {_with(one)} "
            f"top-1."
        )
    if sweep.failed:
        told.append(f"{len(sweep.failed)} runs failed; the table Failed runs says why.")
    return told


def _best(sweep: Sweep) -> list[str]:
    best = sweep.best
    told = [f"The best is {best.name}: {_with(best)} top-1, in {size(round(best.bytes))}."]
    error = standard_error(best.top1.value, int(float(sweep.rows[0]["images"] or 0)))
    equals = sum(one.top1.value >= best.top1.value - error for one in sweep.settings) - 1
    if equals:
        told.append(
            f"{equals} more lie within one standard error of the images ({error:.2f} points) of it."
        )
    if len(sweep.settings) > 1 and not sweep.chosen and "test" in _all(sweep, "split"):
        told.append(
            "It is best on the very images it is measured on, which flatters it; `choose` avoids "
            "that."
        )
    near = min(
        (one for one in sweep.settings if one.top1.value >= best.top1.value - _NEAR),
        key=lambda one: one.bytes,
    )
    if near.bytes < best.bytes:
        told.append(
            f"The smallest that comes within {_NEAR} points of it is {near.name}: {_with(near)} in "
            f"{size(round(near.bytes))}."
        )
    return told


def _measured_on(sweep: Sweep) -> str:
    return f"{_all(sweep, 'images')} {_all(sweep, 'split')} images"


def _all(sweep: Sweep, column: str) -> str:
    """Every value of a column; of a path its last part, of a number its thousands apart."""
    texts = [row[column].rpartition("/")[2] for row in sweep.rows if row[column]]
    return (
        ", ".join(f"{int(text):,}" if text.isdigit() else text for text in dict.fromkeys(texts))
        or "no"
    )


def _with(one: Setting) -> str:
    mean, spread = one.top1.value, "" if one.top1.half is None else f" ± {one.top1.half:.2f}"
    return f"{mean:.2f}{spread} % ({points(mean - one.float_top1)}, {one.float_top1:.2f} %)"


def _sections(sweep: Sweep) -> list[Section]:
    found = []
    if sweep.settings:
        found.append(Section("Accuracy", tuple(_curves(sweep, _ACCURACY))))
        if heats := _heats(sweep):
            found.append(Section("Two settings at a time", tuple(heats)))
        if size_ := _against_size(sweep):
            found.append(Section("Accuracy and size", (size_,)))
        zeros = [one.zeros.value for one in sweep.settings]
        if max(zeros) - min(zeros) > 1 and (curves := _curves(sweep, _SPARSITY)):
            found.append(Section("Sparsity", tuple(curves)))
    found.append(Section("Settings and runs", tuple(_tables(sweep))))
    return found


def _curves(sweep: Sweep, measure: Measure) -> list[Part]:
    """A chart for each axis of numbers; all settings one below the other where there are not too
    many.
    """
    axes = [axis for axis in sweep.axes if sweep.numeric(axis)]
    long = [axis for axis in axes if len(sweep.values(axis)) > 2]
    curves = [_curve(sweep, axis, measure) for axis in long or axes]
    figures: list[Part] = [
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
        _line(axis, measure, ", ".join(key) or "quantized", mine) for key, mine in groups.items()
    ]
    if measure.compared and (line := _float_line(sweep, axis)):
        lines.append(line)
    places = [place(value) for value in sweep.values(axis)]
    whole = all(one is not None and one == int(one) for one in places)
    title = f"{measure.title} against {axis}{about}"
    return Chart(title, axis, measure.label, tuple(lines), whole_x=whole)


def _line(axis: str, measure: Measure, name: str, settings: Sequence[Setting]) -> Line:
    """The best of equal places."""
    at: dict[float, Setting] = {}
    for one in sorted(settings, key=lambda one: one.top1.value):
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
    """Of their intervals, 100 % at most; ([], []) unless every mean has one."""
    halves = _halves(means)
    pairs = [(mean.value, half) for mean, half in zip(means, halves, strict=bool(halves))]
    return [mean - half for mean, half in pairs], [min(100.0, mean + half) for mean, half in pairs]


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
    title = curve.title.replace("Top-1 accuracy", "Accuracy lost")
    return replace(
        curve,
        title=title,
        y_label=f"points below float, {_LEAST} at least",
        lines=tuple(turned),
        log_y=True,
    )


def _float_line(sweep: Sweep, axis: str) -> Line | None:
    """The float network, where it is one for all settings."""
    if sweep.float_top1 is None:
        return None
    places = [x for value in sweep.values(axis) if (x := place(value)) is not None]
    return Line(
        "float", [min(places), max(places)], [sweep.float_top1] * 2, dashed=True, strong=True
    )


def _listed(sweep: Sweep) -> Rows:
    best_first = sorted(sweep.settings, key=lambda one: -one.top1.value)
    notes = [f"{one.name}: {_with(one)}" for one in best_first]
    marks: list[Marks] = [Dots("mean", [one.top1.value for one in best_first], notes)]
    low, high = _ends([one.top1 for one in best_first])
    if low:
        marks.insert(0, Spans("95 % confidence", low, to=high, thin=True))
    names = tuple(one.name for one in best_first)
    return Rows("Settings, best first", "", _ACCURACY.label, names, tuple(marks))


def _heats(sweep: Sweep) -> list[Heat]:
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
        best[cell] = max(one.top1.value, best.get(cell, one.top1.value))
    values = tuple([best.get((row, column)) for column in columns] for row in rows)
    few = len(columns) <= 12
    texts = tuple(
        ["" if v is None else f"{v:.2f}" if few else f"{v:.1f}" for v in line] for line in values
    )
    more = len(sweep.axes) > 2
    about = "Mean over seeds, in percent" + ("; the best of all other settings." if more else ".")
    return Heat(
        f"Top-1 accuracy by {down} and {along}", about, along, down, columns, rows, values, texts
    )


def _against_size(sweep: Sweep) -> Points | None:
    """A colour for each value of the first axis of words."""
    if len({one.bytes for one in sweep.settings}) < 2:
        return None
    words = next(
        (
            axis
            for axis in sweep.axes
            if not sweep.numeric(axis) and 1 < len(sweep.values(axis)) <= _LINES
        ),
        "",
    )
    groups = sweep.grouped([words] if words else [])
    return _sized({key[0] if key else "quantized": mine for key, mine in groups.items()})


def _sized(groups: dict[str, list[Setting]]) -> Points:
    """A colour for each group."""
    clouds = []
    for name, mine in groups.items():
        notes = [f"{one.name}: {_with(one)}, {round(one.bytes):,} bytes" for one in mine]
        x, y = [one.bytes for one in mine], [one.top1.value for one in mine]
        clouds.append(Cloud(name, x, y, (), notes, _halves([one.top1 for one in mine])))
    steps = front([(one.bytes, one.top1.value) for mine in groups.values() for one in mine])
    about = (
        "Bytes of all tensors, without the file's header. Bars are 95 % confidence intervals. "
        "Dashed: the best "
        "accuracy that so many bytes buy."
    )
    return Points(
        "Accuracy against size",
        about,
        "bytes, packed",
        _ACCURACY.label,
        tuple(clouds),
        True,
        steps,
        "Pareto front",
    )


def _comparison(sweeps: Sequence[Sweep]) -> list[Part]:
    """The best of each, accuracy against size, and a line a sweep over every axis of numbers that
    all have.
    """
    rows = tuple(
        (
            sweep.name,
            _all(sweep, "model"),
            _all(sweep, "data"),
            _measured_on(sweep),
            f"{len(sweep.rows)}",
            sweep.best.name,
            *_numbers(sweep.best),
        )
        for sweep in sweeps
    )
    parts: list[Part] = [
        Table(
            "Best of each",
            ("sweep", "network", "data", "measured on", "runs", "setting", *_NUMBERS),
            rows,
        ),
        _sized({sweep.name: list(sweep.settings) for sweep in sweeps}),
    ]
    for axis in sweeps[0].axes:
        if all(axis in sweep.axes and sweep.numeric(axis) for sweep in sweeps):
            lines = [_line(axis, _ACCURACY, sweep.name, sweep.settings) for sweep in sweeps]
            title = f"Top-1 accuracy against {axis}, the most accurate of all other settings"
            parts.append(Chart(title, axis, _ACCURACY.label, tuple(lines)))
    return parts


def _tables(sweep: Sweep) -> list[Part]:
    parts: list[Part] = [_settings_table("Settings", sweep.settings)] if sweep.settings else []
    if sweep.chosen:
        parts.insert(0, _settings_table("Chosen, on the test images", sweep.chosen))
    if sweep.failed:
        parts.append(_cells("Failed runs", sweep.failed, (*sweep.axes, "seed", "error")))
    parts.append(Section("All runs", (_cells("Runs", sweep.rows, sweep.columns),), folded=True))
    if sweep.space:
        parts.append(Raw("The space, as it was asked", sweep.space))
    if sweep.about:
        parts.append(Table("Environment", ("what", "value"), sweep.about))
    return parts


def _settings_table(title: str, settings: Sequence[Setting]) -> Table:
    rows = tuple((*one.cells.values(), one.seeds, *_numbers(one)) for one in settings)
    return Table(title, (*settings[0].cells, "seeds", *_NUMBERS), rows)


_NUMBERS: dict[str, Callable[[Setting], str]] = {
    "top-1 %": lambda one: two_digits(one.top1.value),
    "± 95 %": lambda one: two_digits(one.top1.half),
    "float top-1 %": lambda one: two_digits(one.float_top1),
    "difference": lambda one: signed(one.top1.value - one.float_top1),
    "agrees with float %": lambda one: two_digits(one.agreement),
    "zeros %": lambda one: two_digits(one.zeros.value),
    "bits a weight": lambda one: two_digits(one.bits_per_weight),
    "packed bytes": lambda one: f"{round(one.bytes):,}",
}
"""Columns of a table of settings."""


def _numbers(one: Setting) -> tuple[str, ...]:
    return tuple(say(one) for say in _NUMBERS.values())


def _cells(title: str, rows: Sequence[Cells], columns: Sequence[str]) -> Table:
    return Table(title, tuple(columns), tuple(tuple(row[name] for name in columns) for row in rows))
