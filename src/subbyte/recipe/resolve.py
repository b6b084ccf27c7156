"""Resolving a recipe for one network, layer by layer and activation by activation, without data.

Which tensors get which bits: every layer's weights those of the recipe, first and last included; a
value that feeds a layer the activation bits; the network's input and all other values theirs. A
value that is read by layers and by other operations at different bits has two quantizers: one
behind the value for everybody, and one in front of the layers.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subbyte.core import (
    TERNARY,
    Alphabet,
    GridSpec,
    Levels,
    PerChannel,
    PerTensor,
    Uniform,
    Widths,
    share_of,
)
from subbyte.core.levels import apot, odd, powers, whole
from subbyte.correct import Keep
from subbyte.errors import RecipeError
from subbyte.graph import Edge, Layer, Network, Product, TapPlace, TapPoint
from subbyte.ranges import Gate
from subbyte.recipe.activations import ActivationSettings, SoftmaxSettings, powers_fit
from subbyte.recipe.fits import misfit
from subbyte.recipe.levels import count_of
from subbyte.recipe.obey import Obeying
from subbyte.recipe.plan import LayerPlan, Plan, Role, TapPlan
from subbyte.recipe.recipe import LayerSettings, Recipe, WeightSettings
from subbyte.recipe.settings import parse_settings
from subbyte.recipe.width import Family, Width
from subbyte.rounding import Nearest

_MOST_PRODUCTS = 2**31  # bytes of a matrix of second moments
_KIND = "kind:"  # a pattern for layers of a kind


def make_plan(network: Network, request: Recipe | Plan) -> Plan:
    """Resolve a recipe for a network; a plan that was made for it is itself.

    Raises RecipeError when a pattern matches no layer, a setting does not fit one, or a plan was
    made for another network.
    """
    if isinstance(request, Plan):
        reason = misfit(request, network)
        if reason is not None:
            raise RecipeError(
                f"plan of recipe {request.recipe}: {reason}; make a plan of this network with "
                f"`subbyte quantize`"
            )
        return request
    obeying = Obeying.of(request)
    recipe = obeying.recipe
    for pattern, settings in recipe.layers.items():
        if not any(Pattern.parse(pattern).matches(reader) for reader in network.readers):
            names = [reader.name for reader in network.readers]
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise RecipeError(
                f"recipe {recipe.name}: layers: pattern {pattern!r} matches no layer; layers are "
                f"{shown}"
            )
        if settings.activations.get("levels") and not _reads_softmax(network, pattern):
            raise RecipeError(
                f"recipe {recipe.name}: layers: pattern {pattern!r}: activations: levels are for a "
                f"softmax's outputs, and no layer or product of the pattern reads any: leave them "
                f"out"
            )
    layers = tuple(_plan_layer(recipe, network, layer, None) for layer in network.layers)
    taps = tuple(tap for point in network.taps for tap in _plan_taps(recipe, network, point))
    return obeying.plan(Plan(recipe.name, layers, taps, recipe.tune))


def plan_widths(network: Network, recipe: Recipe, name: str) -> list[LayerPlan]:
    """Plans of a layer whose width is left to a budget: in each of the recipe's widths, in order.

    Raises RecipeError where the layer can't have one of them.
    """
    layer, plans, obeying = network.layer(name), [], Obeying.of(recipe)
    recipe = obeying.recipe
    for width in recipe.widths:
        try:
            plan = _plan_layer(recipe, network, layer, width)
            plans += [plan] if obeying.takes(plan) else []
        except RecipeError as error:
            raise RecipeError(
                f"{error} (width {width} of the candidates under a budget; `widths` lists them)"
            ) from error
    if not plans:
        raise RecipeError(
            f"target {recipe.target}: layer {name}: it takes none of the widths "
            f"{', '.join(map(str, recipe.widths))}; state others by `widths`"
        )
    return plans


@dataclass(frozen=True)
class Pattern:
    """The layers and products that an entry of `layers` is for: by name, with wildcards, or, after
    `kind:`, by kind.
    """

    names: str = "*"
    kind: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read `layer1.*`, `fc` or `kind:linear`."""
        before, colon, kind = text.partition(_KIND)
        return cls(kind=kind) if colon and not before else cls(text)

    def matches(self, reader: Layer | Product) -> bool:
        """Whether a layer or product is one of them."""
        if self.kind is not None:
            return reader.kind == self.kind
        return fnmatch.fnmatch(reader.name, self.names)


def _reads_softmax(network: Network, pattern: str) -> bool:
    read = (network.reader(e) for point in network.taps if point.softmax for e in point.feeds)
    return any(isinstance(one, Product) and Pattern.parse(pattern).matches(one) for one in read)


def _matching(recipe: Recipe, layer: Layer | Product) -> list[LayerSettings]:
    return [
        settings
        for pattern, settings in recipe.layers.items()
        if Pattern.parse(pattern).matches(layer)
    ]


def _skipped(recipe: Recipe, layer: Layer | Product) -> bool:
    said = [settings.skip for settings in _matching(recipe, layer) if settings.skip is not None]
    return bool(said) and said[-1]


