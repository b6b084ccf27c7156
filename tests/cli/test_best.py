"""`subbyte quantize --recipe best`: what it prints and writes, and what it refuses."""

import numpy as np
import pytest
import torch

import subbyte as package
from subbyte.cli.best import Given, read_wish
from subbyte.data import load_data
from subbyte.models import new_model
from subbyte.pages.write import write_report
from subbyte.records import read_result
from subbyte.tuning import Distill
from tests.cli.conftest import run
from tests.workplace import complaint

WEIGHTS = ("--weights", "builtin:lenet-digits")
NETWORK = ("--model", "lenet-digits", *WEIGHTS, "--data", "digits", "--calibration", 64)
BEST = ("quantize", *NETWORK, "--recipe", "best", "--export", "none", "--no-report")
FAST = ("--set", "weights.rounding=nearest")


def codes(folder) -> list[torch.Tensor]:
    model = package.load(folder / "model.safetensors", new_model("lenet-digits", None))
    return [q.codes for q in model.weights.values()]


def test_a_drop_that_is_allowed_gives_a_size_a_curve_and_a_plan(tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    done = run(*BEST, *FAST, "--set", "widths=[2,3,4]", "--max-drop", 2, "--out", out)
    assert done.code == 0, done.err
    result = read_result(out)
    assert result.trials is not None and result.trials.chosen.holds
    assert result.trials.chosen.bytes == result.bytes.packed
    assert result.trials.choosing + result.trials.samples == 1438 - 64
    assert "chosen: " in done.out and "more time: nothing was tuned" in done.out
    assert "does not hold" in done.out and (out / "sensitivity.csv").exists()
    (page,) = write_report([out])
    text = page.read_text()
    assert "What was tried" in text and "Drop against size" in text
    plan = (*BEST[:-4], out / "plan.yaml", *BEST[-3:])
    assert run(*plan, "--out", again).code == 0
    assert all(map(torch.equal, codes(out), codes(again)))


@pytest.mark.slow
def test_budgets_bits_and_time_go_together(tmp_path):
    given = (*FAST, "--activation-bits", 8, "--budget", "9KB", "--time", "1s")
    done = run(*BEST, *given, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    result = read_result(tmp_path / "out")
    assert result.trials is not None
    tried = [f"{one.size}, {one.group}" for one in result.trials.trials]
    wanted = ["9KB, nearest", "11250B, nearest", "9KB, nearest, tuned"]
    assert tried[0] == wanted[0] and sorted(tried + result.trials.left_out) == sorted(wanted)
    assert all(line in done.out for line in result.trials.told) and result.activations
    assert sum(layer.bytes for layer in result.layers) <= 9000


def test_images_held_apart_are_never_tested_on(tmp_path):
    """Data of one split: what is held apart leaves the test images."""
    train = load_data("digits").train
    assert train is not None
    file = tmp_path / "one.npz"
    np.savez(file, images=train.images(range(400)).numpy(), labels=train.labels[:400].numpy())
    given = [*BEST, *FAST, "--bits", 4, "--apart", 100, "--out", tmp_path / "out"]
    given[given.index("digits")] = f"npz:{file}"
    done = run(*given)
    assert done.code == 0, done.err
    result = read_result(tmp_path / "out")
    assert result.images == 400 - 64 - 100
    assert result.trials is not None
    assert result.trials.choosing + result.trials.samples == 100


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--recipe", "w4", "--max-drop", 1), "--max-drop goes with --recipe best"),
        (("--recipe", "w4", "--bits", 3), "--bits goes with --recipe best"),
        (("--bits", 2, "--budget", "9KB"), "--bits and --budget each say how large"),
        (("--budget", "9KB", "--max-drop", 1), "--budget and --max-drop each say how large"),
        (("--set", "weights.bits=3"), "give --bits"),
        (("--set", "tune=distill"), "tunes already"),
        (("--time", "soon"), "must be a time such as"),
        (("--max-drop", 0), "above 0"),
        (("--bits", 9), "weight bits must be"),
        (("--apart", 0), "at least 1"),
        (("--apart", 10), "too few to judge by"),
        (("--apart", 500), "can't be shown"),
        (("--max-drop", 1, "--dry-run"), "--dry-run"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(given, said, tmp_path):
    done = run(*BEST, *given, "--out", tmp_path / "out")
    assert said in complaint(done.code, done.out, done.err)
    assert not list(tmp_path.iterdir())


def test_without_a_size_half_a_point_may_be_lost():
    wish, settings = read_wish("best", Given(), ())
    assert wish is not None and wish.max_drop == 0.5 and wish.tune is None and settings == []
    wish, settings = read_wish("best", Given(bits="2", time="2min"), ())
    assert wish is not None and wish.max_drop is None and settings == ["weights.bits=2"]
    assert wish.tune == Distill(seconds=120)
    assert read_wish("w4", Given(budget="9KB"), ()) == (None, [])


def test_the_preset_alone_is_a_plan_that_needs_no_data():
    done = run("quantize", "--model", "lenet-digits", "--recipe", "best", "--dry-run")
    assert done.code == 0 and "plan: best" in done.out
