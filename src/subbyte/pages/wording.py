"""Results in plain words: sizes, percentages, and a quantized network in two or three sentences."""

from collections.abc import Sequence
from math import sqrt

from subbyte.pages.scores import change, find, first_of_each, said
from subbyte.records import Evidence, Exported, LedgerEntry, Result, Score


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


def signed(difference: float, digits: int = 2) -> str:
    """A difference with so many decimals and its sign; 0 without one."""
    shown = round(difference, digits)
    return f"{0:.{digits}f}" if shown == 0 else f"{difference:+.{digits}f}"


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


def on_grids(result: Result) -> str:
    """How many layers have their weights on grids, and how that is known."""
    rounded = sum(row.bits != "float" for row in result.layers)
    return (
        f"The weights of {rounded} of {len(result.layers)} layers are codes on their grids: the "
        f"packed file holds nothing else of them, and this is the network that was measured."
    )


def summary(result: Result) -> str:
    """A quantized network in a sentence or two."""
    return (
        f"{result.model}, {bits_of(result)}: {reached(result)}; "
        f"{size(result.bytes.packed)} instead of {size(result.bytes.float)}"
        f"{''.join(map(_exported, result.exports))}."
    )


def reached(result: Result) -> str:
    """The first score of every output, beside the float network's; or where there are none, the
    first comparison with it.
    """
    on = f"on {result.images:,} test images of {result.data}"
    before, after = result.float.scores, first_of_each(result.quantized.scores)
    if not after:
        compared = first_of_each(result.quantized.comparison)
        told = [f"{said(one)} with float{_where(one, result)}" for one in compared]
    elif len(result.heads) == 1:
        return f"{said(after[0])} {on}, {change(after[0], before[0])}"
    else:
        scored = [(one, find(before, one) or one) for one in after]
        told = [f"{said(one)}{_where(one, result)} ({change(one, own)})" for one, own in scored]
    return f"{', '.join(told)} {on}"


def _where(score: Score, result: Result) -> str:
    """The output, where there are several."""
    return f" of {result.heads[score.head]}" if len(result.heads) > 1 else ""


def _exported(one: Exported) -> str:
    """How near a file is to the torch model."""
    first = one.comparison[0]
    if first.unit != "%":
        return f"; {one.name} has {said(first)} with the torch model"
    return f"; {one.name} agrees with the torch model on {percent(first.value or 0.0)} of images"


def chance(result: Result, evidence: Evidence | None) -> str:
    """Sentences on how much of the difference may be chance, and how many predictions changed; ''
    where neither is known.
    """
    headline = result.quantized.headline
    text = ""
    if result.quantized.scores and headline.error is not None:
        text = (
            f"One standard error of an accuracy on {result.images:,} images is "
            f"{headline.error:.2f} points."
        )
    if evidence is None or evidence.predictions is None:
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
