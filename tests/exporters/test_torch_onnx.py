"""Reasons of torch.onnx become one line, and what is left out of its work changes nothing."""

from contextlib import nullcontext

import onnx_ir as ir
import pytest
import torch
from torch import nn

from subbyte.exporters import torch_onnx
from subbyte.graph import Samples, Signature


def test_reasons_are_one_line():
    error = torch.onnx.OnnxExporterError("step 2")
    error.__cause__ = RuntimeError("no overload of torch.ops.aten.clamp.default:\nmin:\n  a number")
    text = torch_onnx._explain(error)
    assert text.startswith("aten.clamp has no ONNX form: no overload of") and "\n" not in text


NETWORKS = {
    "nothing to take apart": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "in place": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)),
    "as users have them": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()),
    "taken apart": nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.PixelShuffle(2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_kept_tables_and_programs_left_as_they_are_change_nothing(name, monkeypatch):
    samples = Samples.of(torch.zeros(2, 3, 8, 8))
    given = NETWORKS[name].eval(), Signature.of(samples, ["x"], []), ["y"], 21
    ours = ir.to_proto(torch_onnx.float_program(*given))
    monkeypatch.setattr(torch_onnx, "_tables_kept", nullcontext)
    theirs = ir.to_proto(torch_onnx.float_program(*given))
    for program in (ours, theirs):
        for node in program.graph.node:  # where in whose source: told apart by the second trace
            del node.metadata_props[:]
        for value in program.graph.value_info:
            del value.metadata_props[:]
    assert ours.SerializeToString() == theirs.SerializeToString()
