"""Layers of a captured graph, in execution order: convolutions, transposed convolutions, linear
ones, embeddings and the weights of recurrent ones.

A graph whose layers are looked for is prepared first: `give_biases` puts a bias of zeros where a
call has none, as corrections need a place for theirs. Looking itself changes nothing. Embeddings
and recurrent weights have one that no node adds.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.core import (
    Convolution,
    Embedding,
    Geometry,
    Linear,
    Recurrent,
    TransposedConvolution,
)
from subbyte.core.geometry import Kind
from subbyte.errors import ModelError
from subbyte.graph.nodes import is_call, is_tensor
from subbyte.graph.tensors import parent_of, tensor_at

aten = torch.ops.aten
_CONVS = {
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
}
_TRANSPOSED = {
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
}
LAYER_OPERATIONS = _CONVS | _TRANSPOSED | {aten.linear.default}
_EMBEDDINGS = {aten.embedding.default}
_RECURRENT = {
    aten.lstm.input,
    aten.gru.input,
    aten.rnn_tanh.input,
    aten.rnn_relu.input,
}
_ARGUMENTS = ("input", "weight", "bias")
_UNREAD = "_unread_bias"
"""Ending of the name of a bias that no node adds."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A call of a layer.

    name: the user's module name; node: the call; weight, bias: dotted names of its tensors;
    owner: name of the layer that owns the weight: its own, or that of the first call of the weight.
    """

    name: str
    node: fx.Node
    weight: str
    bias: str
    geometry: Geometry
    owner: str

    @property
    def kind(self) -> Kind:
        """The name of such layers in recipes and files."""
        return self.geometry.kind

    @property
    def owns_weight(self) -> bool:
        """Whether this is the first call of the weight, the one that statistics are of."""
        return self.owner == self.name

    @property
    def input(self) -> fx.Node:
        """The node whose value the layer multiplies."""
        source = argument(self.node, 0)
        assert isinstance(source, fx.Node)
        return source


class Layered:
    """A network whose layers are found by name."""

    layers: tuple[Layer, ...]

    def layer(self, name: str) -> Layer:
        """The layer of this name. Raises ModelError when there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ModelError(f"the network has no layer {name!r}")

    @property
    def owners(self) -> tuple[Layer, ...]:
        """The layers that own their weight, in execution order: each weight once."""
        return tuple(layer for layer in self.layers if layer.owns_weight)


@dataclass(frozen=True)
class Edge:
    """A place where a value is read: an argument, by its number, of the node of this name."""

    reader: str
    argument: int


@dataclass(frozen=True)
class Skipped:
    """A parameter that stays float, and why. size: how many numbers it has."""

    name: str
    reason: str
    size: int = 0


def argument(node: fx.Node, index: int) -> Any:
    """Positional or keyword argument of a layer's call: 0 input, 1 weight, 2 bias."""
    return node.args[index] if len(node.args) > index else node.kwargs.get(_ARGUMENTS[index])


def set_argument(node: fx.Node, index: int, value: fx.Node) -> None:
    """Put another value in place of an argument of a layer's call, wherever `argument` finds it."""
    if len(node.args) > index:
        node.update_arg(index, value)
    else:
        node.update_kwarg(_ARGUMENTS[index], value)


def is_layer_call(node: fx.Node) -> bool:
    """Whether the node multiplies an input by a weight that is a parameter."""
    if node.target not in LAYER_OPERATIONS:
        return False
    weight = argument(node, 1)
    return isinstance(weight, fx.Node) and is_tensor(weight)


def find_layers(graph_module: fx.GraphModule) -> tuple[list[Layer], list[Skipped]]:
    """All layers in execution order, and the parameters that are no layer's.

    The calls have biases (`give_biases`).
    """
    layers: list[Layer] = []
    calls: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    for node in graph_module.graph.nodes:
        for weight in weights_of(node):
            names = calls.setdefault(weight, [])
            layers.append(_layer(graph_module, node, weight, names))
            names.append(layers[-1].name)
        if is_call(node) and not is_layer_call(node):
            skipped += _skipped(node, graph_module)
    known = {layer.weight for layer in layers}
    return layers, [place for place in skipped if place.name not in known]


def weights_of(node: fx.Node) -> list[str]:
    """Dotted names of the weights of a layer's call; none where the node is no layer."""
    if is_layer_call(node):
        return [str(argument(node, 1).target)]
    if node.target in _EMBEDDINGS:
        table = node.args[0]
        return [str(table.target)] if isinstance(table, fx.Node) and is_tensor(table) else []
    if node.target in _RECURRENT:
        parameters = [a for a in node.all_input_nodes if is_tensor(a)]
        return [str(a.target) for a in parameters if a.meta["val"].ndim == 2]
    return []


def _layer(graph_module: fx.GraphModule, node: fx.Node, weight: str, earlier: list[str]) -> Layer:
    name = weight.removesuffix(".weight") + (f"#{len(earlier) + 1}" if earlier else "")
    geometry = geometry_of(node, tensor_at(graph_module, weight))
    bias = str(argument(node, 2).target) if geometry.observed else f"{weight}{_UNREAD}"
    return Layer(name, node, weight, bias, geometry, [*earlier, name][0])


