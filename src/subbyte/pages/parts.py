"""The parts of a page: sections of paragraphs, tables, pictures and plain text. Figures are parts,
too (`figure`).

Each part writes itself as HTML, with every text escaped where it enters, and says which tables and
figures are in it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from subbyte.pages.writer import Writer, slug, unique

_FILTERED = 8  # rows from which a table can be filtered
_LEFT_OUT = (
    "Its figures are left out, as the page would be too long; make a report of its folder "
    "alone to see them."
)


class Part(ABC):
    """One piece of a page."""

    brief = False
    """Whether it stays where a section is cut to its words."""

    @abstractmethod
    def html(self, page: Writer) -> str:
        """The part as an HTML element, or several."""

    def shown(self, above: str) -> Iterator[tuple[str, "Shown"]]:
        """Every table and figure in it, each with the titles that stand above it."""
        del above
        return iter(())

    def cut(self, whole: Callable[["Section"], bool]) -> "Part":
        """The part without the figures of those folded sections for which `whole` is False."""
        del whole
        return self


class Shown(Part):
    """A part with a title that shows numbers, which can be had as a table, and as a file."""

    title: str

    @abstractmethod
    def table(self) -> "Table":
        """The numbers."""

    def picture(self, path: Path) -> list[Path]:
        """Draw it into a PNG file; returns the files that were written: none, as tables are no
        pictures.
        """
        del path
        return []

    def shown(self, above: str) -> Iterator[tuple[str, "Shown"]]:
        """Itself."""
        yield above, self


@dataclass(frozen=True)
class Text(Part):
    """A paragraph."""

    text: str
    brief = True

    def html(self, page: Writer) -> str:
        """See `Part`."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Table(Shown):
    """A table whose columns sort, the first one set to the left; long ones can be filtered."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def table(self) -> "Table":
        """Itself."""
        return self

    def html(self, page: Writer) -> str:
        """See `Part`."""
        side = ["", *(_side([row[k] for row in self.rows]) for k in range(1, len(self.header)))]
        head = "".join(
            f'<th scope="col"{right}><button type="button">{escape(name)}</button></th>'
            for right, name in zip(side, self.header, strict=True)
        )
        rows = "\n".join(
            "<tr>"
            + "".join(f"<td{a}>{escape(cell)}</td>" for a, cell in zip(side, row, strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return (
            f'<div class="table">{self._box()}<div class="scroll" tabindex="0" role="region" '
            f'aria-label="{escape(self.title or "Table")}"><table>{caption}\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></div>"
        )

    def _box(self) -> str:
        if len(self.rows) < _FILTERED:
            return ""
        label = escape(f"Filter rows of {self.title}" if self.title else "Filter rows")
        attributes = f'class="filter" placeholder="Filter rows" aria-label="{label}"'
        return f'<input type="search" {attributes}>\n'


def _side(column: Sequence[str]) -> str:
    """Columns of numbers are set to the right."""
    return ' class="number"' if any(column) and all(map(_is_number, column)) else ""


def _is_number(text: str) -> bool:
    """Numbers with commas, or none at all."""
    if text in ("", "exact"):
        return True
    try:
        float(text.replace(",", "").removesuffix(" %"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Code(Part):
    """Lines of a program, in full below their title."""

    title: str
    text: str

    def html(self, page: Writer) -> str:
        """See `Part`."""
        return f"<p>{escape(self.title)}</p>\n<pre>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class Raw(Part):
    """Text as it is in a file, folded up behind its title."""

    title: str
    text: str

    def html(self, page: Writer) -> str:
        """See `Part`."""
        summary = f"<summary>{escape(self.title)}</summary>"
        return f"<details>{summary}\n<pre>{escape(self.text)}</pre></details>"


@dataclass(frozen=True)
class Picture:
    """source: a data URI, or '' for none; text: below it, and what it shows for those who do not
    see it.
    """

    source: str
    text: str

    @property
    def html(self) -> str:
        """An item of a list."""
        image = f'<img src="{escape(self.source)}" alt="">' if self.source else ""
        return f"<li><figure>{image}<figcaption>{escape(self.text)}</figcaption></figure></li>"


@dataclass(frozen=True)
class Gallery(Part):
    """Pictures side by side, each with its text."""

    title: str
    pictures: tuple[Picture, ...]

    def html(self, page: Writer) -> str:
        """See `Part`."""
        items = "\n".join(picture.html for picture in self.pictures)
        return f'<p class="title">{escape(self.title)}</p>\n<ul class="gallery">\n{items}\n</ul>'


@dataclass(frozen=True)
class Section(Part):
    """Parts under a heading, in which there may be further sections. folded: closed until it is
    opened.
    """

    title: str
    parts: tuple[Part, ...]
    folded: bool = False

    def html(self, page: Writer) -> str:
        """See `Part`."""
        with page.heading(self.title, folded=self.folded) as found:
            body = "\n".join(part.html(page) for part in self.parts)
        name, rank = found.anchor, min(found.level, 6)
        heading = f"<h{rank}>{escape(self.title)}</h{rank}>"
        if self.folded:
            summary = f"<summary>{heading}</summary>"
            return f'<details class="section" id="{name}">{summary}\n{body}\n</details>'
        return f'<section id="{name}">{heading}\n{body}\n</section>'

    def shown(self, above: str) -> Iterator[tuple[str, Shown]]:
        """See `Part`."""
        for part in self.parts:
            yield from part.shown(f"{above} {self.title}")

    def cut(self, whole: Callable[["Section"], bool]) -> "Section":
        """See `Part`."""
        if self.folded and not whole(self):
            words = tuple(part for part in self.parts if part.brief)
            return replace(self, parts=(*words, Text(_LEFT_OUT)))
        return replace(self, parts=tuple(part.cut(whole) for part in self.parts))


@dataclass(frozen=True)
class Story:
    """The text about some folders: sentences in plain words for the top of the page, and sections.

    title: of a page about them alone; '': their names.
    """

    sentences: tuple[str, ...]
    sections: tuple[Section, ...]
    title: str = ""


def shown_in(sections: Sequence[Section]) -> Iterator[tuple[str, Shown]]:
    """Every table and figure in order, with a name for its file: of its sections and its own title,
    none twice.
    """
    taken: set[str] = set()
    for section in sections:
        for above, part in section.shown(""):
            yield unique(slug(f"{above} {part.title}"), taken), part
