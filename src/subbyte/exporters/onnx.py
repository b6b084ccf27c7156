"""ONNX: the float graph by torch.onnx, then integers and quantize/dequantize pairs from the codes
and the plan.

Containers:
    int8     codes of any width inside int8: runs as integer kernels (QLinearConv, QLinearAdd, ...)
             everywhere
    compact  INT2 for 2 bits and ternary (opset 25), INT4 for 3 and 4 bits (opset 21), int8 above:
             the small file

The file is written under a temporary name, run in ONNX Runtime against the torch model, and only
then renamed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnx_ir as ir
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError
from subbyte.exporters.parity import Parity, check_parity
from subbyte.exporters.qdq import insert_pairs, needed_opset
from subbyte.exporters.torch_onnx import float_program
from subbyte.graph import mark_sites
from subbyte.io.files import written

Container = Literal["int8", "compact"]
_TORCH_OPSET = 21  # lowest that has every type the int8 and INT4 containers need
_TORCH_MAX_OPSET = 23


@dataclass(frozen=True)
class OnnxExport:
    """path, bytes: of the file; opset: what it needs; parity: its certificate; notes: by layer, how
    it is held.
    """

    path: Path
    bytes: int
    opset: int
    parity: Parity
    notes: dict[str, str]


def export_onnx(
    model: QuantizedModel,
    path: str | Path,
    images: Tensor,
    *,
    container: Container = "int8",
    min_agreement: float = 99.5,
    force: bool = False,
) -> OnnxExport:
    """Write `model` as ONNX and prove that ONNX Runtime computes what the torch model computes.

    images: [n, *input_shape] to compare both on (the calibration images will do); min_agreement:
    percent of equal top-1 classes below which the export is an error.
    Raises ParityError (no file is left), FormatError when `path` exists and `force` is not set.
    """
    path = Path(path)
    if path.exists() and not force:
        raise FormatError(f"{path} exists; choose another name or pass force=True")
    if container not in ("int8", "compact"):
        raise FormatError(f"container must be int8 or compact, got {container!r}")
    opset = needed_opset(model, container)
    program = _torch_graph(model, min(opset, _TORCH_MAX_OPSET))
    notes = insert_pairs(program, model, container)
    _strip(program)
    program.opset_imports[""] = opset
    program.producer_name = "subbyte"
    program.metadata_props["subbyte.recipe"] = model.plan.recipe
    program.metadata_props["subbyte.container"] = container
    with written(path) as temporary:
        ir.save(program, temporary)
        onnx.checker.check_model(str(temporary), full_check=False)
        parity = check_parity(model, temporary, images, min_agreement)
        size = temporary.stat().st_size
    return OnnxExport(path, size, opset, parity, notes)


def _torch_graph(model: QuantizedModel, opset: int) -> ir.Model:
    quantized = [layer for layer in model.layers if layer.owner in model.weights]
    marked = mark_sites(model.instrumented, quantized)
    return float_program(marked, model.input_shape, opset)


def _strip(program: ir.Model) -> None:
    """Drop the exporter's notes: source lines and paths of the machine that wrote the file."""
    values = [value for node in program.graph for value in node.outputs]
    for part in (
        program,
        program.graph,
        *program.graph,
        *values,
        *program.graph.inputs,
        *program.graph.initializers.values(),
    ):
        part.metadata_props.clear()
        part.doc_string = None
    for value in values:
        if not value.is_graph_output():
            value.shape = None  # runtimes infer shapes
