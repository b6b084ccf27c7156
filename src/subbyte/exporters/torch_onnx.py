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

from subbyte.graph import Signature, exported_program, silence

_make_table = _registration.ONNXRegistry.from_torchlib


def float_program(
    network: nn.Module, signature: Signature, outputs: list[str], opset: int
) -> ir.Model:
    """A network as ONNX operators of `opset`, for every size of batch.

    Its inputs are called as the tensors of the signature are, a single one `input`; outputs: names
    of its outputs.
    """
    inputs = [leaf.name for leaf in signature.tensors]
    with silence(), torch.no_grad(), _tables_kept():
        exported = exported_program(network, signature.zeros(2))
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            opset_version=opset,
            input_names=inputs if len(inputs) > 1 else ["input"],
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    for value, leaf in zip(program.model.graph.inputs, signature.tensors, strict=True):
        assert value.shape is not None
        if leaf.batched:
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
