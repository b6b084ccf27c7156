"""A captured graph as plain arrays, and back: what `torch.export` takes seconds for is done once
for all processes.

The nodes are JSON: operations by name, arguments as numbers, text, lists and names of nodes;
tensors stand beside them. torch's own files of graphs hold pickles and expressions that are
evaluated; here a reader can call nothing but ATen operations and those few of Python's on numbers
that graphs hold. Of sizes that follow the batch it is only kept that they do.
"""

import json
import operator
from collections.abc import Callable, Mapping
from keyword import iskeyword
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export._unlift import _get_codegen
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.utils import _pytree as pytree

from subbyte.graph.nodes import is_call, is_input, is_output, is_tensor
from subbyte.graph.tensors import parent_of, tensor_at, tensors_read
from subbyte.io.texts import parse_json

_FUNCTIONS = {
    f"operator.{f.__name__}": f
    for f in (operator.getitem, operator.add, operator.mul, operator.floordiv)
}
_OF_FILES = ("from_file",)  # makes files
_NAMED = (torch.dtype, torch.memory_format, torch.layout)
_DTYPES = {
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
}
_GRAPH = "graph"


class UnstorableError(Exception):
    """A graph holds what the file has no way to say."""


def to_tensors(graph_module: fx.GraphModule) -> dict[str, Tensor]:
    """A graph whose nodes read, compute and return tensors. Raises UnstorableError for others."""
    nodes = [_node(node) for node in graph_module.graph.nodes]
    named = {
        f"parameter {name}": value.detach()
        for name, value in graph_module.named_parameters(remove_duplicate=False)
    }
    named |= {
        f"buffer {name}": value
        for name, value in graph_module.named_buffers(remove_duplicate=False)
    }
    known = {label.partition(" ")[2] for label in named}
    others = sorted(tensors_read(graph_module) - known)
    named |= {f"constant {name}": tensor_at(graph_module, name) for name in others}
    for name, value in named.items():
        if (
            value.dtype not in _DTYPES
            or value.layout is not torch.strided
            or not value.is_contiguous()
        ):
            raise UnstorableError(
                f"{name} is {value.dtype}, {value.layout}, strides {value.stride()}"
            )
    text = json.dumps(nodes).encode()
    return {_GRAPH: torch.frombuffer(bytearray(text), dtype=torch.uint8), **named}


def from_tensors(
    tensors: Mapping[str, Tensor], inputs: pytree.TreeSpec, outputs: pytree.TreeSpec
) -> fx.GraphModule:
    """The graph that `to_tensors` was given. inputs, outputs: trees of its arguments, positional
    and by keyword, and of what it returns.
    """
    module = fx.GraphModule(nn.Module(), fx.Graph())
    for label, value in tensors.items():
        if label != _GRAPH:
            kind, _, name = label.partition(" ")
            parent, leaf = parent_of(module, name)
            _REGISTER[kind](parent, leaf, value)
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    mode = FakeTensorMode(shape_env=ShapeEnv())
    batch = _batch_size(mode)
    text = bytes(tensors[_GRAPH].numpy())
    for name, op, target, args, kwargs, stack, shape in parse_json(text, _GRAPH):
        _require_names(name, op, target, kwargs)
        target, args, kwargs = (_decode(part, made) for part in (target, args, kwargs))
        node = graph.create_node(op, target, args, kwargs, name)
        node.meta["nn_module_stack"] = {key: (module_name, "") for key, module_name in stack}
        with mode:
            node.meta["val"] = _without_values(shape, batch)
        made[name] = node
    graph.set_codegen(_get_codegen(inputs, outputs))
    module.graph = graph
    return module


def _require_names(name: object, op: object, target: object, kwargs: Any) -> None:
    """Raise ValueError for what is more than a name where torch writes names into code of its own
    making, and for operations that graphs of ours have not.
    """
    names = [name, *(key for key, _ in kwargs[1:])]
    match op, target:
        case (("placeholder" | "output" | "get_attr"), str()):
            names += [part for part in target.split(".") if not part.isdecimal()]
        case "call_function", ["function", str()]:
            pass
        case _:
            raise ValueError(f"{op} of {target} is no node")
    for one in names:
        if not isinstance(one, str) or not one.isidentifier() or iskeyword(one):
            raise ValueError(f"{one!r} is no name")


