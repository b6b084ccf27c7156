"""What there is to say of one quantized network: the sections of a folder that `subbyte quantize`
wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from subbyte.pages.charts import Table
from subbyte.pages.figures import Chooser, Cloud, Heat, Histogram, Marks, Points, Rows
from subbyte.pages.parts import Part, Raw, Section
from subbyte.pages.predictions import section as of_predictions
from subbyte.pages.words import standard_error
from subbyte.records.quantized import (
    FIGURES,
    Choice,
    Evidence,
    Result,
    Row,
    Spread,
    read_evidence,
    read_plan,
    read_result,
)

SIZE = "bytes, packed"
TOP1 = "top-1 %"


@dataclass(frozen=True)
class Model:
    """A folder as it was read. name: what tells it from others."""

    name: str
    result: Result
    evidence: Evidence | None
    plan: str | None

    @classmethod
    def read(cls, name: str, folder: Path) -> "Model":
        """Raises FormatError, naming the file, when one is damaged."""
        return cls(name, read_result(folder), read_evidence(folder), read_plan(folder))

    @property
    def spreads(self) -> tuple[Mapping[str, Spread], Mapping[str, Spread]]:
        """Of layers and of taps; of none where they were not measured."""
        return ({}, {}) if self.evidence is None else (self.evidence.layers, self.evidence.taps)


def sections(model: Model) -> list[Section]:
    """All of a network's own sections."""
    result, (layers, taps) = model.result, model.spreads
    found = [
        Section("Accuracy and size", tuple(_accuracy(model))),
        Section("Layers", tuple(_ledger(result.layers, layers, "layers"))),
    ]
    if result.taps:
        found.append(Section("Activations", tuple(_ledger(result.taps, taps, "activations"))))
    if model.evidence is None:
        found.append(Section("Distributions and predictions", (_without(),)))
    else:
        found.append(Section("Weights before and after", (_weights(layers),)))
        if taps:
            found.append(
                Section(
                    "Where activations are clipped", (_activations(taps, model.evidence.images),)
                )
            )
    if result.options:
        found.append(Section("Sensitivity", tuple(_sensitivity(result))))
    if model.evidence is not None:
        found.append(of_predictions(model.evidence.predictions, result.images))
    found.append(Section("Plan and settings", tuple(_plan(model))))
    found.append(Section("Environment", tuple(_environment(result))))
    return found


def _without() -> str:
    return (
        f"The folder has no {FIGURES}: it was written by an earlier version of subbyte. Histograms "
        f"of weights and "
        "activations, the confusion matrix and the images whose prediction changed are missing; "
        "quantize again to "
        "have them."
    )


def _accuracy(model: Model) -> list[Part]:
    result = model.result
    top5 = result.float_.top5 is not None
    rows = [
        ("float, torch", result.float_, None, 32.0, result.bytes.float_),
        (
            "quantized, torch",
            result.quantized,
            result.quantized.agreement,
            result.bits_per_weight,
            result.bytes.packed,
        ),
    ]
    cells = [
        (
            name,
            f"{one.top1:.2f}",
            *([_two(one.top5)] if top5 else []),
            _two(agreement),
            f"{bits:.2f}",
            f"{count:,}",
        )
        for name, one, agreement, bits, count in rows
    ]
    onnx = f"quantized, ONNX Runtime ({result.onnx.container})"
    cells.append(
        (onnx, f"{result.onnx.top1:.2f}", *([""] if top5 else []), "", "", f"{result.bytes.onnx:,}")
    )
    header = (
        "network",
        TOP1,
        *(["top-5 %"] if top5 else []),
        "agrees with float %",
        "bits a weight",
        "bytes",
    )
    sparse = (
        ""
        if result.zeros_percent is None
        else f"{result.zeros_percent:.1f} % of the quantized weights are 0. "
    )
    return [
        Table("", header, tuple(cells)),
        f"{sparse}On the {result.parity.images:,} calibration images, outputs of ONNX Runtime "
        f"differ from those of the "
        f"torch model by at most {result.parity.max_abs:.3g}, {result.parity.mean_abs:.3g} on "
        f"average.",
        _size_plot(result),
    ]


def _size_plot(result: Result) -> Points:
    shown = (
        ("float", result.bytes.float_, result.float_.top1),
        ("packed", result.bytes.packed, result.quantized.top1),
        ("ONNX", result.bytes.onnx, result.onnx.top1),
    )
    clouds = tuple(
        Cloud(
            name,
            (count,),
            (top1,),
            (),
            (f"{name}: {top1:.2f} %, {count:,} bytes",),
            (standard_error(top1, result.images),),
        )
        for name, count, top1 in shown
    )
    about = (
        "Bars reach one standard error up and down. The ONNX file holds the graph as well as "
        "the weights."
    )
    return Points("Accuracy against size", about, "bytes of the file", TOP1, clouds, log_x=True)


