"""A run that was stopped, wherever that was, ends bit for bit as one that was not; other settings
are refused.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

from subbyte.errors import FormatError, RecipeError
from subbyte.io.repeatable import threads
from subbyte.learn.training import TrainSettings, train
from tests.learn.training.runs import (
    ADAM,
    FILES,
    ON_GRID,
    SMOOTH,
    Normed,
    digits,
    few,
    left_by,
    lively,
    replace,
    rows,
    run,
    seeded,
    stopping,
)
from tests.workplace import names_in

LATTICE = {
    "name": "qsgd",
    "resolution": 5,
    "rounding": "stochastic",
    "schedule": "on-stall",
    "momentum": 0.9,
}
GRID = {"name": "grid", "bits": 3, "extra_bits": 3, "resolution": 4}
BASE = TrainSettings.of(
    epochs=4,
    lr=0.05,
    batch_size=64,
    log_every=3,
    augment="shift-flip",
    warmup=0.5,
    validation=100,
    evaluate_every=2,
)  # 600 of 700 images: 9 steps an epoch
Network = Callable[[], nn.Module]
BY_TENSOR = LATTICE | {"schedule": {"name": "on-stall", "scope": "tensor"}, "error_feedback": True}
SLOW = replace(BASE, lr=3e-3)
RUNS: dict[str, tuple[TrainSettings, Network]] = {
    "sgd": (BASE, lively),
    "sgd, batch-norm": (
        replace(BASE, tasks=[SMOOTH], lr_schedule="step"),
        lambda: Normed(dropout=0.3),
    ),
    "adam": (replace(SLOW, optimizer="adam", precision="bfloat16"), lively),
    "qsgd": (replace(BASE, optimizer=LATTICE), lively),
    "qsgd by tensor": (replace(BASE, optimizer=BY_TENSOR), lambda: Normed(dropout=0.3)),
    "qtadamw": (
        replace(SLOW, optimizer={"name": "qtadamw", "resolution": 7, "schedule": "annealing"}),
        lively,
    ),
    "2021": (replace(BASE, optimizer="qtadamw-2021", lr=1e-2), lively),
    "2023": (replace(BASE, optimizer="qsgd-2023", lr=0.02), lively),
    "sgd on grid": (replace(BASE, qat=GRID), lambda: Normed(dropout=0.3)),
    "adamw on grid": (
        replace(SLOW, optimizer="adamw", qat={"name": "grid", "activation_bits": 4}),
        lively,
    ),
    "ste": (replace(BASE, qat={"name": "ste", "bits": 3}), Normed),
    "lsq": (
        replace(SLOW, qat={"name": "lsq", "bits": 3}, optimizer="adamw"),
        lambda: Normed(dropout=0.3),
    ),
}


def same_state(a: object, b: object) -> bool:
    """Whether what two checkpoints hold is the same, tensors bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return bool(a == b)


def filled(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None}


QUICK = {"sgd, batch-norm", "qsgd", "qsgd by tensor", "2021", "sgd on grid"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in RUNS]
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(name, tmp_path):
    settings, network = RUNS[name]
    data = few(digits(), 700)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run(whole, settings, model=seeded(network), data=data)
    for stop, epochs in ((4, 0), (24, 2), (30, 3)):  # in the middle of epochs 1, 3 and 4
        with pytest.raises(KeyboardInterrupt):
            run(parted, settings, model=seeded(network), data=data, progress=stopping(stop))
        assert (parted / "checkpoint.pt").exists() == (epochs > 0)
        assert not epochs or len(rows(parted, "epochs.csv")) == epochs
    seen: list[int] = []
    run(
        parted,
        settings,
        model=seeded(network),
        data=data,
        progress=lambda _, done, *rest: seen.append(done),
    )
    assert min(seen) == 30 and max(seen) == 36  # the first row of epoch 4, not an earlier one
    assert left_by(parted) == left_by(whole) and names_in(parted) == names_in(whole)
    assert names_in(whole) == (FILES if settings.qat is None else ON_GRID)
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, parted)]
    assert same_state(*states) and states[0]["epoch"] == 4
    logs = [json.loads((folder / "log.json").read_text()) for folder in (whole, parted)]
    for row in logs[0]["epochs"] + logs[1]["epochs"]:
        del row["seconds"]
    assert [filled(row) for row in logs[0]["epochs"]] == [filled(row) for row in logs[1]["epochs"]]
    assert logs[0]["settings"] == logs[1]["settings"]
    steps = rows(whole, "steps.csv")
    if "qsgd" in name:
        assert len({row["resolution_bits"] for row in steps}) > 1, (
            "the index did not rise: the test is void"
        )


