"""Where commands are attacked: folders that begin alike, and what is in them afterwards.

A trial begins with a fresh copy of the same folder, at the same place. It ends with findings: lines
that say what was wrong, none where all is well.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.attack.children import Child, Ended, Job, Nursery, nursery
from tests.attack.commands import COMMANDS, FILES, Command
from tests.workplace import lay_out

Tree = Mapping[str, str]
"""sha256 of every file by its path, "" for folders."""
_TIMES = re.compile(r"(.*_)?(seconds|time)(_.*)?")
_MEASURED = (".parquet", "bench.json")  # ends of files in which times can't be left out


@dataclass
class Lab:
    """nursery: of all commands; root: a folder of its own; bug: planted in every child."""

    nursery: Nursery
    root: Path
    bug: str = ""
    _starts: dict[str, Path] = field(default_factory=dict)
    _ends: dict[str, tuple[Tree, int]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The working directory of every trial."""
        return self.root / "hömé [b]"

    @property
    def temporary(self) -> Path:
        """TMPDIR of every trial."""
        return self.root / "tmp"

    def fresh(self, name: str) -> Command:
        """Lay out the folder as it is before a command."""
        command = COMMANDS[name]
        if name not in self._starts:
            self._begin()
            for text in command.before:
                ended = self.run(replace(self.job(Command(text), text), bug=""))
                assert ended.code == 0, ended.err
            self._starts[name] = self.root / f"start {len(self._starts)}"
            shutil.copytree(self.home, self._starts[name])
        self._empty()
        shutil.copytree(self._starts[name], self.home, dirs_exist_ok=True)
        return command

    def _begin(self) -> None:
        self._empty()
        lay_out(self.home)
        for name, text in FILES.items():
            (self.home / name).write_text(text, encoding="utf-8")

    def _empty(self) -> None:
        for folder in (self.home, self.temporary):
            folder.mkdir(exist_ok=True)
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def with_bug(self, bug: str) -> "Lab":
        """The same lab with a bug in every child."""
        return replace(self, bug=bug)

    @contextmanager
    def elsewhere(self, **own: str) -> Iterator["Lab"]:
        """The same lab whose commands have other variables in their environment."""
        with nursery(**own) as made:
            yield replace(self, nursery=made)

    def expected(self, name: str, other: bool = False) -> tuple[Tree, int]:
        """The folder after an undisturbed run without bugs, and the number of its operations."""
        key = f"{name} {other}"
        if key not in self._ends:
            command, count = self.fresh(name), self.root / "count"
            line = (*command.argv, *command.other) if other else command.argv
            job = self.job(command, (*line, f"--out={command.out}"), counted=str(count))
            ended = self.run(replace(job, bug=""))
            assert ended.code == 0, f"{name}: {ended.err}"
            self._ends[key] = self.tree(), int(count.read_text())
        return self._ends[key]

    def job(
        self, command: Command, line: tuple[str, ...] = (), log: str = "log", **fault: Any
    ) -> Job:
        """A command as it is run here."""
        return Job(
            line or command.line,
            self.home,
            self.temporary,
            self.root / log,
            command.patches,
            fault,
            self.bug,
        )

    def run(self, job: Job) -> Ended:
        """A command from beginning to end."""
        return self.nursery.run(job)

    def start(self, job: Job) -> Child:
        """Begin a command."""
        return self.nursery.start(job)

    def tree(self) -> Tree:
        """All that is in the folder, but for Python's own caches and times that were measured."""
        return tree(self.home)


def tree(folder: Path) -> Tree:
    """sha256 of all files below a folder; times are left out."""
    return {
        str(path.relative_to(folder)): "" if path.is_dir() else _digest(path)
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name.endswith(_MEASURED):
        content = b"some" if content else b"none"
    with suppress(ValueError):  # damaged: as it is
        if path.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content))).encode()
        elif path.suffix == ".csv":
            rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
            content = json.dumps([_timeless(row) for row in rows]).encode()
    return sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not _TIMES.fullmatch(str(k))}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def differences(found: Tree, wanted: Tree) -> list[str]:
    """How one folder differs from another, in words."""
    return [
        *(f"{name!r} is left" for name in sorted(found.keys() - wanted.keys())),
        *(f"{name!r} is missing" for name in sorted(wanted.keys() - found.keys())),
        *(
            f"{name!r} is another"
            for name in sorted(found.keys() & wanted.keys())
            if found[name] != wanted[name]
        ),
    ]


@contextmanager
def lab(root: Path) -> Iterator[Lab]:
    """A lab in an empty folder."""
    with nursery() as made:
        yield Lab(made, root)
