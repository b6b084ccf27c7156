"""The float graph of a file, by torch.onnx.

torch.onnx makes its table of operators anew for every export, by parsing the source of 500
functions: 1 to 2 seconds, as much as all the rest for a small network. The table depends on the
opset alone and is only read, so one is made and kept for each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.onnx._internal.exporter import _registration

from subbyte.graph import silence

_make_table = _registration.ONNXRegistry.from_torchlib


def float_program(network: nn.Module, shape: tuple[int, ...], opset: int) -> ir.Model:
    """A network for inputs [batch, *shape] as ONNX operators of `opset`, for every size of batch.

    Its input is called `input` and its output `output`.
    """
    with silence(), torch.no_grad(), _tables_kept():
        exported = torch.export.export(
            network,
            (torch.zeros(2, *shape),),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            verbose=False,
        )
    assert program is not None
    for value in (program.model.graph.inputs[0], program.model.graph.outputs[0]):
        assert value.shape is not None
        value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    return program.model


@contextmanager
def _tables_kept() -> Iterator[None]:
    """Within, torch.onnx takes its table of operators from `_table`; it has no argument for one."""
    registry: Any = _registration.ONNXRegistry
    made = vars(registry)["from_torchlib"]
    registry.from_torchlib = staticmethod(_table)
    try:
        yield
    finally:
        registry.from_torchlib = made


@cache
def _table(opset_version: int) -> _registration.ONNXRegistry:
    return _make_table(opset_version=opset_version)
