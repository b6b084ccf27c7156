"""Sensitivity: what each width of each layer costs the network's output, and the widths that a budget buys.

Every layer is quantized alone, as its plan would, in every candidate width, while all others stay float. With z the
float network's outputs on calibration images and z_lw those with layer l in width w,

    d_lw = ||z_lw - z||^2 / ||z||^2                              the divergence of a width
    min  sum_l d_lw(l)   with   sum_l cost_lw(l) <= budget       solved exactly by `allocate.choose`

Divergences add up as far as the rounding errors of layers are independent. The square error of logits rather than their
KL, which a network is asked about by images it was trained on: it is sure of nearly all of them, so that KL is that of
the few others, and noisy; the square error of 64 images already leads to the widths that 500 do.

One way through the float network: at each layer the widths are rounded while its statistics are at hand, and only what
lies behind it is run again. Cost: the roundings of one walk for every width, and for every layer and width on average
half a pass of `_IMAGES` images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from math import isfinite, prod

import torch
from torch import Tensor

from subbyte.allocate import Budget, choose
from subbyte.core import GridSpec, QTensor
from subbyte.errors import NumericsError, RecipeError
from subbyte.gradients import Guide, look_ahead
from subbyte.graph import Layer, Memory, Network, Pair, Travel, float_outputs, instrument
from subbyte.plan import LayerPlan, Plan, make_plan
from subbyte.recipe import Bits, Recipe, width_settings
from subbyte.stats import output_positions
from subbyte.walk import Limits, Progress, collect, naming, round_layer

_IMAGES = 128  # on which outputs are compared; statistics are of all
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Option:
    """A layer in one width.

    width: as in the ledger; bytes: of its codes, scales and zero points; bops: bit-operations an image, at the bits of
    its input; divergence: d_lw, 0 for layers without a choice; chosen: whether it was taken.
    """

    layer: str
    width: str
    bytes: int
    bops: float
    divergence: float
    chosen: bool = False


def meet_budget(
    network: Network,
    recipe: Recipe,
    images: Tensor,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> tuple[Plan, list[Option]]:
    """The plan whose widths make the most of a recipe's budget, and every option that there was.

    images: of calibration, [n, ...]. Layers whose bits the recipe states by pattern or `first_last`, skips or leaves
    float keep them and count. Raises RecipeError when the budget is below the least that the widths allow.
    """
    assert recipe.budget is not None
    limits = limits or Limits()
    budget = Budget.parse(recipe.budget)
    plans = [_plan(network, recipe, width) for width in recipe.widths]
    candidates = {
        layer.name: _distinct([plan.layers[number] for plan in plans])
        for number, layer in enumerate(network.layers)
        if layer.shared_with is None
    }
    input_bits = {layer.name: _input_bits(plans[0], layer.name) for layer in network.layers}
    options = _options(candidates, _surveyed(network, plans[0], candidates, input_bits, images, limits, progress))
    counts = "bops" if budget.counts == "bops" else "bytes"
    weights = sum(layer.geometry.rows * layer.geometry.columns for layer in network.layers if not layer.shared_with)
    room = budget.amount * weights / 8 if budget.counts == "bits" else budget.amount
    costs = [[float(getattr(option, counts)) for option in layer] for layer in options.values()]
    least = sum(map(min, costs))
    if room < least:
        shown = f"{8 * least / weights:.4g}bits" if budget.counts == "bits" else f"{least:,.0f} {counts}"
        raise RecipeError(f"budget {budget.text}: the layers need at least {shown} in the narrowest of their widths")
    taken = choose(costs, [[option.divergence for option in layer] for layer in options.values()], room)
    numbers = dict(zip(options, taken, strict=True))
    table = [
        replace(option, chosen=number == numbers[name])
        for name, layer in options.items()
        for number, option in enumerate(layer)
    ]
    asked = make_plan(network, recipe)
    return replace(asked, layers=_allocated(network, asked, plans, candidates, numbers, budget.text)), table


def _plan(network: Network, recipe: Recipe, width: Bits | str) -> Plan:
    """The plan that has this width wherever the recipe leaves it open."""
    weights = recipe.weights.model_copy(update=width_settings(width))
    try:
        return make_plan(network, recipe.model_copy(update={"weights": weights}))
    except RecipeError as error:
        raise RecipeError(f"{error} (width {width} of the candidates under a budget; `widths` lists them)") from error


def _distinct(plans: list[LayerPlan]) -> list[LayerPlan]:
    """One plan for each grid, in the order of the widths: a single one where the recipe states the bits."""
    found: dict[GridSpec | None, LayerPlan] = {}
    for plan in plans:
        found.setdefault(plan.spec, plan)
    return list(found.values())


def _allocated(
    network: Network,
    asked: Plan,
    plans: list[Plan],
    candidates: dict[str, list[LayerPlan]],
    taken: dict[str, int],
    budget: str,
) -> tuple[LayerPlan, ...]:
    """The layers' plans with the options taken; those without a choice as the recipe asks."""
    layers = []
    for number, layer in enumerate(network.layers):
        plan, owner = asked.layers[number], layer.shared_with or layer.name
        spec = candidates[owner][taken[owner]].spec
        if len(candidates[owner]) > 1 or plan.spec != spec:
            plan = next(plan.layers[number] for plan in plans if plan.layers[number].spec == spec)
            reason = "; ".join(filter(None, (plan.reason, f"allocated under {budget}")))
            plan = replace(plan, asked=f"budget {budget}", reason=reason)
        layers.append(plan)
    return tuple(layers)


