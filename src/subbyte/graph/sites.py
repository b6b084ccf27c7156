"""A quantized graph whose weights and activation quantizers are marked, for exporters: each mark
becomes a node `subbyte::Site`.

The mark computes nothing; `torch.onnx` writes it as a node of its own, with the site's name, and
leaves it alone. The exporter then puts quantize/dequantize pairs in its place, knowing codes and
grids from the model. Behind operations that only move values the mark of their input's activation
quantizer is repeated where runtimes can move integers. The mark of an activation quantizer whose
range is chosen for every batch takes the scale and zero point as inputs, and what computes them is
exported too.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from subbyte.graph.instrument import FakeQuantize, Instrumented, copied, grid_source
from subbyte.graph.layers import Layer
from subbyte.graph.taps import moves

DOMAIN = "subbyte"
_FOLDER = "subbyte_sites"


class _Site(nn.Module):
    def __init__(self, name: str, dynamic: FakeQuantize | None = None) -> None:
        super().__init__()
        self.name, self.dynamic = name, dynamic

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x,) if self.dynamic is None else (x, *self.dynamic.chosen(x))
        marked = torch.onnx.ops.symbolic(
            f"{DOMAIN}::Site", inputs, {"site": self.name}, dtype=x.dtype, shape=x.shape
        )
        assert isinstance(marked, Tensor)
        return marked


Mark = Callable[[str, FakeQuantize | None], nn.Module]
"""A module in a place of its own: the name of an activation quantizer or a weight, and the
quantizer where every batch has its own range, to the module that takes the value.
"""


def mark_sites(
    instrumented: Instrumented, layers: list[Layer], make: Mark = _Site
) -> fx.GraphModule:
    """A copy of the graph with a mark on every activation quantizer and on every given layer's
    weight (both by name). make: the mark, or another module for its place.
    """
    graph_module = copied(instrumented.graph_module)
    nodes = {node.name: node for node in graph_module.graph.nodes}
    graph_module.add_submodule(_FOLDER, nn.Module())
    marks: dict[str, str] = {}

    def mark(name: str, dynamic: FakeQuantize | None = None) -> str:
        if name not in marks:
            marks[name] = f"{_FOLDER}.s{len(marks)}"
            graph_module.add_submodule(marks[name], make(name, dynamic))
        return marks[name]

    names = {nodes[tap.name]: name for name, tap in instrumented.taps.items()}
    plain = {node for node, name in names.items() if _as_integers(instrumented.tap(name))}
    for node in list(graph_module.graph.nodes):
        source = grid_source(node) if node not in names else None
        value = node.meta.get("val")
        if (
            source in plain
            and isinstance(value, torch.Tensor)
            and any(not moves(user) for user in node.users)
        ):
            _insert(graph_module, node, mark(names[source]), list(node.users))
    for layer in layers:
        node = nodes[instrumented.layers[layer.name].name]
        weight = next(a for a in node.all_input_nodes if a.target == layer.weight)
        _insert(graph_module, weight, mark(layer.weight), [node])
    for node, name in names.items():
        tap = instrumented.tap(name)
        node.target = mark(name, tap if tap.fit is not None else None)
    graph_module.delete_all_unused_submodules()
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module


def _as_integers(tap: FakeQuantize) -> bool:
    """Whether values on a grid can be moved as integers: there is one fixed scale, and levels are
    even, as uneven ones are computed in float.
    """
    return tap.grid is not None and tap.axis is None and tap.grid.spec.alphabet.even


def _insert(
    graph_module: fx.GraphModule, node: fx.Node, target: str, readers: list[fx.Node]
) -> None:
    with graph_module.graph.inserting_after(node):
        marked = graph_module.graph.call_module(target, (node,))
    marked.meta = copy.copy(node.meta)
    for reader in readers:
        if reader.target is not torch.ops.aten.sym_size.int:
            reader.replace_input_with(node, marked)
