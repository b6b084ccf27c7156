"""Batch-norms as what they are in evaluation mode: a factor and a term a channel, which the layers
before or after take up.

    norm(x) = gamma (x - mean) / sqrt(var + eps) + beta = a x + b,    a = gamma / sqrt(var + eps),
                                                                      b = beta - a mean
    before:  a (W x + c) + b   =  (a W) x + (a c + b)                 rows of W
    after:   W (a x + b) + c   =  (W a) x + (W b + c)                 columns of W

Computed in float64. Behind a layer that pads with zeros `after` holds where b = 0 only: the zeros
are not moved by b.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from subbyte.core import Geometry
from subbyte.graph.layers import Layer, find_layers, operation_of
from subbyte.graph.nodes import is_tensor
from subbyte.graph.tensors import set_tensor, tensor_at

aten = torch.ops.aten
_WITH_STATISTICS = aten._native_batch_norm_legit_no_training.default


class Unfoldable(Exception):  # noqa: N818 - goes no further than folding, and is no error
    """Why a batch-norm can't be folded one way."""


@dataclass(frozen=True, eq=False)
class Affine:
    """scale x + shift, a number of each a channel, or one for all, float64."""

    scale: Tensor
    shift: Tensor

    @property
    def only_scales(self) -> bool:
        """Whether zeros stay zeros."""
        return not bool(self.shift.any())

    @property
    def factors(self) -> Tensor:
        """The scale beside rows: [rows, 1], or [] for all."""
        return self.scale[:, None] if self.scale.ndim else self.scale

    def at(self, index: Tensor) -> "Affine":
        """Those of the channels of this index; of -1, zeros that stay zeros."""
        known, at = index >= 0, index.clamp_min(0)
        return Affine(
            torch.where(known, self.scale[at], 1.0), torch.where(known, self.shift[at], 0.0)
        )

    def spread(self, index: Tensor, channels: int) -> "Affine":
        """Those of so many channels that go where the index says, none to -1; channels that it does
        not name stay as they are.
        """
        scale, shift = self.scale.new_ones(channels), self.shift.new_zeros(channels)
        known = index >= 0
        scale[index[known]], shift[index[known]] = self.scale[known], self.shift[known]
        return Affine(scale, shift)


UNCHANGED = Affine(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))
"""Leaves all channels as they are."""


