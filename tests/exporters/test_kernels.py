"""What ONNX Runtime made of a file, told with reasons: files by hand, each with one known cost."""

import numpy as np
import pytest

from subbyte.exporters.kernels import kernels_of, read_kernels
from subbyte.exporters.optimized import read_optimized
from subbyte.records import Cost
from tests.exporters.hand_made import dequantized, feeds, grid, pair, weight, write

CONV = [
    *pair("x", "x"),
    *dequantized("a.weight"),
    ("Conv", ["x.dq", "a.weight.dq"], "c"),
    *pair("c", "a:out"),
]
CONSTANTS = {**grid("x"), **weight("a.weight", (4, 2, 3, 3)), **grid("a:out", 1.0)}
ONE = feeds(1, 2, 6, 6)


def found(path, nodes, constants, **more):
    return read_kernels(write(path / "net.onnx", nodes, constants, **more), ONE)


def told(kernels):
    return [(one.cost, one.name, one.operation) for one in kernels.findings]


def test_a_file_of_integer_kernels_has_no_findings(tmp_path):
    kernels = found(tmp_path, CONV, CONSTANTS)
    assert kernels.findings == []
    assert (kernels.integers, kernels.floats, kernels.conversions) == (1, 0, 2)
    assert kernels.integer_percent == pytest.approx(100 / 3)
    # 4 channels of 4 x 4 numbers, each of 2 x 3 x 3 products
    assert kernels.multiplications == kernels.integer_multiplications == 4 * 16 * 18
    assert kernels.multiplied_percent == 100 and kernels.quantizes


def test_bytes_of_weights_are_those_in_the_file_and_after_load(tmp_path):
    kernels = found(tmp_path, CONV, CONSTANTS)
    assert kernels.weights == sum(array.nbytes for array in CONSTANTS.values())
    nodes = [("Cast", ["w.codes"], "w"), ("Conv", ["x", "w"], "y")]
    codes = weight("w", (4, 2, 3, 3))["w.codes"]
    kernels = found(tmp_path, nodes, {"w.codes": codes}, attributes={"w": {"to": 1}})
    assert (kernels.weights, kernels.loaded) == (codes.size, 4 * codes.size)
    assert not kernels.quantizes and kernels.findings == []
    assert kernels.multiplications == 4 * 16 * 18 and kernels.integer_multiplications == 0


def test_what_is_float_before_the_first_quantizer_or_behind_the_last_one_is_no_cost(tmp_path):
    ends = [("Erf", ["x"], "e"), *pair("e", "x"), *dequantized("a.weight")]
    ends += [("Conv", ["e.dq", "a.weight.dq"], "c"), *pair("c", "a:out"), ("Sin", ["c.dq"], "y")]
    kernels = found(tmp_path, ends, CONSTANTS)
    assert kernels.findings == [] and (kernels.integers, kernels.floats) == (1, 2)


def test_a_layer_whose_input_is_float_is_named(tmp_path):
    nodes = [*pair("x", "x"), ("Erf", ["x.dq"], "e"), *dequantized("a.weight")]
    nodes += [("Conv", ["e", "a.weight.dq"], "c"), *pair("c", "a:out")]
    kernels = found(tmp_path, nodes, CONSTANTS)
    assert told(kernels) == [
        (Cost.FLOAT_LAYER, "a", "Conv"),
        (Cost.FLOAT_BETWEEN, "node_e, behind x", "Erf"),
    ]
    assert kernels.findings[0].reason == "its input is not quantized"
    assert kernels.findings[1].reason == "ONNX Runtime has no integer kernel for Erf"
    assert kernels.multiplied_percent == 0


def float_weight() -> tuple[list, dict]:
    """A layer with a float weight; without the Erf ONNX Runtime would round the weight itself."""
    nodes = [*pair("x", "x"), ("Conv", ["x.dq", "a.weight.levels"], "c"), ("Erf", ["c"], "e")]
    levels = np.ones((4, 2, 3, 3), np.float32)
    return [*nodes, *pair("e", "e:out")], {**grid("x"), **grid("e:out"), "a.weight.levels": levels}


