"""The page of the comparison, made of the rows alone."""

import itertools
from collections.abc import Iterator

from benchmarks.peers.cells import (
    ENDS,
    FLOAT,
    PREFIX,
    SAME,
    SUBJECTS,
    Subject,
    cells_of,
    note_of,
    peers,
)
from benchmarks.peers.contract import WIDTHS

OURS = "subbyte"
Rows = list[dict[str, str]]
_NAMES = {
    FLOAT: "float",
    OURS: "subbyte",
    "aimet_onnx": "AIMET (onnx)",
    "auto_round": "auto-round",
    "brevitas": "Brevitas",
    "litert": "LiteRT",
    "neural_compressor": "Neural Compressor",
    "nncf": "NNCF",
    "onnxruntime": "ONNX Runtime",
    "torchao": "torchao",
}
_ENDS_NAMES = {SAME: "all layers at the bits", "8bit": "first and last layer at 8 bits"}
_DIGITS = {"top-1 %": 2, "mean cosine": 4, "SNR dB": 1}
_NOT_RUN = "not run yet"
_ERROR = 0.28
"""One standard error, in points, of an accuracy of 91 % on 10,000 images."""
_WHY = {
    "brevitas": "Qronos takes more CPU time than our walk, and corrects with both networks' inputs",
}
"""Why a tool's score is better than ours where it is, as far as we know."""
_COLUMNS = {
    "file_bytes": "Smaller files: ours holds 4-bit codes as int8 where activations are quantized, "
    "for integer kernels; `--export onnx-compact` writes 4 bits, computed in float",
    "quantize_cpu": "Fewer CPU seconds: rounding to nearest needs no second moments of inputs",
    "memory_mb": "Less memory: statistics of layers, and the graph of torch.export, are held in it",
}
"""Columns where less is better, and why other tools may need less."""
_HEAD = """# Side by side

Other tools and subbyte on the same work: one script a tool in `benchmarks/peers/tools/`, each in a
virtual environment of its own, on the same network, the same calibration images without labels and
the same test images. Every figure on this page is made by these scripts; the page is written from
[their rows](../benchmarks/results/peers.csv), and again by

```sh
make peers                                             # all: hours; goes on where it was stopped
make peers ONLY=brevitas WIDTH=W4 MODELS=resnet20      # one tool, one width
```

A cell is a process on one thread with at most 15 minutes of CPU time. **One run a cell, one seed of
calibration images (0)**: one standard error of a top-1 near 91 % on 10,000 images is 0.28 points,
and differences below it are ties. `Wn` alone quantizes weights only. Bold is the best of a column.
A number in brackets is the [reason](#reasons) why a cell is empty.
"""
_COSTS = """What it takes, all layers at the bits. *CPU s*: of quantizing, without imports and the
file. *MB*: what the process holds more at its peak than before, meanwhile. *x float*: how many
times as fast as the float file ONNX Runtime runs the file, one image, one thread, in turns, with
the 95 % interval. *In the file*: the score of the file, run by ONNX Runtime.

| | tool | score | CPU s | MB | file | bytes | in the file | x float |
|---|---|---|---|---|---|---|---|---|"""
_TOOLS = """## The tools

Settings are those that each tool's own documentation recommends for the width, as far as the time
goes. *Lines*: what a user writes, imports and all widths, without and with the first and the last
layer at 8 bits.

| tool | version | lines | settings |
|---|---|---|---|"""
_SMALL = """## Ten awkward networks

Small networks of `benchmarks/peers/awkward.py` with random weights, W8A8, 64 samples to calibrate
on. A number is the signal-to-noise ratio, in dB, of the outputs on 64 other samples against the
float network's; *silently float*: success was reported, and nothing was quantized. The reason of an
empty cell is the error's first line.
"""
_SMALL_WHY = """Where we are behind: Brevitas, Neural Compressor and torchao quantize what goes into
layers, and leave outputs float; we quantize every tensor that a kernel computes, as do AIMET, NNCF
and ONNX Runtime. The last layer of the network with an operation in place has 512 inputs, and is
corrected on 64 samples of noise: the correction fits these samples and not the others. Rounding to
nearest (`weights.rounding=nearest`, `weights.correction=none`) is better there, and so are more
samples than a layer has inputs.
"""


