"""The quantized network as a program with torch's quantize and dequantize operations
(quantized_decomposed), which the compilers of runtimes turn into integer kernels.

    activation  quantize_per_tensor, dequantize_per_tensor                               int8 codes
    weight      int8 codes, dequantize_per_channel or dequantize_per_tensor
    weight      float32, quantized and dequantized likewise, for compilers that make the codes
                themselves (`Lowering.rounds`)
    between     round(x / scale) scale in float, from one grid to another, for compilers whose
                integer kernels round such values twice (`Lowering.parts`)

Below 8 bits a value is cut to the grid's ends, which lie on the grid: by the layer that yields it,
whose clamp-like activation the cut takes in; other values behind a pair of operations of 8 bits.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization.fx import _decomposed

from subbyte.graph.capture import fixed_program
from subbyte.graph.instrument import FakeQuantize, Instrumented
from subbyte.graph.layers import Layer
from subbyte.graph.plain import Program, without_traces
from subbyte.graph.quiet import silence
from subbyte.graph.signature import Signature
from subbyte.graph.sites import mark_sites
from subbyte.graph.taps import moves

assert _decomposed  # its operations are known once it is imported
_LOW, _HIGH = -128, 127
_FLOATS = "subbyte_in_float_"
_operations = torch.ops.quantized_decomposed
aten = torch.ops.aten
_LAYERS = {
    aten.conv1d.default,
    aten.conv2d.default,
    aten.linear.default,
}
"""Operations into which compilers take an activation behind them."""
_SUMS = {
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.mean.dim,
    aten.adaptive_avg_pool2d.default,
    aten.sigmoid.default,
}
"""Other operations whose integer kernels round once."""
_ENDS: dict[Any, Callable[[fx.Node], tuple[float, float] | None]] = {
    aten.relu.default: lambda _: (0.0, inf),
    aten.relu6.default: lambda _: (0.0, 6.0),
    aten.hardtanh.default: lambda node: _hardtanh_ends(*node.args),
}
"""Clamp-like activations: what they cut values to."""


def _hardtanh_ends(_: Any, low: Any = -1.0, high: Any = 1.0) -> tuple[float, float]:
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Codes:
    """A weight as int8 codes in the weight's shape, all zero points 0. scale: float32 [], or one a
    channel along `axis`.
    """

    codes: Tensor
    scale: Tensor
    axis: int


@dataclass(frozen=True)
class Lowering:
    """How a compiler wants the program. rounds: it makes codes of weights itself; parts: values go
    from one grid to another in float. batch: samples of a call.
    """

    rounds: bool = False
    parts: bool = False
    batch: int = 1


_PLAIN = Lowering()


class _Activation(nn.Module):
    """A value on a grid of 8 bits or fewer with one scale.

    ends: what it is cut to; none where codes are as many as 8 bits have. first: whether it is cut
    before it is quantized, not as codes. apart: whether it is rounded in float first.
    """

    def __init__(self, tap: FakeQuantize) -> None:
        super().__init__()
        assert tap.grid is not None
        alphabet = tap.grid.spec.alphabet
        lift = _LOW if alphabet.qmin == 0 else 0
        self.scale, self.zero_point = float(tap.scale), int(tap.zero_point) + lift
        low, high = map(float, tap.grid.reach)
        self.ends: tuple[float, ...] = (low, high) if alphabet.count < 256 else ()
        self.first = self.apart = False

    def forward(self, x: Tensor) -> Tensor:
        if self.apart:
            return self._rounded(_in_float(x, self.scale, self.ends))
        if self.ends and not self.first:
            x = self._rounded(x)
        if self.ends:
            x = aten.hardtanh.default(x, *self.ends)
        return self._rounded(x)

    def _rounded(self, x: Tensor) -> Tensor:
        grid = (self.scale, self.zero_point, _LOW, _HIGH, torch.int8)
        codes = _operations.quantize_per_tensor(x, *grid)
        found: Tensor = _operations.dequantize_per_tensor(codes, *grid)
        return found


class _Rounded(nn.Module):
    """A value on a grid as it is, once more rounded in float: compilers keep what reads it in
    float, then.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return _in_float(x, self.scale)


def _in_float(x: Tensor, scale: float, ends: tuple[float, ...] = ()) -> Tensor:
    steps = torch.round(x / scale)
    return scale * (torch.clamp(steps, *(round(end / scale) for end in ends)) if ends else steps)


