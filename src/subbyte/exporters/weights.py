"""Weights of ONNX files: integer initialisers, and the nodes that make numbers of them.

    for integer kernels   codes -> DequantizeLinear (-> Reshape / Transpose where scales run across
                          torch's axes)
    beside float values   codes -> Cast -> Sub zero point -> Mul scale, computed once, at load

Where a file has to be exact on every processor, 8-bit codes whose products could saturate are
stored unsigned, 128 higher. Zero points are folded into the codes where the container has room:
integer convolutions want 0.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from subbyte.core import Alphabet, QTensor, Share
from subbyte.engine.quantized import QuantizedModel
from subbyte.exporters.arrays import adds_pairs, arrange, axis_of, folded, may_saturate, scale_of
from subbyte.exporters.editor import Editor
from subbyte.exporters.storage import INT2, INT8, UINT8, Container, Storage
from subbyte.graph import FakeQuantize, Layer
from subbyte.methods import Optimize

_TOO_FAR = "the levels do not fit 8-bit integers"
_FAR = 2**31 - 1  # beyond every axis
_INT2_ROWS = 4  # ONNX Runtime reads wrong numbers of INT2 where rows are no multiple


class Weights:
    """Writes each weight once, for all calls that share it.

    notes: by layer, how the file holds it; saturating: layers whose sums may leave int16
    (`arrays.may_saturate`).
    """

    def __init__(
        self, editor: Editor, model: QuantizedModel, container: Container, optimize: Optimize
    ) -> None:
        self.editor, self.model, self.container = editor, model, container
        self.optimize = optimize
        self.notes: dict[str, str] = {}
        self.saturating: list[str] = []
        self.dequantized: dict[str, ir.Value] = {}

    def written(self, layer: Layer, before: ir.Node) -> ir.Value:
        """One dequantized weight for all calls that share it."""
        if layer.name in self.dequantized:
            return self.dequantized[layer.name]
        weight = self.model.weights[layer.name]
        alphabet = weight.grid.spec.alphabet
        kind = self.container.storage(alphabet)
        if kind is None:
            why = alphabet.not_whole if alphabet.integers is None else _TOO_FAR
            self.notes[layer.name] = f"stored as float32: {why}"
            dense = layer.geometry.to_weight(weight.dequantize()).numpy()
            value = self.editor.constant(f"{layer.weight}.levels", lambda: dense)
        else:
            value = self.integers(layer, weight, kind, before)
        self.dequantized[layer.name] = value
        return value

    def integers(self, layer: Layer, weight: QTensor, kind: Storage, before: ir.Node) -> ir.Value:
        """The codes of a weight, and the numbers made of them."""
        share, note = weight.grid.spec.share, kind.note(weight.grid.words)
        codes, zero = folded(weight, kind)
        if note:
            self.notes[layer.name] = note
        inputs = [t for t in self.inputs(layer) if t.spec is None or t.spec.alphabet.fits_byte]
        risky = kind is INT8 and inputs and adds_pairs(layer.geometry)
        if risky and may_saturate(codes, max(map(_largest, inputs))):
            if self.optimize is Optimize.EXACT:
                kind, codes, zero = UINT8, codes + 128, zero + 128
            else:
                self.saturating.append(layer.name)
        shape, arranged = arrange(layer, codes, by_matrix=share.block is not None)
        stored = self.editor.constant(f"{layer.weight}.codes", lambda: arranged.astype(kind.dtype))
        packed = self.optimize is Optimize.SIZE and not (kind is INT2 and len(codes) % _INT2_ROWS)
        dequantize = self.by_operator if inputs or packed else self.by_arithmetic
        value = dequantize(layer, weight, stored, zero.astype(kind.dtype), before)
        return self.restore(layer, value, shape, before)

    def inputs(self, layer: Layer) -> list[FakeQuantize]:
        """The quantizers of what a layer reads, in all calls that share its weight."""
        calls = [call for call in self.model.layers if call.owner == layer.name]
        names = [name for name in map(self.model.input_tap, calls) if name is not None]
        return [self.model.instrumented.tap(name) for name in names]

    def by_operator(
        self, layer: Layer, weight: QTensor, codes: ir.Value, zero: np.ndarray, before: ir.Node
    ) -> ir.Value:
        """DequantizeLinear, which integer kernels take in."""
        share = weight.grid.spec.share
        scale = self.editor.constant(f"{layer.weight}.scale", lambda: scale_of(weight))
        # one for each layer: ONNX Runtime can't make signed codes unsigned where layers share one
        zero_value = self.editor.constant(f"{layer.weight}.zero_point", zero.copy)
        attributes = {} if share.one_scale else {"axis": axis_of(layer, share)}
        if share.block is not None:
            attributes["block_size"] = share.block
        return self.editor.node(
            "DequantizeLinear", [codes, scale, zero_value], before, **attributes
        )

    def by_arithmetic(
        self, layer: Layer, weight: QTensor, codes: ir.Value, zero: np.ndarray, before: ir.Node
    ) -> ir.Value:
        """(codes - zero point) * scale in float, which runtimes compute once, at load.

        DequantizeLinear they compute on every run; and ONNX Runtime's products with INT2 and INT4
        weights round the other operand to 8 bits and read wrong INT2 numbers where rows are no
        multiple of 4.
        """
        assert codes.shape is not None
        share, sizes = weight.grid.spec.share, codes.shape.numpy()
        value = self.editor.node("Cast", [codes], before, to=ir.DataType.FLOAT.value)
        if zero.any():
            small = share.block is None  # ONNX expands no numbers of few bits
            zero = zero if small else zero.astype(np.float32)
            operand = self.along(layer, share, f"{layer.weight}.zero_point", zero, sizes, before)
            if small:
                to = ir.DataType.FLOAT.value
                operand = self.editor.node("Cast", [operand], before, to=to)
            value = self.editor.node("Sub", [value, operand], before)
        scale = scale_of(weight)
        operand = self.along(layer, share, f"{layer.weight}.scale", scale, sizes, before)
        return self.editor.node("Mul", [value, operand], before)

    def along(
        self,
        layer: Layer,
        share: Share,
        name: str,
        numbers: np.ndarray,
        sizes: tuple[int, ...],
        before: ir.Node,
    ) -> ir.Value:
        """Scales or zero points in a form that goes with codes of these sizes."""
        if share.one_scale:
            return self.editor.constant(name, numbers.copy)
        if share.block is None:
            ones = [1] * (len(sizes) - 1 - axis_of(layer, share))
            return self.editor.constant(name, lambda: numbers.reshape(-1, *ones))
        rows, groups = numbers.shape
        value = self.editor.constant(name, lambda: numbers[:, :, None])
        value = self.editor.node(
            "Expand", [value, self.editor.sizes(rows, groups, share.block)], before
        )
        value = self.editor.node(
            "Reshape", [value, self.editor.sizes(rows, groups * share.block)], before
        )
        if groups * share.block == sizes[1]:
            return value
        ends = [self.editor.sizes(number) for number in (0, sizes[1], 1)]
        return self.editor.node("Slice", [value, *ends], before)

    def restore(
        self, layer: Layer, value: ir.Value, shape: tuple[int, ...], before: ir.Node
    ) -> ir.Value:
        """Bring a value from the arrangement whose scales run along one axis to torch's weight
        shape.
        """
        target = layer.geometry.weight_shape
        if shape == target:
            return value
        if layer.geometry.transposed:  # [rows, in / groups, *kernel]
            groups, inputs = layer.geometry.groups, target[0] // layer.geometry.groups
            split = (groups, target[1], inputs, *layer.geometry.kernel)
            value = self.editor.reshape(value, split, f"{layer.weight}.split", before)
            if len(shape) == 2:  # rows of the matrix hold flipped kernels
                value = self.flip(layer, value, before)
            order = (0, 2, 1, *range(3, len(split)))
            node = ir.Node("", "Transpose", [value], attributes=[ir.AttrInt64s("perm", order)])
            node.outputs[0].name = f"{layer.weight}.transposed"
            self.editor.graph.insert_before(before, node)
            value = node.outputs[0]
        return self.editor.reshape(value, target, f"{layer.weight}.shape", before)

    def flip(self, layer: Layer, value: ir.Value, before: ir.Node) -> ir.Value:
        """Reverse the kernel's axes of [groups, rows / groups, in / groups, *kernel]."""
        axes = np.arange(3, 3 + len(layer.geometry.kernel), dtype=np.int64)
        wanted = {"starts": np.full_like(axes, -1), "ends": np.full_like(axes, -_FAR), "axes": axes}
        wanted["steps"] = np.full_like(axes, -1)
        inputs = [
            self.editor.constant(f"{layer.weight}.{name}", array.copy)
            for name, array in wanted.items()
        ]
        return self.editor.node("Slice", [value, *inputs], before)


def _largest(tap: FakeQuantize) -> int:
    """The largest code of a quantizer in a file."""
    assert tap.spec is not None
    return tap.spec.alphabet.qmax + lift_of(tap)


def lift_of(tap: FakeQuantize) -> int:
    """The number that is added to codes of a quantizer in a file: integer kernels are best with
    unsigned inputs.
    """
    assert tap.spec is not None
    alphabet = tap.spec.alphabet
    return 128 if alphabet.qmin < 0 and alphabet.fits_byte else 0


def codes_type(alphabet: Alphabet) -> type[np.integer[Any]]:
    """The type of a quantizer's codes in a file: uint8 where it holds them."""
    if alphabet.fits_byte:
        return np.uint8
    return np.int16 if alphabet.qmin < 0 else np.uint16
