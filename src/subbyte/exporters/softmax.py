"""Softmaxes of quantized values stay in float.

ONNX Runtime has an integer kernel for one between two quantize/dequantize pairs, whose results are
one or two codes off those that the file says; a Clip that cuts nothing keeps the pair before apart.
"""

import numpy as np
import onnx_ir as ir

_LARGEST = float(np.finfo(np.float32).max)


def keep_in_float(graph: ir.Graph) -> None:
    """Put a Clip before each softmax that reads a dequantized value."""
    for node in list(graph):
        maker = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if node.op_type == "Softmax" and maker is not None and maker.op_type == "DequantizeLinear":
            name = f"{node.outputs[0].name}.whole"
            ends = [
                _constant(graph, f"{name}.{end}", sign * _LARGEST)
                for end, sign in (("low", -1), ("high", 1))
            ]
            clip = ir.Node("", "Clip", [node.inputs[0], *ends], name=name)
            clip.outputs[0].name = f"{name}.value"
            graph.insert_before(node, clip)
            node.replace_input_with(0, clip.outputs[0])


def _constant(graph: ir.Graph, name: str, number: float) -> ir.Value:
    tensor = ir.tensor(np.array(number, np.float32), name=name)
    value = ir.Value(name=name, const_value=tensor)
    graph.register_initializer(value)
    return value
