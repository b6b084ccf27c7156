"""The model card of a result: all that a stranger has to know of its files, as Markdown with the
head that model hubs read.
"""

from pathlib import PurePath

from subbyte.records.result import Result
from subbyte.records.scores import Measured, Score

CARD = "card.md"
HEAD = "---\nlibrary_name: subbyte\ntags: [quantization, pytorch]\n---"
"""The same for all cards: nothing in it comes from users."""


def model_card(result: Result) -> str:
    """The card of a result. It has the last parts of paths alone, so that nothing in it is about
    the machine.
    """
    files = [f"* `{one.file}` ({one.bytes:,} bytes): {one.name}" for one in result.exports]
    lines = [
        HEAD,
        f"# {_tail(result.model)}, {_tail(result.recipe)}",
        "",
        f"Quantized by subbyte {result.versions.get('subbyte', '')}: "
        f"{result.bits_per_weight:.2f} bits a weight, {result.bytes.packed:,} bytes of numbers "
        f"where the float network has {result.bytes.float:,}.",
        "",
        f"Calibrated on {result.calibration:,} samples of {_tail(result.data)} (seed "
        f"{result.seed}), judged on {result.images:,} samples by task {_tail(result.task)}:",
        "",
        *_figures(result),
        "",
        "## Files",
        "",
        f"* `model.safetensors` ({result.bytes.file:,} bytes): packed, for `subbyte.load`",
        *files,
    ]
    if files:
        lines += ["", "Exported files were run in their runtimes: the same as the packed network."]
    for one in result.exports:
        lines += ["", f"## To run {one.file}", "", "```python", one.usage, "```"] * bool(one.usage)
    lines += ["", "## Limits", "", *_limits(result)]
    return "\n".join(lines) + "\n"


def _figures(result: Result) -> list[str]:
    """A row a figure, a column a network; how near the quantized one is to the float one follows,
    of it alone: files are compared with the packed network.
    """
    networks: dict[str, Measured] = {"float": result.float, "quantized": result.quantized}
    networks |= {one.file: one for one in result.exports}
    rows = [f"| | {' | '.join(networks)} |", "|---" * (1 + len(networks)) + "|"]
    for score in result.quantized.scores:
        cells = [_cell(score, one) for one in networks.values()]
        rows.append(f"| {_name(result, score)} | {' | '.join(cells)} |")
    for score in result.quantized.comparison:
        cells = [_number(score) if one is result.quantized else "" for one in networks.values()]
        rows.append(f"| {_name(result, score)} with float | {' | '.join(cells)} |")
    return rows


def _name(result: Result, score: Score) -> str:
    return f"{score.name} {score.unit}".strip() + _head(result, score)


def _cell(score: Score, network: Measured) -> str:
    """The network's score of a kind; nothing where it has none."""
    return next((_number(one) for one in network.scores if one.is_of(score)), "")


def _number(score: Score) -> str:
    return "" if score.value is None else f"{score.value:.5g}"


def _head(result: Result, score: Score) -> str:
    return f" of {result.heads[score.head]}" if len(result.heads) > 1 else ""


def _limits(result: Result) -> list[str]:
    """Sentences: what was not done as asked, and what nobody measured."""
    kept = [f"* `{one.name}` stays float: {one.reason}" for one in result.skipped]
    refused = [f"* No file of {name}: {why}" for name, why in result.not_exported.items()]
    device = [f"* {result.target.told}"] if result.target else []
    return [
        "* Figures hold for data like those that it was judged on.",
        *device,
        *kept,
        *refused,
    ]


def _tail(name: str) -> str:
    return PurePath(name).name
