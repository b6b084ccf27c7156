"""What a page is made of: sections of paragraphs, tables, figures, pictures and plain text."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from subbyte.pages.charts import Table
from subbyte.pages.figures import Figure


@dataclass(frozen=True)
class Raw:
    """Text as it is in a file, folded up behind its title."""

    title: str
    text: str


@dataclass(frozen=True)
class Picture:
    """source: a data URI, or '' for none; text: below it, and what it shows for those who do not
    see it.
    """

    source: str
    text: str


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading, in which there may be further ones. folded: closed until it
    is opened.
    """

    title: str
    parts: tuple["Part", ...]
    folded: bool = False


Part = str | Table | Figure | Raw | Gallery | Section


@dataclass(frozen=True)
class Story:
    """What is to say of some folders: sentences in plain words for the top of the page, and
    sections.

    title: of a page about them alone; '': their names.
    """

    sentences: tuple[str, ...]
    sections: tuple[Section, ...]
    title: str = ""


def within(sections: Sequence[Section], above: str = "") -> Iterator[tuple[str, Table | Figure]]:
    """Every table and figure in order, with a name for its file: of its sections and its own title,
    none twice.
    """
    taken: set[str] = set()
    for path, part in _walk(sections, above):
        yield unique(slug(f"{path} {part.title}"), taken), part


def _walk(parts: Sequence[Part], above: str) -> Iterator[tuple[str, Table | Figure]]:
    for part in parts:
        if isinstance(part, Section):
            yield from _walk(part.parts, f"{above} {part.title}")
        elif not isinstance(part, str | Raw | Gallery):
            yield above, part


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken; it is taken then."""
    found, k = name, 2
    while found in taken:
        found, k = f"{name}-{k}", k + 1
    taken.add(found)
    return found


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens, 80 of them at most; 'part' where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:80].strip("-") or "part"
