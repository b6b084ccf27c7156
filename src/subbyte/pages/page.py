"""A page that holds all it needs: sections as HTML, figures as JSON for page.js, plotly.js once,
compressed.

Nothing is fetched, no clock is read: the same parts give the same bytes. Every text is escaped
    where it enters.
"""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from importlib import resources
from math import log10

from subbyte.errors import SubbyteError
from subbyte.pages.charts import Chart, Table
from subbyte.pages.figures import Chooser, Figure, Histogram
from subbyte.pages.parts import Gallery, Part, Raw, Section, Story, slug, unique
from subbyte.pages.plotted import histogram, plot

GENERATOR = '<meta name="generator" content="subbyte report">'
"""By which pages that may be replaced are known."""
LIMIT = 6_000_000  # bytes of a page
_MARGIN = 100_000  # for all but sections and plotly.js
_LEFT_OUT = (
    "Its figures are left out, as the page would be too long; make a report of its folder "
    "alone to see them."
)
MISSING = "pages with plots need plotly: pip install 'subbyte[plots]'"
_FOOT = (
    "<footer>Keys: Tab goes from plot to plot and through tables; in a plot + and - zoom, arrows "
    "move, 0 shows all; "
    "Enter on a column's name sorts. Names above a plot hide and show its curves.</footer>"
)
_FILTERED = 8  # rows from which a table can be filtered


def page(title: str, story: Story) -> str:
    """The page as text; where it would be too long, its last folded sections are cut to their
    words.

    Raises SubbyteError when plotly is missing.
    """
    room = LIMIT - len(_plotly()) - _MARGIN
    writer = _Writer()
    body = "\n".join(writer.section(section, 2) for section in fitting(story.sections, room))
    lead = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in story.sentences)
    script = _plotly() if writer.figures else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light '
        f'dark">\n{GENERATOR}\n<title>{escape(title)}</title>\n'
        f"<style>\n{_file('page.css')}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the '
        f"text</a>\n<header><h1>{escape(title)}</h1>\n</header>\n"
        f'<div class="frame">\n{_contents(writer.contents)}\n<main id="main">\n<section '
        f'class="lead">\n{lead}\n'
        "</section>\n<noscript><p>Plots are drawn by JavaScript, which is off; the tables hold "
        "their main figures."
        f"</p></noscript>\n{body}\n</main>\n</div>\n{_FOOT}\n{script}<script>\n{_file('page.js')}</script>\n</body>\n</html>\n"
    )


def fitting(sections: Sequence[Section], room: int) -> list[Section]:
    """The sections, as many of their folded ones whole as there is room for, in bytes, and the
    words of the others.
    """
    taken = sum(_bytes(_cut(section, _no)) for section in sections)

    def whole(section: Section) -> bool:
        nonlocal taken
        taken += _bytes(section)
        return taken <= room

    return [_cut(section, whole) for section in sections]


def _cut(section: Section, whole: Callable[[Section], bool]) -> Section:
    if section.folded and not whole(section):
        words = tuple(part for part in section.parts if isinstance(part, str))
        return replace(section, parts=(*words, _LEFT_OUT))
    parts = tuple(
        _cut(part, whole) if isinstance(part, Section) else part for part in section.parts
    )
    return replace(section, parts=parts)


def _no(_: Section) -> bool:
    return False


def _bytes(section: Section) -> int:
    return len(_Writer().section(section, 2).encode())


def _file(name: str) -> str:
    return resources.files("subbyte.pages").joinpath(name).read_text()


