"""The sections about one quantized network, from a folder that `subbyte quantize` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from subbyte.pages import distributions, predictions
from subbyte.pages.figures import Cloud, Heat, Points
from subbyte.pages.ledger import Ledger
from subbyte.pages.parts import Part, Raw, Section, Table, Text
from subbyte.pages.wording import standard_error, two_digits
from subbyte.records import (
    FIGURES,
    Evidence,
    Option,
    Result,
    read_evidence,
    read_plan,
    read_result,
)

SIZE = "bytes, packed"
TOP1 = "top-1 %"
_WITHOUT = (
    f"The folder has no {FIGURES}. Histograms of weights and activations, the confusion matrix and "
    "the images whose prediction changed are missing; quantize again to have them."
)
_CHANNELS = "channels"  # as the recipe names what a budget is shared out to


@dataclass(frozen=True)
class Network:
    """A folder as it was read. name: what tells it from others."""

    name: str
    result: Result
    evidence: Evidence | None
    plan: str | None

    @classmethod
    def read(cls, name: str, folder: Path) -> "Network":
        """Raises FormatError, naming the file, when one is damaged."""
        return cls(name, read_result(folder), read_evidence(folder), read_plan(folder))

    @property
    def layers(self) -> Ledger:
        """The network's layers."""
        found = {} if self.evidence is None else self.evidence.layers
        return Ledger.of_layers(self.result.layers, found)

    @property
    def activations(self) -> Ledger:
        """The network's activation tensors."""
        found = {} if self.evidence is None else self.evidence.activations
        return Ledger.of_activations(self.result.activations, found)


def sections(network: Network) -> list[Section]:
    """All of a network's own sections."""
    result, evidence = network.result, network.evidence
    found = [
        Section("Accuracy and size", _accuracy(result)),
        Section("Layers", tuple(network.layers.parts())),
    ]
    if result.activations:
        found.append(Section("Activations", tuple(network.activations.parts())))
    if evidence is None:
        found.append(Section("Distributions and predictions", (Text(_WITHOUT),)))
    else:
        found.append(Section("Weights before and after", (distributions.weights(evidence.layers),)))
        if evidence.activations:
            drawn = distributions.activations(evidence.activations, evidence.images)
            found.append(Section("Where activations are clipped", (drawn,)))
    if result.options:
        found.append(Section("Sensitivity", _sensitivity(result)))
    if evidence is not None:
        found.append(predictions.section(evidence.predictions, result.images))
    found.append(Section("Plan and settings", _plan(network)))
    found.append(Section("Environment", _environment(result)))
    return found


def _accuracy(result: Result) -> tuple[Part, ...]:
    top5 = result.float.top5 is not None
    header = ["network", TOP1, "top-5 %", "agrees with float %", "bits a weight", "bytes"]
    before, after = result.float, result.quantized
    bits = f"{result.bits_per_weight:.2f}"
    rows = [
        _row("float, torch", before.top1, before.top5, None, "32.00", result.bytes.float),
        _row(
            "quantized, torch", after.top1, after.top5, after.agreement, bits, result.bytes.packed
        ),
        *(
            _row(f"quantized, {one.name}", one.top1, None, None, "", one.bytes)
            for one in result.exports
        ),
    ]
    if not top5:
        header, rows = header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    told = [
        f"On {one.parity.samples:,} calibration samples {one.file} ({one.name}) was compared with "
        f"the torch model: {one.parity.summary}."
        for one in result.exports
    ]
    if result.zeros_percent is not None:
        told.insert(0, f"{result.zeros_percent:.1f} % of the quantized weights are 0.")
    said = (Text(" ".join(told)),) if told else ()
    return (Table("", tuple(header), tuple(rows)), *said, _against_size(result))


def _row(
    name: str, top1: float, top5: float | None, agreement: float | None, bits: str, count: int
) -> tuple[str, ...]:
    return name, f"{top1:.2f}", two_digits(top5), two_digits(agreement), bits, f"{count:,}"


