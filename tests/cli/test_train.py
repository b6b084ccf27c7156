"""subbyte train: what it writes and prints, that every option counts or is refused, how it ends
early.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from subbyte.cli.training import Training
from subbyte.exporters.packed import read
from subbyte.learn.optimizers import OPTIMIZERS
from subbyte.learn.qat import WEIGHT_QUANTIZERS
from subbyte.learn.training import TrainSettings
from subbyte.learn.training.augment import AUGMENTATIONS
from subbyte.learn.training.checkpoint import load_checkpoint
from subbyte.learn.training.step import Steps
from subbyte.models import MODELS, load_model
from subbyte.records import read_result
from tests.cli.conftest import Done, run
from tests.learn.training.runs import FILES, ON_GRID, digits, few, left_by, rows
from tests.workplace import complaint, evaluated, names_in

QUANTIZED = "quantized.safetensors"
WRITTEN = FILES | {"report.html"}
ADAM = ("--optimizer", "adam", "--lr", 0.01)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file with 256 of the digits to train on and 60 to test on."""
    data = few(digits(), 256, 60)
    assert data.train is not None
    arrays: dict[str, Any] = {}
    for name, split in (("train", data.train), ("test", data.test)):
        images = split.images(range(len(split))).numpy()
        arrays |= {
            f"x_{name}": (255 * images).round().astype(np.uint8),
            f"y_{name}": split.labels.numpy(),
        }
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.skipif(os.name == "nt", reason="there all names are text")
def test_a_name_that_no_runtime_can_open_is_refused_before_the_training(train, tmp_path):
    done = train(tmp_path / os.fsdecode(b"\xff"), "--qat", "grid")
    assert "no text in UTF-8" in complaint(done.code, done.out, done.err)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def train(small: Path) -> Callable[..., Done]:
    """Trains for an epoch of 4 steps, unless told otherwise; what is given last counts."""

    def start(out: Path, *options: object) -> Done:
        basis = (
            "--model",
            "lenet-digits",
            "--data",
            f"npz:{small}",
            "--epochs",
            1,
            "--batch-size",
            64,
        )
        return run("train", *basis, *options, "--out", out)

    return start


def result(done: Done, out: Path) -> Path:
    assert done.code == 0, done.err
    return out


def refused(done: Done) -> str:
    """The one line of an error."""
    return complaint(done.code, done.out, done.err).removeprefix("error: ")


def settings(out: Path) -> dict[str, Any]:
    found = json.loads((out / "log.json").read_text())["settings"]
    assert isinstance(found, dict)
    return found


def test_it_writes_weights_logs_and_a_last_line(train, tmp_path):
    done = train(tmp_path / "out", *ADAM, "--epochs", 3, "--validation", 20, "--log-every", 2)
    out = result(done, tmp_path / "out")
    assert names_in(out) == WRITTEN
    epochs, steps = rows(out, "epochs.csv"), rows(out, "steps.csv")
    assert len(epochs) == 3 and [row["step"] for row in steps] == ["2", "3", "4", "6", "8", "9"]
    assert done.out.splitlines() == [
        f"test top-1 {float(epochs[-1]['test_top1_percent']):.2f} % after epoch 3, "
        f"learning rate 0.01; files: {out}/*",
        f"to look at: {out / 'report.html'}",
    ]
    log = json.loads((out / "log.json").read_text())
    assert [row["epoch"] for row in log["epochs"]] == [1, 2, 3]
    assert log["settings"] == json.loads((out / "settings.json").read_text())
    assert set(log["settings"]) >= {"model", "data", "images", "initial", "optimizer", "seed"}
    assert log["settings"]["model"] == "lenet-digits" and log["settings"]["data"].startswith("npz:")
    assert "random weights" not in done.err


def test_it_can_do_without_the_page(train, tmp_path):
    done = train(tmp_path / "out", *ADAM, "--epochs", 1, "--no-report")
    out = result(done, tmp_path / "out")
    assert names_in(out) == FILES and "to look at" not in done.out


