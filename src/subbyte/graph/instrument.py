"""Activation quantizers as modules in the graph: what the walk fits, and what the quantized network
runs.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from subbyte.core import Grid, GridSpec
from subbyte.graph.bounds import upper_bound
from subbyte.graph.layers import Edge, Layer, argument, set_argument
from subbyte.graph.network import Network
from subbyte.graph.nodes import is_module
from subbyte.graph.taps import moves
from subbyte.graph.tensors import set_tensor

_FOLDER = "subbyte_taps"
Fit = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Scale float32 [rows] and zero point int32 [rows] of values [rows, n]; traceable."""


class FakeQuantize(nn.Module):
    """Round a tensor to its grid and stay real: the torch twin of QuantizeLinear and
    DequantizeLinear.

    The grid is fixed by `set_grid`, or made anew for every batch after `set_dynamic`; before,
    inputs are passed on.
    axis: where the channels are that have scales of their own; None: one scale for the whole
        tensor.
    """

    scale: Tensor
    zero_point: Tensor
    own: Tensor

    def __init__(self, site: str, axis: int | None = None) -> None:
        super().__init__()
        self.site, self.axis = site, axis
        self.spec: GridSpec | None = None
        self.fit: Fit | None = None
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self.register_buffer("own", torch.empty(0))

    def set_grid(self, grid: Grid) -> None:
        """Fix the grid: one scale for the whole tensor, or one a channel."""
        here, share = grid.to(self.scale.device), grid.spec.share
        self.spec, self.own = here.spec, here.own
        self.scale, self.zero_point = share.flat(here.scale), share.flat(here.zero_point)

    def set_dynamic(self, spec: GridSpec, fit: Fit) -> None:
        """Choose the grid of every batch from its own values."""
        self.spec, self.fit = spec, fit

    def set_as(self, other: "FakeQuantize") -> None:
        """Round as another one does, which has been set."""
        if (grid := other.grid) is not None:
            self.set_grid(grid)
        elif other.spec is not None and other.fit is not None:
            self.set_dynamic(other.spec, other.fit)

    def clear(self) -> None:
        """Pass inputs on again."""
        self.spec = self.fit = None

    @property
    def grid(self) -> Grid | None:
        """The grid fixed by `set_grid`; None when each batch has its own."""
        if self.fit is not None:
            return None
        assert self.spec is not None, f"tap {self.site} has no grid yet"
        return self._grid(self.scale, self.zero_point)

    def _grid(self, scale: Tensor, zero_point: Tensor) -> Grid:
        assert self.spec is not None
        share, rows = self.spec.share, scale.numel()
        scale, zero_point = (share.shaped(part, rows) for part in (scale, zero_point))
        return Grid(self.spec, scale, zero_point, self.own)

    @property
    def real_ends(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest number of each channel of a fixed grid: float32 [channels]."""
        assert self.grid is not None
        low, high = (end[:, 0] for end in self.grid.reach)
        return low, high

    def codes(self, x: Tensor, moved: float = 0.0) -> Tensor:
        """The codes of x, of its shape, on a fixed grid, once x has been moved by so many steps."""
        grid = self.grid
        assert grid is not None

        def encoded(rows: Tensor) -> Tensor:
            columns = rows.shape[-1] if rows.ndim else 1
            return grid.ladder(columns).encode(rows / grid.spread(grid.scale, columns) + moved)

        return self._laid_out(x, encoded)

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point for a batch: shape [] or [channels]."""
        if self.fit is None:
            return self.scale, self.zero_point
        if self.axis is None:
            scale, zero_point = self.fit(x.reshape(1, -1))
            return scale[0], zero_point[0]
        return self.fit(x.movedim(self.axis, 0).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """X of any shape to its nearest representable values."""
        if self.spec is None:
            return x
        scale, zero_point = self.chosen(x.detach() if x.requires_grad else x)
        if not self.spec.alphabet.even:
            return self._by_rows(x, self._grid(scale, zero_point))
        if x.is_cuda or x.requires_grad:
            return self._fused(x, scale, zero_point)
        if self.axis is None:  # plain numbers: twice as fast
            ladder = self.spec.alphabet.ladder(int(zero_point), self.own)
            return ladder.nearest(x / scale).mul_(scale)
        scale, zero_point, own = (self._along(part, x) for part in (scale, zero_point, self.own))
        return self.spec.alphabet.ladder(zero_point, own).nearest(x / scale).mul_(scale)

    def _by_rows(self, x: Tensor, grid: Grid) -> Tensor:
        """Any alphabet, its channels laid out as rows."""
        if x.requires_grad:  # as a straight line between the ends, and at them
            low, high = grid.reach

            def cut(rows: Tensor) -> Tensor:
                held = (rows >= low) & (rows <= high)
                return torch.where(held, rows, rows.detach().clamp(low, high))

            inside = self._laid_out(x, cut)
            return inside + (self._laid_out(x.detach(), grid.quantize) - inside.detach())
        return self._laid_out(x, grid.quantize)

    def on_levels(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The nearest numbers of any alphabet at this scale; x is not looked at for NaN."""
        grid = self._grid(scale, zero_point)

        def nearest(rows: Tensor) -> Tensor:
            columns = rows.shape[-1] if rows.ndim else 1
            step = grid.spread(grid.scale, columns)
            return grid.ladder(columns).nearest(rows / step) * step

        return self._laid_out(x, nearest)

    def _laid_out(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """A change to rows of channels."""
        if self.axis is None:
            return change(x)
        first = x.movedim(self.axis, 0)
        return change(first.flatten(1)).reshape(first.shape).movedim(0, self.axis)

    def _fused(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """One pass, with gradients, that multiplies by 1 / scale; on the CPU 3 to 10 times slower
        than the others.
        """
        assert self.spec is not None
        ends = self.spec.alphabet.qmin, self.spec.alphabet.qmax
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *ends)
        if self.spec.alphabet.varies:
            x = torch.clamp(x, *(self._along(end, x) for end in self.real_ends))
            zero_point = zero_point.clamp(*ends)
        return torch.fake_quantize_per_channel_affine(x, scale, zero_point, self.axis, *ends)

    def _along(self, parameter: Tensor, x: Tensor) -> Tensor:
        """[channels] in a shape that spreads over x."""
        assert self.axis is not None
        return parameter.reshape(-1, *[1] * (x.ndim - 1 - self.axis))


@dataclass(frozen=True)
class TapPlace:
    """The place of an activation quantizer: behind the value `node`; for all its readers, or for
    those at `edges` only, which read one and the same value: it, or what moves made of it.

    axis: of the channels that have scales of their own; None: one scale for the whole tensor.
    """

    name: str
    node: str
    edges: tuple[Edge, ...] = ()
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Instrumented:
    """A copy of a network's graph with activation quantizers in place; they, layers and products by
    name.
    """

    graph_module: fx.GraphModule
    layers: dict[str, fx.Node]
    products: dict[str, fx.Node]
    taps: dict[str, fx.Node]

    def copied(self) -> "Instrumented":
        """A deep copy, whose quantizers and tensors may be changed."""
        graph_module = copied(self.graph_module)
        nodes = {node.name: node for node in graph_module.graph.nodes}
        parts = (self.layers, self.products, self.taps)
        own = [{name: nodes[node.name] for name, node in part.items()} for part in parts]
        return Instrumented(graph_module, *own)

    def tap(self, name: str) -> FakeQuantize:
        """The module of an activation quantizer."""
        module = self.graph_module.get_submodule(str(self.taps[name].target))
        assert isinstance(module, FakeQuantize)
        return module

    def bound(self, name: str) -> float:
        """The largest value that an activation quantizer can be given; inf where none is known."""
        return upper_bound(self.taps[name].args[0])

    def input_tap(self, layer: str) -> str | None:
        """The activation quantizer on whose grid a layer's input lies, by name; None for a float
        input.
        """
        return self.tap_at(self.layers[layer], 0)

    def input_grid(self, layer: Layer) -> Grid | None:
        """The grid of the value that a layer multiplies; None where it is float, or every batch has
        its own.
        """
        tap = self.input_tap(layer.name) if layer.geometry.observed else None
        return None if tap is None else self.tap(tap).grid

    def tap_at(self, node: fx.Node, index: int) -> str | None:
        """The activation quantizer on whose grid an argument of a layer or product lies, by name;
        None where it is float.
        """
        return self._tap_of(argument(node, index))

    @property
    def output_taps(self) -> list[str | None]:
        """The activation quantizers on whose grids the network's outputs lie, by name; None for
        those that are float.
        """
        (end,) = self.graph_module.graph.find_nodes(op="output")
        leaves = [leaf for leaf in pytree.tree_leaves(end.args) if isinstance(leaf, fx.Node)]
        return [self._tap_of(leaf) for leaf in leaves]

    def _tap_of(self, value: object) -> str | None:
        source = grid_source(value)
        return next((name for name, tap in self.taps.items() if tap is source), None)


def instrument(network: Network, places: list[TapPlace]) -> Instrumented:
    """Copy the network's graph and put the activation quantizers in. The network stays as it is."""
    graph_module = copied(network.graph_module)
    nodes = {node.name: node for node in graph_module.graph.nodes}
    layers = {layer.name: nodes[layer.node.name] for layer in network.layers}
    products = {product.name: nodes[product.node.name] for product in network.products}
    graph_module.add_submodule(_FOLDER, nn.Module())
    taps: dict[str, fx.Node] = {}
    for number, place in enumerate(places):
        target = f"{_FOLDER}.t{number}"
        graph_module.add_submodule(target, FakeQuantize(place.name, place.axis))
        if place.edges:
            taps[place.name] = _tap_edges(graph_module, target, nodes, place.edges)
        else:
            taps[place.name] = _tap_value(graph_module, target, nodes[place.node])
    graph_module.graph.lint()
    graph_module.recompile()
    return Instrumented(graph_module, layers, products, taps)


def with_tensors(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    """A network with other numbers, by dotted names."""
    graph_module = copied(network.graph_module)
    for name, value in tensors.items():
        set_tensor(graph_module, name, value)
    return replace(network, graph_module=graph_module)


def copied(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A deep copy, nodes under the same names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, from pickling its tree specs
        return copy.deepcopy(graph_module)


def _tap_value(graph_module: fx.GraphModule, target: str, node: fx.Node) -> fx.Node:
    readers = [user for user in node.users if user.target is not torch.ops.aten.sym_size.int]
    with graph_module.graph.inserting_after(node):
        tap = graph_module.graph.call_module(target, (node,))
    tap.meta["val"] = node.meta.get("val")
    for reader in readers:
        reader.replace_input_with(node, tap)
    return tap


def _tap_edges(
    graph_module: fx.GraphModule, target: str, nodes: dict[str, fx.Node], edges: tuple[Edge, ...]
) -> fx.Node:
    source = argument(nodes[edges[0].reader], edges[0].argument)
    with graph_module.graph.inserting_after(source):
        tap = graph_module.graph.call_module(target, (source,))
    tap.meta["val"] = source.meta.get("val")
    for edge in edges:
        set_argument(nodes[edge.reader], edge.argument, tap)
    return tap


def grid_source(node: object) -> fx.Node | None:
    """The activation quantizer whose grid the value of `node` lies on: the node itself, or what it
    moves; None when it is float.
    """
    while isinstance(node, fx.Node):
        if is_module(node) and str(node.target).startswith(_FOLDER):
            return node
        if not moves(node):
            return None
        node = node.args[0]
    return None
