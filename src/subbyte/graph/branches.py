"""Parallel layers whose outputs are summed are one layer.

    sum_k f_k (V_k * x + c_k)  =  (sum_k f_k V_k) * x + sum_k f_k c_k

f_k is 1 or -1 (or the factor of a sum), V_k a kernel that stands in the largest of them where its
numbers meet the same inputs, with zeros around. With padding p, dilation d, offset j of a kernel
meets the input at -p + d j of the output's place; so number j of a kernel with p', d' goes to

    i = (p - p' + d' j) / d         a whole number from 0 to the largest kernel's end, or no match

Strides are equal. The largest has the fewest groups; a kernel of more groups is, in its rows, that
of fewer with zeros for the inputs of the others. A batch-norm a x + b of the same input is the
kernel diag(a) of one place, and the input itself is that with a = 1 (Ding et al. 2021, RepVGG,
section 3.3); so RepVGG's, MobileOne's and FastViT's blocks become one convolution.

The input itself joins only where a batch-norm of it did: other residual connections stay, as a 1
among small weights costs bits.
A factor a channel (layer scale) of what was merged is taken up on the way. The layer that stays has
the largest kernel, and its name.
"""

from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, fx

from subbyte.core import Convolution, Geometry, Linear
from subbyte.graph.affine import Affine, Change, Layers, Unfoldable, find_norms
from subbyte.graph.channels import readers, shape
from subbyte.graph.layers import Layer
from subbyte.graph.nodes import is_tensor
from subbyte.graph.tensors import set_tensor, tensor_at

aten = torch.ops.aten
_SUMS: dict[Any, float] = {aten.add.Tensor: 1.0, aten.sub.Tensor: -1.0}
"""Operations by the factor of their second operand."""


@dataclass
class Merged:
    """A layer that took up what stood parallel to it: names of parts, whether a batch-norm was
    among them.
    """

    layer: str
    parts: tuple[str, ...] = ()
    norms: bool = False


def merge_branches(graph_module: fx.GraphModule) -> list[Merged]:
    """Merge parallel layers and batch-norms, in place. Calls have biases (`give_biases`)."""
    merging = _Merging(graph_module)
    for node in list(graph_module.graph.nodes):
        if node.target in _SUMS and not _part_of_a_sum(node):
            merging.merge(node)
        elif node.target is aten.mul.Tensor:
            merging.scale(node)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return [each for each in merging.merged.values() if each.parts]


def drop_zeros(graph_module: fx.GraphModule) -> None:
    """Take out sums with the number 0, as Python's `sum` begins with, in place."""
    for node in list(graph_module.graph.nodes):
        if node.target not in _SUMS:
            continue
        numbers = [part for part in node.args[:2] if not isinstance(part, fx.Node)]
        value = node.all_input_nodes[0]
        same = value.meta["val"].dtype == node.meta["val"].dtype
        negated = node.target is aten.sub.Tensor and node.args[0] is not value
        if numbers == [0] and same and not negated:
            node.replace_all_uses_with(value)
            graph_module.graph.erase_node(node)


@dataclass(frozen=True, eq=False)
class _Term:
    """A part of a sum: factor times the value of a node."""

    factor: float
    node: fx.Node