def give_biases(graph_module: fx.GraphModule) -> None:
    """Give every layer's call that has no bias one of zeros, and each weight a bias of its own
    where several share one, as each corrects it; in place. Embeddings and recurrent weights get
    one, too, that no node reads.
    """
    for node in list(graph_module.graph.nodes):
        if is_layer_call(node):
            bias = argument(node, 2)
            if bias is None:
                _give_bias(graph_module, node, None)
            elif not is_tensor(bias):
                _add_outside(graph_module, node, bias)
            elif _has_other_readers(graph_module, bias, argument(node, 1)):
                _give_bias(graph_module, node, tensor_at(graph_module, str(bias.target)))
            continue
        for weight in weights_of(node):
            owner, leaf = parent_of(graph_module, f"{weight}{_UNREAD}")
            owner.register_buffer(leaf, torch.zeros(tensor_at(graph_module, weight).shape[0]))


def _has_other_readers(graph_module: fx.GraphModule, bias: fx.Node, weight: fx.Node) -> bool:
    """Whether a bias is read by other than calls with this weight."""
    reads = [n for n in graph_module.graph.find_nodes(op="get_attr") if n.target == bias.target]
    return any(
        not is_layer_call(user)
        or argument(user, 2) is not read
        or argument(user, 1).target != weight.target
        for read in reads
        for user in read.users
    )


def _add_outside(graph_module: fx.GraphModule, node: fx.Node, bias: fx.Node) -> None:
    """Add a bias that is computed from inputs or weights behind a call, which gets one of zeros."""
    _give_bias(graph_module, node, None)
    axes = node.meta["val"].ndim - 1
    ones = [] if node.target is aten.linear.default else [1] * (axes - 1)
    with graph_module.graph.inserting_after(node):
        shaped = graph_module.graph.call_function(aten.reshape.default, (bias, [-1, *ones]))
    with graph_module.graph.inserting_after(shaped):
        total = graph_module.graph.call_function(aten.add.Tensor, (node, shaped))
    shaped.meta["val"], total.meta = bias.meta["val"], copy.copy(node.meta)
    node.replace_all_uses_with(total, lambda user: user is not total)


def _give_bias(graph_module: fx.GraphModule, node: fx.Node, values: Tensor | None) -> None:
    """Read a bias of the call's own: with these values, else of zeros."""
    weight_name = str(argument(node, 1).target)
    weight = tensor_at(graph_module, weight_name)
    prefix, _, leaf = weight_name.rpartition(".")
    bias_leaf = "bias" if leaf == "weight" else f"{leaf}_bias"
    owner = graph_module.get_submodule(prefix)
    taken = set(dir(owner)) - {name for name, value in owner._parameters.items() if value is None}
    while bias_leaf in taken:  # the module has a bias that this call does not add
        bias_leaf += "_"
    owner._parameters.pop(bias_leaf, None)
    zeros = weight.new_zeros(geometry_of(node, weight).rows)
    owner.register_buffer(bias_leaf, zeros if values is None else values.detach().clone())
    with graph_module.graph.inserting_before(node):
        bias = graph_module.graph.get_attr(f"{prefix}.{bias_leaf}" if prefix else bias_leaf)
    args = list(node.args) + [None] * (3 - len(node.args))
    args[2] = bias
    node.args = tuple(args)


def geometry_of(node: fx.Node, weight: Tensor) -> Geometry:
    """The shape and arithmetic of a layer's call with this weight."""
    shape = tuple(weight.shape)
    if node.target is aten.linear.default:
        return Linear(shape)
    if not is_layer_call(node):
        return Embedding(shape) if node.target in _EMBEDDINGS else Recurrent(shape)
    axes = len(shape) - 2
    given: dict[str, Any] = dict(zip(_argument_names(node), node.args, strict=False)) | dict(
        node.kwargs
    )

    def numbers(name: str, default: int) -> tuple[int, ...]:
        value = given.get(name, [default])
        value = [value] if isinstance(value, int) else list(value)
        return tuple(value * axes if len(value) == 1 else value)

    stride, dilation = numbers("stride", 1), numbers("dilation", 1)
    groups, padding = int(given.get("groups", 1)), given.get("padding", [0])
    if isinstance(padding, str):
        total = [
            d * (k - 1) if padding == "same" else 0
            for d, k in zip(dilation, shape[2:], strict=True)
        ]
        pairs = tuple((t // 2, t - t // 2) for t in total)
    else:
        pairs = tuple((p, p) for p in numbers("padding", 0))
    if node.target in _TRANSPOSED:
        extra = numbers("output_padding", 0)
        return TransposedConvolution(shape, stride, pairs, dilation, extra, groups)
    return Convolution(shape, stride, pairs, dilation, (), groups)


def _argument_names(node: fx.Node) -> list[str]:
    return [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]


def _skipped(node: fx.Node, graph_module: fx.GraphModule) -> list[Skipped]:
    operation = operation_of(node)
    names = [str(a.target) for a in node.all_input_nodes if is_tensor(a)]
    return [
        Skipped(
            name,
            f"{operation}: no convolution or linear layer; it stays float",
            tensor_at(graph_module, name).numel(),
        )
        for name in dict.fromkeys(names)
        if _weighs(tensor_at(graph_module, name), name)
    ]


def _weighs(tensor: Tensor, name: str) -> bool:
    """Whether a tensor that is no layer's deserves a row: parameters of two axes or more, computed
    constants of parameters among them, and whatever is called a weight.
    """
    if not tensor.is_floating_point():
        return False
    learned = isinstance(tensor, torch.nn.Parameter)
    return learned and (tensor.ndim >= 2 or "weight" in name.rpartition(".")[2])


def operation_of(node: fx.Node) -> str:
    """Name of the operation that a node calls, without its overload."""
    return str(node.target).removeprefix("aten.").split(".")[0].strip("_")
