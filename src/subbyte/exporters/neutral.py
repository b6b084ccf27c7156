"""Operations that give back their input, which runtimes take out at load: x + 0, x - 0, x * 1,
x / 1, and concatenations of one value.

Where nothing else stands between two quantize/dequantize pairs, ONNX Runtime makes one pair of
them, with a grid of its own.
"""

import onnx_ir as ir

_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
_TURNED = {"Add", "Mul"}
_ALONE = {"Identity", "Concat"}


def source_of(value: ir.Value) -> ir.Node | None:
    """The node that makes a value, those that give back their input passed over; None where it is
    an input of the graph.
    """
    node = value.producer()
    while node is not None and (back := _given_back(node)) is not None:
        node = back.producer()
    return node


def _given_back(node: ir.Node) -> ir.Value | None:
    """The input that a node gives back as it is; None where it computes something."""
    inputs = list(node.inputs)
    if node.op_type in _ALONE:
        return inputs[0] if len(inputs) == 1 else None
    if node.op_type not in _NEUTRAL:
        return None
    pairs = [inputs, inputs[::-1]] if node.op_type in _TURNED else [inputs]
    same = (one for one, other in pairs if number_of(other) == _NEUTRAL[node.op_type])
    return next(same, None)


def number_of(value: ir.Value | None) -> float | None:
    """The number of a constant that has only one."""
    tensor = None if value is None else value.const_value
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else None
