"""Means over all positions as GlobalAveragePool, which ONNX Runtime computes on integers; a
ReduceMean it computes in float.
"""

import onnx_ir as ir

from subbyte.exporters.editor import take_place

_POSITIONS = {2, 3}
_AXES = 4


def pool_means(graph: ir.Graph) -> None:
    """Replace every ReduceMean over height and width that keeps both axes, in place."""
    for node in [node for node in graph if _is_mean(node)]:
        pool = ir.node("GlobalAveragePool", [node.inputs[0]], name=node.name)
        graph.insert_before(node, pool)
        take_place(graph, node, pool.outputs[0], "pooled")


def _is_mean(node: ir.Node) -> bool:
    if node.op_type != "ReduceMean" or len(node.inputs) < len(_POSITIONS):
        return False
    value, axes = node.inputs
    if value is None or value.shape is None or axes is None or axes.const_value is None:
        return False
    over = {axis % _AXES for axis in axes.const_value.numpy().tolist()}
    kept = bool(node.attributes.get_int("keepdims", 1))
    return len(value.shape) == _AXES and over == _POSITIONS and kept
