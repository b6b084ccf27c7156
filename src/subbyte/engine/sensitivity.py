"""Surveys: what each width of each layer costs the network's output.

Every layer is quantized alone, as its plan would, in every candidate width, while all others stay
float. With z the float network's outputs on calibration images and z_lw those with layer l in width
w,

    d_lw = ||z_lw - z||^2 / ||z||^2                              the divergence of a width; of
                                                                 several outputs the mean
    d_lcw = d_lw s_lc e_lcw / sum_c s_lc e_lcw                    the share of output channel c

where e_lcw is the mean square error of the channel's output (`LayerStats.output_error`) and s_lc
the mean square gradient of the network's output in it, or 1 where that is 0 in all channels.

The square error of logits rather than their KL, which a network is asked about by images it was
trained on: it is sure of nearly all of them, so that KL is that of the few others, and noisy; the
square error of 64 images already leads to the widths that 500 do.

One way through the float network: at each layer the widths are rounded while its statistics are at
hand, and only what lies behind it is run again. Cost: the roundings of one walk for every width,
and for every layer and width on average half a pass of `_IMAGES` images; for the shares of channels
a pass forward and back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from subbyte.core import GridSpec, QTensor
from subbyte.engine.guidance import Guide, look_ahead
from subbyte.engine.layers import layer_stats, naming, round_layer
from subbyte.engine.limits import Limits, Share
from subbyte.engine.walk import Progress
from subbyte.errors import NumericsError
from subbyte.graph import (
    Instrumented,
    Layer,
    Memory,
    Network,
    Pair,
    Samples,
    Travel,
    float_outputs,
    instrument,
    layer_gradients,
    outputs,
)
from subbyte.io.repeatable import UNIT, power
from subbyte.recipe import LayerPlan, Plan
from subbyte.stats import position_weights

_IMAGES = 128  # on which outputs are compared; statistics are of all
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Option:
    """A layer in one width.

    width: as in the ledger; bytes: of its codes, scales and zero points; bops: bit-operations an
    image, at the bits of its input; divergence: d_lw, 0 for layers without a choice; chosen:
    whether it was taken, by all or some of its output channels; rows: how many of them.
    """

    layer: str
    width: str
    bytes: int
    bops: float
    divergence: float
    chosen: bool = False
    rows: int = 0


@dataclass(frozen=True)
class Question:
    """The subject of a survey. candidates: by layer that owns its weight, its plans, one a width;
    input_bits: by layer; rows: whether the losses of single output channels are wanted.
    """

    candidates: dict[str, list[LayerPlan]]
    input_bits: dict[str, float]
    rows: bool

    @classmethod
    def of(cls, candidates: dict[str, list[LayerPlan]], plan: Plan, rows: bool) -> "Question":
        """plan: any of the candidates'; it says what feeds the layers. The budget that was asked
        for is no part of a question: others find its answer in the cache.
        """
        plans = {
            name: [replace(each, budget=None) for each in widths]
            for name, widths in candidates.items()
        }
        return cls(
            plans, {layer.name: _input_bits(plan, layer.name) for layer in plan.layers}, rows
        )


@dataclass(frozen=True)
class Answer:
    """The findings of a survey; they do not depend on the budget.

    options: of every layer that owns its weight; losses: by layer, where a question asks for rows,
    float64 [options, rows], the shares of its output channels in the divergence of each option.
    """

    options: dict[str, list[Option]]
    losses: dict[str, Tensor]


def survey(
    network: Network,
    plan: Plan,
    question: Question,
    images: Tensor | Samples,
    limits: Limits,
    progress: Progress | None,
) -> Answer:
    """Answer a question, or find the answer in the cache. plan: any of the candidates'."""

    def ask() -> Mapping[str, Tensor]:
        return _Survey(network, plan, question, images, limits, progress).run()

    found = limits.shelf.fetch(f"survey of {question}", ask)
    each = zip(found["bytes"].tolist(), found["divergence"].tolist(), strict=True)
    options = {}
    for (name, plans), operations in zip(
        question.candidates.items(), found["operations"].tolist(), strict=True
    ):
        options[name] = [
            Option(
                name,
                "float" if spec is None else spec.label,
                size,
                operations * _width(spec),
                divergence,
            )
            for spec, (size, divergence) in zip([plan.spec for plan in plans], each, strict=False)
        ]
    losses = {name: found[f"rows of {name}"] for name in options if f"rows of {name}" in found}
    return Answer(options, losses)


