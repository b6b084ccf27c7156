"""Layers of a captured graph: convolutions, transposed convolutions and linear ones, in execution
order.

A graph whose layers are looked for is prepared first: `give_biases` puts a bias of zeros where a
call has none, as corrections need a place for theirs. Looking itself changes nothing.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.core import Convolution, Geometry, Linear, TransposedConvolution
from subbyte.errors import ModelError
from subbyte.graph.nodes import is_call, is_tensor

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
_OPERATIONS = _CONVS | _TRANSPOSED | {aten.linear.default}
_ARGUMENTS = ("input", "weight", "bias")


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
    """A place with weights that stays float, and why."""

    name: str
    reason: str


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
    if node.target not in _OPERATIONS:
        return False
    weight = argument(node, 1)
    return isinstance(weight, fx.Node) and is_tensor(weight)


def tensor_at(graph_module: fx.GraphModule, name: str) -> Tensor:
    """The parameter or buffer of this dotted name."""
    value = attrgetter(name)(graph_module)
    assert isinstance(value, Tensor)
    return value


def find_layers(graph_module: fx.GraphModule) -> tuple[list[Layer], list[Skipped]]:
    """All layers in execution order, and the places with weights that are no layers.

    The calls have biases (`give_biases`).
    """
    layers: list[Layer] = []
    calls: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    for node in graph_module.graph.nodes:
        if is_layer_call(node):
            names = calls.setdefault(str(argument(node, 1).target), [])
            layers.append(_layer(graph_module, node, names))
            names.append(layers[-1].name)
        elif is_call(node):
            skipped += _skipped(node, graph_module)
    return layers, skipped


def _layer(graph_module: fx.GraphModule, node: fx.Node, earlier: list[str]) -> Layer:
    weight_name, bias = str(argument(node, 1).target), argument(node, 2)
    assert bias is not None, f"{node} has no bias; give_biases comes first"
    name = weight_name.removesuffix(".weight") + (f"#{len(earlier) + 1}" if earlier else "")
    geometry = _geometry(node, tensor_at(graph_module, weight_name))
    return Layer(name, node, weight_name, str(bias.target), geometry, [*earlier, name][0])


def give_biases(graph_module: fx.GraphModule) -> None:
    """Give every layer's call that has no bias one of zeros, in place."""
    for node in list(graph_module.graph.nodes):
        if is_layer_call(node) and argument(node, 2) is None:
            _give_bias(graph_module, node)


def _give_bias(graph_module: fx.GraphModule, node: fx.Node) -> None:
    weight_name = str(argument(node, 1).target)
    weight = tensor_at(graph_module, weight_name)
    prefix, _, leaf = weight_name.rpartition(".")
    bias_leaf = "bias" if leaf == "weight" else f"{leaf}_bias"
    owner = graph_module.get_submodule(prefix)
    taken = set(dir(owner)) - {name for name, value in owner._parameters.items() if value is None}
    while bias_leaf in taken:  # the module has a bias that this call does not add
        bias_leaf += "_"
    owner._parameters.pop(bias_leaf, None)
    owner.register_buffer(bias_leaf, weight.new_zeros(_geometry(node, weight).rows))
    with graph_module.graph.inserting_before(node):
        bias = graph_module.graph.get_attr(f"{prefix}.{bias_leaf}" if prefix else bias_leaf)
    args = list(node.args) + [None] * (3 - len(node.args))
    args[2] = bias
    node.args = tuple(args)


def _geometry(node: fx.Node, weight: Tensor) -> Geometry:
    shape = tuple(weight.shape)
    if node.target is aten.linear.default:
        return Linear(shape)
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
    operation = str(node.target).replace("aten.", "").split(".")[0].strip("_")
    if node.target in _OPERATIONS:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        module = stack[-1][0] if stack and isinstance(stack[-1], tuple) else ""
        return [
            Skipped(
                module or node.name,
                f"{operation}: its weight is computed, not a parameter; it stays float",
            )
        ]
    names = [str(a.target) for a in node.all_input_nodes if is_tensor(a)]
    return [
        Skipped(name, f"{operation}: no convolution or linear layer; it stays float")
        for name in names
        if isinstance(tensor_at(graph_module, name), torch.nn.Parameter)
        and (tensor_at(graph_module, name).ndim >= 2 or "weight" in name.rpartition(".")[2])
    ]
