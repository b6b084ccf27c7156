"""The sections about one quantized network, from a folder that `subbyte quantize` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from subbyte.pages import distributions, predictions
from subbyte.pages.deployment import deployment_sections
from subbyte.pages.effects import effects_section
from subbyte.pages.figures import Cloud, Heat, Points
from subbyte.pages.ledger import Ledger
from subbyte.pages.parts import Part, Raw, Section, Table, Text
from subbyte.pages.scores import SIZES, columns, number, said, sizes
from subbyte.pages.speed import speed_sections
from subbyte.pages.trials import trials_section
from subbyte.pages.tuning import tuning_section
from subbyte.records import (
    BENCH,
    FIGURES,
    Bench,
    Evidence,
    Measured,
    Option,
    Result,
    Score,
    read_bench,
    read_evidence,
    read_plan,
    read_result,
)

SIZE = "bytes, packed"
TOP1 = "top-1 %"
BARS = "Bars reach one standard error up and down where it is known."
_SIZES = (
    "Weight bytes are those of codes, scales, zero points, biases and what stays float, in the "
    "types that a file's format has for them; file bytes those of the whole file, with its graph "
    "or plan."
)
_WITHOUT = (
    f"The folder has no {FIGURES}. Histograms of weights and activations, the confusion matrix and "
    "the images whose prediction changed are missing; quantize again to have them."
)
_CHANNELS = "channels"  # as the recipe names what a budget is shared out to


@dataclass(frozen=True)
class Network:
    """A folder as it was read. name: what tells it from others; bench: what `subbyte bench` left
    there.
    """

    name: str
    result: Result
    evidence: Evidence | None
    plan: str | None
    bench: Bench | None = None

    @classmethod
    def read(cls, name: str, folder: Path) -> "Network":
        """Raises FormatError, naming the file, when one is damaged."""
        measured = read_bench(folder / BENCH) if (folder / BENCH).exists() else None
        found = read_result(folder), read_evidence(folder), read_plan(folder), measured
        return cls(name, *found)

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
        Section("Scores and size", _figures(result)),
        *deployment_sections(result),
        *([] if result.trials is None else [trials_section(result.trials)]),
        *([] if result.tuning is None else [tuning_section(result, result.tuning)]),
        *([effects_section(result)] if result.effects else []),
        *speed_sections(result, network.bench),
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
    if evidence is not None and evidence.predictions is not None:
        found.append(predictions.section(evidence.predictions, result.images))
    found.append(Section("Plan and settings", _plan(network)))
    found.append(Section("Environment", _environment(result)))
    return found


def _figures(result: Result) -> tuple[Part, ...]:
    networks: dict[str, tuple[Measured, str, int, int]] = {
        "float, torch": (result.float, "32.00", result.bytes.float, 0),
        "quantized, torch": (
            result.quantized,
            f"{result.bits_per_weight:.2f}",
            result.bytes.packed,
            result.bytes.file,
        ),
        # files are compared with the torch model, of which the columns do not tell
        **{
            f"quantized, {one.name}": (Measured(scores=one.scores), "", one.holds, one.bytes)
            for one in result.exports
        },
    }
    scores, compared = columns([result])
    shown = {**scores, **compared}
    parts: list[Part] = []
    if len(result.heads) > 1:  # too many for columns
        lines = [
            (name, *(number(find(one)) for one, *_ in networks.values()))
            for name, find in shown.items()
        ]
        parts.append(Table("Figures of all outputs", ("figure", *networks), tuple(lines)))
        shown = {}
    rows = tuple(
        (name, *(number(find(one)) for find in shown.values()), bits, *sizes(held, file))
        for name, (one, bits, held, file) in networks.items()
    )
    parts.append(Table("", ("network", *shown, "bits a weight", *SIZES), rows))
    parts.append(Text(_SIZES))
    told = [
        f"On {one.parity.samples:,} calibration samples {one.file} ({one.name}) was compared with "
        f"the torch model: {one.parity.summary}."
        for one in result.exports
    ]
    if result.zeros_percent is not None:
        told.insert(0, f"{result.zeros_percent:.1f} % of the quantized weights are 0.")
    told += [] if result.target is None else [result.target.told]
    parts += [Text(" ".join(told))] if told else []
    return (*parts, *_against_size(result))


def _against_size(result: Result) -> list[Points]:
    """The first score of every output by size; nothing where there are no targets."""
    networks: list[tuple[str, int, Measured]] = [
        ("float", result.bytes.float, result.float),
        ("packed", result.bytes.packed, result.quantized),
        *((one.name, one.bytes, one) for one in result.exports),
    ]
    about = "Exported files hold the graph as well as the weights."
    return [
        Points(
            against_size(title),
            f"{BARS} {about}",
            "bytes of the file",
            title,
            tuple(_spot(name, count, find(measured)) for name, count, measured in networks),
            log_x=True,
        )
        for title, find in columns([result], first=True)[0].items()
    ]


def against_size(title: str) -> str:
    """The title of a figure of scores by size."""
    return "Accuracy against size" if title == TOP1 else f"{title.removesuffix(' %')} against size"


def _spot(name: str, count: int, score: Score | None) -> Cloud:
    value = None if score is None else score.value
    if score is None or value is None:
        return Cloud(name, (), ())
    note = f"{name}: {said(score)}, {count:,} bytes"
    error = score.error or 0.0
    return Cloud(name, (count,), (value,), (), (note,), (error,), score.within)


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
        "task": result.task,
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
