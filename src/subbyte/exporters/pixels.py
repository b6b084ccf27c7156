"""Pixels as the input of an ONNX file: what makes inputs of them goes into the graph.

    x = u / (255 std) - mean / std      DequantizeLinear with a scale a channel -> Add

Where a quantizer follows, and its code of every such x is u itself, the pixels are its codes and
nothing is computed. Where rounding in scale and shift would change a code (with a mean and std of
1/2 every pixel may lie on the border of two), inputs are computed as torch computes them:

    x = (u / 255 - mean) / std          Cast -> Div -> Sub -> Div

In ONNX Runtime a DequantizeLinear and an Add take about the time of Cast and BatchNormalization,
and mostly less than Cast, Mul and Add; a Gather from a table of 256 codes a channel takes much
longer.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from subbyte.exporters.feeding import LARGEST
from subbyte.records import Preprocessing

_ALL = np.arange(LARGEST + 1, dtype=np.uint8)


def take_pixels(graph: ir.Graph, name: str, preprocessing: Preprocessing, channels: int) -> None:
    """Let the input of this name take pixels, uint8 [n, channels, height, width], in place."""
    image = next(value for value in graph.inputs if value.name == name)
    floats, image.type = ir.Value(name=f"{name}.float"), ir.TensorType(ir.DataType.UINT8)
    inputs, steps = _inputs(preprocessing, channels), _Steps.of(preprocessing)
    exact = False
    for node, place in list(image.uses()):
        codes = _codes(node, inputs) if place == 0 else None
        if codes is not None and bool((codes == _ALL).all()):
            node.outputs[0].replace_all_uses_with(image)
            graph.remove(node, safe=True)
            continue
        node.replace_input_with(place, floats)
        if codes is not None:
            near = _codes(node, steps.inputs)
            exact = exact or near is None or not np.array_equal(codes, near)
    if floats.uses():
        nodes = _divided(graph, image, preprocessing) if exact else steps.nodes(graph, image)
        floats.replace_all_uses_with(nodes[-1].outputs[0])
        graph.insert_before(graph[0], nodes)


def _inputs(preprocessing: Preprocessing, channels: int) -> np.ndarray:
    """The input that each pixel makes, float32 [channels, 256]."""
    x = np.repeat(_ALL.astype(np.float32)[None] / np.float32(LARGEST), channels, 0)
    if not preprocessing.mean:
        return x
    mean, std = (
        np.array(one, np.float32)[:, None] for one in (preprocessing.mean, preprocessing.std)
    )
    return np.asarray((x - mean) / std)


def _codes(node: ir.Node, inputs: np.ndarray) -> np.ndarray | None:
    """The codes that a QuantizeLinear makes of inputs; None for other nodes, and where it has a
    scale a channel or one that is computed.
    """
    if node.op_type != "QuantizeLinear":
        return None
    scale, zero = (None if one is None else one.const_value for one in node.inputs[1:3])
    if scale is None or zero is None or scale.size != 1:
        return None
    codes = np.rint(inputs / scale.numpy()) + zero.numpy().astype(np.float32)
    return np.asarray(codes.clip(0, LARGEST))


@dataclass(frozen=True, eq=False)
class _Steps:
    """Inputs as scale u + shift, float32 [channels], or [1] where all are alike."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> "_Steps":
        """The steps of a preprocessing."""
        std = np.array(preprocessing.std or (1.0,), np.float32).astype(np.float64)
        mean = np.array(preprocessing.mean or (0.0,), np.float32).astype(np.float64)
        return cls((1 / (LARGEST * std)).astype(np.float32), (-mean / std).astype(np.float32))

    @property
    def inputs(self) -> np.ndarray:
        """The input that each pixel makes, float32 [channels, 256]."""
        return np.asarray(_ALL.astype(np.float32) * self.scale[:, None] + self.shift[:, None])

    def nodes(self, graph: ir.Graph, image: ir.Value) -> list[ir.Node]:
        """DequantizeLinear, and Add where there is a shift."""
        alike = len(self.scale) == 1
        scale = _constant(graph, f"{image.name}.step", self.scale.squeeze())
        axis = {} if alike else {"axis": 1}
        made = [ir.node("DequantizeLinear", [image, scale], attributes=axis)]
        if self.shift.any():
            shift = _constant(graph, f"{image.name}.shift", self.shift.reshape(-1, 1, 1))
            made.append(ir.node("Add", [made[0].outputs[0], shift]))
        return _named(made, image)


def _divided(graph: ir.Graph, image: ir.Value, preprocessing: Preprocessing) -> list[ir.Node]:
    """(u / 255 - mean) / std, operation by operation, which gives the same bits everywhere."""
    made = [ir.node("Cast", [image], attributes={"to": ir.DataType.FLOAT.value})]
    for operation, what, numbers in (
        ("Div", "largest", (LARGEST,)),
        ("Sub", "mean", preprocessing.mean),
        ("Div", "std", preprocessing.std),
    ):
        if numbers:
            values = np.array(numbers, np.float32).reshape(-1, 1, 1)
            constant = _constant(graph, f"{image.name}.{what}", values)
            made.append(ir.node(operation, [made[-1].outputs[0], constant]))
    return _named(made, image)


def _named(nodes: list[ir.Node], image: ir.Value) -> list[ir.Node]:
    for number, node in enumerate(nodes):
        node.outputs[0].name = f"{image.name}.{node.op_type}.{number}"
    return nodes


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
