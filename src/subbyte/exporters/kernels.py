"""Findings about the graph that ONNX Runtime made of a file: what costs time, by the names that
users know, with the reason and what to change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path

from subbyte.exporters.operators import (
    DEQUANTIZE,
    LAYERS,
    MOVING,
    PAD,
    QUANTIZE,
    WITH_KERNEL,
)
from subbyte.exporters.optimized import NO_NAMES, Node, Optimized, read_optimized
from subbyte.exporters.sessions import Feeds
from subbyte.graph import Layer
from subbyte.records.speed import Cost, Finding, Kernels

_ENDS = (".codes", ".levels", ".scale", ".zero_point")
"""Ends of the names of constants that stand for a weight or an activation quantizer."""
_WEIGHT, _SITE = ".weight", ":out"
_MADE_OF = 6  # nodes that may lie between a constant and the weight that is made of it
_ADD = "Add"


def read_kernels(
    path: Path,
    feeds: Feeds,
    layers: Sequence[Layer] = (),
    names: Mapping[str, str] = NO_NAMES,
) -> Kernels:
    """The record of a file's graph in ONNX Runtime.

    feeds: what it is run on, once, by the names of its inputs. layers: those of the network, by
    which weights have names; else they are told by the names in the file; names: of values as they
    were before the file got short ones.
    Raises FormatError when the file can't be loaded or run.
    """
    return kernels_of(read_optimized(path, feeds, names), {one.weight: one.owner for one in layers})


def kernels_of(graph: Optimized, layers: Mapping[str, str]) -> Kernels:
    """The record of a graph. layers: names of layers by the names of their weights."""
    counts = [(graph.multiplications(node), node.in_integers) for node in graph.nodes]
    return Kernels(
        integers=sum(node.in_integers for node in graph.nodes),
        floats=sum(node.in_float for node in graph.nodes),
        conversions=sum(node.converts for node in graph.nodes),
        multiplications=sum(count for count, _ in counts),
        integer_multiplications=sum(count for count, whole in counts if whole),
        weights=graph.weights,
        loaded=graph.loaded,
        activations=graph.peak(),
        findings=_Judge(graph, layers).findings(),
    )


@dataclass(frozen=True, eq=False)
class _Judge:
    """Finds what costs time. layers: as for `kernels_of`."""

    graph: Optimized
    layers: Mapping[str, str] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """All of them, the costliest first: by kind, then by multiplications, then by size."""
        if not any(node.operation == QUANTIZE for node in self.graph.nodes):
            return []  # a file of quantized weights alone computes in float throughout
        found = [(node, one) for node in self.graph.nodes for one in self._of(node)]
        kinds = list(Cost)

        def weight(pair: tuple[Node, Finding]) -> tuple[int, int, int]:
            node, one = pair
            size = max(map(prod, node.shapes), default=0)
            return kinds.index(one.cost), -self.graph.multiplications(node), -size

        return [one for _, one in sorted(found, key=weight)]

    def _of(self, node: Node) -> Iterator[Finding]:
        if node.operation == QUANTIZE:
            yield from self._twice(node)
        elif node.operation == PAD:
            yield self._finding(Cost.PAD, node, *self._why_pad(node))
        elif node.in_integers and node.operation in LAYERS:
            if node.inputs[LAYERS[node.operation].weight] in self.graph.unsigned:
                yield self._finding(Cost.UNSIGNED, node, *_UNSIGNED)
        elif node.in_float and node.operation in LAYERS:
            yield self._finding(Cost.FLOAT_LAYER, node, *self._why_layer(node))
        elif node in self._between:
            yield self._finding(Cost.FLOAT_BETWEEN, node, *self._why_float(node))

    def _finding(self, cost: Cost, node: Node, reason: str, advice: str) -> Finding:
        return Finding(
            cost=cost,
            name=self.name(node),
            node=node.name,
            operation=node.operation,
            reason=reason,
            advice=advice,
        )

    @cached_property
    def _between(self) -> set[Node]:
        """Nodes in float that read what was of integers, and whose values become integers again."""
        after: set[Node] = set()
        for node in self.graph.nodes:
            sources = self.graph.before(node)
            if node.in_float and any(self._leaves_integers(one) or one in after for one in sources):
                after.add(node)
        ahead: set[Node] = set()
        for node in reversed(self.graph.nodes):
            readers = self.graph.behind(node)
            if node.in_float and any(one.operation == QUANTIZE or one in ahead for one in readers):
                ahead.add(node)
        return after & ahead

    def _leaves_integers(self, node: Node) -> bool:
        """Whether a node makes floats of codes that are no constant."""
        return node.operation == DEQUANTIZE and node.inputs[0] not in self.graph.constants

    def _why_pad(self, node: Node) -> tuple[str, str]:
        """Why zeros are written by a node, and what to change."""
        readers = self.graph.behind(node)
        readers += [far for one in readers if one.converts for far in self.graph.behind(one)]
        readers = [one for one in readers if not one.converts]
        other = next((one for one in readers if one.operation not in LAYERS), None)
        if other is None:
            return "zeros are written around what a layer reads", _LET_PAD
        return f"zeros are written around what {self.name(other)} reads", _NO_PAD

    def _twice(self, node: Node) -> Iterator[Finding]:
        """A value that is on a grid already when it is quantized."""
        maker = self.graph.makers.get(node.inputs[0])
        if maker is None or not self._leaves_integers(maker):
            return
        first, second = _stem(maker.inputs[1]), _stem(node.inputs[1])
        reason = f"its codes on the grid of {first} are put on that of {second}"
        yield self._finding(Cost.TWICE, node, reason, _ONE_GRID)

    def _why_layer(self, node: Node) -> tuple[str, str]:
        """Why a layer or product is in float, and what to change."""
        place = LAYERS[node.operation].weight
        value, weight = node.inputs[0], node.inputs[place]
        if not self._quantized(value):
            return "its input is not quantized", _QUANTIZE_INPUT
        for what, name in (("input", value), ("weight", weight)):
            if self._has_wide_codes(name):
                return f"codes of its {what} have 16 bits; integer kernels take 8", _NARROWER
        if weight in self.graph.constants and node.operation not in _PACKED:
            return "its weight is held as float numbers", _WHOLE_LEVELS
        if weight not in self.graph.constants and not self._quantized(weight):
            return "its second factor is not quantized", _QUANTIZE_INPUT
        readers = self.graph.behind(node)
        if any(one.operation == _ADD and self._adds_constant(one) for one in readers):
            return "its bias does not fit int32 and is added in float behind it", _BIAS
        output = self._why_output(node)
        if output is None and node.activation:
            what = f"its {node.activation} cuts off a part of what the quantizer behind it holds"
            return what, _ENDS_ALIKE
        return output or (_NOT_CHOSEN, _REPORT)

    def _has_wide_codes(self, name: str) -> bool:
        """Whether a value is made of codes of 16 bits: its zero point, or the codes, say so."""
        maker = self.graph.makers.get(name)
        if maker is None or maker.operation != DEQUANTIZE:
            return False
        return not self.graph.wide.isdisjoint(maker.inputs)

    def _adds_constant(self, node: Node) -> bool:
        return any(name in self.graph.constants for name in node.inputs)

    def _why_float(self, node: Node) -> tuple[str, str]:
        """Why a node that is no layer is in float, and what to change."""
        if node.operation not in (*WITH_KERNEL, *MOVING):
            return f"ONNX Runtime has no integer kernel for {node.operation}", _OTHER_OPERATION
        loose = [name for name in node.inputs if name and not self._known(name)]
        if loose:
            maker = self.graph.makers.get(loose[0])
            source = "the input" if maker is None else self.name(maker)
            return f"what it reads from {source} is not quantized", _QUANTIZE_INPUT
        output = self._why_output(node)
        if output is not None:
            return output
        if node.operation in MOVING:
            return "the grids before and behind it differ, so codes can't just be moved", _ONE_GRID
        return _NOT_CHOSEN, _REPORT

    def _why_output(self, node: Node) -> tuple[str, str] | None:
        """Why what a node makes keeps it in float; None where all of it is quantized."""
        names = [name for name in node.outputs if name]
        if any(name in self.graph.outputs for name in names):
            return "its output leaves the network in float", _QUANTIZE_OUTPUT
        readers = self.graph.behind(node)
        others = [one for one in readers if one.operation != QUANTIZE]
        if others:
            return f"its output is read in float by {self.name(others[0])}", _QUANTIZE_OUTPUT
        if len(readers) > 1:
            return "its output is quantized on several grids", _ONE_GRID
        return None

    def _known(self, value: str) -> bool:
        return value in self.graph.constants or self._quantized(value)

    def _quantized(self, value: str) -> bool:
        """Whether a value comes from codes, those of a constant among them, through views."""
        for _ in range(_MADE_OF):
            maker = self.graph.makers.get(value)
            if maker is None or maker.operation == DEQUANTIZE:
                return maker is not None
            if maker.operation not in MOVING:
                return False
            value = maker.inputs[0]
        return False

    def name(self, node: Node) -> str:
        """A node's name as users know it: that of its layer, of the quantizer that it is or that
        follows it, or its own and the quantizer before it.
        """
        layer = LAYERS.get(node.operation)
        weight = "" if layer is None else self._weight(node.inputs[layer.weight])
        if weight:
            return self.layers.get(weight, weight.removesuffix(_WEIGHT))
        if node.operation in (QUANTIZE, DEQUANTIZE):
            return _stem(node.inputs[1])
        before = next((_grid(one) for one in self.graph.before(node) if _grid(one)), "")
        behind = next((_grid(one) for one in self.graph.behind(node) if _grid(one)), "")
        if behind and behind != before:
            return behind
        return f"{node.name}, behind {before}" if before else node.name

    def _weight(self, value: str) -> str:
        """The name of the weight that a value is made of; empty where it is made of none."""
        for _ in range(_MADE_OF):
            if value in self.graph.constants:
                return _stem(value) if value.endswith((*_ENDS, _WEIGHT)) else ""
            maker = self.graph.makers.get(value)
            if maker is None or not maker.inputs:
                return ""
            value = maker.inputs[0]
        return ""


def _stem(constant: str) -> str:
    """The weight or the place of an activation quantizer that a constant is of."""
    for end in _ENDS:
        constant = constant.removesuffix(end)
    return constant.removesuffix(_SITE)


def _grid(node: Node) -> str:
    """The quantizer that a node stands for, or that its codes are of; empty for other nodes."""
    return _stem(node.inputs[1]) if node.operation in (QUANTIZE, DEQUANTIZE) else ""


_PACKED = ("MatMulNBits",)  # its constants are codes
_UNSIGNED = (
    "its codes are stored unsigned, which processors with AMX multiply at half the speed of signed",
    "export with --optimize speed; where the file must be exact on processors without integer dot "
    "products, quantize with --target ort-x86-avx2, whose 7-bit weights are signed and exact",
)
_LET_PAD = "let the convolution itself pad (padding=...)"
_NO_PAD = "a convolution in place of zeros (such as a 1 x 1 shortcut) needs no node for them"
_ONE_GRID = "give its readers activations of the same bits, so that one quantizer serves all"
_QUANTIZE_INPUT = "quantize its input: set activation bits, and no `skip` for what makes it"
_QUANTIZE_OUTPUT = "quantize its output: set activation bits, or leave its neighbours float, too"
_WHOLE_LEVELS = "choose levels that are whole multiples of a scale, such as `levels: uniform`"
_BIAS = "raise the scales of the channels whose bias does not fit, or leave the layer at more bits"
_OTHER_OPERATION = (
    "use an operation that has one (ReLU, addition, average pooling), or leave the layers around "
    "it float (skip: true) and compare with `subbyte bench`"
)
_ENDS_ALIKE = "choose a range for that quantizer that ends where the activation does"
_NARROWER = "choose 8 bits or fewer where speed counts"
_NOT_CHOSEN = "ONNX Runtime took no integer kernel, though what it reads and makes is quantized"
_REPORT = "compare with other activation bits for it (a pattern in the recipe), and report it"
