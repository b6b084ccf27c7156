"""The state of a page while its parts are written as HTML: how deep it is, headings, figures."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LISTED = (
    3  # levels of headings in the table of contents, the title's and the page's parts' among them
)


@dataclass(frozen=True)
class Heading:
    """A heading as it is linked to. level: 2 for the outermost; anchor: its id in the page."""

    level: int
    anchor: str
    title: str


class Writer:
    """Counts figures, and notes the headings, while parts are written in their order."""

    def __init__(self) -> None:
        self.figures = 0
        self.contents: list[Heading] = []
        self._level, self._folded = 1, 0
        self._anchors: set[str] = set()

    def number(self) -> int:
        """The number of the next figure, from 1 on."""
        self.figures += 1
        return self.figures

    @contextmanager
    def heading(self, title: str, *, folded: bool) -> Iterator[Heading]:
        """A section under a heading, which the table of contents lists unless it is folded away."""
        self._level += 1
        found = Heading(self._level, unique(f"s-{slug(title)}", self._anchors), title)
        if self._level <= _LISTED and not self._folded:
            self.contents.append(found)
        self._folded += folded
        yield found
        self._folded -= folded
        self._level -= 1


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
