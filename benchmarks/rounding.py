"""Accuracy of every rounding method on CIFAR-10's resnet20, all layers quantized, weights only.

    python benchmarks/rounding.py --data DIR --out FILE.csv [--methods gptq,gpfq] [--bits
    4,3,2,ternary]
        [--seeds 0,1,2] [--calibration 500] [--table-only]

DIR holds cifar-10-batches-py/ and weights/. One row of FILE.csv a run, written when the run ends; a
run whose row is there is skipped, so that the command can be stopped and started again. Prints a
line a run, and at the end Markdown
tables, method by bits: top-1 on the 10,000 test images (mean ± standard deviation over seeds), CPU
seconds of the walk (capture of the network included), weights that are not 0. cpu_seconds is the
sum over threads.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from _store import Progress, Store, limited
from torch import Tensor, nn

from subbyte.core import QTensor
from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.engine.evaluation import Evaluation, evaluate
from subbyte.engine.quantization import quantize
from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import SubbyteError
from subbyte.methods import FitGrid
from subbyte.models import load_model
from subbyte.recipe import load_recipe
from subbyte.rounding import ROUNDINGS, Corrected
from subbyte.stats import LayerStats
from subbyte.tasks import agreement

MODEL, WEIGHTS = "resnet20", "resnet20-12fca82f.th"
KEY = ("model", "data", "method", "recipe", "bits", "seed", "calibration")
COLUMNS = (
    "model",
    "data",
    "method",
    "recipe",
    "bits",
    "bits_per_weight",
    "seed",
    "calibration",
    "top1",
    "top5",
    "agreement",
    "zeros_percent",
    "nonzero_weights",
    "cpu_seconds",
    "float_top1",
)


@dataclass(frozen=True)
class Configuration:
    """A recipe: overrides of a preset. In both PRESET stands for w4, w3, w2 or ternary, BITS for
    the number of bits
    (1 for ternary: three levels with `levels: wide`).
    """

    overrides: tuple[str, ...]
    preset: str = "PRESET"

    def recipe(self, bits: str) -> tuple[str, list[str]]:
        preset = self.preset.replace("PRESET", bits if bits == "ternary" else f"w{bits}")
        return preset, [
            text.replace("BITS", "1" if bits == "ternary" else bits) for text in self.overrides
        ]


@dataclass(frozen=True)
class Unshrunk(Corrected):
    """`corrected` that believes all that its samples say of pairs of inputs."""

    def round(self, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
        """See `methods.Rounding`."""
        return super().round(weight, fit, replace(stats, independent=10**15))


EXTRAS = {
    "ldnq + cascade": Configuration(
        ("weights.rounding={name: ldnq, corrected: false}", "tune={name: cascade, retrain: logits}")
    ),
    "magr + gptq": Configuration(("weights.rounding=gptq", "weights.precondition=magr")),
    "gpfq 2023": Configuration(("weights.bits=BITS",), preset="gpfq"),
    "unshrunk": Configuration(("weights.rounding=benchmarks/rounding.py:Unshrunk",)),
}
"""Compared beside the plain methods; edit freely: a row belongs to its overrides too, so an edited
one runs again.
"""
CONFIGURATIONS = {name: Configuration((f"weights.rounding={name}",)) for name in ROUNDINGS} | EXTRAS


@dataclass(frozen=True)
class Run:
    method: str
    bits: str
    seed: int
    calibration: int
    data: str

    @property
    def source(self) -> tuple[str, list[str]]:
        return CONFIGURATIONS[self.method].recipe(self.bits)

    @property
    def key(self) -> dict[str, object]:
        preset, overrides = self.source
        return {
            "model": MODEL,
            "data": self.data,
            "method": self.method,
            "recipe": " ".join([preset, *overrides]),
            "bits": self.bits,
            "seed": self.seed,
            "calibration": self.calibration,
        }


def measure(
    run: Run, model: nn.Module, data: DataSet, images: Tensor, before: Evaluation
) -> dict[str, object]:
    recipe = load_recipe(*run.source)
    start = time.process_time()
    quantized = quantize(model, images, recipe)
    seconds = time.process_time() - start
    after = evaluate(quantized, data.test)
    return run.key | {
        "bits_per_weight": round(quantized.bits_per_weight, 4),
        "top1": round(after.top1, 4),
        "top5": round(after.top5, 4),
        "agreement": round(agreement(before.logits, after.logits), 4),
        "zeros_percent": round(quantized.zeros, 4),
        "nonzero_weights": nonzero(quantized),
        "cpu_seconds": round(seconds, 2),
        "float_top1": round(before.top1, 4),
    }


def nonzero(quantized: QuantizedModel) -> int:
    return sum(int((weight.dequantize() != 0).sum()) for weight in quantized.weights.values())


def measure_all(runs: list[Run], store: Store, data: DataSet, weights: Path) -> list[str]:
    """Do the runs that have no row; returns what can't be done, and why."""
    model = load_model(MODEL, weights)
    before = evaluate(model, data.test)
    # or the first run would pay for loading code
    quantize(model, draw_calibration(data, 8, 0)[0], "gpfq")
    progress = Progress([f"{run.method} {run.bits}" for run in runs])
    impossible = {}
    drawn: dict[int, Tensor] = {}
    for run in runs:
        name = f"{run.method}, {label(run.bits)}, seed {run.seed}"
        if run.seed not in drawn:
            drawn = {run.seed: draw_calibration(data, run.calibration, run.seed)[0]}
        try:
            row = measure(run, model, data, drawn[run.seed], before)
        except SubbyteError as error:
            impossible[f"{run.method}, {label(run.bits)}"] = str(error)
            progress.done(f"{name}: can't be done")
            continue
        store.add(row)
        progress.done(
            f"{name}: top-1 {row['top1']:.2f} of {before.top1:.2f} %, {row['cpu_seconds']:.1f} CPU "
            f"s"
        )
    return [f"{what}: {why}" for what, why in impossible.items()]


