"""`subbyte report`: folders in, one page out, and its figures and tables as files for whoever
asks.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subbyte.errors import FormatError, RecipeError
from subbyte.io.files import readable, write_text
from subbyte.pages import subjects
from subbyte.pages.page import GENERATOR, page, shared
from subbyte.pages.parts import Section, Story, shown_in
from subbyte.pages.subject import Subject, View
from subbyte.records.base import table_text

PAGE = "report.html"
_LONGEST = 120  # characters of a title


def write_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    names: Sequence[str] = (),
    view: View | None = None,
    png: Path | None = None,
    tables: Path | None = None,
    assets: Path | None = None,
) -> list[Path]:
    """Write one page about all the folders; returns the paths of what was written, the page first.

    folders: of any kind in SUBJECTS, or folders of such folders. out: the page; None: report.html
    in the folder if one is given, else here. names: of the folders; without, tails of their paths.
    png, tables: folders for every figure as PNG, and every table and figure as CSV. assets: folder
    for the 5 MB that draw plots, once for all pages that are told of it; None: in the page.
    Raises FormatError when a folder is of no kind or a file in it damaged, RecipeError when one is
    given twice, names do not fit or `out` is in the way, SubbyteError when plotly or, for `png`,
    matplotlib is missing.
    """
    if not folders:
        raise RecipeError("no folder was given to report on")
    out = out or ((folders[0] if len(folders) == 1 else Path()) / PAGE)
    _check(out)
    title, story = tell(folders, names=names, view=view or View())
    plotly = None if assets is None else shared(assets)
    text = page(title, story, "" if plotly is None else _from(out, plotly))
    written = [out] if plotly is None else [out, plotly]
    for name, part in shown_in(story.sections):
        if png is not None:
            written += part.picture(png / f"{name}.png")
        if tables is not None:
            written.append(tables / f"{name}.csv")
            table = part.table()
            write_text(written[-1], table_text(table.header, table.rows))
    write_text(out, text)
    return written


def compare(
    folders: Sequence[str | Path], out: str | Path = PAGE, *, names: Sequence[str] = ()
) -> Path:
    """Write one page about several results, what belongs together side by side; returns its path.

    folders: as `subbyte quantize`, `sweep`, `train`, `gradquant`, `aciq` or `subbyte.report` write
    them; names: of each, in the page. Raises as `write_report`.
    """
    return write_report([Path(folder) for folder in folders], Path(out), names=names)[0]


def _from(page: Path, file: Path) -> str:
    """The path of a file as a page names it."""
    return Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix()


def tell(
    folders: Sequence[Path], *, names: Sequence[str] = (), view: View | None = None
) -> tuple[str, Story]:
    """Title and contents of a page about folders. Raises as `write_report`."""
    found = [inner for folder in folders for inner in _expanded(folder)]
    names, view = _named(found, names), view or View()
    by_subject: list[tuple[Subject[Any], list[Any]]] = []
    for subject in subjects.SUBJECTS:
        pairs = [(name, f) for name, f in zip(names, found, strict=True) if _subject(f) is subject]
        if pairs:
            by_subject.append((subject, [subject.read(name, folder) for name, folder in pairs]))
    _heeded(view, [subject for subject, _ in by_subject])
    stories = [(subject, subject.tell(mine, view)) for subject, mine in by_subject]
    title = names[0] if len(names) == 1 else f"{len(names)} results: {', '.join(names)}"
    if len(title) > _LONGEST:
        title = f"{len(names)} results"
    if len(stories) == 1:
        ((_, story),) = stories
        return story.title or title, story
    sentences = tuple(sentence for _, story in stories for sentence in story.sentences)
    sections = tuple(Section(subject.title, story.sections) for subject, story in stories)
    return title, Story(sentences, sections)


def _heeded(view: View, found: Sequence[Subject[Any]]) -> None:
    """Raises RecipeError for an option that says nothing of any of the folders."""
    heeded = {name for subject in found for name in subject.options}
    for name in view.asked():
        if name not in heeded:
            known = [one.title.lower() for one in subjects.SUBJECTS if name in one.options]
            raise RecipeError(f"--{name} is for {', '.join(known)}; none of the folders is one")


def _subject(folder: Path) -> Subject[Any] | None:
    """The kind of a folder; None when it is none of them."""
    return next((subject for subject in subjects.SUBJECTS if subject.owns(folder)), None)


def _expanded(folder: Path) -> list[Path]:
    """The folder itself, or those in it that are of a kind, by name."""
    if not folder.is_dir():
        raise FormatError(f"{folder} is not a folder; give one that subbyte wrote")
    if _subject(folder) is not None:
        return [folder]
    inner = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name[0] != "." and _subject(path) is not None
    ]
    if not inner:
        known = ", ".join(subject.holds for subject in subjects.SUBJECTS)
        raise FormatError(
            f"{folder} is none of the folders that a report can be made of, nor holds one: {known}"
        )
    return inner


def _named(folders: Sequence[Path], names: Sequence[str]) -> Sequence[str]:
    """The names given, checked, or names made of paths."""
    made = unique_names(folders)
    if not names:
        return made
    if len(names) != len(folders):
        raise RecipeError(
            f"as many names as folders are needed: got {len(names)} for {len(folders)}"
        )
    names = [readable(name) for name in names]
    for k, name in enumerate(names):
        if not name.strip():
            raise RecipeError("a folder's name is empty")
        if name in names[:k]:
            raise RecipeError(f"two folders are named {name!r}")
    return names


def unique_names(folders: Sequence[Path]) -> list[str]:
    """The shortest tail of each folder's path that no other has, such as `run1`, or `sgd/run1`.

    Raises RecipeError when a folder is given twice.
    """
    paths = [Path(readable(str(folder.resolve()))).parts for folder in folders]
    if twice := next((folder for k, folder in enumerate(folders) if paths[k] in paths[:k]), None):
        raise RecipeError(f"{twice} is given twice")
    names = []
    for number, mine in enumerate(paths):
        others = paths[:number] + paths[number + 1 :]
        length = next(
            k for k in range(1, len(mine) + 1) if all(mine[-k:] != other[-k:] for other in others)
        )
        names.append(str(Path(*mine[-length:])))
    return names


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
