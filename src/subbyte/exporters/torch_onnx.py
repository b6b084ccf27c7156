"""The float graph of a file, by torch.onnx.

torch.onnx makes its table of operators anew for every export, by parsing the source of 500
functions: 1 to 2 seconds, as much as all the rest for a small network. The table depends on the
opset alone and is only read, so one is made and kept for each.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.onnx._internal.exporter import _registration

from subbyte.errors import ModelError
from subbyte.graph import Signature, exported_program, fixed_program, silence

_OPERATION = re.compile(r"torch\.ops\.(\w+\.\w+)")
_make_table = _registration.ONNXRegistry.from_torchlib


def float_program(
    network: nn.Module,
    signature: Signature,
    outputs: list[str],
    opset: int,
    batch: int | None = None,
) -> ir.Model:
    """A network as ONNX operators of `opset`, for every size of batch, and of images along dynamic
    axes; with a `batch`, for that and the sizes of the signature alone.

    Its inputs are called as the tensors of the signature are; outputs: names of its outputs. Raises
    ModelError naming the operation for which ONNX has no form.
    """
    inputs = [leaf.name for leaf in signature.tensors]
    with silence(), torch.no_grad(), _tables_kept():
        if batch is None:
            exported = exported_program(network, signature.zeros(2))
        else:
            exported = fixed_program(network, signature.zeros(batch))
        try:
            program = torch.onnx.export(
                exported,
                (),
                dynamo=True,
                opset_version=opset,
                input_names=inputs,
                output_names=outputs,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ModelError(_explain(error)) from error
    assert program is not None
    if batch is not None:
        return program.model
    for value, leaf in zip(program.model.graph.inputs, signature.tensors, strict=True):
        assert value.shape is not None
        if leaf.batched:
            sizes: list[Any] = ["batch", *list(value.shape)[1:]]
            for axis in leaf.dynamic:
                sizes[axis.value] = axis.text
            value.shape = ir.Shape(sizes)
    return program.model


def _explain(error: torch.onnx.OnnxExporterError) -> str:
    found = _OPERATION.search(str(error.__cause__))
    operation = found[1] if found else "the network"
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    why = " ".join(str(reason).split())[:200]
    return (
        f"{operation} has no ONNX form: {why}; the quantized network itself can be saved and run: "
        f"export it for another runtime, or not at all"
    )


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
