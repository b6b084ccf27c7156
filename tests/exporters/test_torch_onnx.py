"""Reasons of torch.onnx become one line."""

import torch

from subbyte.exporters.torch_onnx import _explain


def test_reasons_are_one_line():
    error = torch.onnx.OnnxExporterError("step 2")
    error.__cause__ = RuntimeError("no overload of torch.ops.aten.clamp.default:\nmin:\n  a number")
    text = _explain(error)
    assert text.startswith("aten.clamp has no ONNX form: no overload of") and "\n" not in text