def _ledger(rows: Sequence[Row], spreads: Mapping[str, Spread], what: str) -> list[Part]:
    """Signal to noise, bytes, ranges, and the table of all."""
    layers = what == "layers"
    parts: list[Part] = [signal(rows, what)]
    if layers:
        names, notes = (
            tuple(row.name for row in rows),
            [f"{row.name}: {row.bytes:,} bytes, {_bits(row)}" for row in rows],
        )
        bar = Marks("bytes", [row.bytes for row in rows], "bar", notes=notes)
        about = "Codes, scales and zero points; point at a bar for its bits."
        parts.append(Rows("Bytes by layer", about, "bytes", names, (bar,)))
    if any(row.name in spreads for row in rows):
        parts.append(_ranges(rows, spreads, layers))
    parts.append(_table(rows, spreads, what))
    return parts


def signal(rows: Sequence[Row], what: str) -> Rows:
    """Signal-to-noise ratios in the order of the network."""
    notes = [
        f"{row.name}: "
        + ("exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f} dB, {_bits(row)}")
        for row in rows
    ]
    about = (
        f"Of {'each output of a layer' if what == 'layers' else 'each activation tensor'}, against "
        f"the float network, "
        "on the calibration images. 6 dB more are one bit more. No dot: no difference, or not "
        "measured."
    )
    dots = Marks("signal-to-noise ratio", [row.sqnr_db for row in rows], "dot", notes=notes)
    return Rows(
        f"Signal-to-noise ratio of {what}", about, "dB", tuple(row.name for row in rows), (dots,)
    )


def _bits(row: Row) -> str:
    return row.bits if row.bits in ("float", "ternary") else f"{row.bits} bits"


def _ranges(rows: Sequence[Row], spreads: Mapping[str, Spread], layers: bool) -> Rows:
    shown = [(row.name, spreads[row.name]) for row in rows if row.name in spreads]
    values, reach = (
        [one.values for _, one in shown],
        [one.reach or (None, None) for _, one in shown],
    )
    notes = [
        f"{name}: values {one.values[0]:.4g} to {one.values[1]:.4g}"
        + ("" if one.reach is None else f", grid {one.reach[0]:.4g} to {one.reach[1]:.4g}")
        + ("" if one.clipped_percent is None else f", {one.clipped_percent:.3g} % clipped")
        for name, one in shown
    ]
    marks = (
        Marks(
            "reach of the grid",
            [low for low, _ in reach],
            "broad",
            [high for _, high in reach],
            notes,
        ),
        Marks(
            "float values", [low for low, _ in values], "thin", [high for _, high in values], notes
        ),
    )
    about = "Of the float network. A thin line that sticks out of its broad one is clipped."
    if layers:
        about = (
            "Of all channels together; with a scale of its own, one of them may be clipped "
            "more than is seen here."
        )
    title = "Ranges of weights" if layers else "Ranges of activations"
    return Rows(title, about, "value", tuple(name for name, _ in shown), marks)


def _table(rows: Sequence[Row], spreads: Mapping[str, Spread], what: str) -> Table:
    sparse = any(row.zeros is not None for row in rows)
    header = ["name", "asked", "bits", "bytes", "SNR dB", *(["zeros %"] if sparse else [])]
    several = any(
        one.scales is not None and one.scales[0] < one.scales[4] for one in spreads.values()
    )
    if spreads:
        header += [
            "clipped %",
            *(["scale (median)", "scales from", "to"] if several else ["scale"]),
        ]
    cells = []
    for row in rows:
        sqnr = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
        line = [
            row.name,
            row.asked,
            row.bits,
            f"{row.bytes:,}",
            sqnr,
            *([_one(row.zeros)] if sparse else []),
        ]
        if spreads:
            one = spreads.get(row.name)
            clipped = None if one is None else one.clipped_percent
            places = (2, 0, 4) if several else (2,)
            scales = [
                "" if one is None or one.scales is None else f"{one.scales[k]:.4g}" for k in places
            ]
            line += ["" if clipped is None else f"{clipped:.3g}", *scales]
        cells.append((*line, "; ".join(filter(None, (row.reason, row.onnx)))))
    return Table(f"All {what}", (*header, "reason, and how ONNX holds it"), tuple(cells))


def _weights(spreads: Mapping[str, Spread]) -> Chooser:
    figures = tuple(_of_layer(name, one) for name, one in spreads.items())
    about = (
        "Float weights with batch-norms folded in, each divided by the scale of its channel or "
        "group, so that all "
        "channels share the levels of the grid; quantized weights stand on those levels. A filled "
        "bar as wide as a "
        "step would be as high as the share of weights in it. Rounding corrects errors, so a "
        "weight need not go to "
        "the nearest level. Dashed: the ends of the grid; clipped is what lies more than half a "
        "step beyond them."
    )
    return Chooser("Weights on their grids", about, "layer", "float", "quantized", figures)


_POSITIONS = {
    "codes": "code: weight / scale + zero point",
    "steps": "weight / scale",
    "values": "weight",
}


def _of_layer(name: str, one: Spread) -> Histogram:
    return _histogram(name, one, _POSITIONS[one.unit], _spread_words(one))


def _spread_words(one: Spread) -> str:
    """What the axis of codes leaves out."""
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