@dataclass(frozen=True, eq=False)
class NormNumbers:
    """The numbers of a batch-norm, float64 [channels], and how its running statistics go on.

    learned: whether gamma and beta are the network's own, not 1 and 0; momentum: share of a new
    batch in the statistics; None: they are the means of all batches.
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    variance: Tensor
    eps: float
    momentum: float | None
    learned: bool

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gamma, beta, mean and variance."""
        return self.gamma, self.beta, self.mean, self.variance

    @property
    def turned(self) -> "NormNumbers":
        """Those of a batch-norm without negative factors, for a layer whose outputs have the other
        sign where this one has them.
        """
        sign = self.signs
        return replace(self, gamma=self.gamma * sign, mean=self.mean * sign)

    @property
    def signs(self) -> Tensor:
        """-1 where the factor is negative, else 1."""
        return torch.where(self.gamma < 0, -1.0, 1.0).double()

    @property
    def affine(self) -> Affine:
        """The factor and term of each channel."""
        scale = self.gamma / torch.sqrt(self.variance + self.eps)
        return Affine(scale, self.beta - scale * self.mean)


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch-norm. node: its call; value: the node of its output, which may be the same."""

    node: fx.Node
    value: fx.Node

    @property
    def input(self) -> fx.Node:
        """The value that it normalizes."""
        source = self.node.args[0]
        assert isinstance(source, fx.Node)
        return source

    @property
    def name(self) -> str:
        """The user's module name, where it has tensors."""
        tensors = self._tensors
        return str(tensors[0].target).rpartition(".")[0] if tensors else self.node.name

    def size(self, graph_module: fx.GraphModule) -> int:
        """How many numbers it has."""
        names = [str(node.target) for node in self._tensors if is_tensor(node)]
        return sum(tensor_at(graph_module, name).numel() for name in names)

    def numbers(self, graph_module: fx.GraphModule) -> NormNumbers:
        """Its numbers. Raises Unfoldable when they depend on the input."""
        mean, variance = self._number(graph_module, 3, 0.0), self._number(graph_module, 4, 1.0)
        training = self.node.target is aten.batch_norm.default and self.node.args[5]
        if mean.ndim == 0 or variance.ndim == 0 or training:
            raise Unfoldable("it has no running statistics")
        first = 5 if self.node.target is _WITH_STATISTICS else 6
        momentum, eps = self.node.args[first : first + 2]
        assert isinstance(momentum, float) and isinstance(eps, float)
        gamma, beta = (
            self._number(graph_module, argument, default).expand_as(mean)
            for argument, default in ((1, 1.0), (2, 0.0))
        )
        learned = isinstance(self.node.args[1], fx.Node)
        return NormNumbers(gamma, beta, mean, variance, eps, momentum or None, learned)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Dotted names of gamma, beta, mean and variance; "" for those that it does not have."""
        found = self.node.args[1:5]
        return tuple(str(a.target) if isinstance(a, fx.Node) else "" for a in found)

    @property
    def _tensors(self) -> list[fx.Node]:
        return [a for a in self.node.args[1:5] if isinstance(a, fx.Node)]

    def _number(self, graph_module: fx.GraphModule, argument: int, default: float) -> Tensor:
        """An argument, float64 [channels]; the default, a number, where the norm has none."""
        node = self.node.args[argument]
        if not isinstance(node, fx.Node):
            return torch.tensor(default, dtype=torch.float64)
        if not is_tensor(node):
            raise Unfoldable("its numbers are computed from the input")
        return tensor_at(graph_module, str(node.target)).detach().double()


def find_norms(graph_module: fx.GraphModule) -> list[Norm]:
    """All batch-norms, in execution order."""
    norms: list[Norm] = []
    for node in graph_module.graph.nodes:
        if node.target is aten.batch_norm.default:
            norms.append(Norm(node, node))
        elif node.target is _WITH_STATISTICS:
            norms += [Norm(node, user) for user in node.users if user.args[1] == 0]
    return norms


class Layers:
    """The layers of a graph by their nodes, and how many calls read each tensor."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        layers, _ = find_layers(graph_module)
        self._by_node = {layer.node: layer for layer in layers if layer.geometry.observed}
        self._calls: dict[str, int] = {}
        for node in graph_module.graph.find_nodes(op="get_attr"):
            name = str(node.target)
            self._calls[name] = self._calls.get(name, 0) + len(node.users)

    def at(self, node: fx.Node) -> Layer | None:
        """The layer whose call a node is."""
        return self._by_node.get(node)

    def changeable(self, node: fx.Node) -> Layer:
        """The layer whose call a node is. Raises Unfoldable when there is none, or when its tensors
        serve other calls too.
        """
        layer = self.at(node)
        if layer is None:
            raise Unfoldable(f"{operation_of(node)} is no layer")
        if max(self._calls[layer.weight], self._calls[layer.bias]) > 1:
            raise Unfoldable(f"the weight or bias of {layer.name} serves more than one call")
        return layer


@dataclass(frozen=True, eq=False)
class Change:
    """A layer that takes up what is done to its output, or was done to its input."""

    layer: Layer
    affine: Affine
    after: bool
    """Whether the layer stands behind what it takes up."""

    def apply(self, graph_module: fx.GraphModule) -> None:
        """Change weight and bias, in place."""
        geometry, scale = self.layer.geometry, self.affine.scale
        weight, bias = (tensor_at(graph_module, n) for n in (self.layer.weight, self.layer.bias))
        matrix, term = geometry.to_matrix(weight.detach().double()), bias.detach().double()
        if self.after:
            columns = _columns(geometry, self.affine.shift)
            term = term + (matrix * columns).sum(1)
            matrix = matrix * _columns(geometry, scale)
        else:
            matrix, term = matrix * scale[:, None], term * scale + self.affine.shift
        set_tensor(graph_module, self.layer.weight, geometry.to_weight(matrix).to(weight.dtype))
        set_tensor(graph_module, self.layer.bias, term.to(bias.dtype))


def _columns(geometry: Geometry, numbers: Tensor) -> Tensor:
    """A number of each input channel at the weights [rows, columns] that it meets."""
    groups, inputs = geometry.groups, len(numbers) // geometry.groups
    kernel = geometry.columns // inputs
    met = numbers.reshape(groups, inputs).repeat_interleave(kernel, 1)
    return met.repeat_interleave(geometry.rows // groups, 0)
