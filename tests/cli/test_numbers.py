"""Whatever number, device or text an option is given: one message, nothing done, nothing left.

The options are read off the commands, so that a new one is in the table.
"""

import random
import shutil
import time
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest

from subbyte.cli.main import COMMANDS
from subbyte.data import Amount
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
NO_SHARES = ("%", "0%", "-1%", "101%", "nan%", "inf%", "²%", "1%%", "1 %%", "1e300%", "1,5%")
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
    "look": {"seed"},
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
    ("quantize", "calibration"): NO_SHARES,
    ("gradquant", "calibration"): NO_SHARES,
    ("train", "calibration"): NO_SHARES,
    ("tune", "calibration"): NO_SHARES,
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
    "look": ("data", "normalize", "interpolation"),
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
        if {kind, *get_args(kind)} & {int, float, Amount}:
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


LEAST = 60
"""Inputs of each command, at least."""
OTHERS = [
    text
    for text in (*NO_DEVICES, *NO_TIMES, *NO_BUDGETS, *NO_PAIRS, *SHAPES, *NO_NAMES, *NO_NUMBERS)
    if not text.isdigit() and text not in (".", "..", "../..")
]
"""More that is no number, and no name of a file."""


def table_of(command: str) -> list[Case]:
    cases = list(cases_of(command))
    names = [*numbers_of(command), *NAMES.get(command, ())]
    more = (Case(command, name, value) for value in OTHERS for name in names)
    return list(dict.fromkeys([*cases, *islice(more, max(0, LEAST - len(cases)) + 20)]))


TABLE = {command: table_of(command) for command in COMMANDS}


def test_every_command_has_its_table():
    assert all(len(cases) >= LEAST for cases in TABLE.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_are_declared_as_such_and_take_what_means_something(command):
    for name in numbers_of(command):
        parameter = signature(function_of(command)).parameters[name]
        read, usual = parameter.annotation.__metadata__[0].parser, parameter.default
        assert read is not None, f"{command}: {name}: declare it by `numeric`"
        assert usual is None or read(str(usual)) == usual
        if name in MEANS_ZERO.get(command, ()):
            assert read("0") == 0
        if (command, name) in MEANS_BELOW:
            assert read("-1") == -1


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
        "look": {**data, "out": "out"},
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


def check_refused(case: Case, base: dict[str, object], here: Path, *others: str) -> None:
    """See that a command refuses, in one message that names the option, what was given, or one of
    the others.
    """
    begun = time.monotonic()
    done = run(*arguments(case, base))
    message = complaint(done.code, done.out, done.err)
    assert time.monotonic() - begun < SLOWEST
    assert len(message) < 1500, message
    assert names_in(here) == {"net.safetensors"}
    option = option_of(case.command, case.parameter)
    shown = case.value.split("=")[0] if case.parameter in ("settings", "set_") else case.value
    named = [option, option.strip("-"), shown[:20], repr(shown)[1:20], case.parameter, *others]
    told = any(one in message for one in named if one)
    assert told or not shown.strip("\x00 ") or (not option and shown.startswith("-")), message


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


def nested(path: str, value: str) -> str:
    """YAML of a setting by its path."""
    *groups, last = path.split(".")
    text = f"{last}: {value}"
    for group in reversed(groups):
        method = {"rounding": "name: gptq, ", "range": "name: mse, ", "tune": "name: distill, "}
        text = f"{group}: {{{method.get(group, '')}{text}}}"
    return text


IN_SPACES = (
    "calibration: {}", "validation: {}", "resize: {}", "crop: {}", "seeds: [{}]", "seeds: [0, {}]",
    "seeds: {}..5", "seeds: 0..{}", "grid: {{weights.bits: [4, {}]}}", "grid: {{seed: [{}]}}",
    "grid: {{weights.scalar: [{}]}}", "grid: {{weights.bits: 1..{}}}", "set: {{first_last: {}}}",
    "grid: {{weights.scalar: 0.5..1.0..{}}}", "grid: {{calibration: [{}]}}",
    "pairs: [{{weights.bits: [{}]}}]", "list: [{{weights.rounding: {{name: gptq, damping: {}}}}}]",
)  # fmt: skip
IN_FILES = {
    "quantize": [nested(path, value) for path in SET["quantize"] for value in SETTINGS],
    "sweep": [text.format(value) for text in IN_SPACES for value in SETTINGS]
    + [f"{text}: 99999999999" for text in ("calibration", "validation", "resize", "crop")]
    + ["seeds: [99999999999]", "seeds: 0..99999999999"],
}


@pytest.mark.parametrize("command", IN_FILES)
def test_numbers_in_files(command, bases, here, place):
    option = {"quantize": "recipe", "sweep": "space"}[command]
    whole = (place / "space.yaml").read_text().splitlines() if command == "sweep" else []
    file, wrong = place / "wrong.yaml", {}
    for text in IN_FILES[command]:
        kept = [line for line in whole if line.split(":")[0] != text.split(":")[0]]
        file.write_text("\n".join([*kept, text]))
        try:
            named = ("axis", text.split(":")[0])
            check_refused(Case(command, option, str(file)), bases[command], here, *named)
        except Exception as error:
            wrong[text[:60]] = f"{type(error).__name__}: {str(error)[:300]}"
            shutil.rmtree(here / "out", ignore_errors=True)
    assert not wrong, "\n".join(map(str, wrong.items()))


NO_PLACES = (".", "\x00", "net.safetensors", "net.safetensors/out", "/proc/none/out")


@pytest.mark.parametrize("command", ["demo", "quantize", "tune", "export", "aciq", "gradquant"])
def test_places_that_nothing_can_be_written_to(command, bases, here):
    check_all([Case(command, "out", place) for place in NO_PLACES], bases, here)