def test_the_weights_have_the_accuracy_it_says(train, small, tmp_path):
    out = result(train(tmp_path / "out", *ADAM, "--epochs", 4), tmp_path / "out")
    done = run(
        "evaluate",
        "--model",
        "lenet-digits",
        "--data",
        f"npz:{small}",
        "--weights",
        out / "model.safetensors",
    )
    assert done.code == 0, done.err
    row = rows(out, "epochs.csv")[-1]
    top1, _, loss = evaluated(done.out)
    assert top1 == pytest.approx(float(row["test_top1_percent"]), abs=0.006)
    assert loss == pytest.approx(float(row["test_loss"]), abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ("--qat", "grid", "--bits", 3, "--float-layers", "fc1"),
        pytest.param(("--qat", "lsq", "--bits", 2, *ADAM), marks=pytest.mark.slow),
    ],
)
def test_networks_on_grids_are_written_as_quantize_does(options, train, small, tmp_path):
    done = train(tmp_path / "out", *options, "--epochs", 2, "--no-report")
    out = result(done, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == ON_GRID | {"quantized"}
    found = read_result(out / "quantized")
    bits = {layer.name: layer.bits for layer in found.layers}
    assert {name for name, width in bits.items() if width == "float"} == {"fc1"} & set(options)
    assert set(bits.values()) - {"float"} == {str(options[3])}
    assert found.tuning is not None and found.tuning.labels
    assert found.exports[0].parity.samples == 256 and found.model == "lenet-digits"
    assert found.quantized.comparison[0].value == 100  # its float twin has the same weights
    last = rows(out, "epochs.csv")[-1]
    for packed in (out / QUANTIZED, out / "quantized" / "model.safetensors"):
        network = ("--model", "lenet-digits", "--data", f"npz:{small}")
        shown = run("evaluate", *network, "--weights", packed)
        assert shown.code == 0, shown.err
        top1, _, loss = evaluated(shown.out)
        assert top1 == pytest.approx(float(last["test_top1_percent"]), abs=0.006)
        assert loss == pytest.approx(float(last["test_loss"]), abs=1e-3)


@pytest.mark.slow
def test_a_trained_network_is_compared_with_what_it_was(train, small, tmp_path):
    first = result(train(tmp_path / "float", *ADAM, "--epochs", 8), tmp_path / "float")
    options = ("--qat", "lsq", "--bits", 2, "--activation-bits", 4, "--distill", 0.5, "--epochs", 4)
    weights = ("--weights", first / "model.safetensors")
    out = result(train(tmp_path / "out", *options, *weights, *ADAM), tmp_path / "out")
    found = read_result(out / "quantized")
    before = float(rows(first, "epochs.csv")[-1]["test_top1_percent"])
    assert found.float.scores[0].value == pytest.approx(before, abs=0.006)
    assert found.quantized.scores[0].value > found.tuning.before.scores[0].value


@pytest.mark.slow
def test_packed_networks_of_other_classes_can_be_evaluated(place, tmp_path):
    out = tmp_path / "out"
    with np.load(place / "data.npz") as arrays:
        grey = {n: a[:, :1] if n.startswith("x") else a for n, a in arrays.items()}
    np.savez(tmp_path / "grey.npz", **grey)
    options = ("--model", "lenet-digits", "--data", f"npz:{tmp_path / 'grey.npz'}")
    result(
        run("train", *options, "--batch-size", 32, "--epochs", 1, "--qat", "grid", "--out", out),
        out,
    )
    done = run("evaluate", *options, "--weights", out / QUANTIZED)
    assert done.code == 0, done.err
    layers = {layer.name: layer for layer in read(out / QUANTIZED).plan.layers}
    assert layers["fc3"].shape == (4, 84)


def test_the_same_command_goes_on_and_gives_the_same_bytes(train, tmp_path, monkeypatch):
    options = (
        *ADAM,
        "--epochs",
        3,
        "--augment",
        "shift-flip",
        "--optimizer",
        "qsgd",
        "--rounding",
        "stochastic",
    )
    whole = result(train(tmp_path / "whole", *options), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        assert train(tmp_path / "out", *options).code == 130
    assert len(rows(tmp_path / "out", "epochs.csv")) == 1
    done = train(tmp_path / "out", *options)
    assert left_by(result(done, tmp_path / "out")) == left_by(whole) and "after epoch 3" in done.out
    again = train(tmp_path / "out", *options)  # finished: it says the same and changes nothing
    assert again.code == 0 and again.out == done.out and left_by(tmp_path / "out") == left_by(whole)
    other = result(train(tmp_path / "other", *options, "--seed", 1), tmp_path / "other")
    assert left_by(other)["model.safetensors"] != left_by(whole)["model.safetensors"]
    assert settings(other)["initial"] != settings(whole)["initial"]  # other initial weights, too


SGD = ("--lr", 0.05)
QSGD = ("--optimizer", "qsgd", "--lr", 0.05, "--resolution", 12)
GRID = ("--qat", "grid", "--lr", 0.05)
EFFECTS: dict[str, tuple[tuple[object, ...], list[tuple[object, ...]]]] = {
    "sgd": (
        SGD,
        [
            ("--momentum", 0.5),
            ("--nesterov",),
            ("--weight-decay", 0.1),
            *(("--lr-schedule", name) for name in ("linear", "step")),
            ("--warmup", 0.5),
            ("--label-smoothing", 0.1),
            *(("--augment", name) for name in AUGMENTATIONS if name != "none"),
            ("--validation", 60),
            ("--seed", 1),
            ("--precision", "bfloat16"),
            ("--batch-size", 32),
            ("--epochs", 2),
            ("--lr", 0.04),
            ("--set", "dampening=0.5"),
            ("--normalize", "0.5/0.25"),
            ("--optimizer", "adamw"),
        ],
    ),
    "qsgd": (
        QSGD,
        [
            ("--resolution", 10),
            ("--rounding", "stochastic"),
            ("--error-feedback",),
            ("--set", "base=3"),
            *(("--optimizer", name) for name in OPTIMIZERS if name.endswith("-2021")),
        ],
    ),
    "stalling": (
        (*QSGD, "--resolution", 4, "--lr", 1, "--batch-size", 16),
        [
            ("--schedule", "fixed"),
            ("--schedule", "epochs"),
            ("--set", "schedule={name: on-stall, scope: tensor}"),
        ],
    ),
    "grid": (
        GRID,
        [
            ("--bits", 3),
            ("--extra-bits", 0),
            ("--resolution", 5),
            ("--rounding", "half-even"),
            *(("--qat", name) for name in WEIGHT_QUANTIZERS if name != "grid"),
            ("--qat", "ste", "--estimator", "annealed"),
            ("--qat", "ste", "--estimator", "nested"),
            ("--float-layers", "fc1"),
            ("--set", "reach=2"),
            ("--optimizer", "adamw"),
            ("--momentum", 0.5),
            ("--seed", 2),
        ],
    ),
}
SLOWER = {"stalling", "grid"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOWER else ()) for n in EFFECTS]
)
def test_every_option_has_an_effect(name, train, tmp_path):
    basis, changes = EFFECTS[name]
    seen: dict[bytes, tuple[object, ...]] = {}
    for number, change in enumerate([(), *changes]):
        out = tmp_path / str(number)
        (written,) = result(train(out, *basis, *change), out).glob("*.safetensors")
        found = written.read_bytes()
        assert found not in seen, f"{change} does what {seen[found]} does"
        seen[found] = change


