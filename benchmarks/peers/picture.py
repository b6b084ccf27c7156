"""A picture of the rows of resnet20: top-1 by width, a line a tool, all layers at the bits.

python -m benchmarks.peers.picture [--rows benchmarks/results/peers.csv] [--out docs/img/peers.png]
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt

PARTS = (("W8A8", "W4A8", "W4A4"), ("W4", "W3", "W2", "ternary"))
"""Weights and activations, and weights alone: other questions, so no line goes across."""
WIDTHS = tuple(width for part in PARTS for width in part)
NAMES = {
    "subbyte": "subbyte",
    "brevitas": "Brevitas (Qronos)",
    "aimet_onnx": "AIMET (SeqMSE)",
    "nncf": "NNCF",
    "neural_compressor": "Neural Compressor",
    "torchao": "torchao",
    "onnxruntime": "ONNX Runtime",
    "litert": "LiteRT",
}
_FLOOR = 70.0  # what lies below it is drawn on it, with its number


def scores(rows: Path) -> dict[str, dict[str, float]]:
    """Top-1 by tool and width."""
    found: dict[str, dict[str, float]] = {}
    with rows.open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["ends"]) == ("resnet20", "all") and row["score"]:
                found.setdefault(row["peer"], {})[row["width"]] = float(row["score"])
    return found


def draw(found: dict[str, dict[str, float]], out: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(figsize=(8, 4.2))
    (whole,) = found["float"].values()
    axes.axhline(whole, color="grey", linestyle="--", linewidth=1, label="float")
    marked = dict.fromkeys(WIDTHS, 0)  # numbers at the floor, one above the other
    for peer, name in NAMES.items():
        if known := found.get(peer):
            own = peer == "subbyte"
            style = {"linewidth": 2.6, "zorder": 5} if own else {"linewidth": 1.2}
            color = axes.plot([], [], "o-", label=name, **style)[0].get_color()
            for part in PARTS:
                widths = [width for width in part if width in known]
                places = [WIDTHS.index(width) for width in widths]
                drawn = [max(known[width], _FLOOR) for width in widths]
                size = 6 if own else 4
                axes.plot(places, drawn, "o-", color=color, markersize=size, **style)
            for width in (width for width in known if known[width] < _FLOOR):
                text, place = f"{known[width]:.0f}", (WIDTHS.index(width), _FLOOR)
                marked[width] += 1
                away = (5, 11 * marked[width] - 8)
                axes.annotate(text, place, away, textcoords="offset points", color=color)
    axes.set_xticks(range(len(WIDTHS)), WIDTHS)
    axes.set_ylim(_FLOOR - 0.5, 93)
    axes.set_ylabel("top-1, %")
    axes.set_title("resnet20, CIFAR-10: all layers, 500 images without labels", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    """Read the rows, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/peers.csv"))
    parser.add_argument("--out", type=Path, default=Path("docs/img/peers.png"))
    asked = parser.parse_args()
    draw(scores(asked.rows), asked.out)


if __name__ == "__main__":
    main()
