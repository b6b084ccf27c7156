"""Checkpoints: all that long work needs to go on, bit for bit; written whole, read without
executing anything.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from subbyte.errors import FormatError
from subbyte.io.files import write_bytes
from subbyte.io.workplaces import finish

State = dict[str, Any]
"""Plain values and tensors by name."""


def write_checkpoint(path: Path, content: State) -> None:
    """Write plain values and tensors, in place of what was there before."""
    # in memory first: a full disk is an OSError of ours, not whatever torch makes of it
    kept = io.BytesIO()
    torch.save(content, kept)
    write_bytes(path, kept.getvalue())


def read_checkpoint(path: Path, remedy: str) -> object:
    """Read what `write_checkpoint` wrote, onto the CPU.

    Raises FormatError when it is damaged, saying what may be done (`remedy`).
    """
    content = io.BytesIO(path.read_bytes())
    try:
        check_archive(content)
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as reason:  # there is no end to what zipfile, torch and its pickles raise
        first = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
        raise FormatError(f"{path} is damaged ({first}); {remedy}") from reason


def check_archive(file: BinaryIO) -> None:
    """Raise ValueError where a part of an archive of torch's does not match its checksum, at which
    torch never looks.
    """
    if wrong := zipfile.ZipFile(file).testzip():
        raise ValueError(f"the checksum of {wrong} differs")
    file.seek(0)


@dataclass(frozen=True)
class Kept:
    """A place for the checkpoint of one piece of work. path: of the file; of: a digest of what the
    work depends on: a checkpoint of other work is not gone on from.
    """

    path: Path
    of: str

    def keep(self, content: State) -> None:
        """Write where the work stands."""
        write_checkpoint(self.path, {"of": self.of, "content": content})

    def found(self) -> State:
        """Where the work stood; empty where there is no such checkpoint."""
        if not self.path.is_file():
            return {}
        match read_checkpoint(self.path, "delete it to start anew"):
            case {"of": self.of, "content": dict(content)}:
                return content
        return {}

    def done(self) -> None:
        """The work is over: nothing is left of it, nor of what killed processes were writing."""
        finish(self.path)
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Nowhere(Kept):
    """For work that starts anew whenever it is done."""

    path: Path = Path()
    of: str = ""

    def keep(self, content: State) -> None:
        """See `Kept`."""

    def found(self) -> State:
        """See `Kept`."""
        return {}

    def done(self) -> None:
        """See `Kept`."""


NOWHERE = Nowhere()
