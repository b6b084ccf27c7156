"""Batch-norm folding: layers take up the batch-norms behind and before them (`graph.affine` has the
formulas).

A batch-norm goes back to what made its input: through operations that only move values or take
means of a channel, through concatenations (each part takes its share) and sums (all take the
factor, one the term), to layers whose output nothing else reads. Else parallel branches take it up
(`graph.branches`), or it goes on to what reads its output, when all of that is layers: exact unless
one pads with zeros, which a term would have moved. A batch-norm that can go neither way stays.
Cost: one product a weight.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from operator import getitem

import torch
from torch import fx

from subbyte.core import Geometry
from subbyte.graph.affine import (
    Affine,
    Change,
    Layers,
    Norm,
    NormNumbers,
    Unfoldable,
    find_norms,
)
from subbyte.graph.branches import drop_zeros, merge_branches
from subbyte.graph.channels import Route, keeps_channels, moved, readers, routes, shape
from subbyte.graph.layers import Skipped, find_layers, operation_of
from subbyte.graph.nodes import is_call, is_output

aten = torch.ops.aten
_SUMS = {aten.add.Tensor, aten.sub.Tensor}
_CHANNELS = 1
"""The axis that a batch-norm has its channels on."""
_Way = Callable[[Layers, Norm, Affine], list[Change]]


@dataclass(frozen=True)
class Folded:
    """Outcome of folding.

    layers: names of those that took up a batch-norm; merged: what a layer took up that stood
    parallel to it; left: the batch-norms that stay, with the reason; behind: those that stood right
    behind a layer, as they were, by name of layer.
    """

    layers: list[str]
    merged: dict[str, tuple[str, ...]]
    left: list[Skipped]
    behind: dict[str, NormNumbers]


def fold_batch_norms(graph_module: fx.GraphModule) -> Folded:
    """Fold every batch-norm that can be, in place. Calls have biases (`give_biases`)."""
    drop_zeros(graph_module)
    folding = _Folding(graph_module)
    folding.fold(find_norms(graph_module), _back)
    merged = merge_branches(graph_module)
    folding.fold(find_norms(graph_module), _back)
    # from the end: the second of two batch-norms makes way for the first
    folding.fold(find_norms(graph_module)[::-1], _on)
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    took = folding.took | {branches.layer for branches in merged if branches.norms}
    return Folded(
        [layer.name for layer in find_layers(graph_module)[0] if layer.name in took],
        {branches.layer: branches.parts for branches in merged},
        [folding.left(norm) for norm in find_norms(graph_module)],
        folding.behind,
    )


@dataclass
class _Folding:
    """Folding of one graph: names of layers that took up a batch-norm, those that stood right
    behind one, and why others stay, by call and way.
    """

    graph_module: fx.GraphModule
    took: set[str] = field(default_factory=set)
    behind: dict[str, NormNumbers] = field(default_factory=dict)
    reasons: dict[fx.Node, dict[_Way, str]] = field(default_factory=dict)

    def fold(self, norms: list[Norm], way: _Way) -> None:
        """Fold batch-norms one way, where that is exact."""
        layers = Layers(self.graph_module)
        for norm in norms:
            try:
                numbers = norm.numbers(self.graph_module)
                changes = way(layers, norm, numbers.affine)
            except Unfoldable as reason:
                self.reasons.setdefault(norm.node, {})[way] = str(reason)
                continue
            for change in changes:
                change.apply(self.graph_module)
                self.took.add(change.layer.name)
                if change.layer.node is norm.input:
                    self.behind[change.layer.name] = numbers
            norm.value.replace_all_uses_with(norm.input)
            for node in dict.fromkeys((norm.value, norm.node)):
                self.graph_module.graph.erase_node(node)

    def left(self, norm: Norm) -> Skipped:
        """The row of a batch-norm that stays."""
        reasons = dict.fromkeys(self.reasons[norm.node].values())
        return Skipped(
            norm.name,
            f"batch-norm: {', and '.join(reasons)}; it stays float",
            norm.size(self.graph_module),
        )


def _back(layers: Layers, norm: Norm, affine: Affine) -> list[Change]:
    """Changes of layers before a batch-norm that make it needless. Raises Unfoldable."""
    return _changes_before(layers, norm.input, _CHANNELS, affine)


def _changes_before(layers: Layers, node: fx.Node, axis: int, affine: Affine) -> list[Change]:
    """Changes of layers that multiply and move a value, a channel. Raises Unfoldable."""
    layer = layers.at(node)
    if len(readers(node)) > 1:
        name = layer.name if layer else _said(node)
        raise Unfoldable(f"the output of {name} is also read elsewhere")
    if layer is not None:
        layer = layers.changeable(node)
        if layer.geometry.channel_axis(node.meta["val"].ndim) != axis:
            raise Unfoldable(f"it normalizes another axis than the outputs of {layer.name}")
        return [Change(layer, affine, after=False)]
    if keeps_channels(node):
        route = _route(node, affine, target=axis)
        known = route.index[route.index >= 0]
        if len(known.unique()) < len(known):
            raise Unfoldable(f"{_said(node)} repeats its channels")
        _check_others(node, route)
        source = moved(node)
        spread = affine.spread(route.index, shape(source)[route.source])
        return _changes_before(layers, source, route.source, spread)
    return [
        change
        for part, share in _parts(node, axis, affine)
        for change in _changes_before(layers, part, axis, share)
    ]


def _parts(node: fx.Node, axis: int, affine: Affine) -> list[tuple[fx.Node, Affine]]:
    """The values that a concatenation or a sum is made of, each with its share. Raises
    Unfoldable.
    """
    parts = node.args[0] if node.target is aten.cat.default else node.args[:2]
    assert isinstance(parts, list | tuple)
    nodes = [part for part in parts if isinstance(part, fx.Node)]
    known = node.target is aten.cat.default or node.target in _SUMS
    if not known or len(set(nodes)) < len(parts):
        raise Unfoldable(f"no layer stands before it but {_said(node)}")
    if node.target in _SUMS:
        if any(shape(part) != shape(node) for part in nodes):
            raise Unfoldable("the sum before it spreads values over axes")
        return [
            (nodes[0], affine),
            (nodes[1], Affine(affine.scale, torch.zeros_like(affine.shift))),
        ]
    dimension = node.args[1] if len(node.args) > 1 else 0
    assert isinstance(dimension, int)
    if dimension % len(shape(node)) != axis:
        return [(part, affine) for part in nodes]
    ends = [0, *accumulate(shape(part)[axis] for part in nodes)]
    shares = [affine.at(torch.arange(start, end)) for start, end in pairwise(ends)]
    return list(zip(nodes, shares, strict=True))


def _check_others(node: fx.Node, route: Route) -> None:
    """Raise Unfoldable when another part of a split has the same channels."""
    if node.target is not getitem:
        return
    mine = set(route.index.tolist())
    for other in readers(node.all_input_nodes[0]):
        if other is node:
            continue
        found = next(routes(other, source=route.source), None)
        if found is None or mine & set(found.index.tolist()):
            raise Unfoldable("its channels are also read elsewhere")


def _on(layers: Layers, norm: Norm, affine: Affine) -> list[Change]:
    """Changes of layers behind a batch-norm that make it needless. Raises Unfoldable."""
    return _changes_after(layers, norm.value, _CHANNELS, affine)


def _changes_after(layers: Layers, node: fx.Node, axis: int, affine: Affine) -> list[Change]:
    """Changes of readers of a value that multiply and move it, a channel. Raises Unfoldable."""
    changes: list[Change] = []
    for reader in readers(node):
        layer = layers.at(reader)
        if layer is not None:
            layer = layers.changeable(reader)
            if layer.geometry.channel_axis(node.meta["val"].ndim) != axis:
                raise Unfoldable(f"{layer.name} multiplies along another axis")
            if _sees_zeros(layer.geometry) and not affine.only_scales:
                raise Unfoldable(f"{layer.name} pads with zeros")
            changes.append(Change(layer, affine, after=True))
            continue
        several = isinstance(reader.meta.get("val"), tuple | list)
        for value in readers(reader) if several else [reader]:
            if not keeps_channels(value):
                raise Unfoldable(f"{_said(value)} reads it")
            route = _route(value, affine, source=axis)
            changes += _changes_after(layers, value, route.target, affine.at(route.index))
    return changes


def _route(
    node: fx.Node, affine: Affine, *, source: int | None = None, target: int | None = None
) -> Route:
    """The way of channels through an operation that does the same to numbers before and after they
    are multiplied and moved. Raises Unfoldable.
    """
    route = next(routes(node, source, target), None)
    if route is None:
        raise Unfoldable(f"channels can't be followed through {_said(node)}")
    forward = target is None
    zeros = route.padded or (not forward and bool((route.index < 0).any()))
    if zeros and not affine.only_scales:
        raise Unfoldable(f"{_said(node)} pads with zeros")
    if route.ordered and not bool((affine.scale > 0).all()):
        raise Unfoldable(f"{_said(node)} chooses maxima, and it has negative factors")
    return route


def _sees_zeros(geometry: Geometry) -> bool:
    """Whether a layer meets zeros that are none of its input's: padding, or stuffing."""
    if geometry.transposed:
        return any(n > 1 for n in (*geometry.kernel, *geometry.stride))
    return any(any(pair) for pair in geometry.padding)


def _said(node: fx.Node) -> str:
    """How a reason names a node."""
    if is_output(node):
        return "the network's output"
    node = node.all_input_nodes[0] if node.target is getitem else node
    return operation_of(node) if is_call(node) else "an input"
