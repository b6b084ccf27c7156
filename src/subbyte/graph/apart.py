"""Operations that torch.onnx has no form for, taken apart ahead of it.

torch.onnx traces a program a second time to take such operations apart, which is half of its time.
Most captured graphs hold none but these two; what stands in their place is what the second trace
would find.

    adaptive mean over all positions    mean over them
    transposed convolution              convolution, transposed
"""

from collections.abc import Callable, Container
from functools import partial
from typing import Any

import torch
from torch import fx

from subbyte.graph.nodes import is_call

aten = torch.ops.aten
_POSITIONS = [-1, -2]


def take_apart(graph_module: fx.GraphModule) -> None:
    """Take apart those operations of a graph that torch.onnx has no form for, in place; others
    that it has none for stay.
    """
    for node in list(graph_module.graph.nodes):
        if is_call(node) and node.target in _APART:
            _APART[node.target](node)
    graph_module.recompile()


def holds_any(
    program: torch.export.ExportedProgram, apart: Container[Any], known: Container[Any]
) -> bool:
    """Whether a program holds an operation that is to be taken apart: one of these, one that
    changes its argument, or one that torch composes of others and that is not known as it is.
    """
    return any(
        node.target in apart or _changes(node.target) or _composed(node.target, known)
        for node in program.graph.nodes
        if is_call(node)
    )


def _changes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _composed(target: Any, known: Container[Any]) -> bool:
    if target in known or not isinstance(target, torch._ops.OpOverload):
        return False
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), key))


def _mean2d(node: fx.Node) -> None:
    value, sizes = node.args
    if sizes == [1, 1]:
        node.target, node.args = aten.mean.dim, (value, _POSITIONS, True)


def _mean1d(node: fx.Node) -> None:
    """As the mean of an image one high."""
    value, sizes = node.args
    if sizes != [1]:
        return
    graph = node.graph
    with graph.inserting_before(node):
        image = graph.call_function(aten.unsqueeze.default, (value, -2))
        mean = graph.call_function(aten.mean.dim, (image, _POSITIONS, True))
    node.target, node.args = aten.squeeze.dim, (mean, -2)


def _transposed(node: fx.Node, axes: int) -> None:
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    given = {
        **{"bias": None, "stride": 1, "padding": 0, "output_padding": 0},
        **{"groups": 1, "dilation": 1},
        **dict(zip(names, node.args, strict=False)),
        **node.kwargs,
    }
    stride, padding, more, dilation = (
        _spread(given[name], axes) for name in ("stride", "padding", "output_padding", "dilation")
    )
    read = given["input"], given["weight"], given["bias"]
    node.target = aten.convolution.default
    node.args, node.kwargs = (*read, stride, padding, dilation, True, more, given["groups"]), {}


def _spread(sizes: Any, axes: int) -> list[Any]:
    """A number for each axis."""
    given = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    return given if len(given) == axes else given * axes


_APART: dict[Any, Callable[[fx.Node], None]] = {
    aten.adaptive_avg_pool1d.default: _mean1d,
    aten.adaptive_avg_pool2d.default: _mean2d,
    aten.conv_transpose1d.default: partial(_transposed, axes=1),
    aten.conv_transpose2d.input: partial(_transposed, axes=2),
    aten.conv_transpose3d.input: partial(_transposed, axes=3),
}
