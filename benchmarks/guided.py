"""When gradients help: guided rounding and the ranges fisher and gradient, on CIFAR-10's resnet20,
weights only.

    python benchmarks/guided.py --data DIR --out FILE.csv [--bits 2,3] [--rounding gptq,corrected]
        [--seeds 0,1,2] [--calibration 500] [--table-only]

First every setting of gradients is tried with the first seed; it is judged by the KL divergence of
logits on 2,000 training images that are not among the calibration images. Then, with every seed,
the settings without gradients and those with the least divergence are measured on the 10,000 test
images. One row of FILE.csv a run, written when the run ends; a run whose row is there is skipped.
Prints Markdown tables at the end.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from _store import Progress, Store
from torch import Tensor, nn

from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.engine.quantization import quantize
from subbyte.models import load_model
from subbyte.recipe import load_recipe

MODEL, WEIGHTS, APART = "resnet20", "resnet20-12fca82f.th", 2000
KEY = ("model", "bits", "rounding", "gradients", "seed", "calibration", "measured")
COLUMNS = (*KEY, "kl", "top1", "cpu_seconds")
RANGES = {
    "none": (),
    "range fisher": ("weights.range=fisher",),
    "range gradient": ("weights.range=gradient",),
}
GUIDED = {
    f"guided {parts}, power {power}": (f"weights.guided={parts}", f"weights.guided_power={power}")
    for parts, power in ((1, 1), (4, 1), (4, 0.5))
}
SETTINGS = RANGES | GUIDED


@dataclass(frozen=True)
class Run:
    """measured: kl or test."""

    bits: str
    rounding: str
    gradients: str
    seed: int
    calibration: int
    measured: str

    @property
    def key(self) -> dict[str, object]:
        return {"model": MODEL, **vars(self)}


def settings_of(rounding: str) -> list[str]:
    """Nearest does not look at the statistics that guided rounding changes."""
    return list(RANGES if rounding == "nearest" else SETTINGS)


def measure(run: Run, model: nn.Module, data: DataSet, drawn: Tensor) -> dict[str, object]:
    images, apart = drawn[: run.calibration], drawn[run.calibration :]
    preset = "ternary" if run.bits == "ternary" else f"w{run.bits}"
    recipe = load_recipe(preset, [f"weights.rounding={run.rounding}", *SETTINGS[run.gradients]])
    start = time.process_time()
    quantized = quantize(model, images, recipe)
    row = run.key | {"kl": "", "top1": "", "cpu_seconds": round(time.process_time() - start, 1)}
    if run.measured == "kl":
        return row | {"kl": round(divergence(model, quantized, apart), 5)}
    return row | {"top1": round(evaluate(quantized, data.test).top1, 2)}


@torch.no_grad()
def divergence(model: nn.Module, quantized: nn.Module, images: Tensor) -> float:
    """Mean KL of the float network's classes from the quantized network's, in nats."""
    pairs = [
        (model(part).log_softmax(1), quantized(part).log_softmax(1)) for part in images.split(250)
    ]
    return sum(float(F.kl_div(q, p, log_target=True, reduction="sum")) for p, q in pairs) / len(
        images
    )


def measure_all(runs: list[Run], store: Store, data: DataSet, model: nn.Module) -> None:
    left = [run for run in runs if store.find(run.key) is None]
    progress = Progress([f"{run.rounding} {run.gradients} {run.measured}" for run in left])
    drawn: dict[int, Tensor] = {}
    for run in left:
        if run.seed not in drawn:
            drawn = {run.seed: draw_calibration(data, run.calibration + APART, run.seed)[0]}
        row = measure(run, model, data, drawn[run.seed])
        store.add(row)
        progress.done(
            f"{run.bits} {run.rounding}, {run.gradients}, seed {run.seed}: "
            f"{row['kl'] or row['top1']}"
        )


def tries(bits: list[str], roundings: list[str], seed: int, calibration: int) -> list[Run]:
    return [
        Run(b, r, g, seed, calibration, "kl")
        for b in bits
        for r in roundings
        for g in settings_of(r)
    ]


def chosen(runs: list[Run], store: Store, bits: str, rounding: str) -> str:
    """The setting of gradients with the least divergence."""
    mine = [
        run
        for run in runs
        if (run.bits, run.rounding) == (bits, rounding) and run.gradients != "none"
    ]
    found = {
        run.gradients: float(row["kl"]) for run in mine if (row := store.find(run.key)) is not None
    }
    return min(found, key=found.__getitem__)


def tables(first: list[Run], last: list[Run], store: Store) -> str:
    cases = list(dict.fromkeys((run.bits, run.rounding) for run in first))
    heads = [f"{bits} {rounding}" for bits, rounding in cases]
    lines = [
        "KL on training images apart, first seed:",
        "",
        _line(["gradients", *heads]),
        _line(["---"] * (1 + len(cases))),
    ]
    for name in SETTINGS:
        rows = [
            store.find(Run(b, r, name, first[0].seed, first[0].calibration, "kl").key)
            for b, r in cases
        ]
        lines.append(
            _line([name, *("-" if row is None else f"{float(row['kl']):.4f}" for row in rows)])
        )
    lines += ["", "Top-1 % on test images, mean ± sd over seeds:", ""]
    lines += [_line(["case", "without", "with", "setting"]), _line(["---"] * 4)]
    for bits, rounding in cases:
        name = chosen(first, store, bits, rounding)
        cells = [
            _top1(
                [
                    run
                    for run in last
                    if (run.bits, run.rounding, run.gradients) == (bits, rounding, g)
                ],
                store,
            )
            for g in ("none", name)
        ]
        lines.append(_line([f"{bits} {rounding}", *cells, name]))
    return "\n".join(lines)


def _top1(runs: list[Run], store: Store) -> str:
    values = [float(row["top1"]) for run in runs if (row := store.find(run.key)) is not None]
    if len(values) < 2:
        return "".join(f"{value:.2f}" for value in values) or "-"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", default="2,3")
    parser.add_argument("--rounding", default="gptq,corrected")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    bits, roundings = args.bits.split(","), args.rounding.split(",")
    seeds = [int(seed) for seed in args.seeds.split(",")]
    store = Store(args.out, COLUMNS, KEY)
    data = load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet")
    model = load_model(MODEL, args.data / "weights" / WEIGHTS).eval()
    first = tries(bits, roundings, seeds[0], args.calibration)
    if not args.table_only:
        measure_all(first, store, data, model)
    last = [
        Run(b, r, g, seed, args.calibration, "test")
        for seed in seeds
        for b in bits
        for r in roundings
        for g in ("none", chosen(first, store, b, r))
    ]
    if not args.table_only:
        measure_all(last, store, data, model)
    print("\n".join(["", tables(first, last, store)]))


if __name__ == "__main__":
    main()
