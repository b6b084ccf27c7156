"""Whatever number, device or text an option is given: one message, nothing done, nothing left.

The options are read off the commands, so that a new one is in the table.
"""

import random
import shutil
import time
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest

from subbyte.cli.main import COMMANDS
from tests.cli.conftest import run
from tests.workplace import complaint, names_in

NO_NUMBERS = (
    "nan", "inf", "-inf", "Infinity", "1e300", "-1e300", "99999999999999999999", "-1", "9" * 5000,
    "²", "٣", "1_000", "0x10", "", " ", "1e-400", "true", "None", "1,5", "--", "½", "1e", "1.2.3",
)  # fmt: skip
NO_DEVICES = ("nope", "meta", "cuda", "cuda:99", "cpu:0x", "", " ", "CUDA", "cuda:-1", "cpu:99999")
NO_NAMES = ("nan", "-1", "9" * 5000, "²", " ", "1e300", "[b]", "a=b=c", "../..", "\x00", "{}", ":")
NO_LISTS = ("", " ", "²", "0", "-1", "1,,2", "1,nan", "9" * 5000, "1;2", "1e3", "1,1.5", "0x10")
NO_TIMES = ("", "5", "²s", "nans", "infs", "-1s", "0s", "0.0h", "1e9s", "9" * 5000 + "h", "5 years")
NO_BUDGETS = ("", "5", "²KB", "nanKB", "infKB", "-1KB", "0bits", "9" * 5000 + "KB", "5 apples")
NO_PAIRS = ("", "0", "0:nan", "nan:1", "-1:1", "1:0", "0:inf", "0:1:2", "²:1", "0:1e300", "1:1")
SHAPES = (
    "", "3", "3,8", "3,8,8,8", "3,8,-8", "3,8,0", "3,8,²", "3,8,nan", "3,8,8.5", "3,99999999999,9",
    "3,60000,60000", "3,8," + "9" * 5000, "1_0,8,8", "0x3,8,8",
)  # fmt: skip
SETTINGS = ("nan", ".nan", ".inf", "-.inf", "1e300", "1.0e+300", "-1", "9" * 5000, "²", "{}", "[]")

MEANS_ZERO = {
    "demo": {"seed"},
    "quantize": {"seed", "memory", "rows"},
    "tune": {"seed"},
    "evaluate": {"per_class"},
    "report": {"epochs", "window"},
    "aciq": {"seed"},
    "gradquant": {"evaluate", "seed"},
    "train": {
        "momentum", "weight_decay", "warmup", "resolution", "extra_bits", "distill",
        "label_smoothing", "validation", "seed",
    },
    "sweep": {"gpus"},
}  # fmt: skip
"""The numbers that may be 0."""
MEANS_BELOW = {("train", "resolution")}
"""The numbers that may be below 0: steps of 2^1."""
BLANK_IS_ALL = {("report", "metrics")}
LISTS = {
    ("bench", "batches"): NO_LISTS,
    ("bench", "size"): ("", "height", "=3", *(f"height={text}" for text in NO_LISTS)),
    ("sweep", "seeds"): tuple(text for text in NO_LISTS if text != "0"),
    ("quantize", "shape"): SHAPES,
    ("quantize", "time"): NO_TIMES,
    ("tune", "time"): NO_TIMES,
    ("quantize", "budget"): NO_BUDGETS,
    ("gradquant", "clip"): NO_PAIRS,
    ("gradquant", "bits"): NO_LISTS[1:],
    ("aciq", "bits"): NO_LISTS,
    ("quantize", "bits"): NO_LISTS,
    ("quantize", "activation_bits"): NO_LISTS,
}
"""Numbers within texts."""
NAMES = {
    "quantize": (
        "recipe", "target", "dynamic", "normalize", "task", "exports", "optimize", "input",
    ),
    "tune": ("method", "source", "images", "task", "exports", "normalize"),
    "train": (
        "optimizer", "lr_schedule", "schedule", "rounding", "qat", "source", "recipe", "estimator",
        "augment", "precision", "task", "normalize",
    ),
    "sweep": ("space", "model", "data", "weights", "normalize", "task", "track"),
    "gradquant": ("metrics", "granularity", "ends", "labels", "normalize"),
    "evaluate": ("data", "weights", "task", "normalize", "against_float"),
    "export": ("source", "to", "data", "optimize", "input"),
    "inspect": ("file",),
    "verify": ("file", "outputs"),
    "report": ("folders", "metrics"),
    "bench": ("paths",),
}  # fmt: skip
"""Texts that have to name something."""
SET = {
    "quantize": (
        "weights.bits", "weights.scalar", "weights.group_size", "weights.guided",
        "weights.guided_power", "weights.rounding.damping", "weights.range.steps",
        "activations.bits", "first_last", "budget", "tune.seconds", "widths", "others.bits",
    ),
    "tune": ("steps", "batch", "seconds", "temperature", "latent", "zoom", "held", "seed"),
    "train": ("weight_decay", "momentum", "dampening"),
}  # fmt: skip
"""Numbers in --set."""


