"""Quantize/dequantize pairs and integer initialisers in place of the marks of `graph.sites`.

    quantizer x -> QuantizeLinear(uint8) -> [Clip to the codes] -> DequantizeLinear
    weight    integers, as `exporters.weights` says
    uneven    x -> Div -> Greater than each middle between levels -> ReduceSum -> Gather of levels,
              in float
    bias      int32 initialiser -> DequantizeLinear at input scale x weight scale, for integer
              kernels

An activation quantizer below 8 bits saturates in uint8 first and is then clipped as an integer,
which is exact because both share scale and zero point; so the layer before it keeps its integer
kernel. A Clip also keeps a pair apart from another one right before it (`exporters.neutral`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from subbyte.engine.quantized import QuantizedModel
from subbyte.exporters.biases import Biases
from subbyte.exporters.bounds import without_bounds
from subbyte.exporters.editor import Editor
from subbyte.exporters.gates import half_code, hard_sigmoid, same
from subbyte.exporters.neutral import source_of
from subbyte.exporters.storage import Container
from subbyte.exporters.weights import Weights, codes_type, lift_of
from subbyte.graph import DOMAIN, FakeQuantize
from subbyte.methods import Optimize

_LEAST_OPSET = 21
_WIDE = "runtimes compute in float32 what reads it"
CODES = ".codes"  # behind the name of a weight or an activation quantizer


def needed_opset(model: QuantizedModel, container: Container) -> int:
    """Lowest ONNX opset that has the types of all weights."""
    kinds = [container.storage(q.grid.spec.alphabet) for q in model.weights.values()]
    return max([_LEAST_OPSET, *(kind.opset for kind in kinds if kind is not None)])


@dataclass(frozen=True)
class Written:
    """Facts about a graph with pairs. notes: by layer or activation quantizer, how the file holds
    it; saturating: layers whose sums may leave int16 (`arrays.may_saturate`); names: what values
    were called before, by the names that they have in the file.
    """

    notes: dict[str, str]
    saturating: list[str]
    names: Mapping[str, str] = field(default_factory=dict)


def insert_pairs(
    program: ir.Model, model: QuantizedModel, container: Container, optimize: Optimize
) -> Written:
    """Replace every mark in the graph, in place."""
    editor = Editor(program.graph)
    weights = Weights(editor, model, container, optimize)
    writer = _Writer(editor, model, weights)
    for node in list(program.graph):
        if node.domain == DOMAIN:
            writer.replace(node)
    Biases(editor, model, container).write()
    writer.softmaxes()
    program.opset_imports.pop(DOMAIN, None)
    program.graph.sort()
    _remove_unused(program.graph)
    return Written(weights.notes | writer.notes, weights.saturating)


def _remove_unused(graph: ir.Graph) -> None:
    """Drop nodes and constants that nobody reads. Inputs that are left out stay as they are: a
    convolution that states it has no bias does not take up the sum behind it.
    """
    for node in reversed(list(graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    used = {value.name for node in graph for value in node.inputs if value is not None}
    for name in [name for name in graph.initializers if name not in used]:
        del graph.initializers[name]


class _Writer:
    """Puts what is computed with integers where marks stand."""

    def __init__(self, editor: Editor, model: QuantizedModel, weights: Weights) -> None:
        self.editor, self.model, self.weights = editor, model, weights
        self.by_weight = {
            layer.weight: layer for layer in model.layers if layer.name in model.weights
        }
        self.fast = weights.optimize is Optimize.SPEED and not weights.container.cuts
        self.notes: dict[str, str] = {}
        self.named: set[str] = set()

    def replace(self, node: ir.Node) -> None:
        """Put integers where a mark stands."""
        site = node.attributes["site"].as_string()
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        layer = self.by_weight.get(site)
        value = self.tap(site, source, node) if layer is None else self.weights.written(layer, node)
        value.shape, value.type = output.shape, ir.TensorType(ir.DataType.FLOAT)
        name = output.name if output.is_graph_output() else value.name
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        self.editor.graph.remove(node, safe=True)
        value.name = name  # outputs keep theirs

    def softmaxes(self) -> None:
        """Keep softmaxes of dequantized values in float, by a Clip that cuts nothing: ONNX
        Runtime's integer kernel is one or two codes off those that the pairs around it say.
        """
        largest = np.finfo(np.float32).max
        for node in [node for node in self.editor.graph if node.op_type == "Softmax"]:
            value = node.inputs[0]
            maker = None if value is None else value.producer()
            if maker is not None and maker.op_type == "DequantizeLinear":
                low = self.editor.constant("subbyte_lowest", lambda: np.array(-largest))
                high = self.editor.constant("subbyte_largest", lambda: np.array(largest))
                node.replace_input_with(0, self.editor.node("Clip", [value, low, high], node))

    def tap(self, site: str, source: ir.Value, before: ir.Node) -> ir.Value:
        tap = self.model.instrumented.tap(site)
        assert tap.spec is not None
        alphabet = tap.spec.alphabet
        if not alphabet.even:
            return self.on_levels(site, tap, source, before)
        lift, kind = lift_of(tap), codes_type(alphabet)
        ends = alphabet.qmin, alphabet.qmax
        if tap.grid is None:
            scale, zero = self.chosen(site, tap, before)
        else:
            scale = self.editor.constant(f"{site}.scale", lambda: tap.scale.numpy())
            stored = tap.zero_point.clamp(*ends).numpy() + lift  # rows of 0 bits may have -1
            zero = self.editor.constant(f"{site}.zero_point", lambda: stored.astype(kind))
            source = without_bounds(source, tap)
        axis = {} if tap.axis is None else {"axis": tap.axis}
        codes = self.codes(site, tap, source, (scale, zero), axis, before)
        if site not in self.named:  # a value that is quantized where it is read has several
            self.named.add(site)
            codes.name = f"{site}{CODES}"
        return self.editor.node("DequantizeLinear", [codes, scale, zero], before, **axis)

    def codes(
        self,
        site: str,
        tap: FakeQuantize,
        source: ir.Value,
        grid: tuple[ir.Value, ir.Value],
        axis: Mapping[str, int],
        before: ir.Node,
    ) -> ir.Value:
        """The codes of a value on a grid (scale and zero point), uint8, or of 16 bits."""
        assert tap.spec is not None
        alphabet, lift = tap.spec.alphabet, lift_of(tap)
        if not alphabet.fits_byte:
            self.notes[site] = f"{alphabet.words(tap.own)}: {_WIDE}"
            if self.follows_pair(source, grid[0]):
                source = same(self.editor, source, before)
            return self.editor.node("QuantizeLinear", [source, *grid], before, **axis)
        half = half_code(source, tap) if self.fast else 0
        if half:
            return hard_sigmoid(self.editor, site, source, float(tap.scale), half, before)
        cut = self.weights.container.cuts and tap.grid is not None and alphabet.count < 256
        if alphabet.varies or cut:
            source = self.clamped(site, tap, source, before)
        second = self.follows_pair(source, grid[0])
        if second and self.fast and not axis:
            source = same(self.editor, source, before)
        value = self.editor.node("QuantizeLinear", [source, *grid], before, **axis)
        ends = alphabet.qmin, alphabet.qmax
        if alphabet.count < 256:
            words = alphabet.words(tap.own)
            self.notes[site] = f"{words}: int8 codes clipped to {ends[0]}..{ends[1]}"
        if cut or not (alphabet.count < 256 or second):
            return value
        low, high = (
            self.editor.constant(f"{site}.{name}", np.array(end + lift, np.uint8).copy)
            for name, end in zip(("qmin", "qmax"), ends, strict=True)
        )
        return self.editor.node("Clip", [value, low, high], before)

    def on_levels(
        self, site: str, tap: FakeQuantize, source: ir.Value, before: ir.Node
    ) -> ir.Value:
        """Any rising levels, in float: a code is the number of middles between levels that a value
        lies above.
        """
        assert tap.grid is not None and tap.axis is None and tap.spec is not None
        levels = tap.spec.alphabet.table(tap.own)[0]
        middles = ((levels[1:].double() + levels[:-1].double()) / 2).float()
        scale = self.editor.constant(f"{site}.scale", tap.scale.numpy)
        steps = self.editor.node("Div", [source, scale], before)
        steps = self.editor.node("Unsqueeze", [steps, self.editor.sizes(-1)], before)
        above = self.editor.node(
            "Greater", [steps, self.editor.constant(f"{site}.middles", middles.numpy)], before
        )
        above = self.editor.node("Cast", [above], before, to=ir.DataType.INT32.value)
        codes = self.editor.node("ReduceSum", [above, self.editor.sizes(-1)], before, keepdims=0)
        values = self.editor.constant(f"{site}.levels", (levels * tap.scale).numpy)
        self.notes[site] = f"{tap.spec.alphabet.words(tap.own)}: levels in float32"
        return self.editor.node("Gather", [values, codes], before)

    def follows_pair(self, source: ir.Value, scale: ir.Value) -> bool:
        """Whether a value lies on another grid already: a Clip keeps the two pairs apart."""
        maker = source_of(source)
        return (
            maker is not None
            and maker.op_type == "DequantizeLinear"
            and maker.inputs[1] is not scale
        )

    def chosen(self, site: str, tap: FakeQuantize, before: ir.Node) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point that the graph computes from the batch."""
        assert tap.spec is not None
        lift, kind = lift_of(tap), ir.DataType.from_numpy(np.dtype(codes_type(tap.spec.alphabet)))
        scale, zero = before.inputs[1], before.inputs[2]
        assert scale is not None and zero is not None
        if lift:
            zero = self.editor.node(
                "Add",
                [zero, self.editor.constant("lift", lambda: np.array(lift, np.int32))],
                before,
            )
        return scale, self.editor.node("Cast", [zero], before, to=kind.value)

    def clamped(self, site: str, tap: FakeQuantize, source: ir.Value, before: ir.Node) -> ir.Value:
        """A value, or each channel of it, cut to the numbers that its own width can hold."""
        assert source.shape is not None and tap.spec is not None
        words = tap.spec.alphabet.words(tap.own)
        self.notes[site] = f"{words}, cut to their ends, in int8 codes"
        shape = () if tap.axis is None else (-1, *[1] * (len(source.shape) - 1 - tap.axis))
        assert tap.grid is not None
        for op, end in zip(("Max", "Min"), tap.grid.reach, strict=True):
            bound = self.editor.constant(f"{site}.{op.lower()}", end.reshape(shape).numpy)
            source = self.editor.node(op, [source, bound], before)
        return source
