"""The runtime's graph as it was read: shapes, multiplications, and what is alive at a time."""

import numpy as np
import pytest

from subbyte.exporters.optimized import read_optimized
from tests.exporters.hand_made import feeds, write


def alive(sizes, steps, kept):
    """The most bytes alive, by trying every step. steps: (made, read) names in order."""
    most = 0
    for now in range(len(steps)):
        there = 0
        for name, size in sizes.items():
            born = next((k for k, (made, _) in enumerate(steps) if made == name), -1)
            last = max((k for k, (_, read) in enumerate(steps) if name in read), default=born)
            there += size * (born <= now <= (len(steps) if name in kept else last))
        most = max(most, there)
    return most


def test_values_are_alive_from_their_maker_to_their_last_reader(tmp_path):
    nodes = [
        ("Erf", ["x"], "a"),
        ("Erf", ["a"], "b"),
        ("Concat", ["a", "b"], "c"),
        ("ReduceSum", ["c"], "d"),
        ("Sin", ["d"], "e"),
        ("Add", ["e", "x"], "y"),
    ]
    path = write(tmp_path / "net.onnx", nodes, {}, attributes={"c": {"axis": 1}})
    graph = read_optimized(path, feeds(1, 2, 6, 6))
    own = 4 * 2 * 36
    sizes = {"x": own, "a": own, "b": own, "c": 2 * own, "d": 4, "e": 4, "y": own}
    steps = [(output, inputs) for _, inputs, output in nodes]
    assert [node.operation for node in graph.nodes] == [op for op, _, _ in nodes]
    assert graph.peak() == alive(sizes, steps, {"y"}) == 5 * own


def test_views_take_no_memory(tmp_path):
    nodes = [
        ("Erf", ["x"], "a"),
        ("Reshape", ["a", "shape"], "v"),
        ("Erf", ["v"], "e"),
        ("ReduceSum", ["e"], "r"),
        ("Mul", ["a", "r"], "m"),
        ("ReduceSum", ["m"], "y"),
    ]
    path = write(tmp_path / "net.onnx", nodes, {"shape": np.array([0, -1])})
    assert read_optimized(path, feeds(1, 2, 6, 6)).peak() == 2 * 4 * 72 + 4


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "count"),
    [
        ("Conv", (4, 2, 3, 3), {}, 4 * 16 * 18),
        ("Conv", (4, 1, 3, 3), {"group": 2}, 4 * 16 * 9),
        ("ConvTranspose", (2, 4, 3, 3), {}, 2 * 36 * 36),
        ("MatMul", (6, 5), {}, 2 * 6 * 5 * 6),
    ],
)
def test_multiplications(op, shape, attributes, count, tmp_path):
    array = np.ones(shape, np.float32)
    path = write(
        tmp_path / "n.onnx", [(op, ["x", "w"], "y")], {"w": array}, attributes={"y": attributes}
    )
    graph = read_optimized(path, feeds(1, 2, 6, 6))
    assert sum(map(graph.multiplications, graph.nodes)) == count


def test_multiplications_of_a_matrix_that_stands_either_way(tmp_path):
    for flag, shape in ((0, (6, 5)), (1, (5, 6))):
        path = write(
            tmp_path / "n.onnx",
            [("Gemm", ["x", "w"], "y")],
            {"w": np.ones(shape, np.float32)},
            ("batch", 6),
            {"y": {"transB": flag}},
        )
        graph = read_optimized(path, feeds(3, 6))
        assert sum(map(graph.multiplications, graph.nodes)) == 3 * 6 * 5
