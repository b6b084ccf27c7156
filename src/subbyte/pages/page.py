"""A page that holds all it needs: sections as HTML, figures as JSON for page.js, plotly.js once,
compressed, or in a file that many pages share.

Nothing is fetched, no clock is read: the same parts give the same bytes.
"""

import base64
import gzip
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from subbyte.errors import SubbyteError
from subbyte.io.digests import digest
from subbyte.io.files import write_text
from subbyte.io.texts import read_text
from subbyte.pages.parts import Section, Story
from subbyte.pages.writer import Heading, Writer

GENERATOR = '<meta name="generator" content="subbyte report">'
"""The tag by which pages that may be replaced are known."""
LIMIT = 6_000_000  # bytes of a page
_MARGIN = 100_000  # for all but sections and plotly.js
MISSING = "pages with plots need plotly: pip install 'subbyte[plots]'"
_FOOT = (
    "<footer>Keys: Tab goes from plot to plot and through tables; in a plot + and - zoom, arrows "
    "move, 0 shows all; "
    "Enter on a column's name sorts. Names above a plot hide and show its curves.</footer>"
)


def page(title: str, story: Story, plotly: str = "") -> str:
    """The page as text; where it would be too long, its last folded sections are cut to their
    words.

    plotly: where the page finds plotly.js, from where it lies; "": in itself.
    Raises SubbyteError when plotly is missing.
    """
    whole = f'<script src="{escape(quote(plotly))}"></script>\n' if plotly else _plotly()
    room = LIMIT - len(whole) - _MARGIN
    writer = Writer()
    body = "\n".join(section.html(writer) for section in fitting(story.sections, room))
    lead = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in story.sentences)
    script = whole if writer.figures else ""
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
    taken = sum(_bytes(section.cut(lambda _: False)) for section in sections)

    def whole(section: Section) -> bool:
        nonlocal taken
        taken += _bytes(section)
        return taken <= room

    return [section.cut(whole) for section in sections]


def _bytes(section: Section) -> int:
    return len(section.html(Writer()).encode())


def _file(name: str) -> str:
    return read_text(resources.files("subbyte.pages").joinpath(name))


def shared(folder: Path) -> Path:
    """The file in a folder with plotly.js for many pages; it is written where it is not there.

    Raises SubbyteError when plotly is missing.
    """
    text = _plotly_js()
    path = folder / f"plotly-{digest([text.encode()])[:12]}.js"  # unlike that of other versions
    if not path.exists():
        write_text(path, text)
    return path


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise SubbyteError(MISSING) from error
    return str(get_plotlyjs())


@cache
def _plotly() -> str:
    """plotly.js as text that page.js unpacks: less than half the bytes."""
    packed = gzip.compress(_plotly_js().encode(), 9, mtime=0)
    return f'<script type="text/plain" id="plotly">{base64.b64encode(packed).decode()}</script>\n'


def _contents(headings: Sequence[Heading]) -> str:
    """The table of contents, two levels deep."""
    rows = [
        f'<li class="level{one.level}"><a href="#{one.anchor}">{escape(one.title)}</a></li>'
        for one in headings
    ]
    return (
        '<nav aria-label="Contents"><details open><summary>Contents</summary>\n<ul>\n'
        + "\n".join(rows)
        + "\n</ul></details></nav>"
    )