def test_a_finished_run_is_left_as_it_is(tmp_path):
    settings = replace(ADAM, epochs=2)
    run(tmp_path, settings, data=few(digits(), 300))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model, trained = seeded(seed=0), seeded(seed=0)
    trained.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    record = train(model, few(digits(), 300), settings, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert [row["epoch"] for row in record.epochs] == [1, 2] and record.epochs[-1][
        "test_top1_percent"
    ] is not None
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), trained.parameters(), strict=True)
    )


PLACES = [("checkpoint.pt", 1), ("checkpoint.pt", 3), ("model.safetensors", 1), ("log.json", 3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return left_by(run(tmp_path_factory.mktemp("whole") / "out", data=few(digits(), 300)))


@pytest.mark.parametrize(("where", "epoch"), PLACES)
def test_a_run_killed_between_two_files_goes_on(where, epoch, whole, tmp_path, monkeypatch):
    data = few(digits(), 300)
    replaced, count = Path.replace, 0

    def replace_(self: Path, target: Path) -> Path:
        nonlocal count
        count += Path(target).name == where
        if count == epoch and Path(target).name == where:
            raise KeyboardInterrupt
        return replaced(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", data=data)
    run(tmp_path / "out", data=data)
    assert left_by(tmp_path / "out") == whole and names_in(tmp_path / "out") == FILES


SCRIPT = """
import sys, time
from pathlib import Path
from tests.learn.training.test_loop_resume import BASE, LATTICE, few, digits, replace, run
def report(stage, done, total, what):
    if done >= int(sys.argv[2]):
        print("here", flush=True)
        time.sleep(100)
run(Path(sys.argv[1]), replace(BASE, optimizer=LATTICE), data=few(digits(), 700), progress=report)
"""


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[3])])
    }
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 10, 22, 33])
def test_wherever_a_process_is_killed_it_goes_on_in_another(step, tmp_path):
    with start(tmp_path / "out", step) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n", process.communicate()[1]
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    settings, data = replace(BASE, optimizer=LATTICE), few(digits(), 700)
    seen: list[int] = []
    run(tmp_path / "out", settings, data=data, progress=lambda _, done, *rest: seen.append(done))
    assert min(seen) == 9 * (step // 9) + 3  # from the start of that epoch
    assert left_by(tmp_path / "out") == left_by(run(tmp_path / "whole", settings, data=data))


def test_the_same_call_with_the_same_network_goes_on(tmp_path):
    settings = replace(ADAM, qat="lsq", lr=3e-3)
    data = few(digits(), 300)
    whole = run(tmp_path / "whole", settings, data=data)
    model = seeded()
    with pytest.raises(KeyboardInterrupt):
        train(model, data, settings, tmp_path / "out", progress=stopping(4))
    train(model, data, settings, tmp_path / "out")
    assert left_by(tmp_path / "out") == left_by(whole)


OTHER = {
    "epochs": 4,
    "batch_size": 64,
    "lr": 0.02,
    "optimizer": "sgd",
    "lr_schedule": "linear",
    "warmup": 0.5,
    "tasks": [SMOOTH],
    "augment": "shift",
    "validation": 10,
    "evaluate_every": 2,
    "seed": 1,
    "precision": "bfloat16",
    "log_every": 5,
    "qat": "ste",
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped; nobody may change it."""
    out = tmp_path_factory.mktemp("begun") / "out"
    with pytest.raises(KeyboardInterrupt):
        run(out, data=few(digits(), 300), about={"model": "net"}, progress=stopping(4))
    return out


@pytest.mark.parametrize(
    "name", [field.name for field in fields(TrainSettings) if field.name in OTHER]
)
def test_other_settings_in_the_same_folder_are_refused_by_name(name, begun):
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(
        RecipeError, match=rf"was made with {name} = .*, now it is .*; choose another folder"
    ):
        run(
            begun,
            replace(ADAM, **{name: OTHER[name]}),
            data=few(digits(), 300),
            about={"model": "net"},
        )
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


def test_what_else_is_said_of_a_run_counts_as_its_settings(begun):
    with pytest.raises(RecipeError, match="was made with model = net, now it is other"):
        run(begun, data=few(digits(), 300), about={"model": "other"})
    with pytest.raises(RecipeError, match="was made with model = net, now it is None"):
        run(begun, data=few(digits(), 300))
    with pytest.raises(RecipeError, match="was made with images = None, now it is 1"):
        run(begun, data=few(digits(), 300), about={"model": "net", "images": 1})


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(
            RecipeError, match="exists and holds no training run; choose another folder"
        ):
            run(out, data=few(digits(), 300))
    assert names_in(tmp_path) == {"notes.txt", "file"} and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    run(tmp_path / "empty", replace(ADAM, epochs=1), data=few(digits(), 300))
    (tmp_path / "empty" / "settings.json").write_text("{")
    with pytest.raises(RecipeError, match=r"settings\.json is damaged"):
        run(tmp_path / "empty", replace(ADAM, epochs=1), data=few(digits(), 300))


@pytest.mark.parametrize("name", ["epochs.csv", "steps.csv"])
@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "header"])
def test_damaged_logs_are_an_error(name, content, tmp_path):
    data = few(digits(), 300)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, data=data, progress=stopping(4))
    if content is None:
        (tmp_path / name).unlink()
    else:
        header = (tmp_path / name).read_text().splitlines()[0] + "\n"
        (tmp_path / name).write_text(header if content == "header" else content)
    with pytest.raises(
        FormatError, match=f"{name} (is not the log of a training run|is damaged|can.t be read)"
    ):
        run(tmp_path, data=data)


def test_a_run_that_is_done_can_be_given_more_epochs(tmp_path):
    """Where the learning rate does not know how long a run is, it ends as if they had been asked
    for at once.
    """
    short = replace(ADAM, epochs=2, lr_schedule="constant")
    long = replace(short, epochs=4)
    data = few(digits(), 300)
    whole = left_by(run(tmp_path / "whole", long, data=data))
    out = run(tmp_path / "out", short, data=data)
    extended = left_by(run(out, long, data=data))
    for name in ("model.safetensors", "steps.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert extended.keys() == whole.keys()
    settings = json.loads((out / "log.json").read_text())["settings"]
    assert (settings["epochs"], settings["epochs_before"]) == (4, [2])
    again = left_by(run(out, long, data=data))
    assert again == extended
    with pytest.raises(RecipeError, match="was made with epochs = 4, now it is 2"):
        run(out, short, data=data)


def test_a_run_is_resumed_at_another_rate_with_the_optimizers_state(tmp_path):
    """By hand what the schedule `step` does: a tenth from half of the run, a hundredth later."""
    data = few(digits(), 300)
    whole = replace(ADAM, epochs=4, lr_schedule="step")
    run(tmp_path / "whole", whole, data=data)
    out, first = tmp_path / "out", replace(whole, epochs=2, lr_schedule="constant")
    with pytest.raises(RecipeError, match="has no run to resume"):
        run(out, first, data=data, resume=True)
    run(out, first, data=data)
    slower = replace(first, lr=first.lr * 0.1)
    with pytest.raises(RecipeError, match="was made with lr"):
        run(out, replace(slower, epochs=3), data=data)
    with pytest.raises(RecipeError, match="2 epochs, of 2: nothing is left"):
        run(out, slower, data=data, resume=True)
    with pytest.raises(KeyboardInterrupt):
        longer = replace(slower, epochs=3)
        run(out, longer, data=data, progress=stopping(2), resume=True)
    run(out, longer, data=data)  # the same command without --resume goes on with what it chose
    with pytest.raises(RecipeError, match="--resume takes another one"):
        run(out, replace(first, epochs=3), data=data)
    run(out, replace(whole, lr=first.lr * 0.01, lr_schedule="constant"), data=data, resume=True)
    for name in ("model.safetensors", "steps.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    settings = json.loads((out / "log.json").read_text())["settings"]
    assert settings["lr_before"] == [first.lr, slower.lr]


def test_other_threads_go_on_and_it_is_said(tmp_path, caplog):
    data, settings = few(digits(), 300), replace(ADAM, epochs=2, lr_schedule="constant")
    out = run(tmp_path / "out", settings, data=data)
    before = left_by(out)
    with threads(2):
        assert left_by(run(out, settings, data=data)) == before  # nothing is left to compute
        assert not caplog.messages
        run(out, replace(settings, epochs=3), data=data)
    assert "threads = 1 and goes on with 2" in caplog.messages[-1]
    kept = json.loads((out / "log.json").read_text())["settings"]
    assert (kept["threads"], kept["threads_before"]) == (2, [1])


def test_a_folder_without_a_checkpoint_takes_other_settings(tmp_path):
    data = few(digits(), 300)
    out = run(tmp_path / "out", data=data)
    (out / "checkpoint.pt").unlink()
    run(out, replace(ADAM, lr=3e-3), data=data)
    run(tmp_path / "plain", replace(ADAM, lr=3e-3), data=data)
    assert (out / "checkpoint.pt").exists()
    assert (out / "model.safetensors").read_bytes() == (
        tmp_path / "plain" / "model.safetensors"
    ).read_bytes()
