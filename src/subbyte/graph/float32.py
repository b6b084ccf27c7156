"""A graph that computes in float32, whatever types the network asks for.

Networks in half precision convert to and fro, and lose what autocast would have converted for them
when they are captured; quantized networks compute on integers in any case.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from subbyte.graph.nodes import is_call

aten = torch.ops.aten
_OTHERS = {torch.float16, torch.bfloat16, torch.float64}
_CASTS = {Tensor.half, Tensor.bfloat16, Tensor.double}
_CONVERSIONS = {aten._to_copy.default, aten.to.dtype, aten.to.dtype_layout, aten.type_as.default}
_BOUNDED = {aten.clamp.default, aten.clip.default, aten.hardtanh.default}


class Float32Mode(TorchFunctionMode):
    """Within, whatever asks torch for another floating-point type gets float32."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        function = Tensor.float if func in _CASTS else func
        return function(*_float32(args), **_float32(kwargs or {}))


def compute_in_float32(graph_module: fx.GraphModule) -> None:
    """Put float32 in place of other floating-point types, in place; numbers that bound such values
    become floats, as torch.onnx has no form of bounds of two types.
    """
    for node in list(graph_module.graph.nodes):
        if not is_call(node):
            continue
        node.args, node.kwargs = (_float32(part) for part in (node.args, dict(node.kwargs)))
        if node.target in _BOUNDED and _floats(node):
            node.args = (node.args[0], *map(_float_bound, node.args[1:]))
        source = node.args[0] if node.args else None
        if node.target in _CONVERSIONS and isinstance(source, fx.Node) and _floats(source, node):
            node.replace_all_uses_with(source)
            graph_module.graph.erase_node(node)
    graph_module.recompile()


def _float_bound(bound: Any) -> Any:
    """A bound as a float; none, and one that the graph computes from sizes, as it is."""
    return bound if bound is None or isinstance(bound, fx.Node) else float(bound)


def _floats(*nodes: fx.Node) -> bool:
    """Whether the values of all nodes are floating-point tensors."""
    values = [node.meta.get("val") for node in nodes]
    return all(isinstance(value, torch.Tensor) and value.is_floating_point() for value in values)


def _float32(value: Any) -> Any:
    """An argument with float32 in place of other floating-point types."""
    if isinstance(value, torch.dtype):
        return torch.float32 if value in _OTHERS else value
    if type(value) in (tuple, list):
        return type(value)(_float32(each) for each in value)
    if type(value) is dict:
        return {key: _float32(each) for key, each in value.items()}
    return value
