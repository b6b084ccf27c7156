"""The graph that ONNX Runtime makes of a file, read back: what it computes with integers, what in
float, how many multiplications, and how much memory the values take.

The graph is that of the optimization level `extended`, in which pairs have become integer kernels.
The next one, with which files run, only lays out values for the processor at hand: the same kernels
with other names, by machine. One run of a sample gives order, types and shapes of all values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import onnxruntime
from onnx import numpy_helper

from subbyte.exporters.onnx_files import beside
from subbyte.exporters.operators import (
    CONVERSIONS,
    INTEGERS,
    LAYERS,
    VIEWS,
)
from subbyte.exporters.sessions import Event, Feeds, profile
from subbyte.io.workplaces import scratch

_BYTES = {"uint8": 1, "int8": 1, "bool": 1, "float16": 2, "int16": 2, "int64": 8, "double": 8}
_WORD = 4  # bytes of all other types
NO_NAMES: Mapping[str, str] = MappingProxyType({})
_LARGE = 1 << 30  # bytes of a file from which on constants are written beside the graph
_UNSIGNED = onnx.TensorProto.UINT8
_WIDE = (onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
_LEVEL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the runtime's graph. inputs: empty where an optional one is missing; types, shapes:
    of its outputs, in one run; activation: the operation that its kernel took up, such as Clip.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    activation: str = ""

    @property
    def converts(self) -> bool:
        """Whether it turns floats into integers, or back."""
        return self.operation in CONVERSIONS

    @property
    def in_integers(self) -> bool:
        """Whether it computes with integers: its kernel does, or what it makes are codes."""
        layer = LAYERS.get(self.operation)
        if layer is not None:
            return layer.integer
        return not self.converts and all(one in INTEGERS for one in self.types)

    @property
    def in_float(self) -> bool:
        """Whether it computes in float; what computes shapes is neither."""
        return not self.converts and not self.in_integers and "float" in self.types


@dataclass(frozen=True, eq=False)
class Optimized:
    """The runtime's graph.

    nodes: in the order in which they ran; constants: shapes by name; unsigned, wide: names of those
    of unsigned bytes and of 16 bits; weights, loaded: bytes of constants in the file, and in this
    graph; inputs: shapes by name; outputs: names.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, tuple[int, ...]]
    unsigned: frozenset[str]
    wide: frozenset[str]
    weights: int
    loaded: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes a value, by the value's name."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read a value, by the value's name."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in filter(None, node.inputs):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all values and constants in one run."""
        made = {
            name: shape
            for node in self.nodes
            for name, shape in zip(node.outputs, node.shapes, strict=False)
        }
        return {**self.constants, **self.inputs, **made}

    def before(self, node: Node) -> list[Node]:
        """The nodes that make what a node reads."""
        return [self.makers[name] for name in node.inputs if name in self.makers]

    def behind(self, node: Node) -> list[Node]:
        """The nodes that read what a node makes."""
        return [one for name in node.outputs for one in self.readers.get(name, ())]

    def multiplications(self, node: Node) -> int:
        """Those of one node in one run; 0 where it is no layer or product."""
        layer = LAYERS.get(node.operation)
        if layer is None or not node.shapes:
            return 0
        read = self.shapes.get(node.inputs[0], ())
        weight = self.shapes.get(node.inputs[layer.weight], ())
        return layer.multiplications(read, weight, node.shapes[0]) if read else 0

    def peak(self) -> int:
        """The most bytes that are alive at a time: values from the node that makes them to the last
        one that reads them, inputs from the start, outputs to the end; views take none.
        """
        owner: dict[str, str] = {}
        sizes = {name: 4 * _count(shape) for name, shape in self.inputs.items()}
        for node in self.nodes:
            for name, kind, shape in zip(node.outputs, node.types, node.shapes, strict=False):
                if node.operation in VIEWS and node.inputs[0] not in self.constants:
                    owner[name] = owner.get(node.inputs[0], node.inputs[0])
                else:
                    sizes[name] = _BYTES.get(kind, _WORD) * _count(shape)
        last = dict.fromkeys(sizes, -1)
        for place, node in enumerate(self.nodes):
            for name in (*node.inputs, *node.outputs):
                if (own := owner.get(name, name)) in last:
                    last[own] = place
        last |= {owner.get(name, name): len(self.nodes) for name in self.outputs}
        alive = sum(sizes[name] for name in self.inputs)
        ends: dict[int, list[str]] = {}
        for name, place in last.items():
            ends.setdefault(place, []).append(name)
        most = alive
        for place, node in enumerate(self.nodes):
            alive += sum(sizes[name] for name in node.outputs if name in sizes)
            most = max(most, alive)
            alive -= sum(sizes[name] for name in ends.get(place, ()))
        return most


def read_optimized(path: Path, feeds: Feeds, names: Mapping[str, str] = NO_NAMES) -> Optimized:
    """Load a file, run it once, and read what ONNX Runtime made of it. names: as for
    `kernels.read_kernels`.

    Raises FormatError when it can't be loaded or run.
    """
    written = onnx.load(str(path), load_external_data=False)
    large = path.stat().st_size > _LARGE or bool(beside(written))
    with scratch() as folder:
        place, source = folder / "optimized.onnx", path
        if not large:  # nodes are told from each other by name
            source = folder / "named.onnx"
            onnx.save(_named(written, names), str(source))

        def kept(options: Any) -> None:
            options.graph_optimization_level = _LEVEL
            options.optimized_model_filepath = str(place)
            if large:
                name = "session.optimized_model_external_initializers_file_name"
                options.add_session_config_entry(name, "constants.bin")

        (events,) = profile(source, feeds, change=kept)
        graph = onnx.load(str(place), load_external_data=False).graph
    constants = {one.name: tuple(one.dims) for one in graph.initializer}
    taken = {name: tuple(array.shape) for name, array in feeds.items()}
    return Optimized(
        tuple(_nodes(graph, events)),
        constants,
        frozenset(one.name for one in graph.initializer if one.data_type == _UNSIGNED),
        frozenset(one.name for one in graph.initializer if one.data_type in _WIDE),
        sum(map(_bytes, written.graph.initializer)),
        sum(map(_bytes, graph.initializer)),
        taken,
        tuple(one.name for one in graph.output),
    )


def _named(model: Any, names: Mapping[str, str]) -> Any:
    """A file with names for all nodes, and with those of values that it had before."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for constant in model.graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    return model


def _nodes(graph: Any, events: list[Event]) -> Iterator[Node]:
    """The nodes that ran, in their order."""
    by_name: dict[str, list[Any]] = {}
    for one in graph.node:
        by_name.setdefault(one.name, []).append(one)
    for event in events:
        waiting = by_name.get(event.node)
        if waiting:  # the graphs inside loops and branches have none
            node = waiting.pop(0)
            types, shapes = zip(*event.outputs, strict=True) if event.outputs else ((), ())
            took = [one.s.decode() for one in node.attribute if one.name == "activation"]
            names = tuple(node.input), tuple(node.output)
            yield Node(node.name, node.op_type, *names, types, shapes, "".join(took))


def _bytes(constant: Any) -> int:
    """Bytes of a constant's numbers, packed as the file packs them."""
    if constant.raw_data:
        return len(constant.raw_data)
    stated = {one.key: one.value for one in constant.external_data}
    if "length" in stated:
        return int(stated["length"])
    return int(numpy_helper.to_array(constant).nbytes)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
