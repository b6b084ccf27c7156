"""The pages of clip searches: curves of the metrics beside the true loss, and the accuracy at each
choice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from subbyte.errors import FormatError
from subbyte.pages.figures import Chart, Line
from subbyte.pages.parts import Part, Section, Story, Table
from subbyte.pages.subject import Subject, View
from subbyte.pages.wording import two_digits
from subbyte.records.clips import LOSS, SCAN, Choice, Judged, Search, Tried, read_search

_SHARED = {
    "network": "one for all layers",
    "layer": "one for each layer",
    "channel": "one for each channel (its mean)",
}


@dataclass(frozen=True)
class Searched:
    """A folder, and the name that tells it from others."""

    name: str
    folder: Path
    search: Search


class ClipSearches(Subject[Searched]):
    """Folders of `subbyte gradquant`."""

    title = "Clip searches"
    holds = f"a clip search ({SCAN})"
    files = (SCAN,)
    options = ("window", "metrics", "bits")

    def read(self, name: str, folder: Path) -> Searched:
        """See `subject.Subject`."""
        return Searched(name, folder, read_search(folder))

    def tell(self, found: Sequence[Searched], view: View) -> Story:
        """See `subject.Subject`."""
        sections = tuple(
            Section(f"Clip search {one.name}", _parts(one, view), folded=len(found) > 1)
            for one in found
        )
        return Story(tuple(map(_sentence, found)), sections)


def _parts(one: Searched, view: View) -> tuple[Part, ...]:
    search, known = one.search, one.search.metrics + [LOSS] * one.search.judged
    for what, asked, there in (
        ("metric", view.metrics, known),
        ("width of bits", view.bits, [tried.bits for tried in search.scan]),
    ):
        if missing := [str(name) for name in asked if name not in there]:
            raise FormatError(
                f"{one.folder / SCAN} has no {what} {', '.join(missing)}; it has "
                f"{', '.join(map(str, dict.fromkeys(there)))}"
            )
    search = search.of_bits(view.bits) if view.bits else search
    parts: list[Part] = [
        *charts_of(search, view),
        *summaries(search),
        choices_table(search.choices),
    ]
    if one.search.settings:
        rows = tuple(
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in one.search.settings.items()
        )
        parts.append(Table("Settings", ("setting", "value"), rows))
    return tuple(parts)


def _sentence(one: Searched) -> str:
    best = max(one.search.choices, key=lambda choice: choice.test)
    widths = len({tried.bits for tried in one.search.scan})
    return (
        f"{one.name}: a search of where to clip weights, over {widths} bit "
        f"width{'s' * (widths > 1)}. Best on the test images: {best.metric} at {best.bits} bits, "
        f"one clip a {best.granularity}, {best.test:.2f} % top-1."
    )


def charts_of(search: Search, view: View) -> list[Chart]:
    """A chart for each bit width."""
    names = view.metrics or tuple(search.metrics)
    return [
        clip_chart(bits, [tried for tried in search.scan if tried.bits == bits], names, view.window)
        for bits in dict.fromkeys(tried.bits for tried in search.scan)
    ]


def clip_chart(bits: int, tried: Sequence[Tried], names: Sequence[str], window: float) -> Chart:
    """Curves of one bit width, each brought to 0 ... 1 over the clips shown; the true loss is black
    and dashed. names: of metrics, and the loss, which is drawn in any case.
    """
    rows = sorted(tried, key=lambda row: row.clip)
    judged = [(row.judged.loss, row.clip) for row in rows if row.judged is not None]
    if window and judged:
        _, centre = min(judged, key=lambda pair: pair[0])
        rows = [row for row in rows if abs(row.clip - centre) <= window + 1e-9]
    clips = [row.clip for row in rows]
    lines = [
        Line(name, clips, _normalised([row.metrics[name] for row in rows]))
        for name in names
        if name != LOSS
    ]
    losses = [row.judged.loss for row in rows if row.judged is not None]
    if losses:
        lines.append(Line("true loss", clips, _normalised(losses), dashed=True, strong=True))
    return Chart(
        f"{_bits(bits)}: one clip for all layers, by metric and by true loss",
        "clip: fraction of each layer's range",
        "normalised over the clips shown",
        tuple(lines),
    )


_JUDGED: dict[str, Callable[[Judged], str]] = {
    "loss": lambda judged: f"{judged.loss:.4f}",
    "KL to float": lambda judged: f"{judged.divergence:.4f}",
    "top-1 %": lambda judged: f"{judged.accuracy:.2f}",
}
"""Columns of a table of choices."""


def choices_table(choices: Sequence[Choice]) -> Table:
    """Choices, the best on the test split first within each bit width and granularity."""
    places = list(dict.fromkeys((one.bits, one.granularity) for one in choices))
    ordered = sorted(
        choices, key=lambda one: (places.index((one.bits, one.granularity)), -one.test)
    )
    columns = _JUDGED if any(one.judged for one in choices) else {}
    rows = tuple(
        (
            one.metric,
            f"{one.bits}",
            one.granularity,
            _clip(one),
            *("" if one.judged is None else say(one.judged) for say in columns.values()),
            two_digits(one.test),
        )
        for one in ordered
    )
    header = ("metric", "bits", "granularity", "clip", *columns, "test top-1 %")
    return Table("All choices", header, rows)


def summaries(search: Search) -> list[Table]:
    """A row a metric, a column a bit width: test accuracy at the clip chosen, a table for each
    granularity; then rank correlations with the true loss, if it was measured.
    """
    tables = []
    for granularity in dict.fromkeys(one.granularity for one in search.choices):
        cells = {
            (one.metric, one.bits): f"{one.test:.2f} @ {_clip(one)}"
            for one in search.choices
            if one.granularity == granularity
        }
        shared = _SHARED.get(granularity, granularity)
        tables.append(_by_bits(f"Test top-1 % @ clip chosen, {shared}", cells))
    if search.correlations:
        title = "Rank correlation with the true loss over the clips of the scan"
        cells = {
            (one.metric, one.bits): "" if one.loss is None else f"{one.loss:.4f}"
            for one in search.correlations
        }
        tables.append(_by_bits(title, cells))
    return tables


def _by_bits(title: str, cells: Mapping[tuple[str, int], str]) -> Table:
    metrics = dict.fromkeys(metric for metric, _ in cells)
    widths = dict.fromkeys(bits for _, bits in cells)
    rows = tuple(
        (metric, *(cells.get((metric, bits), "") for bits in widths)) for metric in metrics
    )
    return Table(title, ("metric", *map(_bits, widths)), rows)


def _bits(width: int) -> str:
    return f"{width} bit{'s' * (width > 1)}"


def _clip(one: Choice) -> str:
    lower, upper = f"{one.lower:.3g}", f"{one.upper:.3g}"
    return lower if one.lower == one.upper else f"{lower}/{upper}"


def _normalised(values: Sequence[float]) -> list[float]:
    """The values scaled to 0 ... 1; a constant curve to 0."""
    low, high = min(values, default=nan), max(values, default=nan)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