@dataclass
class _Merging:
    """Merging of one graph: what was merged so far, by the name of the layer that stays."""

    graph_module: fx.GraphModule
    merged: dict[str, Merged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._layers = Layers(self.graph_module)
        self._norms = {norm.value: norm for norm in find_norms(self.graph_module)}

    def merge(self, root: fx.Node) -> None:
        """Merge what can be merged of a sum."""
        terms = _terms(root)
        count = len(terms)
        while (fewer := self._step(terms)) is not None:
            terms = fewer
        if len(terms) == count:
            return
        value, *others = sorted(terms, key=lambda term: term.factor != 1)
        total = value.node
        with self.graph_module.graph.inserting_before(root):
            for term in others:
                total = self.graph_module.graph.call_function(
                    aten.add.Tensor,
                    (total, term.node),
                    {"alpha": term.factor} if term.factor != 1 else {},
                )
                total.meta = dict(root.meta)
        root.replace_all_uses_with(total)
        self.graph_module.graph.eliminate_dead_code()

    def _step(self, terms: list[_Term]) -> list[_Term] | None:
        """The terms with two of them merged; None when no two can be."""
        for one, other in permutations(terms, 2):
            try:
                layer = self._alone(one.node)
                weight, bias = self._stands_in(layer, other.node)
            except Unfoldable:
                continue
            own, term = (
                tensor_at(self.graph_module, n).detach() for n in (layer.weight, layer.bias)
            )
            weight = one.factor * own.double() + other.factor * weight
            bias = one.factor * term.double() + other.factor * bias
            set_tensor(self.graph_module, layer.weight, weight.to(own.dtype))
            set_tensor(self.graph_module, layer.bias, bias.to(term.dtype))
            self._note(layer, other.node)
            rest = [term for term in terms if term is not one and term is not other]
            return [_Term(1.0, one.node), *rest]
        return None

    def scale(self, node: fx.Node) -> None:
        """Let what was merged take up a factor a channel."""
        for value, factor in permutations(node.args[:2]):
            if not isinstance(value, fx.Node) or not isinstance(factor, fx.Node):
                return
            layer = self._layers.at(value)
            if layer is None or layer.name not in self.merged or not is_tensor(factor):
                continue
            factors = tensor_at(self.graph_module, str(factor.target)).detach().double()
            sizes = [1] * len(shape(value))
            sizes[layer.geometry.channel_axis(len(sizes))] = layer.geometry.rows
            if (
                len(readers(value)) == 1
                and list(torch.broadcast_shapes(factors.shape, sizes)) == sizes
            ):
                scale = factors.expand(sizes).flatten()
                Change(layer, Affine(scale, torch.zeros_like(scale)), after=False).apply(
                    self.graph_module
                )
                node.replace_all_uses_with(value)
                self.graph_module.graph.erase_node(node)
                return

    def _alone(self, node: fx.Node) -> Layer:
        """The layer whose call a node is, where only the sum reads it. Raises Unfoldable."""
        layer = self._layers.changeable(node)
        if len(readers(node)) > 1:
            raise Unfoldable(f"the output of {layer.name} is also read elsewhere")
        return layer

    def _stands_in(self, layer: Layer, node: fx.Node) -> tuple[Tensor, Tensor]:
        """A term of the sum as weight, of the layer's shape, and bias. Raises Unfoldable."""
        geometry, norm = layer.geometry, self._norms.get(node)
        if node is layer.input and self._has_norms(layer):
            affine = Affine(*(fill(geometry.rows).double() for fill in (torch.ones, torch.zeros)))
            return placed(geometry, *_of_one_place(geometry, affine.scale)), affine.shift
        if norm is not None and norm.input is layer.input and len(readers(node)) == 1:
            if geometry.channel_axis(len(shape(node))) != 1:
                raise Unfoldable(f"{layer.name} multiplies along another axis")
            affine = norm.numbers(self.graph_module).affine
            return placed(geometry, *_of_one_place(geometry, affine.scale)), affine.shift
        other = self._alone(node)
        if other.input is not layer.input:
            raise Unfoldable(f"{other.name} has another input")
        weight, bias = (tensor_at(self.graph_module, n) for n in (other.weight, other.bias))
        return placed(geometry, other.geometry, weight.detach().double()), bias.detach().double()

    def _has_norms(self, layer: Layer) -> bool:
        """Whether a layer took up a batch-norm that stood parallel to it."""
        return layer.name in self.merged and self.merged[layer.name].norms

    def _note(self, layer: Layer, node: fx.Node) -> None:
        """Remember what a layer took up."""
        entry = self.merged.setdefault(layer.name, Merged(layer.name))
        norm, other = self._norms.get(node), self._layers.at(node)
        if norm is not None:
            entry.parts, entry.norms = (*entry.parts, norm.name), True
        elif other is not None:
            before = self.merged.pop(other.name, Merged(other.name))
            entry.parts = (*entry.parts, other.name, *before.parts)
            entry.norms = entry.norms or before.norms
        else:
            entry.parts = (*entry.parts, "its input")


def _part_of_a_sum(node: fx.Node) -> bool:
    """Whether a value is read by one sum alone, of its own shape."""
    users = list(node.users)
    return len(users) == 1 and users[0].target in _SUMS and node in dict(_operands(users[0]) or [])


def _terms(node: fx.Node, factor: float = 1.0) -> list[_Term]:
    """The values that a sum adds up, sums in it taken apart."""
    terms: list[_Term] = []
    for operand, own in _operands(node) or []:
        if operand.target in _SUMS and len(operand.users) == 1 and _operands(operand):
            terms += _terms(operand, factor * own)
        else:
            terms.append(_Term(factor * own, operand))
    return terms


def _operands(node: fx.Node) -> list[tuple[fx.Node, float]] | None:
    """The two values of a sum with their factors; None when one is no value of the sum's shape."""
    one, other = node.args[:2]
    alpha = node.kwargs.get("alpha", 1)
    if not isinstance(one, fx.Node) or not isinstance(other, fx.Node) or one is other:
        return None
    if not isinstance(alpha, int | float) or not shape(one) == shape(other) == shape(node):
        return None
    return [(one, 1.0), (other, _SUMS[node.target] * alpha)]


def _of_one_place(geometry: Geometry, scale: Tensor) -> tuple[Geometry, Tensor]:
    """A factor a channel as a layer that stands parallel to one of this geometry. Raises Unfoldable
    when there is none.
    """
    channels, axes = len(scale), len(geometry.kernel)
    if isinstance(geometry, Linear):
        return Linear((channels, channels)), scale.diag()
    weight = scale.reshape(channels, 1, *[1] * axes)
    ones, none = (1,) * axes, ((0, 0),) * axes
    return Convolution(tuple(weight.shape), ones, none, ones, (), channels), weight


def placed(geometry: Geometry, own: Geometry, weight: Tensor) -> Tensor:
    """The weight of a layer in the shape of another one that does the same. own: the geometry it
    has. Raises Unfoldable when there is none.
    """
    if own == geometry and own.kind == geometry.kind:
        return weight
    plain = all(each.kind == Convolution.kind for each in (geometry, own))
    inputs = [each.weight_shape[1] * each.groups for each in (geometry, own)]
    if (
        not plain
        or own.stride != geometry.stride
        or own.rows != geometry.rows
        or len(set(inputs)) > 1
    ):
        raise Unfoldable("they are layers of different kinds, strides or channels")
    if own.groups % geometry.groups:
        raise Unfoldable("the larger kernel has more groups")
    rows = torch.arange(own.rows)[:, None]
    group, mine = (
        rows // (own.rows // each.groups) * each.weight_shape[1] for each in (geometry, own)
    )
    dense = weight.new_zeros(*geometry.weight_shape[:2], *own.kernel)
    dense[rows, mine - group + torch.arange(own.weight_shape[1])] = weight
    made = weight.new_zeros(geometry.weight_shape)
    made[(slice(None), slice(None), *_places(geometry, own))] = dense
    return made


def _places(geometry: Geometry, own: Geometry) -> list[slice]:
    """Where the numbers of a kernel stand in a larger one, by axis. Raises Unfoldable."""
    places = []
    for axis, size in enumerate(own.kernel):
        step, larger = geometry.dilation[axis], geometry.kernel[axis]
        first = geometry.padding[axis][0] - own.padding[axis][0]
        stride = own.dilation[axis] if size > 1 else step
        last = first + stride * (size - 1)
        if first < 0 or first % step or stride % step or last // step >= larger:
            raise Unfoldable("one kernel sees what the other does not")
        places.append(slice(first // step, last // step + 1, stride // step))
    return places