def test_seed_and_grid_are_in_the_settings(train, tmp_path, monkeypatch):
    seen: list[TrainSettings] = []

    def instead(*given: object, **_options: object) -> None:
        seen.extend(one.settings for one in given if isinstance(one, Training))

    for way in ("_run", "run_quantized"):
        monkeypatch.setattr(f"subbyte.cli.train.{way}", instead)
    cases: list[tuple[tuple[object, ...], dict[str, Any], dict[str, Any]]] = [
        (("--optimizer", "qsgd"), {"name": "qsgd", "seed": 3}, {}),
        (("--qat", "grid", "--bits", 3), {"name": "sgd"}, {"name": "grid", "bits": 3, "seed": 3}),
        (
            ("--qat", "ste", "--bits", 5, "--optimizer", "qsgd"),
            {"name": "qsgd", "seed": 3},
            {"name": "ste", "bits": 5},
        ),
    ]
    for options, optimizer, qat in cases:
        result(train(tmp_path, "--seed", 3, *options), tmp_path)
        found = seen.pop().plain()
        assert found["seed"] == 3 and found["optimizer"].items() >= optimizer.items()
        assert (found["qat"] or {}).items() >= qat.items()


def test_given_weights_are_where_it_begins(train, tmp_path):
    first = result(train(tmp_path / "first", *ADAM), tmp_path / "first") / "model.safetensors"
    done = train(tmp_path / "next", "--weights", first, "--lr", 1e-12)
    second = result(done, tmp_path / "next") / "model.safetensors"
    before, after = load_file(first), load_file(second)
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    assert settings(tmp_path / "next")["initial"] != settings(tmp_path / "first")["initial"]
    text = refused(train(tmp_path / "first", *ADAM, "--weights", first))
    assert "was made with initial = " in text