class _Weight(nn.Module):
    """A weight from its codes, or from float32 that rounds to them."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: Codes, *, rounds: bool) -> None:
        super().__init__()
        self.axis, self.rounds = weight.axis, rounds
        self.register_buffer("codes", weight.codes)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("zero_point", torch.zeros(weight.scale.shape, dtype=torch.int64))
        if rounds:
            along = [-1 if axis == weight.axis else 1 for axis in range(weight.codes.ndim)]
            own = weight.scale.reshape(along) if weight.scale.ndim else weight.scale
            self.codes = weight.codes * own

    def forward(self) -> Tensor:
        ends = (-_HIGH, _HIGH, torch.int8)
        if self.scale.ndim:
            grid: tuple[Any, ...] = (self.scale, self.zero_point, self.axis, *ends)
            back, there = _operations.dequantize_per_channel, _operations.quantize_per_channel
        else:
            grid = (float(self.scale), 0, *ends)
            back, there = _operations.dequantize_per_tensor, _operations.quantize_per_tensor
        codes = there(self.codes, *grid) if self.rounds else self.codes
        found: Tensor = back(codes, *grid)
        return found


def integer_program(
    instrumented: Instrumented,
    layers: list[Layer],
    weights: Mapping[str, Codes],
    signature: Signature,
    lowering: Lowering = _PLAIN,
) -> Program:
    """The network as a program for calls of one size. layers: those with codes; weights: their
    codes by the weight's name. Weights of other layers are dequantized.
    """

    def make(name: str, _: FakeQuantize | None) -> nn.Module:
        if name in weights:
            return _Weight(weights[name], rounds=lowering.rounds)
        return _Activation(instrumented.tap(name))

    marked = mark_sites(instrumented, layers, make)
    if lowering.parts:
        _keep_apart(marked)
    for node in marked.graph.find_nodes(op="call_module"):
        module = marked.get_submodule(node.target)
        if isinstance(module, _Weight):
            node.args = ()
        elif isinstance(module, _Activation) and module.ends and not module.apart:
            _cut_by_layer(node, module)
    marked.graph.eliminate_dead_code()
    left = {node.target for node in marked.graph.find_nodes(op="get_attr")}
    for name in weights.keys() - left:
        home, _, own = name.rpartition(".")
        delattr(marked.get_submodule(home), own)
    marked.recompile()
    with silence(), torch.no_grad():
        exported = fixed_program(marked, signature.zeros(lowering.batch))
    _own_values(exported.graph_module)
    return without_traces(exported)


def _keep_apart(marked: fx.GraphModule) -> None:
    """Round in float what integer kernels would round twice, or to a grid of their own: in front of
    operations that have no exact kernels, and behind them.
    """
    found = [
        (node, module)
        for node in marked.graph.find_nodes(op="call_module")
        if isinstance(module := marked.get_submodule(str(node.target)), _Activation)
    ]
    own = {node: (module.scale, module.zero_point) for node, module in found}
    for number, (node, module) in enumerate(found):
        if not _yields_codes(node, own):
            own_module = copy.copy(module)  # of this place: behind moves it stands as it is
            own_module.apart = True
            node.target = f"{_FLOATS}{number}_codes"
            marked.add_submodule(str(node.target), own_module)
        readers = [one for one in node.users if one.op == "call_function" and not moves(one)]
        floats = [one for one in readers if not _reads_codes(one, marked, own)]
        if floats:
            name = f"{_FLOATS}{number}"
            marked.add_submodule(name, _Rounded(module.scale))
            with marked.graph.inserting_after(node):
                apart = marked.graph.call_module(name, (node,))
            for reader in floats:
                reader.replace_input_with(node, apart)


def _yields_codes(node: fx.Node, grids: Mapping[fx.Node, tuple[float, int]]) -> bool:
    """Whether exact kernels yield what an activation takes. grids: of activations."""
    source = node.args[0]
    while isinstance(source, fx.Node) and (source.target in _ENDS or moves(source)):
        source = source.args[0]
    assert isinstance(source, fx.Node)
    if source in grids:
        return grids[source] == grids[node]
    return source.op == "placeholder" or source.target in _LAYERS | _SUMS


def _reads_codes(
    node: fx.Node, marked: fx.GraphModule, grids: Mapping[fx.Node, tuple[float, int]]
) -> bool:
    """Whether an exact kernel reads the codes of the activations that an operation takes."""
    if node.target in _LAYERS:
        weight = node.args[1]
        assert isinstance(weight, fx.Node)
        made = weight.op == "call_module"
        return made and isinstance(marked.get_submodule(str(weight.target)), _Weight)
    if node.target not in _SUMS:
        return False
    users, made_of = list(node.users), [one for one in node.args[:2] if not isinstance(one, list)]
    while len(users) == 1 and (users[0].target in _ENDS or moves(users[0])):
        users = list(users[0].users)
    return all(one in grids for one in made_of) and all(one in grids for one in users)


def _cut_by_layer(node: fx.Node, module: _Activation) -> None:
    """Let the layer that yields a value cut it, in place of the activation between the two; nothing
    where no layer does.
    """
    source = node.args[0]
    assert isinstance(source, fx.Node)
    cuts = _ENDS.get(source.target)
    ends = None if cuts is None else cuts(source)
    layer = source if ends is None else source.args[0]
    if not isinstance(layer, fx.Node) or layer.target not in _LAYERS or len(source.users) > 1:
        return
    if ends is not None and len(layer.users) > 1:
        return
    own = (-inf, inf) if ends is None else ends
    (low, least), (high, most) = zip(module.ends, own, strict=True)
    module.ends, module.first = (max(low, least), min(high, most)), True
    node.args = (layer,)


def _own_values(graph_module: fx.GraphModule) -> None:
    """A dequantized value for each reader, in place: compilers look for one between every
    operation and the codes that it reads.
    """
    graph = graph_module.graph
    target = _operations.dequantize_per_tensor.default
    for node in graph.find_nodes(op="call_function", target=target):
        for reader in list(node.users)[1:]:
            with graph.inserting_before(reader):
                own = graph.node_copy(node)
            reader.replace_input_with(node, own)
    graph_module.recompile()
