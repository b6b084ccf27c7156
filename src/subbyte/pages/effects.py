"""The section about what each layer and activation quantizer costs by itself, and what would help:
settings, and their price.
"""

import shlex
from collections.abc import Sequence
from math import ceil, sqrt

from subbyte.pages.figures import Bars, Rows
from subbyte.pages.parts import Part, Section, Table, Text
from subbyte.records import Effect, Result

_MOST, _ADVISED = 15, 3  # rows of the figure; layers that are named in advice
_TITLE = "What each costs by itself"
_ABOUT = (
    "1000 x the relative square error of the network's output when nothing but this is quantized, "
    "on {images} calibration images; the {shown} largest of {all}. Noise that gathers before a "
    "layer is not in it."
)
_MENDED = (
    "Roundings that correct what came before them mend a part of this further on, most of all for "
    "early layers: what a change brings is known when the network is quantized again."
)
_OF = {"weight": "weights", "activation": "activations"}
_WIDE = 8  # bits that are advised


def effects_section(result: Result) -> Section:
    """The effects, the largest first, and what would make them smaller."""
    effects = ranked(result.effects)
    parts: list[Part] = [_figure(effects), Text(_MENDED)]
    if advice := _advice(result, effects):
        header = ("add to the command", "bytes", "what it is for")
        parts.append(Table("What would bring something back", header, advice))
    return Section("Which layer costs most", (*parts, _table(effects)))


def ranked(effects: Sequence[Effect]) -> list[Effect]:
    """The largest first; those that are not finite before all."""
    return sorted(effects, key=lambda one: (one.error is not None, -(one.error or 0.0)))


def costliest(effects: Sequence[Effect]) -> str:
    """The one that costs most by itself in a sentence; '' where nothing was measured."""
    if not effects:
        return ""
    worst = ranked(effects)[0]
    share = "more than can be told" if worst.error is None else f"{100 * sqrt(worst.error):.2g} %"
    what = f"{worst.name} ({_OF[worst.kind]}, {worst.bits} bits)"
    return f"What costs most by itself is {what}: it moves the output by {share}."


def _figure(effects: Sequence[Effect]) -> Rows:
    shown = effects[:_MOST]
    notes = [f"{one.name}, {one.bits} bits: {_thousandths(one)}" for one in shown]
    marks = tuple(
        Bars(words, [_scaled(one) if one.kind == kind else None for one in shown], notes)
        for kind, words in _OF.items()
        if any(one.kind == kind for one in shown)
    )
    about = _ABOUT.format(images=effects[0].images, shown=len(shown), all=len(effects))
    label = "1000 x relative square error of the output"
    return Rows(_TITLE, about, label, tuple(one.name for one in shown), marks)


def _advice(result: Result, effects: Sequence[Effect]) -> tuple[tuple[str, ...], ...]:
    """Options and what they cost; the layers that cost most first."""
    rows = []
    narrow = [one for one in effects if one.width < _WIDE and (one.kind == "weight" or one.feeds)]
    for one in narrow[:_ADVISED]:
        layer = one.name if one.kind == "weight" else one.feeds[0]
        option = shlex.quote(f"layers.{layer}.{_OF[one.kind]}.bits={_WIDE}")
        price = f"+{one.more_bytes:,}" if one.more_bytes else "none"
        told = f"{one.name} costs {_thousandths(one)} at {one.bits} bits"
        rows.append((f"--set {option}", price, told))
    if not result.options and any(one.kind == "weight" for one in narrow):
        size = ceil(sum(layer.bytes for layer in result.layers) / 1000)
        told = "the same bytes, shared out among layers by what each costs"
        rows.append((f"--budget {size}KB", "none", told))
    if result.tuning is None:
        told = "in place of the command: it learns from the float network, without labels"
        used = result.about.get("weights")
        given = f" --weights {shlex.quote(used)}" if used else ""
        rows.append((f"subbyte tune FOLDER{given} --time 5min", "none", told))
    return tuple(rows)


def _table(effects: Sequence[Effect]) -> Table:
    rows = tuple(
        (
            one.name,
            _OF[one.kind],
            one.bits,
            _thousandths(one),
            f"{one.more_bytes:,}" if one.kind == "weight" else "",
        )
        for one in effects
    )
    header = ("name", "of", "bits", "1000 x error", "bytes more at 8 bits")
    return Table("All effects", header, rows)


def _scaled(effect: Effect) -> float | None:
    return None if effect.error is None else 1000 * effect.error


def _thousandths(effect: Effect) -> str:
    return "not finite" if effect.error is None else f"{1000 * effect.error:.3g}"