def test_resnet_takes_its_number_of_layers(place, tmp_path):
    data = ("--data", f"npz:{place / 'data.npz'}", "--batch-size", 32, "--epochs", 1)
    out = result(
        run("train", "--model", "resnet", "--layers", 1, *data, "--out", tmp_path / "a"),
        tmp_path / "a",
    )
    assert settings(out)["model"] == "cifar-resnet8"
    state = load_file(out / "model.safetensors")
    assert sum(name.endswith("weight") and tensor.ndim == 4 for name, tensor in state.items()) == 7
    assert state["linear.weight"].shape == (4, 64)
    same = result(
        run("train", "--model", "cifar-resnet8", *data, "--out", tmp_path / "b"), tmp_path / "b"
    )
    assert left_by(same) == left_by(out)
    deeper = result(
        run("train", "--model", "resnet", "--layers", 2, *data, "--out", tmp_path / "c"),
        tmp_path / "c",
    )
    assert settings(deeper)["model"] == "cifar-resnet14"
    assert "was made with " in refused(
        run("train", "--model", "resnet", "--layers", 3, *data, "--out", out)
    )


REFUSED: list[tuple[tuple[object, ...], str]] = [
    (("--optimizer", "sdg"), r"--optimizer: unknown 'sdg'; known: " + ", ".join(OPTIMIZERS)),
    (("--qat", "paper"), "--qat: unknown 'paper'; known: " + ", ".join(WEIGHT_QUANTIZERS)),
    (
        ("--optimizer", "adam", "--momentum", 0.9),
        "unknown setting 'momentum': --optimizer adam has betas, eps, weight_decay; momentum is a "
        "setting of --optimizer sgd, --optimizer qsgd$",
    ),
    (("--error-feedback",), "--optimizer sgd has .*; error_feedback is a setting of --optimizer q"),
    (("--bits", 4), "unknown setting 'bits': .*; bits is a setting of --qat grid, --qat ste, --qa"),
    (
        ("--qat", "ste", "--extra-bits", 2),
        "--optimizer sgd has .*; --qat ste has bits, activation_bits; extra_bits is a setting of",
    ),
    (("--set", "tau=1"), "unknown setting 'tau': --optimizer sgd has [a-z_, ]*$"),
    ((*GRID, "--rounding", "gaussian"), "gaussian noise leaves the grid; choose another rounding"),
    ((*GRID, "--optimizer", "adam"), "qat grid goes with the optimizers sgd and adamw"),
    (
        ("--qat", "lsq", "--bits", 9),
        "'--bits': must be a whole number, at least 2 and at most 8, got '9'",
    ),
    ((*GRID, "--resolution", 9), "resolution 9 is above the cap of 8"),
    ((*GRID, "--float-layers", "fc9"), "pattern 'fc9' matches no layer; layers are conv1, conv2"),
    ((*GRID, "--estimator", "nested"), "estimator nested goes with ste or lsq"),
    (("--estimator", "annealed"), "estimator annealed: weights are float; train a quantized netw"),
    (
        (*GRID, "--activation-bits", 4),
        "ranges begin with those of a trained network; train it",
    ),
    ((*GRID, "--distill", 0.5), "--distill: there is no float network to learn from; give its --w"),
    (("--float-layers", "fc1"), "float_layers are exempt from qat, and without it all are float"),
    ((*QSGD, "--schedule", "sometimes"), "unknown method 'sometimes'; known: on-stall, annealing"),
    ((*QSGD, "--rounding", "up"), "unknown rounding 'up'; known: half-up, half-even, stochastic"),
    (("--layers", 3), r"--layers N goes with --model resnet"),
    (("--model", "resnet"), r"--layers N goes with --model resnet"),
    (("--model", "resnet-20"), "there is no network 'resnet-20'"),
    (("--data", "digit"), "there is no data set 'digit', did you mean digits"),
    (("--model", "vgg11_bn-cifar"), r"takes images of 32 x 32 pixels, and these are 8 x 8; give"),
    (("--set", "dampening"), r"--set 'dampening': expected NAME=VALUE"),
    (("--set", "betas=["), r"--set 'betas=\[': not YAML: .* line 1"),
    (("--set", "dampening=much"), "optimizer sgd: dampening: "),
    (("--set", "name=adam"), "--optimizer and --qat says what name is"),
    (("--set", "seed=5"), "--seed says what seed is"),
    (("--momentum", 0.5, "--set", "momentum=0.9"), "--momentum says what momentum is"),
    (("--lr-schedule", "cosinus"), "lr_schedule: unknown method 'cosinus'; known: constant, cosin"),
    (("--augment", "flip"), "augment: unknown method 'flip'; known: none, shift, shift-flip, res"),
    (("--precision", "float16"), "precision: unknown 'float16'; known: float32, bfloat16"),
    (("--epochs", 0), "'--epochs': must be a whole number, at least 1"),
    (("--weights", "none.safetensors"), "weights none.safetensors: there is no such file"),
    (("--normalize", "best"), "best"),
    (("--device", "tpu"), "tpu"),
]


