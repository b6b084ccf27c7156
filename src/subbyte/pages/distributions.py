"""Histograms of weights and activations on their grids."""

from collections.abc import Mapping

from subbyte.pages.figures import Histogram, Histograms
from subbyte.records import Distribution

_ABOUT_WEIGHTS = (
    "Float weights with batch-norms folded in, each divided by the scale of its channel or group, "
    "so that all channels share the levels of the grid; quantized weights stand on those levels. "
    "A filled bar as wide as a step would be as high as the share of weights in it. Rounding "
    "corrects errors, so a weight need not go to the nearest level. Dashed: the ends of the grid; "
    "clipped is what lies more than half a step beyond them."
)
_POSITIONS = {
    "codes": "code: {} / scale + zero point",
    "steps": "{} / scale",
    "values": "{}",
}
"""The label of a histogram's axis, by the unit of its positions."""


def weights(found: Mapping[str, Distribution]) -> Histograms:
    """The histograms of every layer's weights."""
    figures = tuple(_histogram(name, one, "weight") for name, one in found.items())
    title = "Weights on their grids"
    return Histograms(title, _ABOUT_WEIGHTS, "layer", "float", "quantized", figures)


def activations(found: Mapping[str, Distribution], images: int) -> Histograms:
    """The histograms of every activation tensor: in real values where there is one scale, else by
    code.
    """
    figures = tuple(_histogram(name, one.in_values(), "value") for name, one in found.items())
    about = (
        f"What the float network computes on {images} calibration images. Dashed: the ends of the "
        "grid, beyond which values are clipped; ticks at the bottom: its levels, where they are "
        "few."
    )
    title = "Activations and their grids"
    return Histograms(title, about, "tensor", "float", "", figures, logarithm=True)


def _histogram(name: str, one: Distribution, what: str) -> Histogram:
    return Histogram(
        name,
        _said(one),
        _POSITIONS[one.unit].format(what),
        one.start,
        one.width,
        tuple(one.counts),
        sum(one.counts) + one.below + one.above,
        tuple(one.levels),
        tuple(one.taken),
        tuple(one.rounded),
        (one.levels[0], one.levels[-1]) if one.levels else None,
    )


def _said(one: Distribution) -> str:
    """A sentence on the values and scales, which an axis of codes leaves out."""
    told = [f"values from {one.values[0]:.4g} to {one.values[1]:.4g}"]
    if one.scales is None:
        return f"float, {told[0]}."
    if one.scales[0] == one.scales[4]:
        told.append(f"one scale, {one.scales[0]:.4g}")
    else:
        told.append(
            f"scales from {one.scales[0]:.4g} to {one.scales[4]:.4g}, half of them below "
            f"{one.scales[2]:.4g}, the "
            f"middle 80 % from {one.scales[1]:.4g} to {one.scales[3]:.4g}"
        )
    if one.zero_points is not None:
        low, high = one.zero_points
        told.append(f"zero point {low}" if low == high else f"zero points from {low} to {high}")
    if one.clipped_percent is not None:
        told.append(f"{one.clipped_percent:.3g} % clipped")
    if outside := one.below + one.above:
        told.append(f"{outside:,} values lie outside the picture")
    return "; ".join(told) + "."
