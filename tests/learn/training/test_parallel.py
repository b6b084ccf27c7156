"""Two processes that share every batch end where one with batches twice as large does."""

import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from subbyte.errors import ModelError, RecipeError
from subbyte.learn.training import TrainSettings
from subbyte.learn.training.parallel import trainers
from tests.learn.training.runs import (
    FILES,
    ON_GRID,
    Normed,
    digits,
    few,
    left_by,
    replace,
    rows,
    run,
    seeded,
    stopping,
)
from tests.workplace import names_in

ROOT = Path(__file__).parents[3]
SGD = TrainSettings.of(
    epochs=2,
    lr=0.05,
    batch_size=32,
    augment="shift-flip",
    log_every=4,
    optimizer="sgd",
    validation=60,
)
# a rate and a time in which a code at the middle of two leads to few others
GRID = replace(
    SGD,
    epochs=1,
    lr=0.05,
    qat={"name": "grid", "rounding": "half-even", "bits": 3, "extra_bits": 3},
)
RUNS = {
    "short": replace(SGD, epochs=1, validation=0),
    "sgd": SGD,
    "grid": GRID,
    "lsq": replace(SGD, qat="lsq", lr=0.01),
    "stopped": SGD,
}
DATA = few(digits(), 572)  # 512 to train on: 8 batches of two times 32


def alone(out: Path, settings: TrainSettings) -> Path:
    return run(out, replace(settings, batch_size=64), data=DATA)


def environment(**more: object) -> dict[str, str]:
    paths = os.pathsep.join([*sys.path, str(ROOT)])
    return (
        os.environ
        | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        | {k: str(v) for k, v in more.items()}
    )


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in found]


SCRIPT = """
import os, sys
from pathlib import Path
from tests.learn.training.test_parallel import DATA, RUNS, run, stopping
out, ports = Path(sys.argv[1]) / ("second" if os.environ["RANK"] == "1" else ""), iter(sys.argv[3:])
for name in sys.argv[2].split(","):
    os.environ["MASTER_PORT"] = next(ports)
    if name == "stopped":
        try:
            run(out / name, RUNS[name], data=DATA, progress=stopping(12))
        except KeyboardInterrupt:
            os.environ["MASTER_PORT"] = next(ports)
    run(out / name, RUNS[name], data=DATA)
"""


def together(out: Path, names: str) -> Path:
    """What two processes, started by hand as torchrun does, make of some runs, in folders by their
    names.

    The second one is told to use a folder of its own, to which it must not write.
    """
    where = environment(WORLD_SIZE=2, MASTER_ADDR="127.0.0.1")
    command = [sys.executable, "-c", SCRIPT, str(out), names, *free_ports(9)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=where | {"RANK": rank, "LOCAL_RANK": rank},
                )
            )
            for rank in "01"
        ]
        try:
            for process in started:
                _, errors = process.communicate(timeout=120)
                assert process.returncode == 0, errors[-2000:]
        finally:
            for process in started:
                process.kill()
    assert not (out / "second").exists()
    return out


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shortest run, of two processes; nobody may change it."""
    return together(tmp_path_factory.mktemp("short"), "short")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All others; nobody may change them."""
    return together(tmp_path_factory.mktemp("pair"), "sgd,grid,lsq,stopped")


def assert_as_alone(name: str, folder: Path, tmp_path: Path, tolerance: float) -> None:
    """Weights, and what else is trained, end where those of one process do; and they went
    somewhere.
    """
    one = alone(tmp_path / "one", RUNS[name])
    first, second = (
        torch.load(out / "checkpoint.pt", weights_only=True)["model"] for out in (one, folder)
    )
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < tolerance
    on_grid = RUNS[name].qat is not None
    moved = max(
        float((first[f"layers.{key}" if on_grid else key] - start).abs().max())
        for key, start in seeded().state_dict().items()
        if key.endswith("bias")
    )
    assert moved > 0.005 and names_in(folder) == (ON_GRID if on_grid else FILES)
    for file in ("steps.csv", "epochs.csv"):
        ours, theirs = rows(one, file), rows(folder, file)
        assert len(ours) == len(theirs) == RUNS[name].epochs * (2 if file == "steps.csv" else 1)
        for a, b in zip(ours, theirs, strict=True):
            assert a.keys() == b.keys() and all((a[key] == "") == (b[key] == "") for key in a)
            for key in a.keys() - {"seconds"} if name != "lsq" else ("epoch", "lr"):
                assert a[key] == "" or float(a[key]) == pytest.approx(float(b[key]), abs=2e-4), key


