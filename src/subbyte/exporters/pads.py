"""Zeros around a value that only convolutions read become pads of theirs.

As a node of its own a Pad stands in float between two quantize/dequantize pairs. torch's
convolutions pad both ends of an axis alike, ONNX's need not. Zero lies on every grid of
activations, so nothing changes.
"""

import onnx_ir as ir

from subbyte.graph import DOMAIN

_SPATIAL = 2  # the first axis with positions


def merge_pads(graph: ir.Graph) -> None:
    """Take out every Pad whose zeros convolutions can add, in place; marks stand in the graph."""
    for node in [node for node in graph if node.op_type == "Pad"][::-1]:
        amounts, source = _amounts(node), node.inputs[0]
        readers = _convolutions(node.outputs[0])
        if amounts is None or source is None or not readers:
            continue
        for reader in readers:
            given = reader.attributes.get("pads")
            own = [0] * len(amounts) if given is None else given.as_ints()
            total = [one + more for one, more in zip(own, amounts, strict=True)]
            reader.attributes["pads"] = ir.AttrInt64s("pads", total)
        repeated = _site(source.producer())
        for mark in [use for use, _ in node.outputs[0].uses() if repeated == _site(use) != ""]:
            mark.outputs[0].replace_all_uses_with(source)
            graph.remove(mark, safe=True)
        node.outputs[0].replace_all_uses_with(source)
        graph.remove(node, safe=True)


def _amounts(node: ir.Node) -> list[int] | None:
    """Zeros before each spatial axis, then behind each; None where it pads otherwise."""
    constants = [None if one is None else one.const_value for one in node.inputs[1:]]
    amounts, *others = constants
    plain = "mode" not in node.attributes or node.attributes["mode"].as_string() == "constant"
    zero = not others or (others[0] is not None and not others[0].numpy().any())
    if amounts is None or len(others) > 1 or not (plain and zero):
        return None
    before, behind = amounts.numpy().reshape(2, -1).tolist()
    inside = not any(before[:_SPATIAL] + behind[:_SPATIAL]) and min(before + behind) >= 0
    return before[_SPATIAL:] + behind[_SPATIAL:] if inside else None


def _convolutions(value: ir.Value) -> list[ir.Node]:
    """The convolutions that read a value, or what quantizers make of it; none where anything else
    does.
    """
    found: list[ir.Node] = []
    for node, place in value.uses():
        if node.domain == DOMAIN and len(node.inputs) == 1:
            own = _convolutions(node.outputs[0])
        else:
            own = [node] if place == 0 and _can_pad(node) else []
        if not own:
            return []
        found += own
    return [] if value.is_graph_output() else found


def _can_pad(node: ir.Node) -> bool:
    """Whether a node is a convolution that is told its pads."""
    automatic = node.attributes.get("auto_pad")
    return node.op_type == "Conv" and (automatic is None or automatic.as_string() == "NOTSET")


def _site(node: ir.Node | None) -> str:
    """The name of the quantizer whose mark a node is; empty for other nodes."""
    if node is None or node.domain != DOMAIN:
        return ""
    return node.attributes["site"].as_string()
