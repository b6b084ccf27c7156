"""The float graph of a file, by torch.onnx.

torch.onnx makes two tables anew for every export: of operators, by parsing the source of 500
functions (1 to 2 seconds, as much as all the rest for a small network), and of the operations that
it takes apart (a third of a second). Both depend on the opset alone and are only read, so one of
each is made and kept for each. Then it traces every program once more to take operations apart;
a program that holds none of them would come out as it is, and is left as it is.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.onnx._internal.exporter import _decomp, _fx_passes, _registration

from subbyte.errors import ModelError
from subbyte.graph import Signature, exported_program, fixed_program, holds_any, silence

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
    _give_constants(program.model.graph)
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


def _give_constants(graph: ir.Graph) -> None:
    """Outputs that are constants come from nodes, as ONNX wants them to."""
    for place, value in enumerate(graph.outputs):
        name = value.name
        if name is not None and value.producer() is None and name in graph.initializers:
            held = f"{name}.held"
            graph.initializers.pop(name)
            value.name = held
            graph.initializers[held] = value
            node = ir.node("Identity", [value])
            given = node.outputs[0]
            given.name, given.shape, given.type = name, value.shape, value.type
            graph.append(node)
            graph.outputs[place] = given


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
    """Within, torch.onnx takes its tables from here; it has no argument for them."""
    registry: Any = _registration.ONNXRegistry
    passes: Any = _fx_passes
    made, decompose = vars(registry)["from_torchlib"], passes.decompose_with_registry
    registry.from_torchlib = staticmethod(_table)
    passes.decompose_with_registry = _taken_apart
    try:
        yield
    finally:
        registry.from_torchlib = made
        passes.decompose_with_registry = decompose


@cache
def _table(opset_version: int) -> _registration.ONNXRegistry:
    return _make_table(opset_version=opset_version)


@cache
def _known(opset_version: int) -> frozenset[Any]:
    """Operations that an opset has a form for."""
    return frozenset(_decomp.get_onnx_implemented_overloads(_table(opset_version)))


@cache
def _apart(opset_version: int) -> dict[Any, Any]:
    """Operations that an opset has no form for, and what torch makes of them."""
    return _decomp.create_onnx_friendly_decomposition_table(set(_known(opset_version)))


def _taken_apart(
    program: torch.export.ExportedProgram, registry: _registration.ONNXRegistry
) -> torch.export.ExportedProgram:
    opset = registry.opset_version
    apart = _apart(opset)
    if holds_any(program, apart, _known(opset)):
        program = program.run_decompositions(apart)
    return program