class Reasons:
    """Numbers of reasons, in the order they come up."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, peer: str, reason: str) -> str:
        """Such as [3]."""
        key = (peer, reason)
        return f"[{self._numbers.setdefault(key, len(self._numbers) + 1)}]"

    def lines(self) -> Iterator[str]:
        """The list."""
        for (peer, reason), number in self._numbers.items():
            yield f"* [{number}] {_NAMES[peer]}: {_plain(reason)}"


def page(rows: Rows) -> str:
    """The page as Markdown."""
    reasons = Reasons()
    parts = [_HEAD, *_tools(rows)]
    for subject in SUBJECTS:
        if not subject.name.startswith(PREFIX):
            parts += _subject(subject, rows, reasons)
    parts += _awkward(rows, reasons)
    parts += ["## Reasons", "", *reasons.lines()]
    return "\n".join(parts) + "\n"


def _tools(rows: Rows) -> Iterator[str]:
    yield _TOOLS
    for peer in peers():
        own = [row for row in rows if row["peer"] == peer]
        lines = "/".join(sorted({row["user_lines"] for row in own}, key=int))
        version = own[0]["version"] if own else _NOT_RUN
        yield f"| {_NAMES[peer]} | {version} | {lines} | {note_of(peer)} |"
    dates = sorted({row["date"] for row in rows})
    machines = ", ".join(sorted({row["machine"] for row in rows}))
    yield ""
    if rows:
        yield f"Measured from {dates[0]} to {dates[-1]}, one thread of: {machines}."
        yield ""


def _subject(subject: Subject, rows: Rows, reasons: Reasons) -> Iterator[str]:
    own = [row for row in rows if row["model"] == subject.name]
    yield f"## {subject.name}"
    yield ""
    if not own:
        yield f"{_NOT_RUN.capitalize()}."
        yield ""
        return
    whole = next((row["score"] for row in own if row["peer"] == FLOAT), "")
    metric = next((row["metric"] for row in own if row["metric"]), "")
    drawn = f"{subject.images} samples to calibrate on, seed 0"
    yield f"{metric}, {drawn}; float: {_number(whole, metric)}."
    yield ""
    for ends in ENDS:
        yield from _scores(subject, ends, own, reasons)
    yield from _losses(own)
    yield from _costs(own)


def _scores(subject: Subject, ends: str, rows: Rows, reasons: Reasons) -> Iterator[str]:
    names = [peer for peer in peers() if peer != FLOAT]
    cells = cells_of(OURS, [subject.name], "", ends, 0)
    if not cells:
        return
    widths = [str(cell["width"]) for cell in cells]
    own = {(row["peer"], row["width"]): row for row in rows if row["ends"] == ends}
    best = {
        width: max(
            (row["score"] for row in own.values() if row["score"] and row["width"] == width),
            key=float,
            default="",
        )
        for width in widths
    }
    yield f"**{_ENDS_NAMES[ends].capitalize()}**"
    yield ""
    yield f"| | {' | '.join(widths)} |"
    yield f"|---{'|---' * len(widths)}|"
    for peer in names:
        shown = [_cell(own.get((peer, width)), reasons, best[width]) for width in widths]
        yield f"| {_NAMES[peer]} | {' | '.join(shown)} |"
    yield ""


def _cell(row: dict[str, str] | None, reasons: Reasons, best: str) -> str:
    if row is None:
        return _NOT_RUN
    if row["reason"]:
        return reasons.number(row["peer"], row["reason"])
    number = _number(row["score"], row["metric"])
    return f"**{number}**" if row["score"] == best else number


def _losses(rows: Rows) -> Iterator[str]:
    """Where another tool is ahead of us."""
    ours = {
        (row["width"], row["ends"]): row for row in rows if row["peer"] == OURS and row["score"]
    }
    ahead = []
    for (width, ends), row in ours.items():
        others = [
            other
            for other in rows
            if (other["width"], other["ends"]) == (width, ends) and other["score"]
        ]
        best = max(others, key=lambda other: float(other["score"]))
        if best["peer"] != OURS and float(best["score"]) > float(row["score"]):
            ahead.append((row, best))
    if not ahead:
        yield "No tool is ahead of ours in a cell."
        yield ""
        return
    yield "Cells that we lose:"
    yield ""
    for row, best in ahead:
        gap = float(best["score"]) - float(row["score"])
        tie = " (a tie)" if row["metric"] == "top-1 %" and gap < _ERROR else ""
        why = f"; {_WHY[best['peer']]}" if best["peer"] in _WHY and not tie else ""
        yield (
            f"* {row['width']}, {_ENDS_NAMES[row['ends']]}: {_NAMES[best['peer']]} is "
            f"{_number(str(gap), row['metric'])} ahead{tie}{why}."
        )
    yield ""


def _cheaper(rows: Rows) -> Iterator[str]:
    """Where another tool takes less than we do, the least of each width."""
    whole = [row for row in rows if row["ends"] == SAME and row["score"]]
    for column, why in _COLUMNS.items():
        found = []
        for own in (row for row in whole if row["peer"] == OURS and row[column]):
            others = [row for row in whole if row["width"] == own["width"] and row[column]]
            least = min(others, key=lambda row: float(row[column]))
            if float(least[column]) < float(own[column]):
                numbers = f"{float(least[column]):,.15g}, ours {float(own[column]):,.15g}"
                found.append(f"{own['width']} {_NAMES[least['peer']]} ({numbers})")
        if found:
            yield f"* {why}. {'; '.join(found)}."
    yield ""


def _costs(rows: Rows) -> Iterator[str]:
    yield _COSTS
    keys = itertools.product((FLOAT, *WIDTHS), peers())
    places = {key: place for place, key in enumerate(keys)}
    shown = [row for row in rows if row["ends"] == SAME and row["score"]]
    shown.sort(key=lambda row: places[row["width"], row["peer"]])
    for row in shown:
        speed = (
            f"{row['speed']} ({row['speed_low']} to {row['speed_high']})" if row["speed"] else ""
        )
        size = f"{int(row['file_bytes']):,}" if row["file_bytes"] else _plain(row["file_reason"])
        inside = _number(row["score_file"], row["metric"])
        score = _number(row["score"], row["metric"])
        costs = f"{row['quantize_cpu']} | {row['memory_mb']} | {row['files']} | {size}"
        yield (
            f"| {row['width']} | {_NAMES[row['peer']]} | {score} | {costs} | {inside} | {speed} |"
        )
    yield ""
    yield "What others need less of than we do:"
    yield ""
    yield from _cheaper(rows)


def _awkward(rows: Rows, reasons: Reasons) -> Iterator[str]:
    names = [peer for peer in peers() if peer != FLOAT]
    yield _SMALL
    yield f"| | {' | '.join(_NAMES[peer] for peer in names)} |"
    yield f"|---{'|---' * len(names)}|"
    for subject in SUBJECTS:
        if subject.name.startswith(PREFIX):
            own = {row["peer"]: row for row in rows if row["model"] == subject.name}
            shown = [_tried(own.get(peer), reasons) for peer in names]
            yield f"| {subject.name.removeprefix(PREFIX)} | {' | '.join(shown)} |"
    yield ""
    yield _SMALL_WHY


def _tried(row: dict[str, str] | None, reasons: Reasons) -> str:
    if row is not None and row["remark"]:
        return row["remark"]
    text = _cell(row, reasons, "")
    if row is not None and row["file_reason"]:
        text += f", no file {reasons.number(row['peer'], row['file_reason'])}"
    return text


def _number(text: str, metric: str) -> str:
    return f"{float(text):.{_DIGITS[metric]}f}" if text else ""


def _plain(text: str) -> str:
    """Text that is nothing but text in a table of Markdown; code in it stays code."""
    parts = text.split("`")
    for letter in "|<>*_[]":
        parts[::2] = [part.replace(letter, f"\\{letter}") for part in parts[::2]]
    return "`".join(parts)
