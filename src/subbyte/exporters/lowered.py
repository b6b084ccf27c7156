"""Common to exporters that hand the network to a compiler as a program with integers
(`graph.integers`): the codes that it takes, and samples that go through a file a few at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import ModelError
from subbyte.exporters.arrays import folded, scale_of
from subbyte.exporters.storage import INT8
from subbyte.graph import Codes, Layer, Samples
from subbyte.methods import Refusal
from subbyte.recipe import TapPlan


def refusing_unknown(exporter: str) -> Refusal:
    """Refuses activation quantizers that such compilers do not have."""
    return Refusal(
        lambda self, plan: any(map(_unknown, plan.taps)),
        f"{exporter} takes activations with one scale, evenly spaced numbers and a fixed range; "
        "choose ranges for the whole tensor, or another exporter",
    )


def refusing_wide(why: str) -> Refusal:
    """Refuses activation quantizers of more codes than bytes hold; why: without what to do."""
    return Refusal(
        lambda self, plan: any(not tap.spec.alphabet.fits_byte for tap in plan.taps),
        f"{why}; set bits of activations, others, input and softmax to 8, or choose onnx-int8 or "
        "torch",
    )


XNNPACK_WIDTH = refusing_wide("XNNPACK's kernels take activations of 8 bits or fewer")


def _unknown(tap: TapPlan) -> bool:
    alphabet = tap.spec.alphabet
    return tap.dynamic or tap.place.axis is not None or not alphabet.even or alphabet.varies


def codes_of(model: QuantizedModel, kernels: str) -> tuple[dict[str, Codes], dict[str, str]]:
    """Codes by weight, of the layers whose weights may be integers; notes on all, by layer.

    kernels: whose they are, in words.
    """
    taken, notes = dict[str, Codes](), dict[str, str]()
    for layer in (one for one in model.owners if one.name in model.weights):
        weight = model.weights[layer.name]
        reason = _reason(model, layer, kernels)
        if reason:
            notes[layer.name] = f"dequantized to float32: {reason}"
            continue
        codes = torch.from_numpy(folded(weight, INT8)[0]).to(torch.int8)
        scale = torch.from_numpy(scale_of(weight))
        arranged = layer.geometry.to_weight(codes).contiguous()
        taken[layer.weight] = Codes(arranged, scale, layer.geometry.row_axis or 0)
        if note := INT8.note(weight.grid.words):
            notes[layer.name] = note
    return taken, notes


def _reason(model: QuantizedModel, layer: Layer, kernels: str) -> str:
    """Why a weight can't be integers; "" where it can."""
    weight = model.weights[layer.name]
    alphabet, share = weight.grid.spec.alphabet, weight.grid.spec.share
    taps = {model.input_tap(one) for one in model.layers if one.owner == layer.name}
    if alphabet.integers is None:
        return alphabet.not_whole
    if None in taps:
        return "its input is float"
    if len(taps) > 1 and layer.bias:
        return "its calls read values on several grids, and its bias is for one"
    if share.block is not None:
        return f"{kernels} has no scales of groups"
    if not share.one_scale and layer.geometry.row_axis is None:
        return "its scales run along two axes"
    codes, zero = folded(weight, INT8)
    if zero.any() or codes.min() < INT8.low or codes.max() > INT8.high:
        return f"{kernels} has no zero points of weights"
    return ""


def check_outputs(model: QuantizedModel, inputs: Samples, exporter: str) -> None:
    """Raise ModelError where the outputs of samples one by one can't be joined."""
    with torch.no_grad():
        for name, output in zip(model.output_names, model.outputs(inputs[:1]), strict=True):
            if not output.ndim or len(output) != 1:
                raise ModelError(
                    f"{exporter} files take one sample at a time, and output {name} "
                    f"{list(output.shape)} does not count samples along its first axis; choose "
                    f"another exporter"
                )


def by_sample(
    run: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    given: Sequence[Tensor],
    batched: Sequence[bool],
) -> Any:
    """The outputs of samples that go through a file one by one. batched: which of the tensors count
    samples.
    """
    count = next(len(x) for x, own in zip(given, batched, strict=True) if own)
    rows = [
        run([x[row : row + 1] if own else x for x, own in zip(given, batched, strict=True)])
        for row in range(count)
    ]
    found = tuple(torch.cat(parts) for parts in zip(*rows, strict=True))
    return found if len(found) > 1 else found[0]
