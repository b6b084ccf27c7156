"""Networks whose sizes follow the data: whatever a command writes of one, the others read."""

import numpy as np
import pytest
import torch

from subbyte.cli.common import Pixels
from subbyte.cli.source import find_source
from subbyte.data import Interpolation, load_data
from subbyte.jobs import about
from subbyte.models import lenet
from tests.cli.conftest import run


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Images of 3 x 12 x 12 pixels."""
    drawn = np.random.RandomState(0)
    arrays = {}
    for kind, count in (("train", 60), ("test", 20)):
        arrays[f"x_{kind}"] = drawn.randint(0, 255, (count, 12, 12, 3)).astype(np.uint8)
        arrays[f"y_{kind}"] = np.arange(count) % 3
    path = tmp_path_factory.mktemp("colours") / "colours.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def done(*arguments: object) -> str:
    found = run(*arguments)
    assert found.code == 0, found.err
    return found.out


def test_from_training_to_export_and_back(colours, tmp_path):
    trained, out = tmp_path / "trained", tmp_path / "out"
    sizes = ("--resize", 10, "--crop", 8, "--interpolation", "bilinear")
    given = ("--model", "lenet", "--data", colours, *sizes)
    done(
        "train",
        *given,
        "--epochs",
        1,
        "--lr",
        0.01,
        "--batch-size",
        20,
        "--no-report",
        "--out",
        trained,
    )
    weights = ("--weights", trained / "model.safetensors")
    done("evaluate", *given, *weights)
    assert "conv1" in done("quantize", *given, *weights, "--dry-run", "--recipe", "w4a8")
    files = ("--export", "none", "--no-report", "--out", out)
    done("quantize", *given, *weights, "--recipe", "w4", "--calibration", 20, *files)
    packed = ("--weights", out / "model.safetensors")
    done("evaluate", *given, *packed, "--against", weights[1])
    assert find_source(out).pixels == Pixels(None, 10, 8, Interpolation.BILINEAR)
    changed = find_source(out, pixels=Pixels(interpolation=Interpolation.BOX))
    assert changed.pixels == Pixels(None, 10, 8, Interpolation.BOX)
    done("export", out, "--to", "torch")


def test_interpolation_is_a_fact_of_the_data_and_goes_with_resizing(colours):
    preprocessing = about(load_data(colours, None, 10, 8, "bilinear")).preprocessing
    assert (preprocessing.resize, preprocessing.interpolation) == (10, "bilinear")
    done = run("evaluate", "--data", colours, "--model", "lenet", "--interpolation", "box")
    assert done.code == 1 and "--resize" in done.err


def test_training_on_a_grid_reads_its_weights_back_without_a_word(colours, tmp_path):
    grid = (
        "--qat",
        "grid",
        "--bits",
        3,
        "--optimizer",
        "sgd",
        "--lr",
        0.01,
        "--epochs",
        1,
        "--batch-size",
        20,
    )
    found = run("train", "--model", "lenet", "--data", colours, *grid, "--out", tmp_path / "grid")
    assert found.code == 0 and "alike" not in found.err, found.err
    packed = tmp_path / "grid" / "quantized.safetensors"
    done("evaluate", "--model", "lenet", "--data", colours, "--weights", packed)


def test_weights_for_other_images_than_the_data_are_named(tmp_path):
    torch.save(lenet(3, 12, 3).state_dict(), tmp_path / "w.pth")
    found = run(
        *("quantize", "--model", "lenet", "--input-shape", "3,32,32", "--dry-run"),
        *("--weights", tmp_path / "w.pth"),
    )
    assert found.code == 1 and "shapes differ" in found.err and found.err.count("\n") == 1
