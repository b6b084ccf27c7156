"""Accuracy on real data: a third party's resnet20 on CIFAR-10, all layers quantized, calibrated without labels."""

import os
from pathlib import Path

import pytest
import torch

from subbyte import draw_calibration, evaluate, export_onnx, load_data, load_model, onnx_model, quantize
from subbyte.data import DataSet

ROOT = Path(os.environ.get("SUBBYTE_DATA", Path.home() / ".cache/subbyte/data"))
WEIGHTS = ROOT / "weights" / "resnet20-12fca82f.th"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (WEIGHTS.exists() and (ROOT / "cifar-10-batches-py").is_dir()), reason=f"no CIFAR-10 and weights in {ROOT}"
    ),
]

# top-1 to reach on the 10,000 test images with 500 calibration images, seed 0 (float: 91.73)
BARS = {"w8a8": 91.6, "w4": 91.6, "w3": 91.3, "w2": 89.8, "ternary": 88.2, "w4a4": 90.4}


@pytest.fixture(scope="module")
def cifar() -> DataSet:
    return load_data(f"cifar10:{ROOT / 'cifar-10-batches-py'}", normalize="imagenet")


@pytest.fixture(scope="module")
def resnet20() -> torch.nn.Module:
    return load_model("resnet20", WEIGHTS)


def test_two_bits_keep_most_of_the_accuracy_where_nearest_keeps_none(resnet20: torch.nn.Module, cifar: DataSet) -> None:
    images, split = draw_calibration(cifar, 128, seed=0)
    part = split.take(range(1000))
    assert evaluate(quantize(resnet20, images, "w2"), part).top1 > 86


@pytest.mark.slow
def test_the_onnx_file_is_as_accurate_as_the_torch_model(
    resnet20: torch.nn.Module, cifar: DataSet, tmp_path: Path
) -> None:
    images, split = draw_calibration(cifar, 64, seed=0)
    part = split.take(range(1000))
    quantized = quantize(resnet20, images, "w4a8")
    export_onnx(quantized, tmp_path / "net.onnx", images)
    ours, theirs = evaluate(quantized, part), evaluate(onnx_model(tmp_path / "net.onnx"), part)
    assert abs(ours.top1 - theirs.top1) <= 0.3
    assert (ours.logits.argmax(1) == theirs.logits.argmax(1)).float().mean() > 0.995


@pytest.mark.slow
@pytest.mark.parametrize("recipe", BARS)
def test_every_preset_reaches_its_bar(recipe: str, resnet20: torch.nn.Module, cifar: DataSet) -> None:
    images, split = draw_calibration(cifar, 500, seed=0)
    assert evaluate(quantize(resnet20, images, recipe), split).top1 >= BARS[recipe]