def test_a_layer_whose_weight_is_float_is_named(tmp_path):
    kernels = found(tmp_path, *float_weight())
    assert told(kernels)[0] == (Cost.FLOAT_LAYER, "a", "Conv")
    assert kernels.findings[0].reason == "its weight is held as float numbers"


def test_a_layer_whose_output_leaves_in_float_is_named(tmp_path):
    nodes = [*CONV[:-2], ("Erf", ["c"], "y"), *pair("y", "a:out")]
    kernels = found(tmp_path, nodes, CONSTANTS)
    (first, second) = kernels.findings
    assert first.cost is Cost.FLOAT_LAYER and "read in float by" in first.reason
    assert second.cost is Cost.FLOAT_BETWEEN and second.operation == "Erf"
    assert second.name == "a"  # the quantizer behind it


def test_names_of_layers_are_those_given(tmp_path):
    nodes, constants = float_weight()
    graph = read_optimized(write(tmp_path / "net.onnx", nodes, constants), ONE)
    assert kernels_of(graph, {"a.weight": "stem"}).findings[0].name == "stem"
    assert kernels_of(graph, {}).findings[0].name == "a"


def test_a_value_on_two_grids_is_named(tmp_path):
    ends = {"low": np.uint8(120), "high": np.uint8(140)}
    first = ["a:out.scale", "a:out.zero_point"]
    nodes = [
        *CONV[:-1],
        ("Clip", ["c.q", "low", "high"], "c.cut"),  # else ONNX Runtime makes one pair of two
        ("DequantizeLinear", ["c.cut", *first], "d"),
        *pair("d", "b:out"),
    ]
    kernels = found(tmp_path, nodes, {**CONSTANTS, **grid("b:out", 0.3), **ends})
    assert told(kernels) == [(Cost.TWICE, "b", "QuantizeLinear")]
    assert kernels.findings[0].reason == "its codes on the grid of a are put on that of b"


def test_pads_are_named_by_what_reads_them(tmp_path):
    nodes = [*pair("x", "x"), ("Pad", ["x.dq", "amounts"], "p"), *pair("p", "x")]
    sizes = {"amounts": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    convolved = [
        *dequantized("a.weight"),
        ("Conv", ["p.dq", "a.weight.dq"], "c"),
        *pair("c", "a:out"),
    ]
    kernels = found(tmp_path, [*nodes, *convolved], {**CONSTANTS, **sizes})
    (one,) = [one for one in kernels.findings if one.cost is Cost.PAD]
    assert one.name == "node_p, behind x" and "what a layer reads" in one.reason
    added = [("Add", ["p.dq", "p.dq"], "s"), *pair("s", "a:out")]
    kernels = found(tmp_path, [*nodes, *added], {**CONSTANTS, **sizes})
    (one,) = [one for one in kernels.findings if one.cost is Cost.PAD]
    assert "node_s, behind x reads" in one.reason or "what a reads" in one.reason


def test_unsigned_weights_are_named(tmp_path):
    constants = {**CONSTANTS, **weight("a.weight", (4, 2, 3, 3), np.uint8)}
    assert told(found(tmp_path, CONV, constants)) == [(Cost.UNSIGNED, "a", "QLinearConv")]


def test_findings_of_one_reason_are_told_together(tmp_path):
    nodes = [*pair("x", "x"), ("Erf", ["x.dq"], "e"), ("Erf", ["e"], "f"), *pair("f", "a:out")]
    kernels = found(tmp_path, nodes, {**grid("x"), **grid("a:out")})
    assert [len(alike) for alike in kernels.alike] == [2]
    assert kernels.summary.endswith("2 x float between integers")
