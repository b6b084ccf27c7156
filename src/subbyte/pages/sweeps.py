"""The pages of sweeps: accuracy against every setting with error bands, heat maps of two of them,
size, what was chosen.

Means are over seeds, bands and bars are 95 % confidence intervals of them: of chance in calibration
and rounding, not of the choice of test images.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from subbyte.pages.figures import Chart
from subbyte.pages.parts import Part, Raw, Section, Story, Table
from subbyte.pages.subject import Subject, View
from subbyte.pages.sweep_figures import (
    SPARSITY,
    accuracy,
    against_size,
    curves,
    heats,
    line,
    said,
    sized,
)
from subbyte.pages.wording import signed, size, standard_error, two_digits
from subbyte.records.outcome import TOP1, name_of
from subbyte.records.sweep import MARK, Cells, Setting, Sweep

_NEAR = 0.5  # points of accuracy that are a small price


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
    """Sentences on what was done, the best setting, the smallest that is nearly as good, what was
    chosen, what failed.
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
            f"Chosen on validation images: {one.name}; on the test images it reaches {said(one)} "
            f"{_short(sweep)}."
        )
    if sweep.failed:
        told.append(f"{len(sweep.failed)} runs failed; the table Failed runs says why.")
    return told


def _best(sweep: Sweep) -> list[str]:
    best = sweep.best
    told = [f"The best is {best.name}: {said(best)} {_short(sweep)}, in {size(round(best.bytes))}."]
    error = standard_error(best.score.value, int(float(sweep.rows[0]["images"] or 0)))
    equals = sum(one.score.value >= best.score.value - error for one in sweep.settings) - 1
    if equals and sweep.scored == TOP1:  # of other scores it is not known
        told.append(
            f"{equals} more lie within one standard error of the images ({error:.2f} points) of it."
        )
    if len(sweep.settings) > 1 and not sweep.chosen and "test" in _all(sweep, "split"):
        told.append(
            "It is best on the very images it is measured on, which flatters it; `choose` avoids "
            "that."
        )
    near = min(
        (one for one in sweep.settings if one.score.value >= best.score.value - _NEAR),
        key=lambda one: one.bytes,
    )
    if near.bytes < best.bytes:
        told.append(
            f"The smallest that comes within {_NEAR} points of it is {near.name}: {said(near)} in "
            f"{size(round(near.bytes))}."
        )
    return told


def _short(sweep: Sweep) -> str:
    """The score's name as it stands behind a percentage."""
    return name_of(sweep.scored)


def _measured_on(sweep: Sweep) -> str:
    return f"{_all(sweep, 'images')} {_all(sweep, 'split')} images"


def _all(sweep: Sweep, column: str) -> str:
    """Every value of a column; of a path its last part, of a number its thousands apart."""
    texts = [row[column].rpartition("/")[2] for row in sweep.rows if row[column]]
    return (
        ", ".join(f"{int(text):,}" if text.isdigit() else text for text in dict.fromkeys(texts))
        or "no"
    )


def _sections(sweep: Sweep) -> list[Section]:
    found = [
        Section("Accuracy", tuple(curves(sweep, accuracy(sweep)))),
        Section("Two settings at a time", tuple(heats(sweep))),
        Section("Accuracy and size", tuple(against_size(sweep))),
        Section("Sparsity", tuple(curves(sweep, SPARSITY)) if _sparse(sweep) else ()),
        Section("Settings and runs", tuple(_tables(sweep))),
    ]
    return [section for section in found if section.parts]


def _sparse(sweep: Sweep) -> bool:
    """Whether settings differ in how many weights are 0."""
    zeros = [one.zeros.value for one in sweep.settings]
    return max(zeros, default=0.0) - min(zeros, default=0.0) > 1


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
            ("sweep", "network", "data", "measured on", "runs", "setting", *_columns(sweeps)),
            rows,
        ),
        *(
            sized({sweep.name: list(sweep.settings) for sweep in mine}, accuracy(mine[0]))
            for mine in _alike(sweeps)
        ),
    ]
    for axis in sweeps[0].axes if len(_alike(sweeps)) == 1 else ():
        if all(axis in sweep.axes and sweep.numeric(axis) for sweep in sweeps):
            measure = accuracy(sweeps[0])
            lines = [line(axis, measure, sweep.name, sweep.settings) for sweep in sweeps]
            title = f"{measure.title} against {axis}, the most accurate of all other settings"
            parts.append(Chart(title, axis, measure.label, tuple(lines)))
    return parts


def _alike(sweeps: Sequence[Sweep]) -> list[list[Sweep]]:
    """Sweeps whose settings are compared by one score."""
    groups: dict[str, list[Sweep]] = {}
    for sweep in sweeps:
        groups.setdefault(sweep.scored, []).append(sweep)
    return list(groups.values())


def _tables(sweep: Sweep) -> list[Part]:
    parts: list[Part] = (
        [_settings_table("Settings", sweep, sweep.settings)] if sweep.settings else []
    )
    if sweep.chosen:
        parts.insert(0, _settings_table("Chosen, on the test images", sweep, sweep.chosen))
    if sweep.failed:
        parts.append(_cells("Failed runs", sweep.failed, (*sweep.axes, "seed", "error")))
    parts.append(Section("All runs", (_cells("Runs", sweep.rows, sweep.columns),), folded=True))
    if sweep.space:
        parts.append(Raw("The space, as it was asked", sweep.space))
    if sweep.about:
        parts.append(Table("Environment", ("what", "value"), sweep.about))
    return parts


def _settings_table(title: str, sweep: Sweep, settings: Sequence[Setting]) -> Table:
    rows = tuple((*one.cells.values(), one.seeds, *_numbers(one)) for one in settings)
    return Table(title, (*settings[0].cells, "seeds", *_columns([sweep])), rows)


def _columns(sweeps: Sequence[Sweep]) -> list[str]:
    """Titles of `_NUMBERS`: with the score's name where it is one for all."""
    named = _short(sweeps[0]) if len(_alike(sweeps)) == 1 else "score"
    titles = {_SCORE: f"{named} %", _FLOAT_SCORE: f"float {named} %"}
    return [titles.get(title, title) for title in _NUMBERS]


_SCORE, _FLOAT_SCORE = "score", "float score"
_NUMBERS: dict[str, Callable[[Setting], str]] = {
    _SCORE: lambda one: two_digits(one.score.value),
    "± 95 %": lambda one: two_digits(one.score.half),
    _FLOAT_SCORE: lambda one: two_digits(one.float_score),
    "difference": lambda one: signed(one.score.value - one.float_score),
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