def _activations(spreads: Mapping[str, Spread], images: int) -> Chooser:
    figures = tuple(_of_tap(name, one) for name, one in spreads.items())
    about = (
        f"What the float network computes on {images} calibration images. Dashed: the ends of the "
        f"grid, beyond which "
        "values are clipped; ticks at the bottom: its levels, where they are few."
    )
    return Chooser(
        "Activations and their grids", about, "tensor", "float", "", figures, logarithm=True
    )


def _of_tap(name: str, one: Spread) -> Histogram:
    """In real values where there is one scale, else on the axis of codes."""
    if (
        one.unit != "codes"
        or one.scales is None
        or one.scales[0] != one.scales[4]
        or one.zero_points is None
    ):
        label = {
            "codes": "code: value / scale + zero point",
            "steps": "value / scale",
            "values": "value",
        }[one.unit]
        return _histogram(name, one, label, _spread_words(one))
    if one.zero_points[0] != one.zero_points[1]:
        return _histogram(name, one, "code: value / scale + zero point", _spread_words(one))
    scale, zero = one.scales[0], one.zero_points[0]
    moved = one.model_copy(
        update={
            "start": (one.start - zero) * scale,
            "width": one.width * scale,
            "levels": [(level - zero) * scale for level in one.levels],
        }
    )
    return _histogram(name, moved, "value", _spread_words(one))


def _histogram(name: str, one: Spread, label: str, about: str) -> Histogram:
    total = sum(one.counts) + one.below + one.above
    ends = (one.levels[0], one.levels[-1]) if one.levels else None
    return Histogram(
        name,
        about,
        label,
        one.start,
        one.width,
        tuple(one.counts),
        total,
        tuple(one.levels),
        tuple(one.taken),
        tuple(one.rounded),
        ends,
    )


def _sensitivity(result: Result) -> list[Part]:
    options, by_channel = result.options, result.settings.get("budget_for") == "channels"
    layers, choices = (
        tuple(dict.fromkeys(getattr(o, key) for o in options)) for key in ("layer", "width")
    )
    cells = {(option.layer, option.width): option for option in options}
    values, texts = [], []
    for layer in layers:
        found = [cells.get((layer, name)) for name in choices]
        values.append(
            [None if o is None or o.divergence <= 0 else log10(o.divergence) for o in found]
        )
        texts.append(
            [
                "" if o is None else f"{'*' if o.chosen else ''}{1000 * o.divergence:.2g}"
                for o in found
            ]
        )
    heat = Heat(
        "What each width of each layer costs",
        "In each cell 1000 x the relative square error of the network's output "
        "with that one layer quantized; colours by its logarithm, * chosen.",
        "width",
        "layer",
        choices,
        layers,
        tuple(values),
        tuple(texts),
    )
    rows = tuple(
        (o.layer, o.width, f"{o.bytes:,}", f"{1000 * o.divergence:.4g}", _choice(o, by_channel))
        for o in options
    )
    budget = result.settings.get("budget")
    whose = "channels" if by_channel else "layers"
    told = f"Widths were shared out among {whose} by what each costs the network's output, under "
    return [
        f"{told}{f'a budget of {budget}' if budget else 'a budget'}.",
        heat,
        Table("All widths", ("layer", "width", "bytes", "1000 x divergence", "choice"), rows),
    ]


def _choice(option: Choice, by_channel: bool) -> str:
    if not option.chosen:
        return ""
    return f"{option.rows} channels" if by_channel else "chosen"


def _plan(model: Model) -> list[Part]:
    parts: list[Part] = []
    if model.result.settings:
        rows = tuple(_flat(model.result.settings))
        parts.append(Table("Settings of the recipe", ("setting", "value"), rows))
    if model.plan is None:
        parts.append("The folder has no plan.yaml.")
    else:
        parts.append(Raw("plan.yaml: every decision taken before data were seen", model.plan))
    return parts


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Settings by their path, as `--set` takes them; values as YAML has them."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and not above.count("."):
            rows += _flat(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def _environment(result: Result) -> list[Part]:
    about = {
        "model": result.model,
        "data": result.data,
        "recipe": result.recipe,
        "calibration images": f"{result.calibration:,}",
        "seed": f"{result.seed}",
        "test images": f"{result.images:,}",
        **{name: text for name, text in result.about.items() if text},
        "ONNX": f"opset {result.onnx.opset}, container {result.onnx.container}",
    }
    if result.fold_error is not None:
        about["difference after folding batch-norms"] = (
            f"{result.fold_error:.2g} of the largest output"
        )
    about |= {
        f"version of {name}": text for name, text in result.versions.items() if name != "machine"
    }
    about |= {"machine": result.versions["machine"]} if "machine" in result.versions else {}
    about |= {f"seconds, {name}": f"{value:.1f}" for name, value in result.seconds.items()}
    parts: list[Part] = [Table("", ("what", "value"), tuple(about.items()))]
    if result.skipped:
        rows = tuple((one.name, one.reason) for one in result.skipped)
        parts.append(Table("Left float", ("name", "reason"), rows))
    return parts


def _two(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _one(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


__all__ = ["Model", "sections", "signal"]
