"""The effect that each layer and activation quantizer has by itself.

Each takes its turn in the float network, where all others stay float, with the numbers that it has
in the quantized one. With z the float network's outputs and z_l those with l alone quantized,

    e_l = ||z_l - z||^2 / ||z||^2

the mean over the outputs of networks with several. Nothing that gathers on the way to a layer is in
it, unlike in the signal-to-noise ratios of the walk, nor what later layers make up for.

Cost: for each of them a pass of a few images, together about `_PASSES` of all that calibrate.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from typing import Literal

import torch
from torch import Tensor

from subbyte.core.packing import packed_bytes
from subbyte.engine.judging import tensors_of
from subbyte.engine.quantized import QuantizedModel
from subbyte.engine.walk import Progress
from subbyte.graph import Instrumented, Layer, Network, Samples, instrument, set_tensor, tensor_at
from subbyte.io.repeatable import UNIT, power
from subbyte.recipe import TapPlan

_PASSES, _FEWEST, _MOST = 2, 8, 128  # images, however many calibrate
_BITS = 8


@dataclass(frozen=True)
class Effect:
    """The effect of a layer's weight, or of an activation quantizer, by itself.

    name: of the layer or the quantizer; feeds: layers that multiply the value of a quantizer; bits:
    in which it is, in words; width: whole bits that hold a code, or their mean over channels;
    error: e_l, None where it is not finite; more_bytes: what 8 bits would take beyond what it takes
    now, 0 for activations; images: that were looked at.
    """

    name: str
    kind: Literal["weight", "activation"]
    feeds: tuple[str, ...]
    bits: str
    width: float
    more_bytes: int = 0
    error: float | None = None
    images: int = 0


def effects(
    network: Network, model: QuantizedModel, images: Samples, device: str, progress: Progress
) -> list[Effect]:
    """The effects of all layers that own a quantized weight and all activation quantizers, in the
    order of the network.

    network: the float one that `model` was made from; images: of calibration.
    """
    turns = [*_weights(network, model), *_quantizers(model)]
    count = min(len(images), _MOST, max(_FEWEST, _PASSES * len(images) // max(1, len(turns))))
    alone = instrument(network, [tap.place for tap in model.plan.taps])
    alone.graph_module.to(device)
    pieces = images[:count].to(device).split(UNIT)
    expected = [_outputs(alone, piece) for piece in pieces]
    found = list[Effect]()
    for turn in turns:
        with turn.taken(alone):
            error = _distance([_outputs(alone, piece) for piece in pieces], expected)
        found.append(replace(turn.facts, error=error, images=count))
        progress(len(found), len(turns), found[-1].name)
    return found


@dataclass(frozen=True)
class _Turn:
    """A layer or quantizer that is quantized alone for a while. facts: those of its effect that
    are known before; taken: within, it is so in a float network.
    """

    facts: Effect
    taken: Callable[[Instrumented], AbstractContextManager[None]]


def _weights(network: Network, model: QuantizedModel) -> Iterator[_Turn]:
    for layer in network.owners:
        if (weight := model.weights.get(layer.name)) is not None:
            label, width = weight.grid.label, weight.grid.spec.alphabet.width
            more = max(0, weight.codes.numel() - packed_bytes(weight.grid, weight.codes.shape))
            facts = Effect(layer.name, "weight", (), label, width, more)
            yield _Turn(facts, partial(_with_weight, model, layer))


@contextmanager
def _with_weight(model: QuantizedModel, layer: Layer, alone: Instrumented) -> Iterator[None]:
    names = [name for name in (layer.weight, layer.bias) if name]
    before = {name: tensor_at(alone.graph_module, name) for name in names}
    for name, tensor in before.items():
        own = tensor_at(model.graph_module, name).to(tensor.device)
        set_tensor(alone.graph_module, name, own)
    yield
    for name, tensor in before.items():
        set_tensor(alone.graph_module, name, tensor)


def _quantizers(model: QuantizedModel) -> Iterator[_Turn]:
    for tap in model.plan.taps:
        grid = model.instrumented.tap(tap.name).grid
        label = tap.spec.label if grid is None else grid.label
        facts = Effect(tap.name, "activation", tuple(tap.feeds), label, tap.spec.alphabet.width)
        yield _Turn(facts, partial(_with_quantizer, model, tap))


@contextmanager
def _with_quantizer(model: QuantizedModel, tap: TapPlan, alone: Instrumented) -> Iterator[None]:
    quantizer = alone.tap(tap.name)
    quantizer.set_as(model.instrumented.tap(tap.name))
    yield
    quantizer.clear()


@torch.no_grad()
def _outputs(alone: Instrumented, piece: Samples) -> list[Tensor]:
    call = piece.call
    found = tensors_of(alone.graph_module(*call.args, **call.kwargs))
    return [output.double() for output in found]


def _distance(found: list[list[Tensor]], expected: list[list[Tensor]]) -> float | None:
    """Relative square error, the mean over outputs; None where there is none."""
    errors = []
    for own, wanted in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        lost = sum(float(power(a - b)) for a, b in zip(own, wanted, strict=True))
        whole = sum(float(power(b)) for b in wanted)
        errors.append(lost / whole if whole else inf)
    mean = sum(errors) / len(errors)
    return mean if isfinite(mean) else None
