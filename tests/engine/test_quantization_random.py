"""Random networks go all the way, or end in one clear error: quantized, saved, loaded, exported and
proven, every multiplication accounted for.
"""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

import subbyte
from subbyte import Inputs
from subbyte.graph import Samples
from tests.networks import signal_to_noise
from tests.reference.random_graphs import STEPS, Graph, random_graph

COUNT = 24
CHEAP = ("weights.range=minmax", "weights.rounding=nearest", "activations.range=minmax")
LEAST = {"w8a8": 12.0, "w4a4": -6.0}


def returned(graph: Graph, inputs: Inputs) -> list[object]:
    """The leaves of what a float network says; inputs are copied, as some change them."""
    args, kwargs = copy.deepcopy((inputs.args, inputs.kwargs))
    with torch.no_grad():
        return pytree.tree_leaves(graph(*args, **kwargs))


def multiplications(graph: Graph, inputs: Inputs) -> float:
    """Those of one sample that lead to an output, as PyTorch counts them."""
    counter, graph.idle = FlopCounterMode(display=False), graph.dead
    with counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        graph(*copy.deepcopy(inputs.args), **copy.deepcopy(inputs.kwargs))
    graph.idle = set()
    return counter.get_total_flops() / 2 / COUNT


def compared(expected: list[object], found: list[object], decibels: float) -> None:
    for own, one in zip(expected, found, strict=True):
        if not isinstance(own, Tensor):
            assert own == one
        elif own.is_floating_point():
            assert own.shape == one.shape and bool(torch.isfinite(one).all())
            noise = signal_to_noise(own, one)
            assert noise > decibels, f"{noise:.1f} dB"
        else:
            assert own.dtype == one.dtype and own.shape == one.shape


def go(seed, tmp_path):
    graph, recipe = random_graph(seed), ["w8a8", "w4a4"][seed % 2]
    inputs = graph.call(COUNT)
    expected = returned(graph, inputs)
    q = subbyte.quantize(graph, inputs, subbyte.load_recipe(recipe, list(CHEAP)))
    samples = Samples.of(inputs)
    found = q.outputs(samples)
    compared([x for x in expected if isinstance(x, Tensor)], list(found), LEAST[recipe])
    rows = q.ledger
    assert not [row for row in rows if row.kind == "layer" and row.bits == "float"]
    assert len({row.name for row in rows}) == len(rows)
    if all(STEPS[kind].counted for kind in graph.kinds):
        assert sum(row.multiplications for row in rows) == multiplications(graph, inputs)

    subbyte.save(q, tmp_path / "net.safetensors")
    other = random_graph(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight += 0.1 * torch.randn_like(weight)
    loaded = subbyte.load(tmp_path / "net.safetensors", other, inputs)
    again = loaded.outputs(samples)
    assert all(map(torch.equal, found, again))
    assert subbyte.export(q, tmp_path / "net.onnx", inputs, to="onnx-int8").parity.samples == COUNT
