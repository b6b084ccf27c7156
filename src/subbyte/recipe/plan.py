"""Plans: the recipe resolved for one network, layer by layer and tap by tap. Making one needs no
data.

Which tensors get which bits: every layer's weights those of the recipe, first and last included; a
value that feeds a layer the activation bits; the network's input and all other taps theirs. A value
that is read by layers and by other
operations at different bits has two taps: one behind the value for everybody, and one in front of
the layers.
"""

import fnmatch
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml
from torch import Tensor

from subbyte.allocate import ALLOCATIONS
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
from subbyte.correct import CORRECTIONS
from subbyte.errors import RecipeError
from subbyte.graph import Edge, Layer, Network, TapPlace, TapPoint, channel_axis
from subbyte.methods import Allocate, Correction, Precondition, Range, Rounding, Tune
from subbyte.precondition import PRECONDITIONS
from subbyte.ranges import RANGES
from subbyte.recipe import (
    LayerSettings,
    Recipe,
    TapSettings,
    WeightSettings,
    parse_settings,
)
from subbyte.recipe.registry import Method, build_method, method_settings
from subbyte.rounding import ROUNDINGS
from subbyte.tune import TUNES

_KIND = "kind:"  # a pattern for layers of a kind


@dataclass(frozen=True)
class LayerPlan:
    """asked: bits as the recipe states them ('float', 'ternary', '4', '4 wide'); spec: None when
    the layer stays float, for the `reason` given; shape: of the weight, as torch has it; rows:
    output channels; scalar: factor on the scales that the range chooses; guided: runs of output
    channels whose inputs are weighted by squared gradients to the power guided_power, 0 for none.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rows: int
    asked: str
    spec: GridSpec | None
    range: Range
    rounding: Rounding
    correction: Correction
    reason: str = ""
    scalar: float = 1.0
    precondition: Precondition | None = None
    allocate: Allocate | None = None
    guided: int = 0
    guided_power: float = 1.0

    @property
    def importance(self) -> str:
        """Whose importance the range goes by: inputs, fisher or gradient."""
        return getattr(self.range, "importance", "inputs")


@dataclass(frozen=True)
class TapPlan:
    """place: where in the graph; role: input, feed (in front of layers only) or value; feeds:
    layers that read it;
    dynamic: the range is chosen for every batch.
    """

    place: TapPlace
    role: str
    asked: str
    spec: GridSpec
    range: Range
    feeds: tuple[str, ...]
    reason: str = ""
    allocate: Allocate | None = None
    dynamic: bool = False

    @property
    def name(self) -> str:
        """The tap's name."""
        return self.place.name

    def fit(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scale [rows] and zero point [rows] of a batch's values [rows, n], for taps that are
        dynamic.
        """
        return self.range.choose(values, None, self.spec)


@dataclass(frozen=True)
class Plan:
    """Every decision taken before data is seen."""

    recipe: str
    layers: tuple[LayerPlan, ...]
    taps: tuple[TapPlan, ...]
    tune: Tune | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; `from_dict` reads them."""
        return {
            "recipe": self.recipe,
            "layers": [_layer_dict(layer) for layer in self.layers],
            "taps": [_tap_dict(tap) for tap in self.taps],
            "tune": None if self.tune is None else method_settings(TUNES, self.tune),
        }

    def to_yaml(self) -> str:
        """Human-readable text of `to_dict`."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=120)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Plan":
        """Inverse of `to_dict`. Raises RecipeError or KeyError when it is not one."""
        return cls(
            data["recipe"],
            tuple(_layer_from(entry) for entry in data["layers"]),
            tuple(_tap_from(entry) for entry in data["taps"]),
            _tune(data["tune"]),
        )


def make_plan(network: Network, recipe: Recipe) -> Plan:
    """Resolve a recipe for a network.

    Raises RecipeError when a pattern matches no layer or a setting does not fit one.
    """
    names = [layer.name for layer in network.layers]
    for pattern in recipe.layers:
        if not any(_matches(layer, pattern) for layer in network.layers):
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise RecipeError(
                f"recipe {recipe.name}: layers: pattern {pattern!r} matches no layer; layers are "
                f"{shown}"
            )
    weights = {layer.name: _weights(recipe, network, layer) for layer in network.layers}
    layers = tuple(_plan_layer(recipe, layer, weights) for layer in network.layers)
    taps = tuple(tap for point in network.taps for tap in _plan_taps(recipe, network, point))
    return Plan(recipe.name, layers, taps, _tune(recipe.tune))


def _tune(method: Method | None) -> Tune | None:
    return None if method is None else build_method(TUNES, method, "tune")


def _matches(layer: Layer, pattern: str) -> bool:
    if pattern.startswith(_KIND):
        return layer.geometry.kind == pattern.removeprefix(_KIND)
    return fnmatch.fnmatch(layer.name, pattern)


def _matching(recipe: Recipe, layer: Layer) -> list[LayerSettings]:
    return [settings for pattern, settings in recipe.layers.items() if _matches(layer, pattern)]


def _skipped(recipe: Recipe, layer: Layer) -> bool:
    said = [settings.skip for settings in _matching(recipe, layer) if settings.skip is not None]
    return bool(said) and said[-1]


def _ends(network: Network) -> set[str]:
    return {network.layers[0].name, network.layers[-1].name}


def _weights(recipe: Recipe, network: Network, layer: Layer) -> WeightSettings | None:
    """Settings of a layer's weights; None when the layer is skipped."""
    settings = recipe.weights.model_dump()
    changes = [override.weights for override in _matching(recipe, layer)]
    if recipe.first_last is not None and layer.name in _ends(network):
        changes.insert(0, {"bits": recipe.first_last})
    for change in changes:
        if "bits" in change and isinstance(settings["levels"], int | list):
            # a number of levels takes the place of bits, and bits that of levels
            settings["levels"] = None
        settings |= change
    where = f"recipe {recipe.name}: layer {layer.name}: weights"
    return None if _skipped(recipe, layer) else parse_settings(WeightSettings, settings, where)


def _activations(recipe: Recipe, network: Network, name: str) -> TapSettings:
    settings = recipe.activations.model_dump()
    if recipe.first_last is not None and name in _ends(network) and settings["bits"] is not None:
        settings["bits"] = recipe.first_last
    layer = network.layer(name)
    for override in _matching(recipe, layer):
        settings |= override.activations
    if _skipped(recipe, layer):
        settings["bits"] = None
    return parse_settings(TapSettings, settings, f"recipe {recipe.name}: layer {name}: activations")


def _plan_layer(
    recipe: Recipe, layer: Layer, weights: dict[str, WeightSettings | None]
) -> LayerPlan:
    settings = weights[layer.owner]
    spec, reason = None, ""
    if settings is None:
        reason = "skipped by the recipe"
    elif settings.bits is None:
        reason = "float by the recipe"
    else:
        spec = _weight_spec(recipe, layer, settings)
    if not layer.owns_weight:
        reason = f"shares the weight of {layer.owner}" + (f", {reason}" if reason else "")
    shown = settings or recipe.weights
    rounding = build_method(ROUNDINGS, shown.rounding, "rounding")
    if spec is not None:
        check_rounding(rounding, spec, f"recipe {recipe.name}: layer {layer.name}")
    return LayerPlan(
        layer.name,
        layer.geometry.kind,
        layer.geometry.weight_shape,
        layer.geometry.rows,
        _asked_weight(shown),
        spec,
        build_method(RANGES, shown.range, "range"),
        rounding,
        build_method(CORRECTIONS, shown.correction, "correction"),
        reason,
        shown.scalar,
        _precondition(shown.precondition),
        _allocate(shown.allocate),
        shown.guided,
        shown.guided_power,
    )


def check_rounding(rounding: Rounding, spec: GridSpec, where: str) -> None:
    """Raise RecipeError where a method can't work on grids of a spec; where: for the message."""
    check = getattr(rounding, "check", None)
    if check is None:
        return
    try:
        check(spec)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _precondition(method: Method | None) -> Precondition | None:
    return None if method is None else build_method(PRECONDITIONS, method, "precondition")


def _allocate(method: Method | None) -> Allocate | None:
    return None if method is None else build_method(ALLOCATIONS, method, "allocate")


def _asked(settings: WeightSettings | TapSettings) -> str:
    if settings.bits is None:
        return "float"
    return f"{settings.bits:g} mixed" if settings.allocate is not None else str(settings.bits)


def _asked_weight(settings: WeightSettings) -> str:
    if settings.bits is None or settings.levels is None:
        return _asked(settings)
    if isinstance(settings.levels, str):
        return f"{settings.bits} {settings.levels}"
    return f"{settings.levels if isinstance(settings.levels, int) else len(settings.levels)} levels"


def _weight_spec(recipe: Recipe, layer: Layer, settings: WeightSettings) -> GridSpec:
    try:
        share = share_of(settings.granularity, settings.group_size)
        return GridSpec(_weight_alphabet(settings), share)
    except RecipeError as error:
        raise RecipeError(f"recipe {recipe.name}: layer {layer.name}: weights: {error}") from error


def _weight_alphabet(settings: WeightSettings) -> Alphabet:
    wide = settings.levels == "wide"
    if settings.levels is not None and not wide:
        return Levels(_levels(settings))
    if settings.bits == "ternary":
        return TERNARY
    bits, symmetric = settings.bits or 0, settings.symmetric or wide
    if settings.allocate is not None:
        return Widths(mean=float(bits), symmetric=symmetric)
    return Uniform(int(bits), symmetric=symmetric, narrow=settings.narrow, wide=wide)


def _levels(settings: WeightSettings) -> tuple[float, ...]:
    levels = settings.levels
    if isinstance(levels, int):
        return powers(levels)
    if isinstance(levels, list):
        return whole(levels)
    return {"odd": odd, "apot": apot}[str(levels)](int(settings.bits or 0))


def _plan_taps(recipe: Recipe, network: Network, point: TapPoint) -> list[TapPlan]:
    if recipe.activations.bits is None and not any(s.activations for s in recipe.layers.values()):
        return []  # weights only
    fed = {edge: network.reader(edge).name for edge in point.feeds}
    wanted = {edge: _activations(recipe, network, name) for edge, name in fed.items()}
    common = recipe.input if point.is_input else _common(recipe, point, list(wanted.values()))
    taps = []
    if common.bits is not None:
        role, asked = (
            ("input", common)
            if point.is_input
            else ("value", recipe.others if point.others else common)
        )
        taps.append(
            _tap(
                TapPlace(point.name, point.node.name, (), point.axis),
                role,
                common,
                asked,
                tuple(fed.values()),
            )
        )
    if point.is_input:
        return taps
    groups: list[tuple[TapSettings, list[Edge]]] = []  # settings, where one value is read
    for edge, settings in wanted.items():
        if settings.bits is None or (common.bits is not None and settings.bits >= common.bits):
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
        kind = network.reader(edges[0]).geometry.kind
        axis = channel_axis(network.value_at(edges[0]), kind)
        place = TapPlace(name, point.node.name, tuple(edges), axis)
        taps.append(_tap(place, "feed", settings, settings, tuple(names)))
    return taps


def _common(recipe: Recipe, point: TapPoint, feeds: list[TapSettings]) -> TapSettings:
    """What a value is rounded to for all its readers: the widest that one of them asks for; float
    if one needs that.
    """
    readers = feeds + ([recipe.others] if point.others or not feeds else [])
    if any(settings.bits is None for settings in readers):
        return TapSettings(bits=None)
    widest = max(settings.bits or 0 for settings in readers)
    return next(settings for settings in reversed(readers) if settings.bits == widest)


def _tap(
    place: TapPlace, role: str, settings: TapSettings, asked: TapSettings, feeds: tuple[str, ...]
) -> TapPlan:
    assert settings.bits is not None
    reasons = ["a layer reads the same value at more bits"] if asked.bits != settings.bits else []
    by_channel = settings.granularity == "channel" and place.axis is not None
    if settings.granularity == "channel" and not by_channel:
        reasons.append("one value a channel: the tensor has one scale")
    signs = {"signed": settings.symmetric, "symmetric": settings.symmetric}
    alphabet: Alphabet = (
        Widths(mean=float(settings.bits), **signs)
        if settings.allocate is not None and by_channel
        else Uniform(int(settings.bits), **signs)
    )
    spec = GridSpec(alphabet, PerChannel() if by_channel else PerTensor())
    place = place if by_channel else replace(place, axis=None)
    method, allocate = build_method(RANGES, settings.range, "range"), _allocate(settings.allocate)
    return TapPlan(
        place,
        role,
        _asked(asked),
        spec,
        method,
        feeds,
        "; ".join(reasons),
        allocate if by_channel else None,
        settings.dynamic,
    )


def _layer_dict(layer: LayerPlan) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "rows": layer.rows,
        "asked": layer.asked,
        "grid": spec_dict(layer.spec),
        "range": method_settings(RANGES, layer.range),
        "rounding": method_settings(ROUNDINGS, layer.rounding),
        "correction": method_settings(CORRECTIONS, layer.correction),
        "reason": layer.reason,
        "scalar": layer.scalar,
        "precondition": layer.precondition and method_settings(PRECONDITIONS, layer.precondition),
        "allocate": layer.allocate and method_settings(ALLOCATIONS, layer.allocate),
        "guided": layer.guided,
        "guided_power": layer.guided_power,
    }


