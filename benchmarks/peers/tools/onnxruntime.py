"""ONNX Runtime's static quantization."""

import logging
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.peers.cell import OnnxRun
from benchmarks.peers.contract import CannotError, Job, Made

NOTE = (
    "`quant_pre_process`, then `quantize_static` in QDQ form, weights per channel, ranges from the "
    "smallest and largest values; first and last at 8 bits by `TensorQuantOverrides`"
)
_TYPES = {8: QuantType.QInt8, 4: QuantType.QInt4}
_UNSIGNED = {8: QuantType.QUInt8, 4: QuantType.QUInt4}


# user code
class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out calibration inputs."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


# end of user code


def quantize(job: Job) -> Made:
    """Quantize the float file, with its own tool."""
    width = job.width
    if width.weights_only:
        raise CannotError("no quantization of weights alone for convolutions")
    if width.weights not in _TYPES:
        raise CannotError("quantize_static knows 4, 8 and 16 bits")
    logging.disable(logging.WARNING)
    float_file, prepared = job.folder / "start.onnx", job.folder / "prepared.onnx"
    file = job.folder / "network.onnx"
    few = tuple(x[:2] for x in job.inputs)
    # user code
    batch = torch.export.Dim("batch")
    dims = tuple({0: batch} for _ in few)
    torch.onnx.export(job.model, few, float_file, dynamic_shapes=dims, external_data=False)
    quant_pre_process(float_file, prepared, skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    names = [one.name for one in graph.input]
    # end of user code
    options = {"TensorQuantOverrides": at_eight_bits(graph)} if job.ends8 else {}
    # user code
    quantize_static(
        prepared,
        file,
        Reader(job.feeds(1, names)),
        per_channel=True,
        activation_type=_UNSIGNED[width.activations],
        weight_type=_TYPES[width.weights],
        extra_options=options,
    )
    # end of user code
    return Made(OnnxRun(file), lambda: [file])


# user code: first and last at 8 bits
def at_eight_bits(graph: onnx.GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Weights and inputs of the first and the last layer."""
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    found: dict[str, list[dict[str, Any]]] = {}
    for node in (layers[0], layers[-1]):
        found[node.input[0]] = [{"quant_type": QuantType.QUInt8}]
        found[node.input[1]] = [{"quant_type": QuantType.QInt8, "axis": 0}]
    return found


# end of user code: first and last at 8 bits