def _ends(network: Network) -> set[str]:
    return {network.layers[0].name, network.layers[-1].name}


def _changes(recipe: Recipe, network: Network, layer: Layer) -> list[dict[str, object]]:
    """Settings of a layer's weights that take the place of those of all, in order."""
    changes = [settings.weights for settings in _matching(recipe, layer)]
    ends = recipe.first_last is not None and layer.name in _ends(network)
    return [{"bits": recipe.first_last}, *changes] if ends else changes


def _states_width(changes: Sequence[Mapping[str, object]]) -> bool:
    """Whether they say how wide a layer's weights are: their bits, or a number of levels."""
    said = {name: value for change in changes for name, value in change.items()}
    return "bits" in said or count_of(said.get("levels")) is not None


def _weights(
    recipe: Recipe, network: Network, layer: Layer, width: Width | None
) -> WeightSettings | None:
    """Settings of a layer's weights; None when the layer is skipped. width: in place of the
    recipe's, where no pattern states one.
    """
    settings = dict(recipe.weights) | ({} if width is None else width.settings())
    for change in _changes(recipe, network, layer):
        if "bits" in change and count_of(settings["levels"]) is not None:
            # a number of levels takes the place of bits, and bits that of levels
            settings["levels"] = None
        settings |= change
    where = f"recipe {recipe.name}: layer {layer.name}: weights"
    return None if _skipped(recipe, layer) else parse_settings(WeightSettings, settings, where)


def _activations(
    recipe: Recipe, network: Network, reader: Layer | Product, point: TapPoint
) -> ActivationSettings:
    """The settings of a value where a layer or product reads it."""
    of_softmax = point.softmax and isinstance(reader, Product)
    settings = dict(recipe.softmax if of_softmax else recipe.activations)
    ends = recipe.first_last is not None and reader.name in _ends(network)
    if ends and settings["bits"] is not None:
        settings["bits"] = recipe.first_last
    if recipe.activations.bits is None:
        settings["bits"] = None
    for override in _matching(recipe, reader):
        settings |= override.activations
        if "levels" not in override.activations and not powers_fit(settings):
            settings["levels"] = None  # as bits take the place of levels of weights
    if not of_softmax:
        settings.pop("levels", None)
    if _skipped(recipe, reader):
        settings["bits"] = None
    where = f"recipe {recipe.name}: layer {reader.name}: activations"
    kind = SoftmaxSettings if of_softmax else ActivationSettings
    return parse_settings(kind, settings, where)


def _plan_layer(recipe: Recipe, network: Network, layer: Layer, width: Width | None) -> LayerPlan:
    owner = network.layer(layer.owner)
    settings = _weights(recipe, network, owner, width)
    spec, reason = None, ""
    if settings is None:
        reason = "skipped by the recipe"
    elif settings.bits is None:
        reason = "float by the recipe"
    else:
        spec = _weight_spec(recipe, layer, settings)
    if not layer.owns_weight:
        reason = f"shares the weight of {layer.owner}" + (f", {reason}" if reason else "")
    if layer.name in network.merged:
        parts = f"one layer with {', '.join(network.merged[layer.name])}"
        reason = f"{parts}; {reason}" if reason else parts
    shown = settings or recipe.weights
    if not layer.geometry.observed:
        shown = _unobserved(shown)
    changes = _changes(recipe, network, owner)
    stated = settings is None or _states_width(changes)
    plan = LayerPlan(
        layer.name,
        layer.geometry.kind,
        tuple(layer.geometry.weight_shape),
        layer.geometry.rows,
        shown.width,
        spec,
        shown.range,
        shown.rounding,
        shown.correction,
        reason,
        scalar=shown.scalar,
        precondition=shown.precondition,
        allocate=shown.allocate,
        guided=shown.guided,
        guided_power=shown.guided_power,
        budget=None if stated else recipe.budget,
    )
    asked = any("rounding" in change for change in changes)
    size = 8 * layer.geometry.groups * layer.geometry.columns**2
    if spec is not None and plan.reads_products and not asked and size > _MOST_PRODUCTS:
        plan = plan.without_products(f"second moments take {size / 1e9:.1f} GB a matrix")
    plan.check(f"recipe {recipe.name}: layer {layer.name}")
    return plan


def _unobserved(settings: WeightSettings) -> WeightSettings:
    """The settings of a layer whose inputs are not observed: no gradients are taken of it, and all
    its columns count alike, so that the nearest codes have the least error and there is no output
    to correct.
    """
    changes: dict[str, object] = {"guided": 0, "correction": Keep(), "precondition": None}
    if settings.range.importance != "inputs":
        changes["range"] = WeightSettings().range
    if settings.rounding.objective.reads_products:
        changes["rounding"] = Nearest()
    changed: WeightSettings = settings.model_copy(update=changes)
    return changed


