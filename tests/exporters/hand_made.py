"""ONNX files made by hand: a few nodes, constants by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Nodes = Sequence[tuple[str, list[str], str]]
"""Operation, inputs, output."""


def write(
    path: Path,
    nodes: Nodes,
    constants: Mapping[str, np.ndarray],
    sizes: Sequence[int | str] = ("batch", 2, 6, 6),
    attributes: Mapping[str, dict[str, object]] | None = None,
) -> Path:
    """A file from `x` [sizes] to the output of its last node. attributes: by a node's output."""
    made = [
        helper.make_node(
            op, inputs, [output], name=f"node_{output}", **(attributes or {}).get(output, {})
        )
        for op, inputs, output in nodes
    ]
    graph = helper.make_graph(
        made,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return path


def pair(value: str, site: str) -> Nodes:
    """A quantize/dequantize pair around a value, whose constants are called after `site`; what it
    makes is `value.dq`.
    """
    grid = [f"{site}.scale", f"{site}.zero_point"]
    return [
        ("QuantizeLinear", [value, *grid], f"{value}.q"),
        ("DequantizeLinear", [f"{value}.q", *grid], f"{value}.dq"),
    ]


def grid(site: str, scale: float = 0.05, zero: int = 128) -> dict[str, np.ndarray]:
    """The constants of an activation quantizer."""
    return {f"{site}.scale": np.float32(scale), f"{site}.zero_point": np.uint8(zero)}


def weight(name: str, shape: tuple[int, ...], dtype: type = np.int8) -> dict[str, np.ndarray]:
    """The constants of a weight in bytes, with one scale."""
    low = 0 if dtype is np.uint8 else -100
    codes = np.random.default_rng(0).integers(low, 100, shape).astype(dtype)
    zero = np.array(128 if dtype is np.uint8 else 0, dtype)
    return {f"{name}.codes": codes, f"{name}.scale": np.float32(0.01), f"{name}.zero_point": zero}


def dequantized(name: str) -> Nodes:
    """The node that makes a weight of its codes."""
    parts = [f"{name}.codes", f"{name}.scale", f"{name}.zero_point"]
    return [("DequantizeLinear", parts, f"{name}.dq")]


def feeds(*sizes: int) -> dict[str, np.ndarray]:
    """Noise for `x`."""
    return {"x": np.random.default_rng(1).standard_normal(sizes).astype(np.float32)}
