"""The kinds of nodes of a captured graph: input, tensor of the network, call, output."""

from torch import fx


def is_input(node: fx.Node) -> bool:
    """Whether the node is the network's input."""
    return node.op == "placeholder"


def is_tensor(node: fx.Node) -> bool:
    """Whether the node is a parameter or buffer; its target is the dotted name."""
    return node.op == "get_attr"


def is_call(node: fx.Node) -> bool:
    """Whether the node calls an operation; its target is the function."""
    return node.op == "call_function"


def is_module(node: fx.Node) -> bool:
    """Whether the node calls a module; its target is the dotted name."""
    return node.op == "call_module"


def varying(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on an input; those of all others are constants."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if is_input(node) or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


def is_output(node: fx.Node) -> bool:
    """Whether the node returns the network's output."""
    return node.op == "output"
