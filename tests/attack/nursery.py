"""A process that imports everything once and forks a child for each command, so that thousands of
them are affordable. It reads one request a line (JSON) and answers each with one.

    {"do": "start", ...}   the fields of `children.Job`; answers {"pid": n}
    {"do": "wait", "pid"}  until it has ended or stopped itself; answers {"code": n, "stopped": b}
    {"do": "go", "pid"}    wakes one that has stopped itself; answers {}
"""

import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

LONGEST = 240  # seconds of a command


def main() -> None:
    """Answer requests until there are no more, in a process that began as the command's does."""
    from subbyte.__main__ import in_utf_8

    in_utf_8()
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with Path(os.devnull).open("r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
    _warm_up()
    for line in requests:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()
    os._exit(0)  # at once, without taking everything apart


def _warm_up() -> None:
    import torch

    import subbyte
    import subbyte.cli.main
    from subbyte.cli.main import COMMANDS, load
    from tests.attack import bugs, faults  # noqa: F401

    torch.set_num_threads(1)
    for name in COMMANDS:
        load(name)
    subbyte.quantize(torch.nn.Linear(2, 2), torch.randn(4, 2), "w4")
    import onnxruntime  # noqa: F401
    import torch.onnx._internal.exporter._core
    import torch.profiler._cupti_monitor


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    verb = request.pop("do")
    if verb == "start":
        return {"pid": _start(**request)}
    if verb == "go":
        os.kill(request["pid"], signal.SIGCONT)
        return {}
    status = os.waitpid(request["pid"], os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        return {"code": 0, "stopped": True}
    return {"code": os.waitstatus_to_exitcode(status), "stopped": False}


def _start(**job: Any) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = _run(**job)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(
    argv: list[str],
    home: str,
    temporary: str,
    log: str,
    patches: list[tuple[str, str, Any]],
    fault: dict[str, Any],
    bug: str,
    files: int,
    largest: int,
) -> int:
    """One command in this process; returns its exit code."""
    from tests.attack import bugs, faults

    home, temporary, log = map(_native, (home, temporary, log))
    signal.alarm(LONGEST)
    for number, end in ((1, "out"), (2, "err")):
        handle = os.open(f"{log}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(home)
    os.environ["TMPDIR"], tempfile.tempdir = temporary, None
    for module, name, value in patches:
        setattr(sys.modules[module], name, value)
    if bug:
        bugs.BUGS[bug]()
    faults.install(home, **fault)
    if largest:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if files:
        there = len(list(Path("/proc/self/fd").iterdir())) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (there + files, there + files))
    from subbyte.cli.main import app

    sys.argv[1:] = map(_native, argv)
    try:
        app(sys.argv[1:])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _native(text: str) -> str:
    """A name as this process would have got it from its command line."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
