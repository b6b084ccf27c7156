"""Accuracy on real data: a third party's resnet20 on CIFAR-10, all layers quantized, calibrated
without labels.
"""

import os
from pathlib import Path

import pytest
import torch

from subbyte import (
    draw_calibration,
    evaluate,
    export,
    load_data,
    load_model,
    quantize,
    runner,
)
from subbyte.data import DataSet

ROOT = Path(os.environ.get("SUBBYTE_DATA", Path.home() / ".cache/subbyte/data"))
WEIGHTS = ROOT / "weights" / "resnet20-12fca82f.th"
pytestmark = pytest.mark.data
CIFAR10, MNIST = ROOT / "cifar-10-batches-py", ROOT / "MNIST" / "raw"
real = pytest.mark.skipif(
    not (WEIGHTS.exists() and CIFAR10.is_dir()), reason=f"no CIFAR-10 and weights in {ROOT}"
)

# top-1 to reach on the 10,000 test images with 500 calibration images, seed 0 (float: 91.73)
BARS = {"w8a8": 91.6, "w4": 91.4, "w3": 91.3, "w2": 89.8, "ternary": 88.2, "w4a4": 90.4}


@pytest.fixture(scope="module")
def cifar() -> DataSet:
    return load_data(f"cifar10:{CIFAR10}", normalize="imagenet")


@pytest.fixture(scope="module")
def resnet20() -> torch.nn.Module:
    return load_model("resnet20", WEIGHTS)


@real
@pytest.mark.slow
def test_two_bits_keep_most_of_the_accuracy_where_nearest_keeps_none(
    resnet20: torch.nn.Module, cifar: DataSet
) -> None:
    images, split = draw_calibration(cifar, 128, seed=0)
    part = split.take(range(1000))
    assert evaluate(quantize(resnet20, images, "w2"), part).top1 > 86


@real
@pytest.mark.slow
def test_the_onnx_file_is_as_accurate_as_the_torch_model(
    resnet20: torch.nn.Module, cifar: DataSet, tmp_path: Path
) -> None:
    images, split = draw_calibration(cifar, 64, seed=0)
    part = split.take(range(1000))
    quantized = quantize(resnet20, images, "w4a8")
    export(quantized, tmp_path / "net.onnx", images)
    ours, theirs = evaluate(quantized, part), evaluate(runner(tmp_path / "net.onnx"), part)
    assert abs(ours.top1 - theirs.top1) <= 0.3
    assert (ours.logits.argmax(1) == theirs.logits.argmax(1)).float().mean() > 0.995


@real
@pytest.mark.slow
@pytest.mark.parametrize("recipe", BARS)
def test_every_preset_reaches_its_bar(
    recipe: str, resnet20: torch.nn.Module, cifar: DataSet
) -> None:
    images, split = draw_calibration(cifar, 500, seed=0)
    assert evaluate(quantize(resnet20, images, recipe), split).top1 >= BARS[recipe]


@pytest.mark.parametrize(
    ("name", "data", "top1"),
    [
        ("lenet-digits", "digits", 96.10),
        ("lenet-mnist", f"mnist:{MNIST}", 99.29),
        ("resnet20-cifar10", f"cifar10:{CIFAR10}", 92.00),
    ],
)
def test_networks_that_come_along_are_as_accurate_as_the_docs_say(
    name: str, data: str, top1: float
) -> None:
    folder = data.partition(":")[2]
    if folder and not Path(folder).is_dir():
        pytest.skip(f"no {folder}")
    test = load_data(data).test
    model = load_model(
        name if name == "lenet-digits" else name.partition("-")[0], f"builtin:{name}"
    )
    part = test.take(range(min(len(test), 2000)))
    assert abs(evaluate(model, part).top1 - top1) < (0.3 if len(part) == len(test) else 1.5)