def _against_size(result: Result) -> Points:
    shown = [
        ("float", result.bytes.float, result.float.top1),
        ("packed", result.bytes.packed, result.quantized.top1),
        *((one.name, one.bytes, one.top1) for one in result.exports),
    ]
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
        "Bars reach one standard error up and down. Exported files hold the graph as well as the "
        "weights."
    )
    return Points("Accuracy against size", about, "bytes of the file", TOP1, clouds, log_x=True)


def _sensitivity(result: Result) -> tuple[Part, ...]:
    by_channel = result.settings.get("budget_for") == _CHANNELS
    layers = tuple(dict.fromkeys(option.layer for option in result.options))
    widths = tuple(dict.fromkeys(option.width for option in result.options))
    cells = {(option.layer, option.width): option for option in result.options}
    found = [[cells.get((layer, width)) for width in widths] for layer in layers]
    values = [
        [None if o is None or o.divergence <= 0 else log10(o.divergence) for o in row]
        for row in found
    ]
    texts = [
        ["" if o is None else f"{'*' * o.chosen}{1000 * o.divergence:.2g}" for o in row]
        for row in found
    ]
    about = (
        "In each cell 1000 x the relative square error of the network's output with that one layer "
        "quantized; colours by its logarithm, * chosen."
    )
    title = "What each width of each layer costs"
    heat = Heat(title, about, "width", "layer", widths, layers, tuple(values), tuple(texts))
    rows = tuple(
        (o.layer, o.width, f"{o.bytes:,}", f"{1000 * o.divergence:.4g}", _choice(o, by_channel))
        for o in result.options
    )
    budget = result.settings.get("budget")
    told = (
        f"Widths were shared out among {'channels' if by_channel else 'layers'} by what each costs "
        f"the network's output, under {f'a budget of {budget}' if budget else 'a budget'}."
    )
    header = ("layer", "width", "bytes", "1000 x divergence", "choice")
    return Text(told), heat, Table("All widths", header, rows)


def _choice(option: Option, by_channel: bool) -> str:
    if not option.chosen:
        return ""
    return f"{option.rows} channels" if by_channel else "chosen"


def _plan(network: Network) -> tuple[Part, ...]:
    parts: list[Part] = []
    if network.result.settings:
        rows = tuple(_flat(network.result.settings))
        parts.append(Table("Settings of the recipe", ("setting", "value"), rows))
    if network.plan is None:
        parts.append(Text("The folder has no plan.yaml."))
    else:
        parts.append(Raw("plan.yaml: every decision taken before data were seen", network.plan))
    return tuple(parts)


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Settings by their path, as `--set` takes them; values as YAML has them."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and not above.count("."):
            rows += _flat(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", value if isinstance(value, str) else json.dumps(value)))
    return rows


def _environment(result: Result) -> tuple[Part, ...]:
    about = {
        "model": result.model,
        "data": result.data,
        "recipe": result.recipe,
        "calibration images": f"{result.calibration:,}",
        "seed": f"{result.seed}",
        "test images": f"{result.images:,}",
        **{name: text for name, text in result.about.items() if text},
    }
    for one in result.exports:
        about[one.name] = one.file if one.opset is None else f"{one.file}, opset {one.opset}"
    if result.fold_error is not None:
        about["difference after folding batch-norms"] = (
            f"{result.fold_error:.2g} of the largest output"
        )
    versions = dict(result.versions)
    machine = versions.pop("machine", "")
    about |= {f"version of {name}": text for name, text in versions.items()}
    about |= {"machine": machine} if machine else {}
    about |= {f"seconds, {name}": f"{value:.1f}" for name, value in result.seconds.items()}
    parts: list[Part] = [Table("", ("what", "value"), tuple(about.items()))]
    if result.skipped:
        rows = tuple((one.name, one.reason) for one in result.skipped)
        parts.append(Table("Left float", ("name", "reason"), rows))
    return tuple(parts)