def _node(node: fx.Node) -> list[Any]:
    if not any(is_kind(node) for is_kind in (is_input, is_tensor, is_call, is_output)):
        raise UnstorableError(f"{node.op} of {node.target}")
    target = ["function", _name(node.target)] if is_call(node) else node.target
    args = node.args
    entries = (node.meta.get("nn_module_stack") or {}).items()
    stack = [(key, entry[0]) for key, entry in entries if isinstance(entry, tuple)]
    shape = _shape(node.meta.get("val"))
    return [
        node.name,
        node.op,
        target,
        _encode(args),
        _encode(dict(node.kwargs)),
        stack,
        shape,
    ]


def _name(function: Any) -> str:
    if isinstance(function, torch._ops.OpOverload) and function.namespace == "aten":
        return str(function)
    for name, known in _FUNCTIONS.items():
        if function is known:
            return name
    raise UnstorableError(f"a call of {function}")


def _function(name: str) -> Any:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, packet, overload = name.split(".")
    if namespace != "aten" or packet in _OF_FILES:
        raise ValueError(f"{name} is no operation of ATen's")
    return attrgetter(f"{packet}.{overload}")(torch.ops.aten)


def _encode(value: Any) -> Any:
    """JSON of an argument: plain values as they are, others as a list that begins with their
    kind.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, fx.Node):
        return ["node", value.name]
    if isinstance(value, _NAMED):
        return ["torch", str(value).removeprefix("torch.")]
    if isinstance(value, torch.device):
        return ["device", str(value)]
    if isinstance(value, tuple | list):
        return ["tuple" if isinstance(value, tuple) else "list", *map(_encode, value)]
    if isinstance(value, dict):
        return ["dict", *([key, _encode(entry)] for key, entry in value.items())]
    raise UnstorableError(f"an argument of type {type(value).__name__}")


def _decode(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if not isinstance(value, list):
        return value
    kind, *rest = value
    return _DECODE[kind](rest, nodes)


def _named(name: str) -> Any:
    """A type, layout or memory format of torch's."""
    found = vars(torch)[name]
    if not isinstance(found, _NAMED):
        raise ValueError(f"torch.{name} is no type, layout or format")
    return found


_DECODE: dict[str, Callable[[list[Any], Mapping[str, fx.Node]], Any]] = {
    "node": lambda rest, nodes: nodes[rest[0]],
    "function": lambda rest, _: _function(rest[0]),
    "torch": lambda rest, _: _named(rest[0]),
    "device": lambda rest, _: torch.device(rest[0]),
    "dict": lambda rest, nodes: {key: _decode(entry, nodes) for key, entry in rest},
    "tuple": lambda rest, nodes: tuple(_decode(entry, nodes) for entry in rest),
    "list": lambda rest, nodes: [_decode(entry, nodes) for entry in rest],
}
"""How a list is read that begins with this."""


def _register_parameter(module: nn.Module, name: str, value: Tensor) -> None:
    module.register_parameter(name, nn.Parameter(value, value.is_floating_point()))


_REGISTER: dict[str, Callable[[nn.Module, str, Tensor], None]] = {
    "parameter": _register_parameter,
    "buffer": nn.Module.register_buffer,
    "constant": setattr,
}


def _shape(value: Any) -> Any:
    """The type and sizes of a node's value, [a, b] for sizes a * batch + b; None for no tensor."""
    if isinstance(value, tuple | list):
        return ["tuple", *map(_shape, value)]
    if not isinstance(value, Tensor):
        return None
    sizes = [size if isinstance(size, int) else _line(size) for size in value.shape]
    return ["tensor", str(value.dtype).removeprefix("torch."), sizes]


def _line(size: torch.SymInt) -> list[int]:
    """[a, b] of a size that is a * batch + b."""
    expression = size.node.expr
    at = [expression.subs(dict.fromkeys(expression.free_symbols, n)) for n in (0, 1, 2)]
    if at[2] - at[1] != at[1] - at[0]:
        raise UnstorableError(f"a size of {expression}")
    return [int(at[1] - at[0]), int(at[0])]


def _without_values(shape: Any, batch: torch.SymInt) -> Any:
    if shape is None:
        return None
    kind, *rest = shape
    if kind == "tuple":
        return tuple(_without_values(each, batch) for each in rest)
    sizes = [size if isinstance(size, int) else batch * size[0] + size[1] for size in rest[1]]
    return torch.empty(sizes, dtype=_named(rest[0]))


def _batch_size(mode: FakeTensorMode) -> torch.SymInt:
    """A size that stands for any."""
    context: StatelessSymbolicContext[Any, Any] = StatelessSymbolicContext(
        dynamic_sizes=[DimDynamic.DYNAMIC]
    )
    return mode.from_tensor(torch.zeros(2), symbolic_context=context).shape[0]  # type: ignore[return-value]