@pytest.mark.slow
def test_two_processes_end_where_one_does(short, tmp_path):
    assert_as_alone("short", short / "short", tmp_path, 2e-5)


@pytest.mark.slow
# lsq: a code in the middle of two
@pytest.mark.parametrize(("name", "tolerance"), [("sgd", 2e-5), ("lsq", 5e-3)])
def test_two_processes_end_where_one_does_after_more_epochs(name, tolerance, pair, tmp_path):
    assert_as_alone(name, pair / name, tmp_path, tolerance)


@pytest.mark.slow
def test_two_processes_end_on_the_codes_of_one(pair, tmp_path):
    one = alone(tmp_path / "one", RUNS["grid"])
    codes = [
        torch.load(folder / "checkpoint.pt", weights_only=True)["optimizer"]["state"]
        for folder in (one, pair / "grid")
    ]
    ours, theirs = (
        next(state["codes"] for state in each.values() if "codes" in state).int() for each in codes
    )
    assert int((ours - theirs).abs().max()) <= 1 and int((ours != theirs).sum()) <= 5
    start = alone(tmp_path / "start", replace(RUNS["grid"], epochs=1, lr=1e-9))
    begun = torch.load(start / "checkpoint.pt", weights_only=True)["optimizer"]["state"]
    assert int((next(s["codes"] for s in begun.values() if "codes" in s).int() != ours).sum()) > 200


@pytest.mark.slow
def test_two_processes_that_were_stopped_go_on(pair):
    assert left_by(pair / "stopped") == left_by(pair / "sgd")


@pytest.mark.slow
def test_another_number_of_processes_does_not_go_on(short):
    with pytest.raises(RecipeError, match=r"processes|world"):
        run(short / "short", RUNS["short"], data=DATA)


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [*TORCHRUN, "-m", "subbyte", "train", "--no-bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


CLI: tuple[object, ...] = (
    "--model",
    "lenet-digits",
    "--data",
    "digits",
    "--epochs",
    2,
    "--batch-size",
    32,
    "--lr",
    0.05,
)


@pytest.mark.slow
def test_torchrun_trains_packs_and_says_so_once(tmp_path):
    options = (
        *CLI,
        "--qat",
        "grid",
        "--bits",
        3,
        "--rounding",
        "half-even",
        "--out",
        tmp_path / "out",
    )
    done = torchrun(*options)
    assert done.returncode == 0, done.stderr[-2000:]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == ON_GRID | {"quantized", "report.html"}
    assert done.stdout.count("parity of onnx-compact") == 1


@pytest.mark.slow
def test_errors_under_torchrun_end_all_processes_and_say_why(tmp_path):
    done = torchrun(*CLI, "--out", tmp_path / "out", "--lr-schedule", "constant", "--lr", "1e6")
    assert done.returncode != 0 and re.search("training diverged: the loss of step", done.stderr)
    again = torchrun(*CLI, "--out", tmp_path / "out")
    assert again.returncode == 0, again.stderr


OFTEN = """
import faulthandler, sys
from pathlib import Path
from tests.learn.training.test_parallel import DATA, RUNS, run
faulthandler.dump_traceback_later(60, exit=True)
for number in range(8):
    run(Path(sys.argv[1]) / str(number), RUNS["short"], data=DATA)
"""


@pytest.mark.slow
def test_runs_one_after_the_other_in_the_same_processes(tmp_path):
    (tmp_path / "often.py").write_text(OFTEN)
    command = [*TORCHRUN, str(tmp_path / "often.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert left_by(tmp_path / "0") == left_by(tmp_path / "7")


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    here, model = trainers("cpu"), seeded(Normed)
    assert (here.rank, here.world, here.device, here.first) == (0, 1, "cpu", True)
    assert here.wrapped(model) is model and here.from_first(lambda: [1]) == [1]
    assert torch.equal(here.mean(torch.ones(3)), torch.ones(3))
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error():
    with pytest.raises(ModelError, match="device 'cuda': torch finds no GPU here; use cpu"):
        trainers("cuda")


def test_the_stop_of_the_script_stops():
    with pytest.raises(KeyboardInterrupt):
        stopping(12)("train", 12, 16, "")