class Case(NamedTuple):
    """One thing that is wrong: the value of a parameter of a command, by the parameter's name."""

    command: str
    parameter: str
    value: str

    def __repr__(self) -> str:
        value = self.value if len(self.value) < 30 else f"{self.value[:5]}...({len(self.value)})"
        return f"{self.command}-{self.parameter}-{value!r}"


def function_of(command: str) -> Any:
    return vars(import_module(f"subbyte.cli.{command}"))[command]


def numbers_of(command: str) -> Iterator[str]:
    for name, kind in get_type_hints(function_of(command).__wrapped__).items():
        if {kind, *get_args(kind)} & {int, float}:
            yield name


def option_of(command: str, parameter: str) -> str:
    """How a parameter is named on the command line; "" for an argument."""
    given = signature(function_of(command)).parameters[parameter].annotation.__metadata__[0]
    if type(given).__name__ == "ArgumentInfo":
        return ""
    names = [one for one in given.param_decls or () if one.startswith("--")]
    return names[0].split("/")[0] if names else f"--{parameter.replace('_', '-')}"


def cases_of(command: str) -> Iterator[Case]:
    parameters = signature(function_of(command)).parameters
    for name in numbers_of(command):
        below = (command, name) in MEANS_BELOW
        yield from (Case(command, name, v) for v in NO_NUMBERS if not (below and v == "-1"))
        if name not in MEANS_ZERO.get(command, ()):
            yield Case(command, name, "0")
    if "device" in parameters:
        yield from (Case(command, "device", value) for value in NO_DEVICES)
    for (owner, name), values in LISTS.items():
        yield from (Case(command, name, value) for value in values if owner == command)
    for name in NAMES.get(command, ()):
        blank = (command, name) in BLANK_IS_ALL
        yield from (Case(command, name, v) for v in NO_NAMES if not (blank and v == " "))
    for path in SET.get(command, ()):
        name = "set_" if "set_" in parameters else "settings"
        yield from (Case(command, name, f"{path}={value}") for value in SETTINGS)


TABLE = {command: list(cases_of(command)) for command in COMMANDS}


