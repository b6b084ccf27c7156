"""Random networks: `random_graph(seed)` gives one with its inputs.

Steps of all kinds in a random order, then a head, so that there is a layer; outputs are the head's
value, or several in a tuple, a list or a dictionary; what leads to none of them is a dead end.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from subbyte import Inputs
from tests.reference.random_graphs.growing import SAMPLES, Call, Graph, Growing, Step
from tests.reference.random_graphs.steps import STEPS, Kind

__all__ = ["STEPS", "Graph", "Kind", "random_graph"]


def random_graph(seed: int) -> Graph:
    """The network of a seed, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _grown(random.Random(seed))


def _grown(draw: random.Random) -> Graph:
    call = _calls(draw)
    growing = Growing(draw, _values(call(SAMPLES)))
    length = draw.randint(6, 14)
    while len(growing.steps) < length:
        _grow(growing, draw.choice(list(STEPS)))
    head = _head(growing)
    floats = [k for k, value in enumerate(growing.values) if value.is_floating_point()]
    others = draw.sample(floats, min(len(floats), draw.choice([0, 0, 1, 2])))
    return Graph(growing.steps, [head, *others], _pack(draw, len(others)), call)


def _grow(growing: Growing, name: str) -> None:
    kind = STEPS[name]
    value = growing.pick(kind.axes, kind.dtype)
    step = None if value is None else kind.draw(growing, value)
    if step is not None:
        growing.take(step, name)


def _head(growing: Growing) -> int:
    """A layer on the newest value that has one; the number of what it gives."""
    newest = growing.pick(None, torch.float32)
    while newest is None or not growing.take(_layer(growing.values[newest], newest), "linear"):
        newest = growing.pick(None, torch.float32)
    return len(growing.values) - 1


def _layer(value: Tensor, k: int) -> Step:
    return Step(nn.Linear(value.shape[-1], 5), (k,))


def _pack(draw: random.Random, others: int) -> Callable[..., Any]:
    if not others:
        return lambda x: x
    return draw.choice(
        [
            lambda *values: values,
            lambda *values: list(values),
            lambda first, *values: {"out": first, "rest": values},
            lambda first, *values: (None, {"out": first}, *values),
            lambda first, *values: (first, first.argmax(-1), *values),
        ]
    )


def _calls(draw: random.Random) -> Call:
    image = draw.choice([3, 4, 6]), draw.choice([6, 7, 8]), draw.choice([6, 8, 9])
    tokens = draw.choice([4, 5, 6]), draw.choice([6, 8, 12])

    def images(n: int) -> Tensor:
        return torch.randn(n, image[0], 1, 1) + 0.5 * torch.randn(n, *image)

    def padded(n: int) -> Inputs:
        lengths = torch.randint(2, tokens[0] + 1, (n, 1))
        return Inputs(torch.randn(n, *tokens), padding=torch.arange(tokens[0])[None] >= lengths)

    calls: list[Call] = [
        lambda n: Inputs(images(n)),
        lambda n: Inputs(images(n)),
        lambda n: Inputs(torch.randn(n, *tokens)),
        lambda n: Inputs(torch.randn(n, tokens[1])),
        lambda n: Inputs(images(n), images(n)),
        lambda n: Inputs({"image": images(n), "vector": torch.randn(n, 8)}),
        lambda n: Inputs(torch.randint(0, 10, (n, tokens[0]))),
        padded,
    ]
    return draw.choice(calls)


def _values(call: Inputs) -> list[Tensor]:
    first, *others = call.args
    given = first.values() if isinstance(first, dict) else [first]
    return [*given, *others, *call.kwargs.values()]
