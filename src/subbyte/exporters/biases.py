"""Biases of ONNX files: int32 where a convolution or Gemm reads quantized values and has int8
weights.
"""

import numpy as np
import onnx_ir as ir
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.exporters.editor import Editor
from subbyte.exporters.storage import INT8, Container, Storage
from subbyte.graph import Layer

_INTEGERS, _FLOAT = ("Conv", "Gemm"), "ConvTranspose"
"""Layers whose integer kernels add a bias, and one that has none."""


class Biases:
    """Writes biases; those on a grid are on that of the first call's input, and further calls add
    them on their own.
    """

    def __init__(self, editor: Editor, model: QuantizedModel, container: Container) -> None:
        self.editor, self.model, self.container = editor, model, container

    def write(self) -> None:
        """Put them in, in place."""
        for layer in self.model.owners:
            step = self.model.bias_scale(layer)
            bias = self.editor.graph.initializers.get(layer.bias)
            if bias is None or bias.const_value is None:
                continue
            # a float weight between grids ONNX Runtime would round to 8 bits, unless a sum follows
            tap, storage = self.model.input_tap(layer), self.storage(layer)
            dense = tap is not None and (storage is None or not self.fits_byte(tap))
            alone = layer.name in self.model.floating or self.has_new_scale(layer) or dense
            for node in _added_by(bias):
                if alone or (step is not None and not self.reads_input_of(layer, node)):
                    self.add_behind(layer, bias, node)
                elif step is None or node.op_type not in _INTEGERS:
                    continue
                elif storage is INT8:
                    value = self.int32_bias(layer, step, bias.const_value.numpy(), node)
                    node.replace_input_with(2, value)

    def storage(self, layer: Layer) -> Storage | None:
        """The type that holds a layer's codes; None for a weight that is float in the file."""
        weight = self.model.weights.get(layer.name)
        return None if weight is None else self.container.storage(weight.grid.spec.alphabet)

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

    def fits_byte(self, tap: str) -> bool:
        """Whether codes of an activation quantizer are those of integer kernels."""
        spec = self.model.instrumented.tap(tap).spec
        return spec is not None and spec.alphabet.fits_byte

    def add_behind(self, layer: Layer, bias: ir.Value, node: ir.Node) -> None:
        """A bias that does not fit int32, or whose step is not known, is added on its own: runtimes
        would round it to int32 inside the layer.
        """
        output = node.outputs[0]
        shape = (-1, *[1] * len(layer.geometry.kernel))
        value = self.editor.reshape(bias, shape, f"{layer.weight}.bias.shape", node)
        node.replace_input_with(2, None)
        if self.container.cuts:  # OpenVINO's converter takes no empty input
            node.resize_inputs(2)
        total = ir.Node("", "Add", [output, value], name=f"{node.name}.bias")
        total.outputs[0].name = f"{output.name}.biased"
        total.outputs[0].type, total.outputs[0].shape = output.type, output.shape
        output.replace_all_uses_with(total.outputs[0], replace_graph_outputs=True)
        total.replace_input_with(0, output)
        self.editor.graph.insert_after(node, total)

    def int32_bias(self, layer: Layer, step: Tensor, bias: np.ndarray, before: ir.Node) -> ir.Value:
        """A bias [rows] in whole steps."""
        codes = np.rint(bias.astype(np.float64) / step.double().numpy()).astype(np.int32)
        stored = self.editor.constant(f"{layer.bias}.codes", lambda: codes)
        scale = self.editor.constant(f"{layer.bias}.scale", lambda: step.numpy())
        return self.editor.node("DequantizeLinear", [stored, scale], before, axis=0)


def _added_by(bias: ir.Value) -> list[ir.Node]:
    """The layers that have this bias as their third input."""
    return [u.node for u in bias.uses() if u.node.op_type in (*_INTEGERS, _FLOAT) and u.idx == 2]
