"""Short names and no defaults: what ONNX files hold beside their numbers, cut down.

A node with the names that it is made with takes some 120 bytes, three times what it needs; a small
network in 2 bits has more of those than of codes. Codes have the name of their layer, or that of
their activation quantizer and ".codes"; inputs and outputs keep theirs. All others get names of one
or two letters, the most frequent first.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count, product
from string import ascii_letters
from typing import Any

import onnx_ir as ir

_Neutral = Callable[[Any], bool]


def _all(number: int) -> _Neutral:
    return lambda values: set(values) <= {number}


_DEFAULTS: dict[str, dict[str, _Neutral]] = {
    "Conv": {
        "auto_pad": lambda text: text == "NOTSET",
        "dilations": _all(1),
        "group": lambda number: number == 1,
        "kernel_shape": lambda sizes: True,  # that of the weight
        "pads": _all(0),
        "strides": _all(1),
    },
    "Pad": {"mode": lambda text: text == "constant"},
    "Gemm": {
        "alpha": lambda number: number == 1.0,
        "beta": lambda number: number == 1.0,
        "transA": lambda number: number == 0,
        "transB": lambda number: number == 0,
    },
}
"""By operation and attribute, whether a value is what holds without it."""


def shorten(program: ir.Model, named: Mapping[str, str]) -> dict[str, str]:
    """Rename the values of a graph, in place, and drop what says nothing: names of nodes, types of
    values between them, and attributes with their default.

    named: names that some constants keep or get, by the name that they have. Returns the names that
    values had, by those that they got.
    """
    graph = program.graph
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    used = Counter(
        v for node in graph.all_nodes() for v in (*node.inputs, *node.outputs) if v is not None
    )
    taken = {value.name for value in used} | kept | set(named.values())
    before: dict[str, str] = {}
    fresh = (name for name in _names() if name not in taken)
    for value, _ in used.most_common():
        if value.name in kept:
            continue
        own = named.get(value.name or "", "")
        free = own and own not in kept and own not in graph.initializers
        new = own if free else next(fresh)
        before[new], value.name = value.name or new, new
        value.type = value.shape = None  # runtimes infer them, constants state them
    for node in graph.all_nodes():
        node.name = None
        for name, neutral in _DEFAULTS.get(node.op_type, {}).items():
            if name in node.attributes and neutral(node.attributes[name].value):
                del node.attributes[name]
    graph.name = "g"
    return before


def _names() -> Iterator[str]:
    for length in count(1):
        yield from map("".join, product(ascii_letters, repeat=length))