def _surveyed(
    network: Network,
    plan: Plan,
    candidates: dict[str, list[LayerPlan]],
    input_bits: dict[str, float],
    images: Tensor,
    limits: Limits,
    progress: Progress | None,
) -> Mapping[str, Tensor]:
    """What `_Survey.run` finds, now or before: it does not depend on the budget."""

    def survey() -> Mapping[str, Tensor]:
        return _Survey(network, plan, candidates, input_bits, images, limits, progress).run()

    return limits.shelf.fetch(f"survey of {candidates} fed with {input_bits}", survey)


def _options(candidates: dict[str, list[LayerPlan]], found: Mapping[str, Tensor]) -> dict[str, list[Option]]:
    """Every option of every layer that owns its weight."""
    each = zip(found["bytes"].tolist(), found["divergence"].tolist(), strict=True)
    options = {}
    for (name, plans), operations in zip(candidates.items(), found["operations"].tolist(), strict=True):
        options[name] = [
            Option(name, "float" if spec is None else spec.label, size, operations * _width(spec), divergence)
            for spec, (size, divergence) in zip([plan.spec for plan in plans], each, strict=False)
        ]
    return options


class _Survey:
    """Goes through the float network and tries every option of every layer."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        candidates: dict[str, list[LayerPlan]],
        input_bits: dict[str, float],
        images: Tensor,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self.candidates, self.input_bits, self.limits, self.progress = candidates, input_bits, limits, progress
        self.layers = {layer.name: layer for layer in network.layers}
        self.bytes: dict[str, list[int]] = {name: [] for name in candidates}
        self.divergences: dict[str, list[float]] = {name: [] for name in candidates}
        self.operations = dict.fromkeys(candidates, 0.0)
        instrumented, memory = instrument(network, []), Memory(limits.memory)
        instrumented.graph_module.to(limits.device)
        self.chunks = list(images.split(limits.chunk))
        self.guide: Guide = look_ahead(network, plan, instrumented, self.chunks, memory, limits.device, limits.shelf)
        sample = self.chunks[: -(-_IMAGES // limits.chunk)]
        self.expected = float_outputs(instrumented.graph_module, sample, limits.device)
        self.travel = Travel(
            instrumented, memory, limits.device,
            at_layer=self.at_layer, at_tap=lambda name, pair: pair.float, after=lambda name, pair: None,
        )  # fmt: skip

    def run(self) -> dict[str, Tensor]:
        """By layer that owns its weight: `operations`, of multiplications an image times bits of their input; by layer
        and option: `bytes` and `divergence`.
        """
        self.travel.memory.release(self.travel.run(self.chunks))
        return {
            "operations": torch.tensor(list(self.operations.values()), dtype=torch.float64),
            "bytes": torch.tensor(list(chain(*self.bytes.values()))),
            "divergence": torch.tensor(list(chain(*self.divergences.values())), dtype=torch.float64),
        }

    def at_layer(self, name: str, pair: Pair) -> None:
        """Try the options of a layer from the statistics of its input."""
        layer = self.layers[name]
        multiplications = _multiplications(layer, pair.float[0].shape)
        self.operations[layer.shared_with or name] += multiplications * self.input_bits[name]
        if layer.shared_with is not None:
            return
        plans = self.candidates[name]
        if plans[0].spec is None:
            self._note(name, 4 * layer.geometry.rows * layer.geometry.columns, 0.0, "float")
            return
        stats = collect(layer, pair, self.limits)
        guided = collect(layer, pair, self.limits, self.guide.take(name)) if plans[0].guided else stats
        weight = layer.geometry.to_matrix(self.travel.tensor(layer.weight)).float()
        bias, importance = self.travel.tensor(layer.bias).float(), self.guide.importance.get(name)
        for plan in plans:
            with naming(name):
                rounded, corrected = round_layer(plan, weight, bias, stats, guided, importance)
            divergence = self._divergence(layer, rounded, corrected) if len(plans) > 1 else 0.0
            self._note(name, rounded.nbytes, divergence, rounded.grid.spec.label)

    def _note(self, name: str, size: int, divergence: float, label: str) -> None:
        self.bytes[name].append(size)
        self.divergences[name].append(divergence)
        if self.progress is not None:
            done, total = sum(map(len, self.bytes.values())), sum(map(len, self.candidates.values()))
            self.progress(done, total, f"{name} at {label}")

    def _divergence(self, layer: Layer, rounded: QTensor, bias: Tensor) -> float:
        given = {layer.weight: layer.geometry.to_weight(rounded.dequantize()), layer.bias: bias}
        rest, lost, whole = self.travel.rest(), 0.0, 0.0
        for k, z in enumerate(self.expected):
            lost += float((rest(k, given) - z).double().square().sum())
            whole += float(z.double().square().sum())
        found = lost / max(whole, torch.finfo(torch.float64).tiny)
        if not isfinite(found):
            raise NumericsError(f"the output holds NaN or Inf when layer {layer.name!r} is quantized")
        return found


def _input_bits(plan: Plan, layer: str) -> float:
    bits = [tap.spec.mixed or tap.spec.bits for tap in plan.taps if layer in tap.feeds]
    return min(bits, default=_FLOAT_BITS)


def _width(spec: GridSpec | None) -> float:
    """Whole bits that hold a code, or their mean over channels."""
    if spec is None:
        return _FLOAT_BITS
    return spec.mixed or (spec.count - 1).bit_length()


def _multiplications(layer: Layer, shape: torch.Size) -> float:
    """Of one image; shape: of the layer's input."""
    geometry = layer.geometry
    transposed = geometry.kind == "conv_transpose"  # each input, not each output, meets the whole kernel
    positions = prod(shape[2:]) if transposed else output_positions(shape, geometry)
    return float(geometry.rows * geometry.columns * positions)
