"""Training compared: optimizers over learning rates, and ways of ending on a low-bit grid.

    python benchmarks/training.py STUDY --model NAME --data SPEC --out FILE.csv [--weights FILE]
        [--epochs 5] [--batch-size 64] [--rates 0.003,0.01,0.03,0.1] [--seeds 0,1,2] [--validation
        5000] [--ways sgd,qsgd] [--augment none] [--precision float32] [--warmup 0] [--table-only]

STUDY `optimizers`: from nothing, cosine learning-rate schedule, no weight decay.
STUDY `grids`: from --weights, layers' weights on grids of 2, 3 and 4 bits (activations float): the
    network rounded to the same grids without training; `on grid` (extra_bits 0, rounding at random:
    the update itself is quantized, at
    a resolution that stays or rises); the nested form; STE; LSQ.
One row of FILE.csv a run, written when the run ends; a run whose row is there is skipped. Prints a
Markdown table: the learning rate is chosen for each way by the mean accuracy on training images
that were kept apart; test accuracy is of that one alone; p: paired t-test over seeds against SGD,
or STE.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _store import Progress, Store
from scipy.stats import ttest_rel

from subbyte.data import DataSet, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.learn.training import TrainSettings, train
from subbyte.learn.training.loop import split_data, subject_of
from subbyte.models import load_model, new_model

MOMENTUM = {"momentum": 0.9}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"name": "sgd", **MOMENTUM},
    "QSGD": {"name": "qsgd", **MOMENTUM},
    "QSGD, error feedback": {"name": "qsgd", **MOMENTUM, "error_feedback": True},
    "QSGD, stochastic rounding": {"name": "qsgd", **MOMENTUM, "rounding": "stochastic"},
    "SGD + Gaussian noise": {"name": "qsgd", **MOMENTUM, "rounding": "gaussian"},
    "QSGD as published 2021": {"name": "qsgd-2021", "resolution": 2},
    "AdamW": {"name": "adamw", "weight_decay": 0.0},
    "QtAdamW": {"name": "qtadamw", "weight_decay": 0.0},
    "AdamW + Gaussian noise": {"name": "qtadamw", "weight_decay": 0.0, "rounding": "gaussian"},
    "QtAdamW as published 2021": {"name": "qtadamw-2021", "resolution": 2},
    "SGD, STE at 4 bits": {"name": "sgd", **MOMENTUM},
}
STE_AT_4 = {"name": "ste", "bits": 4}
RISING = {"name": "on-stall", "share": 0.05}
GRIDS: dict[str, dict[str, Any]] = {
    "rounded, not trained": {"name": "ste"},
    "on grid": {"name": "grid", "extra_bits": 0, "schedule": "fixed"},
    "on grid, resolution rises": {
        "name": "grid",
        "extra_bits": 0,
        "resolution": 1,
        "schedule": RISING,
    },
    "nested, 4 bits more": {"name": "grid", "extra_bits": 4, "schedule": "fixed"},
    "nested, resolution rises": {
        "name": "grid",
        "extra_bits": 4,
        "resolution": 2,
        "schedule": RISING,
    },
    "STE": {"name": "ste"},
    "LSQ": {"name": "lsq"},
}
"""Weight quantizers by way, for SGD with momentum; one is only attached."""
BASES = ("SGD", "STE")
"""Ways that others are tested against."""
KEY = ("study", "model", "data", "way", "bits", "lr", "seed", "epochs", "batch_size", "recipe")
COLUMNS = (*KEY, "validation_top1", "test_top1", "resolution_bits", "moved_percent", "cpu_seconds")


@dataclass(frozen=True)
class Run:
    way: str
    bits: int | None
    lr: float
    seed: int

    def methods(self, study: str) -> dict[str, Any]:
        """The optimizer and the weight quantizer; a seed goes where random numbers are drawn."""
        if study == "grids":
            qat = GRIDS[self.way] | {"bits": self.bits}
            return {"optimizer": {"name": "sgd", **MOMENTUM}, "qat": self._seeded(qat, "grid")}
        optimizer = self._seeded(OPTIMIZERS[self.way], "qsgd", "qtadamw")
        return {
            "optimizer": optimizer,
            "qat": STE_AT_4 if self.way.endswith("STE at 4 bits") else None,
        }

    def _seeded(self, method: dict[str, Any], *random: str) -> dict[str, Any]:
        return method | ({"seed": self.seed} if method["name"] in random else {})

    def settings(self, args: argparse.Namespace) -> TrainSettings:
        return TrainSettings.of(
            epochs=args.epochs,
            batch_size=args.batch_size,
            lr=self.lr,
            warmup=args.warmup,
            augment=args.augment,
            validation=args.validation,
            evaluate_every=args.epochs,
            seed=self.seed,
            precision=args.precision,
            log_every=50,
            **self.methods(args.study),
        )

    def key(self, args: argparse.Namespace) -> dict[str, object]:
        methods = " ".join(str(method) for method in self.methods(args.study).values() if method)
        recipe = f"{methods} {args.augment} {args.precision} warmup {args.warmup:g}"
        return {
            "study": args.study,
            "model": args.model,
            "data": args.data.split(":")[0],
            "way": self.way,
            "bits": self.bits or "",
            "lr": self.lr,
            "seed": self.seed,
            "epochs": args.epochs,
            "batch_size": args.batch_size,
            "recipe": recipe,
        }


def measure(run: Run, data: DataSet, args: argparse.Namespace) -> dict[str, object]:
    settings, start = run.settings(args), time.process_time()
    torch.manual_seed(run.seed)
    model = new_model(args.model) if args.weights is None else load_model(args.model, args.weights)
    last: dict[str, Any] = {}
    if run.way == "rounded, not trained":
        subject, parts = subject_of(model, data, settings), split_data(data, settings)
        for name, split in parts.measured.items():
            last[f"{name}_top1_percent"] = evaluate(subject.module.eval(), split).top1
    else:
        with tempfile.TemporaryDirectory() as folder:
            last = train(model, data, settings, Path(folder)).epochs[-1]
    return run.key(args) | {
        "validation_top1": round(last["validation_top1_percent"], 4),
        "test_top1": round(last["test_top1_percent"], 4),
        "resolution_bits": last.get("resolution_bits") or "",
        "moved_percent": last.get("moved_percent") or "",
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def chosen(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Of the rows of one way and width: those of the learning rate that is best on validation
    images.
    """
    rates = {row["lr"] for row in rows}
    best = max(
        rates,
        key=lambda lr: statistics.mean(float(r["validation_top1"]) for r in rows if r["lr"] == lr),
    )
    return sorted((row for row in rows if row["lr"] == best), key=lambda row: int(row["seed"]))


