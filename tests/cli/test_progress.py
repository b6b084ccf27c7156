"""Who is told how far a command is: a terminal by bars, a log by a line now and then."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest

from subbyte.cli import progress as module
from subbyte.cli.progress import progress, stage
from subbyte.cli.terminal import console
from subbyte.engine.stages import Stages


@pytest.fixture
def clock(monkeypatch):
    """The time, in seconds, that a test sets."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_of_stages_that_take_long(clock, capsys):
    with progress() as report:
        for clock[0] in range(0, 71, 10):
            report("walk", int(clock[0]), 70, "conv1")
        clock[0] = 72
        report("brief", 0, 0, "")
        clock[0] = 74
        report("brief", 1, 1, "")
        clock[0] = 120
        report("export", 0, 0, "")
        clock[0] = 160
        report("export", 1, 1, "")
    assert capsys.readouterr().err.splitlines() == [
        "walk 40/70, 40 s, conv1",
        "walk 70/70, 70 s",
        "export, 40 s",
    ]


def test_stages_tell_of_their_begin_and_their_end():
    told = []
    stages = Stages(lambda *said: told.append(said))
    with stages.stage("capture"):
        pass
    with stages.stage("walk") as steps:
        steps(1, 3, "a")
    with pytest.raises(ZeroDivisionError), stages.stage("bad"):
        _ = 1 / 0
    assert told == [
        ("capture", 0, 0, ""),
        ("capture", 1, 1, ""),
        ("walk", 0, 0, ""),
        ("walk", 1, 3, "a"),
        ("walk", 3, 3, ""),
        ("bad", 0, 0, ""),
    ]


def test_quiet_tells_nobody(clock, capsys, monkeypatch):
    monkeypatch.setattr(console, "quiet", True)
    with stage("export"):
        clock[0] = 100
    assert capsys.readouterr() == ("", "")


SHOWN = """
from subbyte.cli.progress import progress
with progress() as report:
    report("capture", 0, 0, "")
    report("capture", 1, 1, "")
    report("walk", 3, 12, "conv[b]1")
"""


@pytest.mark.slow
def test_a_terminal_has_a_bar_a_stage():
    above, below = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", SHOWN], stderr=below, env=environment):
        os.close(below)
        text = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while more := os.read(above, 1000):
                text += more
    os.close(above)
    shown = text.decode()
    assert "capture" in shown and "3/12" in shown and "conv[b]1" in shown
