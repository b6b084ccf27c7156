"""Commands in children of a process that has imported everything (`nursery`)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """A command to run. home: its working directory, below which operations count; temporary: its
    TMPDIR; log: what it prints goes to LOG.out and LOG.err; patches: module, name, value; fault: of
    `faults.install`; bug: of `bugs.BUGS`; files: descriptors that may be open at once beside those
    at the start; largest: bytes of a file; 0: any number.
    """

    argv: tuple[str, ...]
    home: Path
    temporary: Path
    log: Path
    patches: tuple[tuple[str, str, Any], ...] = ()
    fault: dict[str, Any] = field(default_factory=dict)
    bug: str = ""
    files: int = 0
    largest: int = 0


@dataclass(frozen=True)
class Ended:
    """How a command ended, negative for a signal, and what it printed; or that it has stopped."""

    code: int
    stopped: bool
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line on stderr that is not empty."""
        return ([line for line in self.err.splitlines() if line.strip()] or [""])[-1]


class Child:
    """A command that has been started."""

    def __init__(self, nursery: "Nursery", pid: int, log: Path) -> None:
        self._nursery, self._pid, self._log = nursery, pid, log

    def wait(self) -> Ended:
        """Until it has ended, or stopped itself."""
        found = self._nursery.ask(do="wait", pid=self._pid)
        out, err = (
            Path(f"{self._log}.{end}").read_bytes().decode("utf-8", "replace")
            for end in ("out", "err")
        )
        return Ended(found["code"], found["stopped"], out, err)

    def go(self) -> Ended:
        """Wake it, and wait."""
        self._nursery.ask(do="go", pid=self._pid)
        return self.wait()


class Nursery:
    """The parent of all children. own: variables of its environment."""

    def __init__(self, own: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment |= own
        command = [sys.executable, "-W", "ignore", "-m", "tests.attack.nursery"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request; see `nursery`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request, default=str) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def start(self, job: Job) -> Child:
        """Begin a command."""
        return Child(self, self.ask(do="start", **asdict(job))["pid"], job.log)

    def run(self, job: Job) -> Ended:
        """A command from beginning to end."""
        return self.start(job).wait()


@contextmanager
def nursery(**own: str) -> Iterator[Nursery]:
    """A nursery, which ends with the block. own: variables of its environment."""
    made = Nursery(own)
    try:
        yield made
    finally:
        assert made.process.stdin is not None and made.process.stdout is not None
        made.process.stdin.close()
        made.process.stdout.close()
        made.process.wait()
