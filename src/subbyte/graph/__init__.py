"""Capture, folding, layers, activation quantizers: the only package that knows nn.Module and
graphs.
"""

from subbyte.graph.affine import Affine, NormNumbers
from subbyte.graph.alive import Norms, enliven
from subbyte.graph.apart import holds_any, take_apart
from subbyte.graph.axes import Axis
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
from subbyte.graph.capture import capture, exported_program, fixed_program
from subbyte.graph.fold import fold_batch_norms
from subbyte.graph.instrument import (
    FakeQuantize,
    Instrumented,
    TapPlace,
    grid_source,
    instrument,
    with_tensors,
)
from subbyte.graph.integers import Codes, Lowering, integer_program
from subbyte.graph.layers import (
    Edge,
    Layer,
    Layered,
    Skipped,
    argument,
    find_layers,
    give_biases,
)
from subbyte.graph.memory import Chunks, Memory, Pair, room_on
from subbyte.graph.moved import moved
from subbyte.graph.names import output_names
from subbyte.graph.network import Network, Structure, prepare
from subbyte.graph.piecewise import is_piecewise_linear
from subbyte.graph.plain import Program, plain_program
from subbyte.graph.products import Product
from subbyte.graph.quiet import silence
from subbyte.graph.rest import Rest, float_outputs
from subbyte.graph.samples import Inputs, Samples, described, is_images
from subbyte.graph.signature import Leaf, Signature
from subbyte.graph.sites import DOMAIN, mark_sites
from subbyte.graph.sizes import of_other_sizes
from subbyte.graph.taps import TapPoint, channel_axis, find_taps, moves
from subbyte.graph.tensors import set_tensor, tensor_at, tensors_read
from subbyte.graph.travel import Travel
from subbyte.graph.user_module import unwrapped

__all__ = [
    "DOMAIN",
    "Affine",
    "Axis",
    "Calls",
    "Chunks",
    "Codes",
    "Edge",
    "FakeQuantize",
    "Inputs",
    "Instrumented",
    "Layer",
    "Layered",
    "Leaf",
    "Lowering",
    "Memory",
    "Network",
    "NormNumbers",
    "Norms",
    "Pair",
    "Product",
    "Program",
    "Rest",
    "Samples",
    "Signature",
    "Skipped",
    "Structure",
    "TapPlace",
    "TapPoint",
    "Targets",
    "Travel",
    "argument",
    "capture",
    "channel_axis",
    "described",
    "draw_classes",
    "enliven",
    "expected",
    "exported_program",
    "find_layers",
    "find_taps",
    "fixed_program",
    "float_outputs",
    "fold_batch_norms",
    "give_biases",
    "given",
    "grid_source",
    "holds_any",
    "instrument",
    "integer_program",
    "is_images",
    "is_piecewise_linear",
    "layer_gradients",
    "mark_sites",
    "moved",
    "moves",
    "of_other_sizes",
    "output_names",
    "outputs",
    "plain_program",
    "prepare",
    "room_on",
    "sampled",
    "set_tensor",
    "signs",
    "silence",
    "take_apart",
    "tensor_at",
    "tensors_read",
    "unwrapped",
    "with_tensors",
]
