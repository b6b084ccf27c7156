"""The operators of ONNX Runtime's graphs: layers among them, and those with integer kernels."""

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class LayerOperator:
    """An operator of layers or products.

    weight: place of the second factor among the inputs; window: whether it is a convolution, whose
    weight holds all factors of one output (or of one input where `transposed`); integer: whether it
    multiplies integers.
    """

    weight: int
    window: bool = False
    transposed: bool = False
    integer: bool = False

    def multiplications(
        self,
        read: tuple[int, ...],
        weight: tuple[int, ...],
        made: tuple[int, ...],
    ) -> int:
        """How many there are in one run, by the shapes of its input, weight and output."""
        if self.window:
            return prod(read if self.transposed else made) * prod(weight[1:])
        # a product: the factors of an output are what both have beside what the output has
        inner = read[-1] if not weight or read[-1] in weight else read[0]
        return prod(made) * inner


LAYERS = {
    "Conv": LayerOperator(1, window=True),
    "FusedConv": LayerOperator(1, window=True),
    "NhwcFusedConv": LayerOperator(1, window=True),
    "ConvTranspose": LayerOperator(1, window=True, transposed=True),
    "QLinearConv": LayerOperator(3, window=True, integer=True),
    "ConvInteger": LayerOperator(1, window=True, integer=True),
    "Gemm": LayerOperator(1),
    "FusedGemm": LayerOperator(1),
    "MatMul": LayerOperator(1),
    "FusedMatMul": LayerOperator(1),
    "MatMulNBits": LayerOperator(1),
    "QGemm": LayerOperator(3, integer=True),
    "QLinearMatMul": LayerOperator(3, integer=True),
    "MatMulInteger": LayerOperator(1, integer=True),
    "MatMulIntegerToFloat": LayerOperator(1, integer=True),
    "DynamicQuantizeMatMul": LayerOperator(1, integer=True),
}
"""Operators that multiply numbers, by name."""

QUANTIZE, DEQUANTIZE, PAD, CLIP = "QuantizeLinear", "DequantizeLinear", "Pad", "Clip"
CONVERSIONS = (QUANTIZE, DEQUANTIZE, "DynamicQuantizeLinear")
INTEGERS = ("uint8", "int8", "int4", "uint4", "int2", "uint2")
"""Types of codes, as profiles and files name them."""

WITH_KERNEL = (
    "Add",
    "Mul",
    "AveragePool",
    "GlobalAveragePool",
    "LeakyRelu",
    "Sigmoid",
    "Softmax",
    "Concat",
    "Where",
    *(name for name, operator in LAYERS.items() if not operator.integer),
)
"""Operators of which there is an integer form, with any scales before and behind them."""
MOVING = (
    "Gather",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "MaxPool",
    "Resize",
    "Slice",
    "Expand",
    "Tile",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
    "Split",
)
"""Operators that only move codes, where the scales before and behind them are one."""
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators whose output is their input's memory."""
