"""Group norms as instance norms of their groups. ONNX defines the variance of GroupNormalization as
E x^2 - (E x)^2, which float32 has no digits for where the mean is large beside the spread, and ONNX
Runtime computes it in ten steps; InstanceNormalization takes the mean off first, in one.
"""

import numpy as np
import onnx_ir as ir

from subbyte.exporters.editor import Editor, take_place


def centre_groups(graph: ir.Graph) -> None:
    """Replace every GroupNormalization whose scale and bias are constants, in place."""
    editor = Editor(graph, "norm")
    for node in [node for node in graph if node.op_type == "GroupNormalization"]:
        value, (scale, bias) = node.inputs[0], map(_numbers, node.inputs[1:])
        if value is None or value.shape is None or scale is None or bias is None:
            continue
        take_place(graph, node, _normed(editor, node, value, scale, bias), "centred")


def _numbers(value: ir.Value | None) -> np.ndarray | None:
    """A constant's numbers; those that norms without their own have are filled in by a node."""
    if value is None:
        return None
    tensor, node = ir.convenience.get_const_tensor(value), value.producer()
    if tensor is None and node is not None and node.op_type == "ConstantOfShape":
        shape, filling = _numbers(node.inputs[0]), node.attributes["value"].as_tensor().numpy()
        return None if shape is None else np.full(shape, filling[0])
    return None if tensor is None else tensor.numpy()


def _normed(
    editor: Editor, node: ir.Node, value: ir.Value, scale: np.ndarray, bias: np.ndarray
) -> ir.Value:
    """The nodes in place of one: [n, C, ...] as [n, groups, rest], normed, and back."""
    groups, eps = node.attributes["num_groups"].as_int(), node.attributes.get_float("epsilon", 1e-5)
    assert value.shape is not None
    rank = len(value.shape)

    def constant(name: str, numbers: np.ndarray) -> ir.Value:
        return editor.constant(f"{node.name}.{name}", lambda: numbers)

    own = groups == len(scale)  # each channel is a group: the norm takes scale and bias itself
    inner = (scale, bias) if own else (np.ones_like(scale[:groups]), np.zeros_like(bias[:groups]))
    parts = [constant(name, each) for name, each in zip(("scale", "bias"), inner, strict=True)]
    grouped = editor.node("Reshape", [value, editor.sizes(0, groups, -1)], node)
    normed = editor.node("InstanceNormalization", [grouped, *parts], node, epsilon=eps)
    back = editor.node("Reshape", [normed, _sizes_of(editor, node, value)], node)
    if own or ((scale == 1).all() and (bias == 0).all()):
        return back
    wide = (-1, *(1,) * (rank - 2))
    scaled = editor.node("Mul", [back, constant("each.scale", scale.reshape(wide))], node)
    return editor.node("Add", [scaled, constant("each.bias", bias.reshape(wide))], node)


def _sizes_of(editor: Editor, node: ir.Node, value: ir.Value) -> ir.Value:
    """The shape of a value: a constant where all but the number of samples is known."""
    assert value.shape is not None
    rest = [size for size in value.shape.dims[1:] if isinstance(size, int) and size]
    if len(rest) == len(value.shape) - 1:
        return editor.sizes(0, *rest)
    return editor.node("Shape", [value], node)