class _Survey:
    """Goes through the float network and tries every option of every layer."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        question: Question,
        images: Tensor | Samples,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self.question, self.limits, self.progress = question, limits, progress
        candidates = question.candidates
        self.network = network
        self.bytes: dict[str, list[int]] = {name: [] for name in candidates}
        self.divergences: dict[str, list[float]] = {name: [] for name in candidates}
        self.operations = dict.fromkeys(candidates, 0.0)
        self.losses: dict[str, list[Tensor]] = {name: [] for name in candidates}
        instrumented, memory = instrument(network, []), Memory(limits.memory)
        instrumented.graph_module.to(limits.device)
        self.share = limits.share(Samples.of(images))
        self.guide: Guide = look_ahead(
            network, plan, instrumented, self.share, memory, limits.device, limits.shelf
        )
        self.slopes = (
            _squared_slopes(network, instrumented, self.share, limits.device)
            if question.rows
            else {}
        )
        sample, self.compared = _first(self.share, _IMAGES)
        self.expected = list(
            map(_floats, float_outputs(instrumented.graph_module, sample, limits.device))
        )
        self.travel = Travel(
            instrumented,
            memory,
            limits.device,
            at_layer=self.at_layer,
            at_tap=lambda name, pair: pair.float,
            after=lambda name, pair: None,
        )

    def run(self) -> dict[str, Tensor]:
        """The findings as tensors. `operations`: by layer that owns its weight, multiplications an
        image times bits of their input; `bytes` and `divergence`: by layer and option; `rows of` a
        layer: `Answer.losses`.
        """
        for pair in self.travel.run(self.share.chunks):
            self.travel.memory.release(pair)
        rows = {
            f"rows of {name}": torch.stack(losses) for name, losses in self.losses.items() if losses
        }
        return rows | {
            "operations": torch.tensor(list(self.operations.values()), dtype=torch.float64),
            "bytes": torch.tensor(list(chain(*self.bytes.values()))),
            "divergence": torch.tensor(
                list(chain(*self.divergences.values())), dtype=torch.float64
            ),
        }

    def at_layer(self, name: str, pair: Pair) -> None:
        """Try the options of a layer from the statistics of its input."""
        layer = self.network.layer(name)
        multiplications = float(self.network.multiplications[name])
        self.operations[layer.owner] += multiplications * self.question.input_bits[name]
        if not layer.owns_weight:
            return
        plans = self.question.candidates[name]
        if plans[0].spec is None:
            self._note(name, 4 * layer.geometry.rows * layer.geometry.columns, 0.0, "float")
            return
        products = any(plan.reads_products for plan in plans)
        with naming(f"layer {name!r}"):
            stats = layer_stats(layer, pair, self.limits, products=products)
            guided = stats
            if plans[0].guided:
                guided = layer_stats(layer, pair, self.limits, self.guide.take(name))
        weight = layer.geometry.to_matrix(self.travel.tensor(layer.weight)).float()
        bias, importance = self.travel.tensor(layer.bias).float(), self.guide.importance.get(name)
        for plan in plans:
            with naming(f"layer {name!r}"):
                rounded, corrected = self.limits.processes.from_first(
                    partial(round_layer, plan, weight, bias, stats, guided, importance)
                )
            divergence = self._divergence(layer, rounded, corrected) if len(plans) > 1 else 0.0
            if self.question.rows and len(plans) > 1:
                error = stats.output_error(weight, rounded.dequantize()).cpu()
                self.losses[name].append(divergence * _shares(self.slopes[name], error))
            self._note(name, rounded.nbytes, divergence, rounded.grid.spec.label)

    def _note(self, name: str, size: int, divergence: float, label: str) -> None:
        self.bytes[name].append(size)
        self.divergences[name].append(divergence)
        if self.progress is not None:
            done, total = (
                sum(map(len, self.bytes.values())),
                sum(map(len, self.question.candidates.values())),
            )
            self.progress(done, total, f"{name} at {label}")

    def _divergence(self, layer: Layer, rounded: QTensor, bias: Tensor) -> float:
        given = {layer.weight: layer.geometry.to_weight(rounded.dequantize()), layer.bias: bias}
        rest = self.travel.rest()
        powers = torch.zeros(2, len(self.expected[0]), dtype=torch.float64)
        for k, (wanted, count) in enumerate(zip(self.expected, self.compared, strict=True)):
            for n, (own, z) in enumerate(zip(_floats(rest.outputs(k, given)), wanted, strict=True)):
                powers[0, n] += power((own - z).double()[:count]).cpu()
                powers[1, n] += power(z.double()[:count]).cpu()
        lost, whole = self.limits.processes.total(powers)
        found = float((lost / whole.clamp_min(torch.finfo(torch.float64).tiny)).mean())
        if not isfinite(found):
            raise NumericsError(
                f"the output holds NaN or Inf when layer {layer.name!r} is quantized"
            )
        return found


def _floats(outputs: Any) -> list[Tensor]:
    """The tensors of floats among a network's outputs, with an axis each."""
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return [torch.atleast_1d(leaf) for leaf in leaves if leaf.is_floating_point()]


