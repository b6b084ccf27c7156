"""`subbyte report`: folders in, one page out, and its figures and tables as files for whoever
asks.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from subbyte.errors import FormatError, RecipeError
from subbyte.io.files import write_text
from subbyte.pages.charts import Table
from subbyte.pages.figures import numbers
from subbyte.pages.kinds import KINDS, Source, kind_of
from subbyte.pages.page import GENERATOR, page
from subbyte.pages.parts import Section, Story, within
from subbyte.pages.pictures import write_picture
from subbyte.pages.training import unique_names

PAGE = "report.html"


def write_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    png: Path | None = None,
    tables: Path | None = None,
) -> list[Path]:
    """Write one page about all the folders; returns the paths of what was written, the page first.

    folders: of any kind in KINDS, or folders of such folders. out: the page; None: report.html in
    the folder if one is given, else here. png, tables: folders for every figure as PNG, and every
    table and figure as CSV.
    Raises FormatError when a folder is of no kind or a file in it damaged, RecipeError when one is
    given twice or `out` is in the way, SubbyteError when plotly or, for `png`, matplotlib is
    missing.
    """
    if not folders:
        raise RecipeError("no folder was given to report on")
    out = out or ((folders[0] if len(folders) == 1 else Path()) / PAGE)
    _check(out)
    title, story = tell(folders)
    text = page(title, story)
    written = [out]
    if png is not None:
        written += _draw(story, png)
    if tables is not None:
        written += _tabulate(story, tables)
    write_text(out, text)
    return written


def tell(folders: Sequence[Path]) -> tuple[str, Story]:
    """Title and contents of a page about folders. Raises as `write_report`."""
    found = [inner for folder in folders for inner in _expanded(folder)]
    sources: dict[str, list[Source]] = {}
    for name, folder in zip(unique_names(found), found, strict=True):
        kind = kind_of(folder)
        assert kind is not None
        sources.setdefault(kind, []).append((name, folder))
    stories = {kind: KINDS[kind].tell(sources[kind]) for kind in KINDS if kind in sources}
    names = [name for mine in sources.values() for name, _ in mine]
    title = names[0] if len(names) == 1 else f"{len(names)} results: {', '.join(names)}"
    if len(title) > 120:
        title = f"{len(names)} results"
    if len(stories) == 1:
        (story,) = stories.values()
        return story.title or title, story
    sentences = tuple(sentence for story in stories.values() for sentence in story.sentences)
    sections = tuple(Section(KINDS[kind].title, story.sections) for kind, story in stories.items())
    return title, Story(sentences, sections)


def _expanded(folder: Path) -> list[Path]:
    """The folder itself, or those in it that are of a kind, by name."""
    if not folder.is_dir():
        raise FormatError(f"{folder} is not a folder; give one that subbyte wrote")
    if kind_of(folder) is not None:
        return [folder]
    inner = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name[0] != "." and kind_of(path)
    ]
    if not inner:
        known = ", ".join(kind.holds for kind in KINDS.values())
        raise FormatError(
            f"{folder} is none of the folders that a report can be made of, nor holds one: {known}"
        )
    return inner


def _check(out: Path) -> None:
    """Only a page of ours is replaced."""
    if out.is_dir():
        raise RecipeError(
            f"--out {out} is a folder; give the name of the page, such as {out / PAGE}"
        )
    if not out.exists():
        return
    with out.open("rb") as file:
        ours = GENERATOR.encode() in file.read(1000)
    if not ours:
        raise RecipeError(
            f"--out {out} exists and `subbyte report` did not write it; choose another name"
        )


def _draw(story: Story, folder: Path) -> list[Path]:
    paths = []
    for name, part in within(story.sections):
        if not isinstance(part, Table):
            paths.append(folder / f"{name}.png")
            write_picture(part, paths[-1])
    return paths


def _tabulate(story: Story, folder: Path) -> list[Path]:
    paths = []
    for name, part in within(story.sections):
        table = part if isinstance(part, Table) else numbers(part)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
        paths.append(folder / f"{name}.csv")
        write_text(paths[-1], text.getvalue())
    return paths
