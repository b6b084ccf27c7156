"""Codes from codes by a table: hard sigmoids of quantized values, and values on a second grid.

    hardsigmoid(x) = clip(x / 6 + 1/2, 0, 1),    on a grid with step h and 1 / (2 h) = m whole:
    code = clip(round(x / (6 h)) + m, 0, 2 m)

ONNX Runtime computes HardSigmoid in float, between a DequantizeLinear and a QuantizeLinear. A
LeakyRelu with slope 1, which changes nothing, it computes together with them, by a table of codes;
so it does for a value that goes from one grid to another.
"""

import numpy as np
import onnx_ir as ir

from subbyte.exporters.editor import Editor
from subbyte.graph import FakeQuantize

_SLOPE, _OFFSET = 1 / 6, 0.5
_NEAR = 1e-5


def same(editor: Editor, value: ir.Value, before: ir.Node) -> ir.Value:
    """A dequantized value on its way to another grid: an operation that changes nothing."""
    return editor.node("LeakyRelu", [value], before, alpha=1.0)


def half_code(source: ir.Value, tap: FakeQuantize) -> int:
    """The code m of 1/2, where `source` is a hard sigmoid of a quantized value and its grid has
    unsigned codes and 1/2; 0 otherwise.
    """
    node = source.producer()
    if node is None or node.op_type != "HardSigmoid" or source.is_graph_output():
        return 0
    maker = None if node.inputs[0] is None else node.inputs[0].producer()
    quantized = maker is not None and maker.op_type == "DequantizeLinear"
    slope, offset = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    usual = abs(slope - _SLOPE) + abs(offset - _OFFSET) < _NEAR
    assert tap.spec is not None
    plain = tap.axis is None and tap.spec.alphabet.qmin == 0 and not bool(tap.zero_point.any())
    if not (quantized and usual and plain):
        return 0
    code = _OFFSET / float(tap.scale)
    return round(code) if abs(code / round(code) - 1) < _NEAR else 0


def hard_sigmoid(
    editor: Editor, site: str, source: ir.Value, step: float, half: int, before: ir.Node
) -> ir.Value:
    """Codes of a hard sigmoid, uint8 with zero point 0. step: h; half: m."""
    node = source.producer()
    assert node is not None and node.inputs[0] is not None
    wide = editor.constant(f"{site}.wide", lambda: np.array(step / _SLOPE, np.float32))
    middle = editor.constant(f"{site}.half", lambda: np.array(half, np.uint8))
    lowest = editor.constant(f"{site}.lowest", lambda: np.array(0, np.uint8))
    highest = editor.constant(f"{site}.highest", lambda: np.array(2 * half, np.uint8))
    moved = same(editor, node.inputs[0], before)
    codes = editor.node("QuantizeLinear", [moved, wide, middle], before)
    return editor.node("Clip", [codes, lowest, highest], before)