@pytest.mark.parametrize(
    ("options", "message"),
    REFUSED,
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_do_not_fit_are_refused_and_leave_nothing(options, message, train, tmp_path):
    assert re.search(message, refused(train(tmp_path / "out", *options)))
    assert names_in(tmp_path) == set()


def test_a_mistake_does_not_spoil_the_folder(train, tmp_path):
    refused(train(tmp_path / "out", "--optimizer", "sdg"))
    refused(train(tmp_path / "out", "--batch-size", 300))
    result(train(tmp_path / "out", *SGD), tmp_path / "out")


OTHERS: list[Any] = [
    (("--momentum", 0.5), "optimizer = "),
    (("--qat", "grid"), "qat = None"),
    (("--model", "cnn"), "model = lenet-digits, now it is cnn"),
    (("--data", "digits"), "(data|images) = "),
    (("--normalize", "0.5/0.25"), "normaliz"),
]


@pytest.mark.parametrize(("options", "message"), OTHERS)
def test_other_settings_in_the_same_folder_are_refused_by_name(options, message, train, tmp_path):
    out = result(train(tmp_path / "out", *SGD), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    if "cnn" in options:
        options = (*options, "--resize", 28, "--crop", 28)
    assert re.search(f"was made with .*{message}", refused(train(out, *SGD, *options)))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_folders_of_others_are_left_alone(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    assert "holds no training run; choose another folder" in refused(train(tmp_path / "out", *SGD))
    assert names_in(tmp_path) == {"out", "out/notes.txt"}


@pytest.mark.parametrize("option", ["--model", "--data", "--out"])
def test_needed_options_are_asked_for(option, small, tmp_path):
    given = {"--model": "lenet-digits", "--data": f"npz:{small}", "--out": tmp_path / "out"}
    del given[option]
    done = run("train", *[part for pair in given.items() for part in pair])
    assert done.code == 2 and option in done.err and names_in(tmp_path) == set()


def test_data_without_training_images_are_refused(small, train, tmp_path):
    with np.load(small) as arrays:
        np.savez(tmp_path / "only.npz", images=arrays["x_test"], labels=arrays["y_test"])
    text = refused(train(tmp_path / "out", "--data", f"npz:{tmp_path / 'only.npz'}"))
    assert "npz:only has no training images" in text and not (tmp_path / "out").exists()


BURSTING = """
import torch
from torch import nn
from subbyte.models import lenet

class Bursting(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = lenet(1, 8, 10)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.calls += self.training
        return self.net(x) * (float("nan") if self.training and self.calls > 9 else 1)
"""


def test_a_run_that_diverges_says_where_in_one_line_and_keeps_its_checkpoint(train, tmp_path):
    (tmp_path / "net.py").write_text(BURSTING)
    options = (
        *SGD,
        "--model",
        f"{tmp_path / 'net.py'}:Bursting",
        "--epochs",
        4,
        "--lr-schedule",
        "constant",
    )
    text = refused(train(tmp_path / "out", *options))
    assert (
        "training diverged: the loss of step 10 (epoch 3) is nan, at a learning rate of 0.05"
        in text
    )
    assert "the checkpoint of epoch 2 is kept; lower --lr, or add --warmup" in text
    kept = load_checkpoint(tmp_path / "out")
    assert kept is not None and kept.epoch == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.model.values())
    assert names_in(tmp_path / "out") == FILES
    load_model(f"{tmp_path / 'net.py'}:Bursting", tmp_path / "out/model.safetensors")


@pytest.mark.parametrize("options", [(), ("--optimizer", "qsgd"), ("--qat", "grid")])
def test_an_enormous_learning_rate_is_one_clear_line(options, train, tmp_path):
    text = refused(train(tmp_path / "out", *options, "--lr", "1e6", "--lr-schedule", "constant"))
    assert re.search("diverged: .*lower --lr", text)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Press Ctrl-C, as it were, in that step of the run."""
    before = Steps.run

    def stopping(self: Steps, number: int, images: torch.Tensor, labels: torch.Tensor) -> None:
        if self.before + number + 1 == step:
            raise KeyboardInterrupt
        before(self, number, images, labels)

    monkeypatch.setattr(Steps, "run", stopping)


@pytest.mark.parametrize(("step", "kept"), [(2, False), (7, True)])
def test_ctrl_c_says_what_is_kept(step, kept, train, tmp_path, monkeypatch):
    stop_at(monkeypatch, step)
    done = train(tmp_path / "out", *SGD, "--epochs", 3)
    text = " ".join(done.err.split())
    assert done.code == 130 and "Traceback" not in done.err and done.out == ""
    if kept:
        assert (
            f"interrupted: the checkpoint of the last whole epoch is in {tmp_path / 'out'}" in text
        )
        assert "the same command goes on" in text and load_checkpoint(tmp_path / "out") is not None
    else:
        assert "interrupted: it was in the first epoch, and there is no checkpoint yet" in text
    assert not any("partial" in name for name in names_in(tmp_path))


def test_ctrl_c_while_data_are_read_is_the_same(train, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("subbyte.cli.common.load_data", stop)
    done = train(tmp_path / "out", *SGD)
    assert done.code == 130 and "interrupted" in done.err and names_in(tmp_path) == set()


@pytest.mark.slow
def test_ctrl_c_in_a_process(small, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    options = [
        "--model",
        "lenet-digits",
        "--data",
        f"npz:{small}",
        "--epochs",
        "100000",
        "--out",
        str(tmp_path / "out"),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "subbyte", "train", "--no-bench", *options]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        while not (tmp_path / "out/checkpoint.pt").exists():
            assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert "the checkpoint of the last whole epoch is in" in " ".join(err.split())
    assert load_checkpoint(tmp_path / "out") is not None and names_in(tmp_path / "out") == FILES


def test_a_damaged_checkpoint_is_one_clear_line(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        train(tmp_path / "out", *SGD, "--epochs", 3)
    path = tmp_path / "out/checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    text = refused(train(tmp_path / "out", *SGD, "--epochs", 3))
    assert "checkpoint.pt is damaged" in text and "delete it to start anew" in text
    path.unlink()
    result(train(tmp_path / "out", *SGD, "--epochs", 3), tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_one_clear_line(train, tmp_path):
    (tmp_path / "file").write_text("mine")
    text = refused(train(tmp_path / "file" / "out", *SGD))
    assert "file" in text and (tmp_path / "file").read_text() == "mine"


def test_the_device_is_checked(train, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "torch finds no GPU here; use cpu" in refused(
        train(tmp_path / "out", "--device", "cuda")
    )
    result(train(tmp_path / "out", *SGD, "--device", "cpu"), tmp_path / "out")


def test_it_explains_itself(subbyte):
    done = subbyte("train", "--help")
    text = " ".join(done.out.split())
    assert done.code == 0 and "train" in subbyte("--help").out
    for option in (
        "--model",
        "--optimizer",
        "--qat",
        "--lr-schedule",
        "--float-layers",
        "--set",
        "--validation",
        "--layers",
    ):
        assert option in text
    assert "lenet-digits" in MODELS