@pytest.fixture(scope="module")
def bases(place, result) -> dict[str, dict[str, object]]:
    """What makes each command work, by parameter; "" for what is no option."""
    net = {"model": f"{place / 'net.py'}:net", "weights": place / "net.safetensors"}
    data, folder, vectors = {"data": f"npz:{place / 'data.npz'}"}, result[0], place / "vectors"
    vectors.mkdir()
    write = ("--to", "onnx-compact", "--vectors", "--out", vectors / "model.onnx")
    assert run("export", folder, *write).code == 0
    (place / "space.yaml").write_text(
        "grid: {weights.bits: [4]}\nvalidation: 4\ncalibration: 8\n"
        f"model: {net['model']}\ncheckpoint: {net['weights']}\ndata: {data['data']}\n"
    )
    return {
        "demo": {"out": "out"},
        "quantize": {**net, **data, "calibration": 40, "out": "out"},
        "tune": {"source": folder, "weights": net["weights"], "steps": 2, "out": "out"},
        "evaluate": {**net, **data},
        "export": {"source": folder, "to": "onnx-compact", "out": "out.onnx"},
        "verify": {"file": vectors / "model.onnx", "outputs": "outputs.npz"},
        "inspect": {"file": folder},
        "bench": {"paths": folder / "model.onnx", "out": "out.json"},
        "report": {"folders": folder, "out": "out.html"},
        "aciq": {"out": "out"},
        "gradquant": {**net, **data, "calibration": 8, "out": "out"},
        "train": {"model": net["model"], **data, "epochs": 1, "batch_size": 8, "out": "out"},
        "sweep": {"space": place / "space.yaml", "out": "out"},
    }


TOGETHER = {
    ("train", "source"): {"weights": "net.safetensors"},
    ("train", "recipe"): {"weights": "net.safetensors"},
    ("train", "schedule"): {"optimizer": "qsgd"},
    ("train", "rounding"): {"optimizer": "qsgd"},
    ("quantize", "shape"): {"dry_run": True, "data": None, "out": None, "calibration": None},
    ("quantize", "time"): {"recipe": "best"},
    ("quantize", "bits"): {"recipe": "best"},
    ("quantize", "activation_bits"): {"recipe": "best"},
    ("tune", "time"): {"steps": None},
    ("evaluate", "against_float"): {},
    ("gradquant", "labels"): {"metrics": "grad:1"},
}
"""Options that have a meaning only with, or without, others."""
SLOWEST = 5.0
"""Seconds that a refusal may take."""


def arguments(case: Case, base: dict[str, object]) -> list[object]:
    given = base | TOGETHER.get((case.command, case.parameter), {}) | {case.parameter: case.value}
    found: list[object] = []
    for name, value in given.items():
        if value is None:
            continue
        option = option_of(case.command, name)
        found += [option] if option else []
        found += [] if value is True else [value]
    return [case.command, *found]


def check_refused(case: Case, base: dict[str, object], here: Path) -> str:
    """See that a command refuses, in one message that names the option or what was given."""
    begun = time.monotonic()
    done = run(*arguments(case, base))
    message = complaint(done.code, done.out, done.err)
    assert time.monotonic() - begun < SLOWEST
    assert len(message) < 1500, message
    assert names_in(here) == {"net.safetensors"}
    option = option_of(case.command, case.parameter)
    shown = case.value.split("=")[0] if case.parameter in ("settings", "set_") else case.value
    named = [option, option.strip("-"), shown[:20], repr(shown)[1:20], case.parameter]
    assert not shown.strip("\x00 ") or any(one in message for one in named if one), message
    return message


@pytest.fixture
def here(place, tmp_path, monkeypatch) -> Path:
    shutil.copy(place / "net.safetensors", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_all(cases: list[Case], bases: dict[str, dict[str, object]], here: Path) -> None:
    wrong = {}
    for case in cases:
        try:
            check_refused(case, bases[case.command], here)
        except BaseException as error:  # Ctrl-C, too, is an answer that no option should get
            wrong[case] = f"{type(error).__name__}: {str(error)[:300]}"
            for path in set(here.iterdir()) - {here / "net.safetensors"}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not wrong, "\n".join(f"{case!r}: {why}" for case, why in wrong.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_some_bad_values(command, bases, here):
    cases = TABLE[command]
    check_all(random.Random(18).sample(cases, min(len(cases), 60)), bases, here)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_all_bad_values(command, bases, here):
    check_all(TABLE[command], bases, here)
