"""Accuracy of widths shared out among layers, beside the same width everywhere, at the same bytes.

    python benchmarks/budget.py --data DIR --out FILE.csv [--roundings corrected,adaround] [--budgets w2,2.5bits,w3]
        [--seeds 0,1,2] [--calibration 500] [--table-only]

DIR holds cifar-10-batches-py/ and weights/. CIFAR-10's resnet20, all layers, weights only. A budget w2 means: uniform
2 bits, and then an allocation under just the bytes that those took. One row of FILE.csv a run, written when the run
ends; a run whose row is there is skipped. Prints a Markdown table: top-1 on the 10,000 test images, mean ± standard
deviation over seeds.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from _store import Progress, Store, limited
from rounding import MODEL, WEIGHTS, spread, table_line
from torch import Tensor, nn

from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.evaluate import Evaluation, agreement, evaluate
from subbyte.models import load_model
from subbyte.pipeline import quantize
from subbyte.recipe import load_recipe

KEY = ("model", "data", "rounding", "recipe", "budget", "seed", "calibration")
COLUMNS = (*KEY, "bytes", "bits_per_weight", "top1", "agreement", "widths", "cpu_seconds", "float_top1")
UNIFORM = ("w2", "w3")


@dataclass(frozen=True)
class Run:
    """budget: empty for the same width everywhere; w2 or w3 for its bytes; or as recipes have it."""

    rounding: str
    recipe: str
    budget: str
    seed: int
    calibration: int
    data: str

    @property
    def key(self) -> dict[str, object]:
        return {"model": MODEL} | {name: getattr(self, name) for name in KEY[1:]}

    @property
    def name(self) -> str:
        return f"{self.recipe} everywhere" if not self.budget else f"shared out, {self.budget}"


def runs_of(args: argparse.Namespace, data: str) -> list[Run]:
    """Budgets one after the other, each with its uniform width first."""
    runs = []
    for budget in args.budgets.split(","):
        for seed in map(int, args.seeds.split(",")):
            for rounding in args.roundings.split(","):
                if budget in UNIFORM:
                    runs.append(Run(rounding, budget, "", seed, args.calibration, data))
                runs.append(Run(rounding, "w2", budget, seed, args.calibration, data))
    return runs


def measure(run: Run, store: Store, model: nn.Module, data: DataSet, images: Tensor, before: Evaluation) -> None:
    settings = [f"weights.rounding={run.rounding}"]
    if run.budget:
        uniform = store.find(run.key | {"recipe": run.budget, "budget": ""})
        settings.append(f"budget={run.budget if uniform is None else uniform['bytes'] + 'B'}")
    start = time.process_time()
    quantized = quantize(model, images, load_recipe(run.recipe, settings))
    seconds = time.process_time() - start
    after = evaluate(quantized, data.test)
    layers = [row for row in quantized.ledger if row.kind == "layer"]
    store.add(
        run.key
        | {
            "bytes": sum(row.bytes for row in layers),
            "bits_per_weight": round(quantized.bits_per_weight, 4),
            "top1": round(after.top1, 4),
            "agreement": round(agreement(before.logits, after.logits), 4),
            "widths": " ".join(row.bits for row in layers),
            "cpu_seconds": round(seconds, 2),
            "float_top1": round(before.top1, 4),
        }
    )


def table(runs: list[Run], store: Store) -> str:
    """Widths by rounding."""
    rows = [(run, row) for run in runs if (row := store.find(run.key)) is not None]
    roundings = list(dict.fromkeys(run.rounding for run, _ in rows))
    lines = [table_line(["widths", "bits a weight", *roundings]), table_line(["---"] * (len(roundings) + 2))]
    for name in dict.fromkeys(run.name for run, _ in rows):
        mine = [(run, row) for run, row in rows if run.name == name]
        cells = [[float(row["top1"]) for run, row in mine if run.rounding == rounding] for rounding in roundings]
        bits = max(float(row["bits_per_weight"]) for _, row in mine)
        lines.append(table_line([name, f"{bits:.3f}", *(spread(cell) if cell else "-" for cell in cells)]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="needed unless --table-only")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--roundings", default="corrected,adaround")
    parser.add_argument("--budgets", default="w2,2.5bits,w3", help="w2, w3, or what recipes take: 2.5bits, 80KB")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument("--images", type=int, help="of the test images, the first so many; for trying")
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if args.data is None and not args.table_only:
        parser.error("--data is needed")
    runs = runs_of(args, "cifar10" if args.images is None else f"cifar10[:{args.images}]")
    store = Store(args.out, COLUMNS, KEY)
    left = [] if args.table_only else [run for run in runs if store.find(run.key) is None]
    if left:
        data = limited(load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet"), args.images)
        model = load_model(MODEL, args.data / "weights" / WEIGHTS)
        before, progress = evaluate(model, data.test), Progress([f"{run.rounding} {run.name}" for run in left])
        for run in left:
            measure(run, store, model, data, draw_calibration(data, run.calibration, run.seed)[0], before)
            row = store.find(run.key)
            assert row is not None
            progress.done(f"{run.rounding}, {run.name}, seed {run.seed}: top-1 {row['top1']} %")
    print("\n" + table(runs, store))


if __name__ == "__main__":
    main()