def _layer_from(entry: dict[str, Any]) -> LayerPlan:
    return LayerPlan(
        entry["name"],
        entry["kind"],
        tuple(entry["shape"]),
        entry["rows"],
        entry["asked"],
        spec_from(entry["grid"]),
        build_method(RANGES, entry["range"], "range"),
        build_method(ROUNDINGS, entry["rounding"], "rounding"),
        build_method(CORRECTIONS, entry["correction"], "correction"),
        entry["reason"],
        entry["scalar"],
        _precondition(entry["precondition"]),
        _allocate(entry.get("allocate")),
        entry.get("guided", 0),
        entry.get("guided_power", 1.0),
    )


def _tap_dict(tap: TapPlan) -> dict[str, Any]:
    return {
        "name": tap.name,
        "node": tap.place.node,
        "edges": [asdict(edge) for edge in tap.place.edges],
        "role": tap.role,
        "asked": tap.asked,
        "grid": spec_dict(tap.spec),
        "range": method_settings(RANGES, tap.range),
        "feeds": list(tap.feeds),
        "reason": tap.reason,
        "axis": tap.place.axis,
        "dynamic": tap.dynamic,
        "allocate": tap.allocate and method_settings(ALLOCATIONS, tap.allocate),
    }


def _tap_from(entry: dict[str, Any]) -> TapPlan:
    spec = spec_from(entry["grid"])
    assert spec is not None
    edges = tuple(Edge(**edge) for edge in entry["edges"])
    place = TapPlace(entry["name"], entry["node"], edges, entry.get("axis"))
    return TapPlan(
        place,
        entry["role"],
        entry["asked"],
        spec,
        build_method(RANGES, entry["range"], "range"),
        tuple(entry["feeds"]),
        entry["reason"],
        _allocate(entry.get("allocate")),
        entry.get("dynamic", False),
    )


def spec_dict(spec: GridSpec | None) -> dict[str, Any] | None:
    """Plain values of a spec; `spec_from` reads them."""
    return None if spec is None else spec.to_dict()


def spec_from(entry: dict[str, Any] | None) -> GridSpec | None:
    """Inverse of `spec_dict`."""
    return None if entry is None else GridSpec.from_dict(entry)
