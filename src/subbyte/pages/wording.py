"""Results in plain words: sizes, percentages, and a quantized network in two or three sentences."""

from collections.abc import Sequence
from math import sqrt

from subbyte.records import Evidence, LedgerEntry, Result


def size(count: int) -> str:
    """Such as 512 bytes, 9.5 kB, 181 kB or 1.1 MB; kB are thousands."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit * 0.9995:
            return (
                f"{count / unit:.1f} {name}"
                if count < 9.95 * unit
                else f"{count / unit:.0f} {name}"
            )
    return f"{count} bytes"


def percent(share: float) -> str:
    """A percentage with two decimals; 100 only for all of them."""
    return "100 %" if share == 100 else f"{min(share, 99.99):.2f} %"


def points(difference: float) -> str:
    """The distance of an accuracy from the float network's, in words."""
    if round(difference, 2) == 0:
        return "the same as float"
    return f"{abs(difference):.2f} points {'above' if difference > 0 else 'below'} float"


def signed(difference: float) -> str:
    """A difference with two decimals and its sign; 0.00 without one."""
    return "0.00" if round(difference, 2) == 0 else f"{difference:+.2f}"


def two_digits(number: float | None) -> str:
    """A number with two decimals; '' for none."""
    return "" if number is None else f"{number:.2f}"


def one_digit(number: float | None) -> str:
    """A number with one decimal; '' for none."""
    return "" if number is None else f"{number:.1f}"


def standard_error(top1: float, images: int) -> float:
    """The standard error of an accuracy, in points: sqrt(p (100 - p) / n)."""
    return sqrt(max(0.0, top1 * (100 - top1)) / max(1, images))


def width(bits: str) -> str:
    """The width of weights or activations in words: '4-bit', 'ternary' or 'mixed 2.5-bit'."""
    if bits.endswith(" mixed"):
        return f"mixed {bits.removesuffix(' mixed')}-bit"
    return f"{bits}-bit" if bits[0].isdigit() else bits


def said_bits(row: LedgerEntry) -> str:
    """Such as '4 bits', 'ternary' or 'float'."""
    return f"{row.bits} bits" if row.bits[0].isdigit() else row.bits


def widths(rows: Sequence[LedgerEntry]) -> str:
    """The widths of all rows in words, such as '4-bit' or 'ternary to 8-bit'."""
    found = sorted({row.bits for row in rows}, key=_order)
    return width(found[0]) if len(found) == 1 else f"{width(found[0])} to {width(found[-1])}"


def _order(bits: str) -> float:
    if bits == "float":
        return 32.0
    try:
        return 1.58 if bits == "ternary" else float(bits.split()[0])
    except ValueError:
        return 16.0


def bits_of(result: Result) -> str:
    """Such as '4-bit weights and activations in all layers', '2-bit weights in 18 of 20 layers,
    float activations'.
    """
    rounded = [row for row in result.layers if row.bits != "float"]
    if not rounded:
        return "float weights"
    weights, one = widths(rounded), len({row.bits for row in rounded}) == 1
    stored = "" if one else f" ({result.bits_per_weight:.2f} bits each)"
    where = (
        "all layers"
        if len(rounded) == len(result.layers)
        else f"{len(rounded)} of {len(result.layers)} layers"
    )
    if not result.activations:
        return f"{weights} weights{stored} in {where}, float activations"
    chosen = result.settings.get("activations") or {}
    asked = chosen.get("bits") if isinstance(chosen, dict) else None
    activations = (
        width(f"{asked:g}") if isinstance(asked, int | float) else widths(result.activations)
    )
    if activations == weights:
        return f"{weights} weights and activations in {where}"
    return f"{weights} weights{stored} in {where}, {activations} activations"


def summary(result: Result) -> str:
    """A quantized network in a sentence or two."""
    exported = "".join(
        f"; {one.name} agrees with the torch model on {percent(one.agreement)} of images"
        for one in result.exports
    )
    return (
        f"{result.model}, {bits_of(result)}: {result.quantized.top1:.2f} % top-1 on "
        f"{result.images:,} test images of "
        f"{result.data}, {points(result.quantized.top1 - result.float.top1)}; "
        f"{size(result.bytes.packed)} instead of "
        f"{size(result.bytes.float)}{exported}."
    )


def chance(result: Result, evidence: Evidence | None) -> str:
    """Sentences on how much of the difference may be chance, and how many predictions changed."""
    error = standard_error(result.quantized.top1, result.images)
    text = f"One standard error of an accuracy on {result.images:,} images is {error:.2f} points."
    if evidence is None:
        return text
    found = evidence.predictions
    changed = found.lost + found.gained + found.moved
    if not changed:
        return f"{text} No prediction changed."
    paired = 100 * sqrt(found.lost + found.gained) / result.images
    return (
        f"{text} Quantization changed the predicted class of {changed:,} images: {found.lost:,} "
        f"became wrong, "
        f"{found.gained:,} became right, {found.moved:,} stayed wrong; so the difference itself "
        f"has a standard error "
        f"of {paired:.2f} points."
    )


def weakest(rows: Sequence[LedgerEntry], what: str) -> str:
    """The place where the most was lost, by signal-to-noise ratio, in words; '' for none."""
    measured = [row for row in rows if row.sqnr_db is not None]
    if not measured:
        return ""
    worst = min(measured, key=lambda row: row.sqnr_db or 0.0)
    return (
        f"The lowest signal-to-noise ratio of {what} is that of {worst.name}, "
        f"{worst.sqnr_db:.1f} dB."
    )
