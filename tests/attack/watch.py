"""How reading a damaged file ended, under watch: of its time, its memory, and of programs that it
starts.
"""

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from subbyte.errors import SubbyteError

SECONDS, BYTES = 5.0, 2 << 30
_RUNS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
_started: list[str] = []
_watching = False


class End(Enum):
    """The way in which it ended."""

    SAME = "the same result"
    OTHER = "another result"
    REFUSED = "refused"


class FaultError(AssertionError):
    """Reading ended as it must not."""


class _Late(BaseException):
    pass


def _heard(event: str, _: Any) -> None:
    if _watching and event in _RUNS:
        _started.append(event)


sys.addaudithook(_heard)


def outcome(read: Callable[[Path], object], place: Path, expected: object) -> End:
    """The end of reading what lies at `place`. Raises FaultError for any but those of `End`:
    another exception than a SubbyteError that names the file, more than 5 seconds or 2 GiB, a
    program started.
    """
    try:
        with _limits():
            found = read(place)
    except SubbyteError as error:
        if _of_memory(error):
            raise FaultError(f"all the memory was taken: {error}") from error
        if str(place) not in str(error) and str(place.parent) not in str(error):
            raise FaultError(f"a message that does not name the file: {error}") from error
        if "\n" in str(error):
            raise FaultError(f"a message of several lines: {error}") from error
        return End.REFUSED
    except _Late as error:
        raise FaultError(f"more than {SECONDS} seconds") from error
    except Exception as error:
        raise FaultError(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        if _started:
            raise FaultError(f"a program was started: {_started.pop()}")
    return End.SAME if found == expected else End.OTHER


def _of_memory(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, MemoryError) or _of_memory(error.__cause__))


@contextmanager
def _limits() -> Iterator[None]:
    """Within, memory and time are bounded, and started programs are noted."""
    global _watching

    def late(*_: object) -> None:
        raise _Late

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