def _weight_spec(recipe: Recipe, layer: Layer, settings: WeightSettings) -> GridSpec:
    try:
        share = share_of(settings.granularity, settings.group_size)
        return GridSpec(_weight_alphabet(settings), share, settings.scales != "any")
    except RecipeError as error:
        raise RecipeError(f"recipe {recipe.name}: layer {layer.name}: weights: {error}") from error


def _weight_alphabet(settings: WeightSettings) -> Alphabet:
    width = settings.width
    number = width.number or 0
    match width.family:
        case Family.TERNARY:
            return TERNARY
        case Family.LEVELS:
            own = settings.levels
            if isinstance(own, Alphabet):
                return own
            return Levels(whole(own) if isinstance(own, list) else powers(int(number)))
        case Family.ODD:
            return Levels(odd(int(number)))
        case Family.APOT:
            return Levels(apot(int(number)))
        case Family.MIXED:
            return Widths(mean=float(number), symmetric=settings.symmetric)
    wide = width.family is Family.WIDE
    return Uniform(
        int(number), symmetric=settings.symmetric or wide, narrow=settings.narrow, wide=wide
    )


def _plan_taps(recipe: Recipe, network: Network, point: TapPoint) -> list[TapPlan]:
    if recipe.activations.bits is None and not any(s.activations for s in recipe.layers.values()):
        return []  # weights only
    readers = {edge: network.reader(edge) for edge in point.feeds}
    fed = {edge: reader.name for edge, reader in readers.items()}
    wanted = {
        edge: _activations(recipe, network, reader, point) for edge, reader in readers.items()
    }
    common = recipe.input if point.is_input else _common(recipe, point, list(wanted.values()))
    if point.gate and common.by_channel:
        common = common.model_copy(update={"bits": None})  # no kernel multiplies by channel
    elif point.gate:
        common = common.model_copy(update={"range": Gate(), "dynamic": False})
    taps = []
    if common.bits is not None:
        asked = recipe.others if point.others and not point.is_input else common
        taps.append(
            _tap(
                TapPlace(point.name, point.node.name, (), point.axis),
                "input" if point.is_input else "value",
                common,
                asked,
                tuple(fed.values()),
            )
        )
    if point.is_input:
        return taps
    groups: list[tuple[ActivationSettings, list[Edge]]] = []  # settings, where one value is read
    for edge, settings in wanted.items():
        if settings.bits is None or _holds(common, settings):
            continue
        value = network.value_at(edge)
        group = next(
            (e for s, e in groups if s == settings and network.value_at(e[0]) is value), None
        )
        if group is None:
            groups.append((settings, [edge]))
        else:
            group.append(edge)
    for settings, edges in groups:
        names = [fed[edge] for edge in edges]
        name = f"{point.name}:feed" + (f":{names[0]}" if len(groups) > 1 else "")
        again = sum(tap.name == name or tap.name.startswith(f"{name}#") for tap in taps)
        name += f"#{again + 1}" if again else ""  # a product that reads one value twice
        axis = network.axis_at(edges[0])
        place = TapPlace(name, point.node.name, tuple(edges), axis)
        taps.append(_tap(place, "feed", settings, settings, tuple(names)))
    return taps


def _common(recipe: Recipe, point: TapPoint, feeds: list[ActivationSettings]) -> ActivationSettings:
    """The settings by which a value is rounded for all its readers: the widest that one of them
    asks for; float if one needs that.
    """
    readers = feeds + ([recipe.others] if point.others or not feeds else [])
    if any(settings.bits is None for settings in readers):
        return ActivationSettings(bits=None)
    widest = max(settings.bits or 0 for settings in readers)
    return next(settings for settings in reversed(readers) if settings.bits == widest)


def _holds(common: ActivationSettings, settings: ActivationSettings) -> bool:
    """Whether a value that all read is as fine as one of its readers asks for, and in the same kind
    of steps.
    """
    if common.bits is None or settings.bits is None:
        return False
    alike = type(common.alphabet) is type(settings.alphabet)
    return alike and settings.bits >= common.bits


def _tap(
    place: TapPlace,
    role: Role,
    settings: ActivationSettings,
    asked: ActivationSettings,
    feeds: tuple[str, ...],
) -> TapPlan:
    assert settings.bits is not None
    reasons = ["a layer reads the same value at more bits"] if asked.bits != settings.bits else []
    by_channel = settings.by_channel and place.axis is not None
    if settings.by_channel and not by_channel:
        reasons.append("one value a channel: the tensor has one scale")
    signs = {"signed": settings.symmetric, "symmetric": settings.symmetric}
    alphabet: Alphabet = (
        Widths(mean=float(settings.bits), **signs)
        if settings.allocate is not None and by_channel
        else settings.alphabet
    )
    share = PerChannel() if by_channel else PerTensor()
    spec = GridSpec(alphabet, share, settings.scales != "any")
    place = place if by_channel else replace(place, axis=None)
    return TapPlan(
        place,
        role,
        asked.width,
        spec,
        settings.range,
        feeds,
        "; ".join(reasons),
        settings.allocate if by_channel else None,
        settings.dynamic,
    )
