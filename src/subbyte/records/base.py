"""Turn files into records: JSON as pydantic models, CSV as rows of them; damage is named with its
place.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subbyte.errors import FormatError
from subbyte.io.complaints import first_complaint
from subbyte.io.files import write_text
from subbyte.io.texts import parse_json, read_text

Count = Annotated[int, Field(ge=0)]
Percent = float
Seconds = float
Word = Annotated[str, Field(pattern=r"^\S")]
"""Text that is not blank."""
_DIGITS = 12  # of numbers in tables: 0.57, where binary fractions add up to 0.5700000000000001


class Record(BaseModel):
    """Base of what is written to disk. Unknown keys are left out; NaN and Inf are damage."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Document(Record):
    """A whole JSON file. VERSION: of its layout; WRITER: the command that writes it, for errors."""

    VERSION: ClassVar[int]
    WRITER: ClassVar[str]

    version: int = 0

    def model_post_init(self, _: Any) -> None:
        """Whoever builds a document writes this version of it."""
        if not self.version:
            object.__setattr__(self, "version", self.VERSION)


D = TypeVar("D", bound=Document)
T = TypeVar("T", bound=Record)


def read_document(path: Path, kind: type[D]) -> D:
    """The record in a JSON file.

    Raises FormatError, naming the file and the place in it, when it is missing, damaged or of
    another version.
    """
    text = read_text(path)
    found = parse_json(text, f"{path} is damaged, or `{kind.WRITER}` did not write it")
    if not isinstance(found, dict) or "version" not in found:
        raise FormatError(
            _damaged(path, kind, "it has no version, as files of earlier versions of subbyte")
        )
    if found["version"] != kind.VERSION:
        raise FormatError(
            f"{path} is of version {found['version']}; this subbyte reads version {kind.VERSION}"
        )
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise FormatError(_damaged(path, kind, first_error(error))) from error


def _damaged(path: Path, kind: type[Document], what: str) -> str:
    return f"{path} is damaged, or `{kind.WRITER}` did not write it: {what}"


def first_error(error: ValidationError) -> str:
    """The first thing that pydantic does not accept: its place, and why."""
    path, why = first_complaint(error)
    where = ".".join(map(str, path))
    return f"{where + ': ' if where else ''}{why}"


def write_document(path: Path, document: Document, *, short: bool = False) -> None:
    """Write a record as JSON, whole or not at all; short: without defaults and spaces."""
    indent = None if short else 2
    try:
        content = document.model_dump_json(exclude_defaults=short, indent=indent)
    except ValueError:  # names of files in letters that the locale lacks
        plain = document.model_dump(mode="json", exclude_defaults=short)
        content = json.dumps(plain, indent=indent, ensure_ascii=False)
    write_text(path, content + "\n")


def read_cells(path: Path, advice: str) -> list[dict[str, str]]:
    """The rows of a CSV file as text.

    advice: what to do about damage, for the FormatError that is raised when the file is missing, no
    CSV, or a row is cut short.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except (FormatError, csv.Error) as reason:
        what = reason if isinstance(reason, FormatError) else f"{path}: can't be read ({reason})"
        raise FormatError(f"{what}; {advice}") from reason
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise FormatError(f"{path} is damaged (row {number} is cut short); {advice}")
    return rows


def read_rows(path: Path, kind: type[T], advice: str) -> list[T]:
    """The rows of a CSV file as records, empty cells as None.

    Raises FormatError, naming file, row and column, when something is missing or damaged.
    """
    return rows_of(read_cells(path, advice), path, kind, advice)


def rows_of(rows: Sequence[dict[str, str]], path: Path, kind: type[T], advice: str) -> list[T]:
    """Rows of text as records. Raises as `read_rows`."""
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(kind.model_validate({k: text for k, text in row.items() if text != ""}))
        except ValidationError as error:
            raise FormatError(
                f"{path} is damaged (row {number}: {first_error(error)}); {advice}"
            ) from error
    return found


def cell(value: object) -> object:
    """A value as tables to look at hold it: numbers without the noise of binary fractions."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def table_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
