"""--json and --quiet of every command: one object on stdout, or nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from subbyte.cli.answers import Answer
from subbyte.cli.main import COMMANDS
from subbyte.cli.terminal import Exit, console
from subbyte.exporters.vectors import VECTORS, read_vectors

PRINTS = "\nprint('loud')\nimport os; os.write(1, b'deep')\n"
"""What a user's file may do."""


@pytest.fixture(scope="module")
def commands(place, given, result, subbyte, tmp_path_factory) -> dict[str, list[object]]:
    """A command line that works for each command, and that writes elsewhere than the others."""
    here, (folder, _) = tmp_path_factory.mktemp("answers"), result
    network, weights, data = given[:2], given[2:4], given[4:6]
    file = here / "vectors/model.onnx"
    write = ("--to", "onnx-compact", "--vectors", "--out", file)
    assert subbyte("export", folder, *write).code == 0
    right = read_vectors(file.with_name(f"model{VECTORS}")).outputs
    np.savez(here / "wrong.npz", **{name: value + 1 for name, value in right.items()})
    (here / "space.yaml").write_text("grid: {weights.bits: [4]}\nvalidation: 4\ncalibration: 8\n")
    inputs, few = (*network, *weights, *data), ("--calibration", 8)
    rows = {
        "quantize": [*inputs, *few, "--recipe", "w4", "--no-bench"],
        "tune": [folder, *weights, "--steps", 1, "--no-bench"],
        "evaluate": inputs,
        "export": [folder, "--to", "onnx-compact", "--out", here / "new.onnx"],
        "verify": [file, "--outputs", here / "wrong.npz"],
        "inspect": [folder / "model.safetensors"],
        "bench": [folder / "model.onnx", "--pairs", 1, "--no-static", "--out", here / "bench.json"],
        "report": [folder, "--out", here / "page.html"],
        "aciq": ["--bits", 2],
        "gradquant": [*inputs, *few, "--bits", 2, "--resolution", 2],
        "look": [*data, "--samples", 1],
        "train": [*network, *data, "--epochs", 1, "--batch-size", 8],
        "sweep": [here / "space.yaml", *inputs],
    }
    for name in ("quantize", "tune", "gradquant", "look", "train", "sweep"):
        rows[name] = [*rows[name], "--no-report", "--out", here / name]
    return rows


NEEDS = {
    "quantize": "quantized",
    "tune": "tuning",
    "evaluate": "figures",
    "export": "parity",
    "verify": "compared",
    "inspect": "plan",
    "bench": "files",
    "gradquant": "choices",
    "look": "parts",
    "train": "log",
    "sweep": "settings",
}
"""What the result of a command has, of those whose result is an object."""
WRITE_NOTHING = ("evaluate", "verify", "inspect", "aciq")
CODES = {"verify": Exit.ERROR}
"""Of the command lines above: the device's outputs are wrong."""


def test_numbers_and_names_that_json_has_not():
    text = Answer({"a": float("nan"), "b": "\udcff ä"}, (Path("x"),)).text("some")
    assert text.isascii() and json.loads(text)["result"] == {"a": None, "b": "\udcff ä"}


def test_every_command_but_the_demo_is_here(commands):
    assert {*commands, "demo"} == set(COMMANDS)


SECONDS = ("quantize", "tune", "gradquant", "sweep", "bench")
"""Commands that take some."""
every_command = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SECONDS))
        for name in COMMANDS
        if name != "demo"
    ],
)


@every_command
def test_json_is_one_object_on_stdout_and_quiet_says_nothing_else(name, commands, subbyte, capfd):
    done = subbyte(name, *commands[name], "--json", "--quiet")
    assert (done.code, done.err) == (CODES.get(name, 0), "")
    found = json.loads(done.out)
    assert list(found) == ["command", "written", "result"] and found["command"] == name
    assert all(Path(path).exists() for path in found["written"])
    assert bool(found["written"]) == (name not in WRITE_NOTHING)
    assert name not in NEEDS or NEEDS[name] in found["result"]
    assert capfd.readouterr().out == ""  # what goes past Python's stdout


@pytest.mark.parametrize("name", WRITE_NOTHING)
def test_without_them_people_are_told_on_stdout(name, commands, subbyte):
    told = subbyte(name, *commands[name])
    assert told.out and subbyte(name, *commands[name], "--quiet").out == ""
    moved = subbyte(name, *commands[name], "--json")
    timeless = [re.sub(r"[0-9.]+ ms", "ms", text) for text in (told.out, moved.err)]
    assert timeless[0] == timeless[1] and not console.quiet


def test_training_without_a_rate_takes_the_usual_one_and_keeps_it(commands, subbyte):
    told = json.loads(subbyte("train", *commands["train"], "--json").out)
    assert told["result"]["log"]["settings"]["lr"] == 0.1  # it has batch-norms


def test_an_error_leaves_stdout_empty(subbyte, tmp_path):
    done = subbyte("inspect", tmp_path / "none.onnx", "--json")
    assert (done.code, done.out, done.err.count("\n")) == (Exit.ERROR, "", 1)
    assert subbyte("inspect", "--json").code == Exit.USAGE


def test_what_users_files_and_libraries_print_is_not_in_the_way(place, given, subbyte, capfd):
    loud = place / "loud.py"
    loud.write_text((place / "net.py").read_text() + PRINTS)
    done = subbyte("evaluate", "--model", f"{loud}:net", *given[2:6], "--json")
    assert json.loads(done.out)["result"]["images"] == 60
    assert "loud" in done.err and "top-1" in done.err
    assert capfd.readouterr() == ("", "deep")
