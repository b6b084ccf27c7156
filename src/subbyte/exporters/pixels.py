"""Pixels as the input of an ONNX file: what makes inputs of them goes into the graph.

    x = u / (255 std) - mean / std      DequantizeLinear with a scale a channel -> Add

Where a quantizer follows, and its code of every such x is u itself, the pixels are its codes and
nothing is computed. In ONNX Runtime a DequantizeLinear and an Add take 0.9 to 1.0 of the time of
Cast, Mul and Add, and of Cast and BatchNormalization; a Gather from a table of 256 codes a channel
takes 1.7 times that.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from subbyte.exporters.feeding import LARGEST
from subbyte.records import Preprocessing

_ALL = np.arange(LARGEST + 1, dtype=np.uint8)


def take_pixels(graph: ir.Graph, name: str, preprocessing: Preprocessing, channels: int) -> None:
    """Let the input of this name take pixels, uint8 [n, channels, height, width], in place."""
    image = next(value for value in graph.inputs if value.name == name)
    floats, image.type = ir.Value(name=f"{name}.float"), ir.TensorType(ir.DataType.UINT8)
    readers = list(image.uses())
    inputs = _inputs(preprocessing, channels)
    for node, place in readers:
        if node.op_type == "QuantizeLinear" and place == 0 and _makes_codes(node, inputs):
            node.outputs[0].replace_all_uses_with(image)
            graph.remove(node, safe=True)
        else:
            node.replace_input_with(place, floats)
    if floats.uses():
        _normalize(graph, image, floats, preprocessing)


def _inputs(preprocessing: Preprocessing, channels: int) -> np.ndarray:
    """The input that each pixel makes, float32 [channels, 256]."""
    x = np.repeat(_ALL.astype(np.float32)[None] / np.float32(LARGEST), channels, 0)
    if not preprocessing.mean:
        return x
    mean, std = (
        np.array(one, np.float32)[:, None] for one in (preprocessing.mean, preprocessing.std)
    )
    return np.asarray((x - mean) / std)


def _makes_codes(node: ir.Node, inputs: np.ndarray) -> bool:
    """Whether a QuantizeLinear makes of the inputs of all pixels those pixels."""
    scale, zero = (None if one is None else one.const_value for one in node.inputs[1:3])
    if scale is None or zero is None or scale.size != 1 or zero.dtype != ir.DataType.UINT8:
        return False
    codes = np.rint(inputs / scale.numpy()) + zero.numpy().astype(np.float32)
    return bool((codes.clip(0, LARGEST) == _ALL).all())


def _normalize(
    graph: ir.Graph, image: ir.Value, floats: ir.Value, preprocessing: Preprocessing
) -> None:
    """Make inputs of pixels at the beginning of the graph."""
    std = np.array(preprocessing.std or (1.0,), np.float32).astype(np.float64)
    mean = np.array(preprocessing.mean or (0.0,), np.float32).astype(np.float64)
    alike = len(std) == 1
    scale = (1 / (LARGEST * std)).astype(np.float32)
    made: list[tuple[str, list[ir.Value], dict[str, Any]]] = [
        ("DequantizeLinear", [_constant(graph, f"{image.name}.step", scale.squeeze())], {})
    ]
    if not alike:
        made[0][2]["axis"] = 1
    if mean.any():
        shift = (-mean / std).astype(np.float32).reshape(-1, 1, 1)
        made.append(("Add", [_constant(graph, f"{image.name}.shift", shift)], {}))
    value, nodes = image, []
    for operation, constants, attributes in made:
        node = ir.node(operation, [value, *constants], attributes=attributes)
        node.outputs[0].name = f"{image.name}.{operation}"
        value = node.outputs[0]
        nodes.append(node)
    floats.replace_all_uses_with(value)
    graph.insert_before(graph[0], nodes)


def _constant(graph: ir.Graph, name: str, numbers: np.ndarray) -> ir.Value:
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(numbers.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.initializers[name] = value
    return value
