"""Clamps that a quantizer's ends stand for are left out of files, and only they."""

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import subbyte

IMAGES = torch.randn(32, 3, 10, 10, generator=torch.Generator().manual_seed(0)) * 4


def kinds(path, optimized: bool = False) -> Counter[str]:
    """Operations of a file, as it is or as ONNX Runtime runs it."""
    if optimized:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(path) + ".run", 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        path = str(path) + ".run"
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def exported(network: nn.Module, path, recipe: str = "w8a8", **form):
    with torch.no_grad():
        model = subbyte.quantize(network.eval(), IMAGES, recipe)
    subbyte.export(model, path, IMAGES, to="onnx-int8", **form)
    return model


def convolutions(clamp: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), clamp, nn.Conv2d(8, 4, 1))


@pytest.mark.parametrize("clamp", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(0, 2.5)], ids=str)
def test_a_clamp_to_the_ends_of_a_grid_costs_no_node(clamp, tmp_path):
    model = exported(convolutions(clamp), tmp_path / "net.onnx")
    assert not {"Relu", "Clip"} & set(kinds(tmp_path / "net.onnx"))
    assert kinds(tmp_path / "net.onnx", optimized=True)["QLinearConv"] == 2
    high = float(model.instrumented.tap("0:out").grid.reach[1])
    bound = {"ReLU6": 6.0, "Hardtanh": 2.5}.get(type(clamp).__name__)
    assert bound is None or high == pytest.approx(bound, rel=1e-6) or high < bound


def test_a_clamp_within_a_grid_stays(tmp_path):
    """Codes beyond that of the bound are of other values."""
    signed = subbyte.load_recipe("w8a8", ["activations.symmetric=true", "others.symmetric=true"])
    exported(convolutions(nn.ReLU()), tmp_path / "net.onnx", signed)
    assert kinds(tmp_path / "net.onnx")["Relu"] == 1
