"""Networks that tests capture again and again are captured once in a process.

torch.export takes most of the time of most tests, and many of them begin with the same network and
the same weights. What is kept is the graph of a network that is the same in every attribute of
every module, down to the numbers, for the same inputs: a copy is what capturing would give.
"""

import io
import pickle
from collections import OrderedDict
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from subbyte.graph import capture
from subbyte.graph.instrument import copied
from subbyte.graph.samples import Samples

_LARGEST = 2**20
"""Numbers of a network that is kept."""
_MOST = 40
"""Graphs that are kept."""
_kept: OrderedDict[object, tuple[fx.GraphModule, list[object]]] = OrderedDict()


class _Attributes(pickle.Pickler):
    """Writes all that a network is made of; classes and functions by what they are, not by name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.named: list[object] = []  # kept alive, so that no other takes their place

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, type | FunctionType | ModuleType):
            return None
        self.named.append(value)
        return id(value)

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        numbers = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        facts = (type(value), str(value.dtype), value.shape, value.stride(), value.requires_grad)
        return tuple, ((*facts, numbers),)


def _identity(model: nn.Module, samples: Samples) -> tuple[object, list[object]]:
    """All that the graph depends on. Raises where a network holds what can't be written."""
    written = io.BytesIO()
    pickler = _Attributes(written)
    shapes = [
        (str(leaf.dtype), tuple(leaf.shape)) if isinstance(leaf, Tensor) else repr(leaf)
        for leaf in samples.leaves
    ]
    pickler.dump((model, shapes, samples.batched, samples.dynamic))
    return (written.getvalue(), str(samples.tree)), pickler.named


def capture_once(model: nn.Module, samples: Samples) -> fx.GraphModule:
    """`graph.capture`, for networks as `prepare` hands them on."""
    if sum(tensor.numel() for tensor in model.state_dict().values()) > _LARGEST:
        return capture(model, samples)
    try:
        key, named = _identity(model, samples)
    except Exception:  # there is no end to what networks hold, and what it raises
        return capture(model, samples)
    if key not in _kept:
        graph = capture(model, samples)
        _kept[key] = copied(graph), named
        if len(_kept) > _MOST:
            _kept.popitem(last=False)
        return graph
    _kept.move_to_end(key)
    return copied(_kept[key][0])
