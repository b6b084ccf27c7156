"""Capture, folding, layers, activation quantizers: the only package that knows nn.Module and
graphs.
"""

from subbyte.graph.backward import (
    Calls,
    Targets,
    draw_classes,
    expected,
    given,
    layer_gradients,
    outputs,
    sampled,
    signs,
)
from subbyte.graph.capture import capture, silence
from subbyte.graph.fold import fold_batch_norms, set_tensor
from subbyte.graph.instrument import FakeQuantize, Instrumented, TapPlace, grid_source, instrument
from subbyte.graph.layers import (
    Edge,
    Layer,
    Layered,
    Skipped,
    argument,
    find_layers,
    give_biases,
    tensor_at,
)
from subbyte.graph.memory import Chunks, Memory, Pair
from subbyte.graph.network import Network, prepare
from subbyte.graph.nodes import tensors_read
from subbyte.graph.rest import Rest, float_outputs
from subbyte.graph.sites import DOMAIN, mark_sites
from subbyte.graph.taps import TapPoint, channel_axis, find_taps, moves
from subbyte.graph.travel import Travel

__all__ = [
    "DOMAIN",
    "Calls",
    "Chunks",
    "Edge",
    "FakeQuantize",
    "Instrumented",
    "Layer",
    "Layered",
    "Memory",
    "Network",
    "Pair",
    "Rest",
    "Skipped",
    "TapPlace",
    "TapPoint",
    "Targets",
    "Travel",
    "argument",
    "capture",
    "channel_axis",
    "draw_classes",
    "expected",
    "find_layers",
    "find_taps",
    "float_outputs",
    "fold_batch_norms",
    "give_biases",
    "given",
    "grid_source",
    "instrument",
    "layer_gradients",
    "mark_sites",
    "moves",
    "outputs",
    "prepare",
    "sampled",
    "set_tensor",
    "signs",
    "silence",
    "tensor_at",
    "tensors_read",
]
