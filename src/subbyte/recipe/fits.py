"""Whether a plan is one for a network: its layers, and the places of its activation quantizers."""

from subbyte.graph import Layer, Network, TapPoint
from subbyte.recipe.plan import LayerPlan, Plan, Role, TapPlan


def misfit(plan: Plan, network: Network) -> str | None:
    """The reason why a plan can't be one for this network, or None."""
    for ours, layer in zip(plan.layers, network.layers, strict=False):
        if reason := _layer_misfit(ours, layer):
            return reason
    if len(plan.layers) != len(network.layers):
        return (
            f"made for a network with {len(plan.layers)} layers, this one has {len(network.layers)}"
        )
    names = [tap.name for tap in plan.taps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"two activation quantizers are called {twice!r}"
    points = {point.node.name: point for point in network.taps}
    for tap in plan.taps:
        if tap.place.node not in points:
            return f"made for a network with a value {tap.name!r}, which this one has not"
        if reason := _tap_misfit(tap, points[tap.place.node], network):
            return f"activation quantizer {tap.name!r}: {reason}"
    read = [edge for tap in plan.taps for edge in tap.place.edges]
    again = next((edge for edge in read if read.count(edge) > 1), None)
    if again is not None:
        return f"two activation quantizers stand in front of {again.reader!r}"
    values = [tap.place.node for tap in plan.taps if not tap.place.edges]
    shared = next((node for node in values if values.count(node) > 1), None)
    return None if shared is None else f"two activation quantizers stand behind {shared!r}"


def _layer_misfit(plan: LayerPlan, layer: Layer) -> str | None:
    own = tuple(layer.geometry.weight_shape)
    if (plan.name, plan.shape) != (layer.name, own):
        return (
            f"made for a network with layer {plan.name!r} {plan.shape}, this one has "
            f"{layer.name!r} {own}"
        )
    if plan.kind != layer.geometry.kind:
        return f"layer {plan.name!r}: kind {plan.kind}, here it is {layer.geometry.kind}"
    if plan.rows != layer.geometry.rows:
        return f"layer {plan.name!r}: rows {plan.rows}, here it has {layer.geometry.rows}"
    return None


def _tap_misfit(tap: TapPlan, point: TapPoint, network: Network) -> str | None:
    """place: behind the point's value, or at edges where it is read, all through the same moves."""
    edges = tap.place.edges
    stray = next((edge for edge in edges if edge not in point.feeds), None)
    if stray is not None:
        known = ", ".join(f"{edge.reader} {edge.argument}" for edge in point.feeds) or "none"
        return (
            f"place.edges: no layer reads {point.name!r} at argument {stray.argument} of "
            f"{stray.reader!r}; here it is read at: {known}"
        )
    if len({network.value_at(edge) for edge in edges}) > 1:
        return "place.edges: they read different values; each needs a quantizer of its own"
    role: Role = "input" if point.is_input else "feed" if edges else "value"
    if tap.role != role or (point.is_input and edges):
        return f"role {tap.role} with {len(edges)} edges, here it is {role}"
    feeds = tuple(network.reader(edge).name for edge in edges or point.feeds)
    if tap.feeds != feeds:
        return f"feeds {list(tap.feeds)}, here they are {list(feeds)}"
    axis = point.axis
    if edges:
        axis = network.axis_at(edges[0])
    if tap.place.axis not in (None, axis):
        return f"place.axis {tap.place.axis}, here its channels lie along {axis}"
    return None
