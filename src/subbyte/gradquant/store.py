"""Results on disk: CSV files that are whole at any moment, and the settings that they were made with."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import nn

from subbyte.errors import FormatError, RecipeError
from subbyte.files import write_json, write_text
from subbyte.report.clips import read_rows


class Rows:
    """Rows of a CSV file that is whole at any moment; the first `key` columns say which row is which.

    Raises FormatError when the file that is there is damaged.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: int) -> None:
        self._path, self._columns, self._key = path, tuple(columns), key
        self.rows: list[dict[str, str]] = []
        if path.exists():
            self.rows = read_rows(path)
            if tuple(self.rows[0]) != self._columns:
                raise FormatError(f"{path} is damaged: its columns are not {', '.join(columns)}; delete it")

    def has(self, *key: object) -> bool:
        """Whether the row is there."""
        return self.find(*key) is not None

    def find(self, *key: object) -> dict[str, str] | None:
        """The row, as text."""
        wanted, names = [str(part) for part in key], self._columns[: self._key]
        return next((row for row in self.rows if [row[name] for name in names] == wanted), None)

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows; the file is replaced by one that has them."""
        self.rows += [{name: str(row[name]) for name in self._columns} for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())


def fingerprint(model: nn.Module) -> str:
    """sha256 in hexadecimal over the names and values of a network's tensors."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def same_settings(out: Path, settings: Mapping[str, object]) -> None:
    """Keep the settings beside the results, or see that they are the same. Raises RecipeError where they are not."""
    settings, path = json.loads(json.dumps(settings)), out / "settings.json"
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RecipeError(f"--out {out} exists and holds no clip search; choose another folder")
        write_json(path, settings)
        return
    try:
        before: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise RecipeError(f"{path} is damaged ({error}); choose another --out") from error
    for name in sorted(settings.keys() | before.keys()):
        if settings.get(name) != before.get(name):
            raise RecipeError(
                f"--out {out} was made with {name} = {before.get(name)}, now it is {settings.get(name)}; "
                "choose another folder, or the settings in its settings.json"
            )