def table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "no rows"
    lines = [
        "| way | bits | lr | test top-1 % | validation top-1 % | p | resolution, bits | CPU s |",
        "|---" * 8 + "|",
    ]
    for bits in sorted({row["bits"] for row in rows}):
        mine = [row for row in rows if row["bits"] == bits]
        ways = {
            way: chosen([row for row in mine if row["way"] == way])
            for way in dict.fromkeys(r["way"] for r in mine)
        }
        base = next((some for way, some in ways.items() if way in BASES), [])
        for way, some in ways.items():
            test, validation = (
                [float(row[name]) for row in some] for name in ("test_top1", "validation_top1")
            )
            ends = [float(row["resolution_bits"]) for row in some if row["resolution_bits"]]
            seconds = statistics.mean(float(row["cpu_seconds"]) for row in some)
            lines.append(
                f"| {way} | {bits} | {some[0]['lr']} | {_spread(test)} | {_spread(validation)} | "
                f"{significance(some, base)} | {statistics.mean(ends) if ends else '':.4} | "
                f"{seconds:.0f} |"
            )
    one = rows[0]
    about = (
        f"{one['model']}, {one['data']}, {one['epochs']} epochs, batches of {one['batch_size']}, "
        f"seeds "
        f"{', '.join(sorted({row['seed'] for row in rows}, key=int))}; learning rates tried: "
        f"{', '.join(sorted({row['lr'] for row in rows}, key=float))}"
    )
    return "\n".join([about, "", *lines])


def significance(some: list[dict[str, str]], base: list[dict[str, str]]) -> str:
    """p of the paired t-test over the seeds that both have; empty where it says nothing."""
    against = {row["seed"]: float(row["test_top1"]) for row in base}
    pairs = [
        (float(row["test_top1"]), against[row["seed"]]) for row in some if row["seed"] in against
    ]
    if len(pairs) < 2 or len({a - b for a, b in pairs}) == 1:
        return ""
    return f"{float(ttest_rel(*zip(*pairs, strict=True)).pvalue):.2f}"


def _spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=["optimizers", "grids"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", help="to start from")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rates", default="0.003,0.01,0.03,0.1")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bits", default="2,3,4", help="of the grids")
    parser.add_argument("--validation", type=int, default=5000)
    parser.add_argument("--ways", help="by semicolons; default: all of the study")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--warmup", type=float, default=0.0)
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    known = OPTIMIZERS if args.study == "optimizers" else GRIDS
    ways = args.ways.split(";") if args.ways else list(known)
    if unknown := sorted(set(ways) - set(known)):
        parser.error(f"unknown: {unknown[0]!r}; ways: {'; '.join(known)}")
    if args.study == "grids" and not args.weights:
        parser.error("--weights is needed to put a trained network on grids")
    widths = [None] if args.study == "optimizers" else [int(bits) for bits in args.bits.split(",")]
    rates = [float(rate) for rate in args.rates.split(",")]
    runs = [
        Run(way, bits, lr, int(seed))
        for seed in args.seeds.split(",")
        for bits in widths
        for way in ways
        for lr in (rates[:1] if way == "rounded, not trained" else rates)
    ]
    store = Store(args.out, COLUMNS, KEY)
    left = [] if args.table_only else [run for run in runs if store.find(run.key(args)) is None]
    if left:
        data, progress = load_data(args.data), Progress([run.way for run in left])
        for run in left:
            row = measure(run, data, args)
            store.add(row)
            width = "" if run.bits is None else f", {run.bits} bits"
            progress.done(
                f"{run.way}{width}, lr {run.lr}, seed {run.seed}: {row['validation_top1']:.2f} %"
            )
    print(
        "\n"
        + table([row for row in (store.find(run.key(args)) for run in runs) if row is not None])
    )


if __name__ == "__main__":
    sys.exit(main())
