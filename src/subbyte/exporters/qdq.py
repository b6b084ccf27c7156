"""Quantize/dequantize pairs and integer initialisers in place of the marks of `graph.sites`.

    quantizer x -> QuantizeLinear(uint8) -> [Clip to the codes] -> DequantizeLinear
    weight    integer initialiser -> DequantizeLinear (-> Reshape / Transpose where scales run
              across torch's axes)
    uneven    x -> Div -> Greater than each middle between levels -> ReduceSum -> Gather of levels,
              in float
    bias      int32 initialiser -> DequantizeLinear at input scale x weight scale, for integer
              kernels

An activation quantizer below 8 bits saturates in uint8 first and is then clipped as an integer,
which is exact because both share scale and zero point; so the layer before it keeps its integer
kernel. A Clip also keeps a pair apart from another one right before it (`exporters.neutral`).
8-bit codes whose products could saturate on older processors are stored unsigned, 128
higher. Zero points are folded into the codes where the container has room: integer convolutions
want 0.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from torch import Tensor

from subbyte.core import QTensor, Share
from subbyte.engine.quantized import QuantizedModel
from subbyte.exporters.arrays import arrange, axis_of, folded, may_saturate, scale_of
from subbyte.exporters.neutral import source_of
from subbyte.exporters.storage import INT8, UINT8, Container, Storage
from subbyte.graph import DOMAIN, FakeQuantize, Layer

_TOO_FAR = "the levels do not fit 8-bit integers"
_FAR = 2**31 - 1  # beyond every axis
_LEAST_OPSET = 21


def needed_opset(model: QuantizedModel, container: Container) -> int:
    """Lowest ONNX opset that has the types of all weights."""
    kinds = [container.storage(q.grid.spec.alphabet) for q in model.weights.values()]
    return max([_LEAST_OPSET, *(kind.opset for kind in kinds if kind is not None)])


def insert_pairs(program: ir.Model, model: QuantizedModel, container: Container) -> dict[str, str]:
    """Replace every mark in the graph, in place. Returns, by name of layer or activation quantizer,
    how the file holds it.
    """
    writer = _Writer(program, model, container)
    for node in list(program.graph):
        if node.domain == DOMAIN:
            writer.replace(node)
    writer.biases()
    writer.softmaxes()
    program.opset_imports.pop(DOMAIN, None)
    program.graph.sort()
    used = {value.name for node in program.graph for value in node.inputs if value is not None}
    for name in [name for name in program.graph.initializers if name not in used]:
        del program.graph.initializers[name]
    return writer.notes


class _Writer:
    def __init__(self, program: ir.Model, model: QuantizedModel, container: Container) -> None:
        self.graph, self.model, self.container = program.graph, model, container
        self.by_weight = {
            layer.weight: layer for layer in model.layers if layer.name in model.weights
        }
        self.constants: dict[str, ir.Value] = {}
        self.dequantized: dict[str, ir.Value] = {}
        self.notes: dict[str, str] = {}
        self.count = 0

    def replace(self, node: ir.Node) -> None:
        """Put integers where a mark stands."""
        site = node.attributes["site"].as_string()
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        layer = self.by_weight.get(site)
        value = self.tap(site, source, node) if layer is None else self.weight(layer, node)
        value.shape, value.type = output.shape, ir.TensorType(ir.DataType.FLOAT)
        name = output.name if output.is_graph_output() else value.name
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        value.name = name  # outputs keep theirs

    def softmaxes(self) -> None:
        """Keep softmaxes of dequantized values in float, by a Clip that cuts nothing: ONNX
        Runtime's integer kernel is one or two codes off those that the pairs around it say.
        """
        largest = np.finfo(np.float32).max
        for node in [node for node in self.graph if node.op_type == "Softmax"]:
            value = node.inputs[0]
            maker = None if value is None else value.producer()
            if maker is not None and maker.op_type == "DequantizeLinear":
                low = self.constant("subbyte_lowest", lambda: np.array(-largest))
                high = self.constant("subbyte_largest", lambda: np.array(largest))
                node.replace_input_with(0, self.node("Clip", [value, low, high], node))

    def node(
        self, op: str, inputs: Sequence[ir.Value | None], before: ir.Node, **attributes: int
    ) -> ir.Value:
        self.count += 1
        attrs = [ir.AttrInt64(name, value) for name, value in attributes.items()]
        node = ir.Node("", op, inputs, attributes=attrs, name=f"subbyte_{op}_{self.count}")
        node.outputs[0].name = f"subbyte_{self.count}"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def constant(self, name: str, make: Callable[[], np.ndarray]) -> ir.Value:
        if name not in self.constants:
            tensor = ir.tensor(make(), name=name)
            value = ir.Value(
                name=name,
                shape=ir.Shape(tensor.numpy().shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self.graph.initializers[name] = value
            self.constants[name] = value
        return self.constants[name]

    def tap(self, site: str, source: ir.Value, before: ir.Node) -> ir.Value:
        tap = self.model.instrumented.tap(site)
        assert tap.spec is not None
        alphabet = tap.spec.alphabet
        if not alphabet.even:
            return self.on_levels(site, tap, source, before)
        # stored unsigned: integer kernels are best with uint8 inputs
        lift = 128 if alphabet.qmin < 0 else 0
        ends = alphabet.qmin, alphabet.qmax
        if tap.grid is None:
            scale, zero = self.chosen(site, lift, before)
        else:
            scale = self.constant(f"{site}.scale", lambda: tap.scale.numpy())
            stored = tap.zero_point.clamp(*ends).numpy() + lift  # rows of 0 bits may have -1
            zero = self.constant(f"{site}.zero_point", lambda: stored.astype(np.uint8))
        if alphabet.varies:
            source = self.clamped(site, tap, source, before)
        axis = {} if tap.axis is None else {"axis": tap.axis}
        second = self.follows_pair(source, scale)
        value = self.node("QuantizeLinear", [source, scale, zero], before, **axis)
        if alphabet.count < 256 or second:
            low, high = (
                self.constant(f"{site}.{name}", np.array(end + lift, np.uint8).copy)
                for name, end in zip(("qmin", "qmax"), ends, strict=True)
            )
            value = self.node("Clip", [value, low, high], before)
        if alphabet.count < 256:
            words = alphabet.words(tap.own)
            self.notes[site] = f"{words}: int8 codes clipped to {ends[0]}..{ends[1]}"
        return self.node("DequantizeLinear", [value, scale, zero], before, **axis)

    def on_levels(
        self, site: str, tap: FakeQuantize, source: ir.Value, before: ir.Node
    ) -> ir.Value:
        """Any rising levels, in float: a code is the number of middles between levels that a value
        lies above.
        """
        assert tap.grid is not None and tap.axis is None and tap.spec is not None
        levels = tap.spec.alphabet.table(tap.own)[0]
        middles = ((levels[1:].double() + levels[:-1].double()) / 2).float()
        scale = self.constant(f"{site}.scale", tap.scale.numpy)
        steps = self.node("Div", [source, scale], before)
        steps = self.node("Unsqueeze", [steps, self.sizes(-1)], before)
        above = self.node(
            "Greater", [steps, self.constant(f"{site}.middles", middles.numpy)], before
        )
        above = self.node("Cast", [above], before, to=ir.DataType.INT32.value)
        codes = self.node("ReduceSum", [above, self.sizes(-1)], before, keepdims=0)
        values = self.constant(f"{site}.levels", (levels * tap.scale).numpy)
        self.notes[site] = f"{tap.spec.alphabet.words(tap.own)}: levels in float32"
        return self.node("Gather", [values, codes], before)

    def follows_pair(self, source: ir.Value, scale: ir.Value) -> bool:
        """Whether a value lies on another grid already: a Clip keeps the two pairs apart."""
        maker = source_of(source)
        return (
            maker is not None
            and maker.op_type == "DequantizeLinear"
            and maker.inputs[1] is not scale
        )

    def chosen(self, site: str, lift: int, before: ir.Node) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point that the graph computes from the batch."""
        scale, zero = before.inputs[1], before.inputs[2]
        assert scale is not None and zero is not None
        if lift:
            zero = self.node(
                "Add", [zero, self.constant("lift", lambda: np.array(lift, np.int32))], before
            )
        return scale, self.node("Cast", [zero], before, to=ir.DataType.UINT8.value)

    def clamped(self, site: str, tap: FakeQuantize, source: ir.Value, before: ir.Node) -> ir.Value:
        """Each channel cut to the numbers that its own width can hold; ONNX has one width a
        tensor.
        """
        assert source.shape is not None and tap.axis is not None and tap.spec is not None
        words = tap.spec.alphabet.words(tap.own)
        self.notes[site] = f"{words}, cut to their ends, in int8 codes"
        shape = (-1, *[1] * (len(source.shape) - 1 - tap.axis))
        for op, end in zip(("Max", "Min"), tap.real_ends, strict=True):
            bound = self.constant(f"{site}.{op.lower()}", end.reshape(shape).numpy)
            source = self.node(op, [source, bound], before)
        return source

    def weight(self, layer: Layer, before: ir.Node) -> ir.Value:
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
            value = self.constant(f"{layer.weight}.levels", lambda: dense)
        else:
            value = self.integers(layer, weight, kind, before)
        self.dequantized[layer.name] = value
        return value

    def integers(self, layer: Layer, weight: QTensor, kind: Storage, before: ir.Node) -> ir.Value:
        share, note = weight.grid.spec.share, kind.note(weight.grid.words)
        codes, zero = folded(weight, kind)
        if note:
            self.notes[layer.name] = note
        calls = [call for call in self.model.layers if call.owner == layer.name]
        in_integers = any(self.model.input_tap(call) is not None for call in calls)
        if kind is INT8 and in_integers and may_saturate(codes):
            kind, codes, zero = UINT8, codes + 128, zero + 128
        shape, arranged = arrange(layer, codes, by_matrix=share.block is not None)
        stored = self.constant(f"{layer.weight}.codes", lambda: arranged.astype(kind.dtype))
        dequantize = self.by_operator if in_integers else self.by_arithmetic
        value = dequantize(layer, weight, stored, zero.astype(kind.dtype), before)
        return self.restore(layer, value, shape, before)

    def by_operator(
        self, layer: Layer, weight: QTensor, codes: ir.Value, zero: np.ndarray, before: ir.Node
    ) -> ir.Value:
        """DequantizeLinear, which integer kernels take in."""
        share = weight.grid.spec.share
        scale = self.constant(f"{layer.weight}.scale", lambda: scale_of(weight))
        sizes = "x".join(map(str, zero.shape))
        shared = None if zero.any() else f"{zero.dtype}.zero.{sizes}"
        zero_value = self.constant(shared or f"{layer.weight}.zero_point", zero.copy)
        attributes = {} if share.one_scale else {"axis": axis_of(layer, share)}
        if share.block is not None:
            attributes["block_size"] = share.block
        return self.node("DequantizeLinear", [codes, scale, zero_value], before, **attributes)

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
        value = self.node("Cast", [codes], before, to=ir.DataType.FLOAT.value)
        if zero.any():
            small = share.block is None  # ONNX expands no numbers of few bits
            zero = zero if small else zero.astype(np.float32)
            operand = self.along(layer, share, f"{layer.weight}.zero_point", zero, sizes, before)
            if small:
                operand = self.node("Cast", [operand], before, to=ir.DataType.FLOAT.value)
            value = self.node("Sub", [value, operand], before)
        scale = scale_of(weight)
        operand = self.along(layer, share, f"{layer.weight}.scale", scale, sizes, before)
        return self.node("Mul", [value, operand], before)

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
            return self.constant(name, numbers.copy)
        if share.block is None:
            ones = [1] * (len(sizes) - 1 - axis_of(layer, share))
            return self.constant(name, lambda: numbers.reshape(-1, *ones))
        rows, groups = numbers.shape
        value = self.constant(name, lambda: numbers[:, :, None])
        value = self.node("Expand", [value, self.sizes(rows, groups, share.block)], before)
        value = self.node("Reshape", [value, self.sizes(rows, groups * share.block)], before)
        if groups * share.block == sizes[1]:
            return value
        ends = [self.sizes(number) for number in (0, sizes[1], 1)]
        return self.node("Slice", [value, *ends], before)

    def sizes(self, *numbers: int) -> ir.Value:
        """A shape, one for all that have it."""
        name = f"sizes.{'x'.join(map(str, numbers))}"
        return self.constant(name, lambda: np.array(numbers, np.int64))

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
            value = self.reshape(layer, value, split, "split", before)
            if len(shape) == 2:  # rows of the matrix hold flipped kernels
                value = self.flip(layer, value, before)
            order = (0, 2, 1, *range(3, len(split)))
            node = ir.Node("", "Transpose", [value], attributes=[ir.AttrInt64s("perm", order)])
            node.outputs[0].name = f"{layer.weight}.transposed"
            self.graph.insert_before(before, node)
            value = node.outputs[0]
        return self.reshape(layer, value, target, "shape", before)

    def flip(self, layer: Layer, value: ir.Value, before: ir.Node) -> ir.Value:
        """Reverse the kernel's axes of [groups, rows / groups, in / groups, *kernel]."""
        axes = np.arange(3, 3 + len(layer.geometry.kernel), dtype=np.int64)
        wanted = {"starts": np.full_like(axes, -1), "ends": np.full_like(axes, -_FAR), "axes": axes}
        wanted["steps"] = np.full_like(axes, -1)
        inputs = [
            self.constant(f"{layer.weight}.{name}", array.copy) for name, array in wanted.items()
        ]
        return self.node("Slice", [value, *inputs], before)

    def reshape(
        self, layer: Layer, value: ir.Value, shape: tuple[int, ...], name: str, before: ir.Node
    ) -> ir.Value:
        wanted = self.constant(f"{layer.weight}.{name}", lambda: np.array(shape, np.int64))
        return self.node("Reshape", [value, wanted], before)

    def biases(self) -> None:
        """int32 biases where a convolution or Gemm reads quantized input and int8 weights.

        They are on the grid of the first call's input; further calls add them on their own.
        """
        for layer in self.model.owners:
            step = self.model.bias_scale(layer)
            bias = self.graph.initializers.get(layer.bias)
            if bias is None or bias.const_value is None or layer.name not in self.model.weights:
                continue
            alphabet = self.model.weights[layer.name].grid.spec.alphabet
            fits = step is not None and self.container.storage(alphabet) is INT8
            # a float weight between grids ONNX Runtime would round to 8 bits, unless a sum follows
            dense = self.container.storage(alphabet) is None and self.model.input_tap(layer)
            alone = layer.name in self.model.notes or self.has_new_scale(layer) or dense
            for node in _added_by(bias):
                if fits and step is not None and self.reads_input_of(layer, node):
                    value = self.int32_bias(layer, step, bias.const_value.numpy(), node)
                    node.replace_input_with(2, value)
                elif fits or alone:
                    self.add_behind(layer, bias, node)

    def reads_input_of(self, layer: Layer, node: ir.Node) -> bool:
        """Whether a node reads the value of a layer's first call: others may be on other grids."""
        read = node.inputs[0]
        source = None if read is None else read.producer()
        if source is None or source.op_type != "DequantizeLinear" or source.inputs[1] is None:
            return False
        return source.inputs[1].name == f"{self.model.input_tap(layer)}.scale"

    def has_new_scale(self, layer: Layer) -> bool:
        """Whether a layer reads a tensor whose scale every batch chooses."""
        tap = self.model.input_tap(layer)
        return tap is not None and self.model.instrumented.tap(tap).grid is None

    def add_behind(self, layer: Layer, bias: ir.Value, node: ir.Node) -> None:
        """A bias that does not fit int32, or whose step is not known, is added on its own: runtimes
        would round it to int32 inside the layer.
        """
        output = node.outputs[0]
        shape = (-1, *[1] * len(layer.geometry.kernel))
        value = self.reshape(layer, bias, shape, "bias.shape", node)
        node.replace_input_with(2, None)
        total = ir.Node("", "Add", [output, value], name=f"{node.name}.bias")
        total.outputs[0].name = f"{output.name}.biased"
        total.outputs[0].type, total.outputs[0].shape = output.type, output.shape
        output.replace_all_uses_with(total.outputs[0], replace_graph_outputs=True)
        total.replace_input_with(0, output)
        self.graph.insert_after(node, total)

    def int32_bias(self, layer: Layer, step: Tensor, bias: np.ndarray, before: ir.Node) -> ir.Value:
        codes = np.rint(bias.astype(np.float64) / step.double().numpy()).astype(np.int32)
        stored = self.constant(f"{layer.bias}.codes", lambda: codes)
        scale = self.constant(f"{layer.bias}.scale", lambda: step.numpy())
        return self.node("DequantizeLinear", [stored, scale], before, axis=0)


def _added_by(bias: ir.Value) -> list[ir.Node]:
    """The layers that have this bias as their third input."""
    return [u.node for u in bias.uses() if u.node.op_type in ("Conv", "Gemm") and u.idx == 2]