@cache
def _plotly() -> str:
    """plotly.js as text that page.js unpacks: less than half the bytes."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise SubbyteError(MISSING) from error
    packed = gzip.compress(get_plotlyjs().encode(), 9, mtime=0)
    return f'<script type="text/plain" id="plotly">{base64.b64encode(packed).decode()}</script>\n'


def _contents(entries: Sequence[tuple[int, str, str]]) -> str:
    """The table of contents, two levels deep."""
    rows = [
        f'<li class="level{level}"><a href="#{name}">{escape(title)}</a></li>'
        for level, name, title in entries
    ]
    return (
        '<nav aria-label="Contents"><details open><summary>Contents</summary>\n<ul>\n'
        + "\n".join(rows)
        + "\n</ul></details></nav>"
    )


class _Writer:
    """Parts as HTML; counts figures, and notes the headings."""

    def __init__(self) -> None:
        self.figures = 0
        self.contents: list[tuple[int, str, str]] = []
        self._folded = 0
        self._names: set[str] = set()

    def section(self, section: Section, level: int) -> str:
        name = unique(f"s-{slug(section.title)}", self._names)
        if level <= 3 and not self._folded:
            self.contents.append((level, name, section.title))
        self._folded += section.folded
        body = "\n".join(self.part(part, level) for part in section.parts)
        self._folded -= section.folded
        heading = f"<h{min(level, 6)}>{escape(section.title)}</h{min(level, 6)}>"
        if section.folded:
            return (
                f'<details class="section" '
                f'id="{name}"><summary>{heading}</summary>\n{body}\n</details>'
            )
        return f'<section id="{name}">{heading}\n{body}\n</section>'

    def part(self, part: Part, level: int) -> str:
        if isinstance(part, str):
            return f"<p>{escape(part)}</p>"
        if isinstance(part, Section):
            return self.section(part, level + 1)
        if isinstance(part, Table):
            return table(part)
        if isinstance(part, Raw):
            summary = f"<summary>{escape(part.title)}</summary>"
            return f"<details>{summary}\n<pre>{escape(part.text)}</pre></details>"
        if isinstance(part, Gallery):
            return gallery(part)
        self.figures += 1
        return (
            chooser(part, self.figures) if isinstance(part, Chooser) else figure(part, self.figures)
        )


def table(part: Table) -> str:
    """A table whose columns sort; long ones have a box to filter by."""
    numeric = [
        k > 0 and all(_is_number(row[k]) for row in part.rows) and any(row[k] for row in part.rows)
        for k in range(len(part.header))
    ]
    head = "".join(
        f'<th scope="col"{_right(numeric[k])}><button type="button">{escape(name)}</button></th>'
        for k, name in enumerate(part.header)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{_right(numeric[k])}>{escape(cell)}</td>" for k, cell in enumerate(row))
        + "</tr>"
        for row in part.rows
    )
    box = ""
    if len(part.rows) >= _FILTERED:
        label = escape(f"Filter rows of {part.title}" if part.title else "Filter rows")
        box = (
            f'<input type="search" class="filter" placeholder="Filter rows" aria-label="{label}">\n'
        )
    caption = f"<caption>{escape(part.title)}</caption>" if part.title else ""
    label = escape(part.title or "Table")
    return (
        f'<div class="table">{box}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{label}">'
        f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></div>"
    )


def _right(number: bool) -> str:
    return ' class="number"' if number else ""


def _is_number(text: str) -> bool:
    """Numbers with commas, or none at all."""
    if text in ("", "exact"):
        return True
    try:
        float(text.replace(",", "").removesuffix(" %"))
    except ValueError:
        return False
    return True


def gallery(part: Gallery) -> str:
    """Pictures in a list, each with its text."""
    items = []
    for picture in part.pictures:
        text = escape(picture.text)
        image = f'<img src="{escape(picture.source)}" alt="">' if picture.source else ""
        items.append(f"<li><figure>{image}<figcaption>{text}</figcaption></figure></li>")
    return (
        f'<p class="title">{escape(part.title)}</p>\n<ul class="gallery">\n'
        + "\n".join(items)
        + "\n</ul>"
    )


def figure(part: Figure, number: int) -> str:
    """A figure that page.js draws from the JSON in it."""
    assert not isinstance(part, Chooser)
    about = "" if isinstance(part, Chart) else part.about
    spec = plot(part)
    return _frame(
        number, part.title, about, "", "", _json({"items": [spec]}), spec["layout"]["height"]
    )


def chooser(part: Chooser, number: int) -> str:
    """One histogram large, all of them small; choosing by a list, or by pressing a small one."""
    specs = [
        histogram(one, part.before, part.after) | {"note": one.about, "name": one.name}
        for one in part.figures
    ]
    options = "".join(
        f'<option value="{k}">{escape(one.name)}</option>' for k, one in enumerate(part.figures)
    )
    scale = (
        '<label><input type="checkbox" class="log"'
        + (" checked" if part.logarithm else "")
        + "> logarithmic</label>"
    )
    what = escape(part.what.capitalize())
    above = f'<div class="controls"><label>{what} <select>{options}</select></label> {scale}</div>'
    small = "\n".join(
        f'<button type="button" data-k="{k}" aria-pressed="{"true" if k == 0 else "false"}">'
        f"{small_picture(one, part.logarithm)}<span>{escape(one.name)}</span></button>"
        for k, one in enumerate(part.figures)
    )
    below = f'<div class="small" role="group" aria-label="{what}">\n{small}\n</div>'
    return _frame(number, part.title, part.about, above, below, _json({"items": specs}), 340)


def _frame(
    number: int, title: str, about: str, above: str, below: str, data: str, height: int
) -> str:
    alt = escape(f"{title}. {about}".strip())
    text = f"<p>{escape(about)}</p>" if about else ""
    return (
        f'<figure class="plot" id="figure-{number}">\n<figcaption>{escape(title)}</figcaption>\n'
        f'{text}{above}<div class="legend" role="group" aria-label="Curves"></div>\n'
        f'<div class="canvas" tabindex="0" role="img" aria-label="{alt}" '
        f'style="min-height:{height}px"></div>\n'
        f'<p class="note"></p>{below}<details '
        f'class="numbers"><summary>Numbers</summary></details>\n'
        f'<script type="application/json">{data}</script>\n</figure>'
    )


def _json(value: object) -> str:
    """JSON inside HTML: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


_WIDE, _HIGH = 120, 40  # of small pictures


def small_picture(one: Histogram, logarithm: bool) -> str:
    """A histogram as SVG, in the colours of the page."""
    edges, heights = one.edges, one.heights
    wide = edges[-1] - edges[0]
    most = max([*heights, *(one.after if one.stems else [])], default=0) or 1.0
    least = min([height for height in heights if height > 0], default=1.0)
    span = log10(most / least) + 0.3 if logarithm else 1.0

    def y(height: float) -> str:
        share = (log10(height / least) + 0.3) / span if logarithm and height > 0 else height / most
        return f"{_HIGH - _HIGH * max(0.0, min(1.0, share)):.1f}".removesuffix(".0")

    def x(place: float) -> str:
        return f"{_WIDE * (place - edges[0]) / wide:.1f}".removesuffix(".0")

    path = f"M0 {_HIGH}" + "".join(
        f"V{y(height)}H{x(edge)}" for height, edge in zip(heights, edges[1:], strict=True)
    )
    marks = [f'<path class="before" d="{path}V{_HIGH}z"/>']
    if one.stems:
        stems = "".join(
            f"M{x(p)} {_HIGH}V{y(v)}" for p, v in zip(one.levels, one.after, strict=True) if v > 0
        )
        marks.append(f'<path class="after" d="{stems}"/>')
    if one.ends is not None:
        marks.append(
            f'<path class="ends" d="{"".join(f"M{x(end)} 0V{_HIGH}" for end in one.ends)}"/>'
        )
    return f'<svg viewBox="0 0 {_WIDE} {_HIGH}" aria-hidden="true">{"".join(marks)}</svg>'