def tables(runs: list[Run], store: Store) -> str:
    """Method by bits, from the rows of these runs."""
    rows = [row for row in map(store.find, [run.key for run in runs]) if row is not None]
    if not rows:
        return f"{store.path}: no rows of these runs"
    one = rows[0]
    title = (
        f"{MODEL}, {one['data']}, all layers, {one['calibration']} calibration images without "
        f"labels, seeds "
    )
    title += (
        f"{', '.join(dict.fromkeys(row['seed'] for row in rows))}; float top-1 "
        f"{float(one['float_top1']):.2f} %"
    )
    parts = {
        "top-1 %, mean ± sd over seeds": lambda mine: spread([float(row["top1"]) for row in mine]),
        "CPU seconds of the walk, mean": lambda mine: f"{_mean(mine, 'cpu_seconds'):.1f}",
        "weights that are not 0, mean": lambda mine: f"{_mean(mine, 'nonzero_weights'):,.0f}",
    }
    return "\n\n".join(
        [title, *(f"{name}:\n\n{_table(rows, cell)}" for name, cell in parts.items())]
    )


def label(bits: str) -> str:
    return bits if bits == "ternary" else f"W{bits}"


def _table(rows: list[dict[str, str]], cell: Callable[[list[dict[str, str]]], str]) -> str:
    bits = list(dict.fromkeys(row["bits"] for row in rows))
    heads = ["method", *map(label, bits)]
    lines = [table_line(heads), table_line(["---"] * len(heads))]
    for method in dict.fromkeys(row["method"] for row in rows):
        groups = [
            [row for row in rows if (row["method"], row["bits"]) == (method, b)] for b in bits
        ]
        lines.append(table_line([method, *(cell(mine) if mine else "-" for mine in groups)]))
    return "\n".join(lines)


def table_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(rows: list[dict[str, str]], column: str) -> float:
    return statistics.mean(float(row[column]) for row in rows)


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="needed unless --table-only")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(CONFIGURATIONS), help="default: %(default)s")
    parser.add_argument("--bits", default="4,3,2,ternary")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument(
        "--images", type=int, help="of the test images, the first so many; for trying"
    )
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    methods, bits = args.methods.split(","), args.bits.split(",")
    if unknown := sorted(set(methods) - set(CONFIGURATIONS)) + sorted(
        set(bits) - {*"2345678", "ternary"}
    ):
        parser.error(
            f"unknown: {unknown[0]!r}; methods: {', '.join(CONFIGURATIONS)}; bits: 2 to 8, ternary"
        )
    if args.data is None and not args.table_only:
        parser.error("--data is needed")
    name = "cifar10" if args.images is None else f"cifar10[:{args.images}]"
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs = [Run(m, b, s, args.calibration, name) for s in seeds for b in bits for m in methods]
    store, impossible = Store(args.out, COLUMNS, KEY), []
    left = [] if args.table_only else [run for run in runs if store.find(run.key) is None]
    if left:
        data = load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet")
        impossible = measure_all(
            left, store, limited(data, args.images), args.data / "weights" / WEIGHTS
        )
    print("\n".join(["", tables(runs, store), "", *impossible]))


if __name__ == "__main__":
    main()
