"""Edits of an ONNX graph: nodes before others, and constants that nodes share."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir


def take_place(graph: ir.Graph, node: ir.Node, new: ir.Value, ending: str) -> None:
    """Let a value be what a node gave, under its name with an ending; the node goes."""
    old = node.outputs[0]
    new.name, new.shape, new.type = f"{old.name}.{ending}", old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


class Editor:
    """Puts nodes and constants into a graph; each constant is held once, by its name."""

    def __init__(self, graph: ir.Graph, prefix: str = "subbyte") -> None:
        """prefix: of the names of nodes and values, another for each editor of a graph."""
        self.graph, self._prefix = graph, prefix
        self.constants: dict[str, ir.Value] = {}
        self.count = 0

    def node(
        self, op: str, inputs: Sequence[ir.Value | None], before: ir.Node, **attributes: int | float
    ) -> ir.Value:
        """Put an operation before another; its value."""
        self.count += 1
        name = f"{self._prefix}_{op}_{self.count}"
        node = ir.node(op, inputs, attributes=attributes, name=name)
        node.outputs[0].name = f"{self._prefix}_{self.count}"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def constant(self, name: str, make: Callable[[], np.ndarray]) -> ir.Value:
        """The constant of this name, made where it is new."""
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

    def sizes(self, *numbers: int) -> ir.Value:
        """A shape, one for all that have it."""
        name = f"sizes.{'x'.join(map(str, numbers))}"
        return self.constant(name, lambda: np.array(numbers, np.int64))

    def reshape(
        self, value: ir.Value, shape: tuple[int, ...], name: str, before: ir.Node
    ) -> ir.Value:
        """A value in another shape; name: of the constant that holds it."""
        wanted = self.constant(name, lambda: np.array(shape, np.int64))
        return self.node("Reshape", [value, wanted], before)