def _first(share: Share, count: int) -> tuple[list[Samples], list[int]]:
    """The chunks with the first samples of all processes, and how many of each are among them."""
    starts = accumulate(map(len, share.chunks), initial=share.before)
    counts = [min(len(c), count - start) for c, start in zip(share.chunks, starts, strict=False)]
    there = [count for count in counts if count > 0]
    return share.chunks[: len(there)], there


def _squared_slopes(
    network: Network, instrumented: Instrumented, share: Share, device: str
) -> dict[str, Tensor]:
    """Mean square gradient of the network's output (`graph.outputs`) in each output channel of a
    layer: float64 [rows].

    Of a weight's calls the first counts, as moments are of that one.
    """
    layers = network.owners
    owners = {layer.name: layer.name for layer in layers}
    drawn = outputs(torch.Generator().manual_seed(0), share.before)
    found = {layer.name: torch.zeros(layer.geometry.rows, dtype=torch.float64) for layer in layers}
    for unit in (unit for chunk in share.chunks for unit in chunk.split(UNIT)):
        for _, calls in layer_gradients(instrumented, unit.to(device), drawn, owners):
            for layer in layers:
                slopes = position_weights(
                    calls[layer.name][0][1], layer.geometry, layer.geometry.rows
                )
                found[layer.name] += slopes.double().mean(2).sum(0).cpu()
    return {name: share.processes.total(value) for name, value in found.items()}


def _shares(slopes: Tensor, error: Tensor) -> Tensor:
    """The shares of rows in what a layer costs: their sum is 1. Where no gradient tells (behind a
    sign, say) they go by error alone.
    """
    for shares in (slopes * error, error, torch.ones_like(error)):
        total = float(shares.sum())
        if isfinite(total) and total > 0:
            return shares / total
    raise AssertionError("a layer has rows")


def _input_bits(plan: Plan, layer: str) -> float:
    bits = [tap.spec.alphabet.width for tap in plan.taps if layer in tap.feeds]
    return min(bits, default=_FLOAT_BITS)


def _width(spec: GridSpec | None) -> float:
    """Whole bits that hold a code, or their mean over channels."""
    if spec is None:
        return _FLOAT_BITS
    return spec.alphabet.width
