"""`subbyte tune`, and `subbyte train` on a quantized network: the commands, their files, and what
they refuse.
"""

import shutil
from pathlib import Path

import pytest
import torch

import subbyte as package
from subbyte.models import new_model
from subbyte.records import Result, read_result
from tests.cli.conftest import run

WEIGHTS = ("--weights", "builtin:lenet-digits")
NETWORK = ("--model", "lenet-digits", *WEIGHTS, "--data", "digits")
SHORT = ("--set", "batch=16", "--set", "precision=float32", "--no-bench")


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A folder of quantize."""
    out = tmp_path_factory.mktemp("start") / "q"
    given = ("--recipe", "w2a4.yaml", "--calibration", 64, "--export", "none", "--no-report")
    recipe = out.with_name("w2a4.yaml")
    recipe.write_text("weights: {bits: 2, rounding: nearest}\nactivations: {bits: 4}\n")
    done = run("quantize", *NETWORK, "--recipe", recipe, *given[2:], "--out", out)
    assert done.code == 0, done.err
    return out


def packed(folder: Path) -> package.QuantizedModel:
    """The network in a folder."""
    return package.load(folder / "model.safetensors", new_model("lenet-digits", None))


def top1(result: Result) -> tuple[float, float]:
    """Before and after."""
    assert result.tuning is not None
    before, after = result.tuning.before.scores[0].value, result.quantized.scores[0].value
    assert before is not None and after is not None
    return before, after


def test_a_result_learns_on_and_is_written_whole(start, tmp_path):
    out = tmp_path / "tuned"
    done = run("tune", start, *WEIGHTS, "--steps", 60, "--set", "bias=0.003", *SHORT, "--out", out)
    assert done.code == 0, done.err
    result, first = read_result(out), read_result(start)
    assert "tuning: 60 steps; distance" in done.out and "before it" in done.out
    assert result.tuning is not None and result.tuning.steps == 60
    assert top1(result)[0] == first.quantized.scores[0].value
    assert result.exports[0].parity.samples == 64
    assert "Tuning" in (out / "report.html").read_text()
    plan = ("--recipe", out / "plan.yaml", "--calibration", 64, "--export", "none", "--no-report")
    again = tmp_path / "again"
    assert run("quantize", *NETWORK, *plan, "--out", again).code == 0
    for name, weight in packed(out).weights.items():
        assert torch.equal(packed(again).weights[name].codes, weight.codes)
    refused = run("tune", out, *WEIGHTS, "--out", tmp_path / "twice")
    assert refused.code == 1 and "has been tuned already (distill)" in refused.err
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--steps", 5, "--time", "1min"), "both say how long"),
        (("--time", "soon"), "must be a time such as 90s, 5min or 1h"),
        (("--time", "0s"), "must be a time such as"),
        (("--method", "cascade"), "works during the walk"),
        (("--method", "magic"), "unknown method 'magic'"),
        (("--set", "latent=-1"), "latent: must be a number, at least 0"),
        (("--set", "zoom"), "expected NAME=VALUE"),
        (("--set", "held=0.9"), "too few to keep 58 apart"),
        (("--images", "digits:nowhere"), "digits"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_and_nothing_is_left(given, said, start, tmp_path):
    done = run("tune", start, *WEIGHTS, *given, "--no-bench", "--out", tmp_path / "out")
    assert done.code == 1 and said in done.err
    assert not list(tmp_path.iterdir())


def test_a_quantized_network_is_trained_with_labels_from_a_walk_or_a_result(start, tmp_path):
    learn = ("--epochs", 2, "--optimizer", "adam", "--lr", 0.002, "--no-report")
    from_walk, from_file = tmp_path / "walk", tmp_path / "file"
    recipe = ("--recipe", start.with_name("w2a4.yaml"), "--calibration", 64)
    done = run("train", *NETWORK, *recipe, *learn, "--distill", 0.5, "--out", from_walk)
    assert done.code == 0, done.err
    result = read_result(from_walk / "quantized")
    before, after = top1(result)
    assert after > before + 2
    assert result.tuning is not None and result.tuning.labels
    assert {layer.bits for layer in result.layers} == {"2"}
    assert result.exports[0].parity.samples == 64
    own = package.load(from_walk / "quantized.safetensors", new_model("lenet-digits", None))
    for name, weight in packed(from_walk / "quantized").weights.items():
        assert torch.equal(own.weights[name].codes, weight.codes)
    qsgd = ("--epochs", 1, "--optimizer", "qsgd", "--resolution", 12, "--lr", 0.01, "--no-report")
    done = run(
        "train", *NETWORK, "--from", start, "--estimator", "annealed", *qsgd, "--out", from_file
    )
    assert done.code == 0, done.err
    assert top1(read_result(from_file / "quantized"))[0] == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--recipe", "w4", "--from", "there"), "give one of them"),
        (("--recipe", "w4", "--qat", "lsq"), "quantized already"),
        (("--recipe", "w4", "--estimator", "magic"), "unknown 'magic'"),
        (("--distill", 0.5), "there is no float network to learn from"),
        (("--from", "nowhere"), "nowhere"),
    ],
)
def test_training_refuses_what_does_not_go_together(given, said, tmp_path):
    done = run("train", *NETWORK, *given, "--calibration", 64, "--out", tmp_path / "out")
    assert done.code == 1 and said in done.err
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_training_from_a_folder_takes_its_task(start, tmp_path):
    there = tmp_path / "there"
    shutil.copytree(start, there)
    result = there / "result.json"
    result.write_text(result.read_text().replace('"task": "classification"', '"task": "odd"'))
    done = run("train", *NETWORK, "--from", there, "--out", tmp_path / "out")
    assert done.code == 1 and "odd" in done.err
