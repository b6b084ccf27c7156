"""What holds for all commands."""

import json
import os
import subprocess
import sys
from inspect import cleandoc
from pathlib import Path

import pytest

import subbyte
from subbyte.cli.main import COMMANDS, load

SOURCE = Path(subbyte.__file__).parents[1]
every_command = pytest.mark.parametrize("name", COMMANDS)


@every_command
def test_help_says_of_a_command_what_its_function_says(name):
    command = load(name)
    assert command.name == name
    assert COMMANDS[name] == " ".join(cleandoc(command.help).split("\n\n")[0].split())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("report", "bench")])
def test_commands_that_write_folders_can_do_without_the_page(name):
    flags = {flag for one in load(name).params for flag in (*one.opts, *one.secondary_opts)}
    assert ("--out" in flags) == ({"--report", "--no-report"} <= flags)


def imported(*words: str) -> tuple[str, set[str]]:
    """What a command prints in an interpreter of its own, and the packages it has imported."""
    script = (
        "import atexit, json, sys\n"
        "roots = lambda: sorted({name.split('.')[0] for name in sys.modules})\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps(roots())))\n"
        "from subbyte.cli.main import app\n"
        "app()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        check=True,
    )
    return done.stdout, set(json.loads(done.stderr))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there names of files are UTF-16")
def test_names_are_utf_8_whatever_the_locale(tmp_path):
    for name in ("ä 漢 😀", os.fsdecode(b"\xff")):
        done = subprocess.run(
            [sys.executable, "-m", "subbyte", "inspect", tmp_path / name],
            capture_output=True,
            env=os.environ
            | {"PYTHONPATH": str(SOURCE), "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "500"},
            check=False,
        )
        assert done.returncode == 1
        shown = os.fsencode(name) if name.isprintable() else b"\\udcff"
        assert shown + b": no such file" in done.stderr and done.stderr.count(b"\n") == 1


def test_help_imports_nothing_large():
    text, packages = imported("--help")
    assert all(name in text for name in COMMANDS)
    large = {"torch", "numpy", "scipy", "sklearn", "onnx", "onnxruntime", "pydantic", "PIL"}
    assert not packages & large


def test_the_help_of_a_command_needs_neither_scikit_learn_nor_plots():
    text, packages = imported("quantize", "--help")
    assert "--calibration" in text
    assert not packages & {"sklearn", "threadpoolctl", "plotly", "matplotlib", "torchvision"}


def test_a_command_that_there_is_not_is_an_error_with_a_suggestion(subbyte):
    done = subbyte("quantise")
    assert done.code == 2 and "quantize" in done.err
