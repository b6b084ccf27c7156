"""Accuracy of widths shared out among layers or channels, beside the same width everywhere, at the
same bytes.

    python benchmarks/budget.py --data DIR --out FILE.csv [--roundings corrected,adaround]
        [--budgets w2,2.5bits,w3] [--for layers,channels] [--seeds 0,1,2] [--calibration 500]
        [--cache DIR] [--table-only]

DIR holds cifar-10-batches-py/ and weights/. CIFAR-10's resnet20, all layers, weights only. A budget
w2 means: uniform 2 bits, and then an allocation under just the bytes that those took. One row of
FILE.csv a run, written when the run ends; a run whose row is there is skipped; with --cache budgets
share what is measured of each width. Prints a Markdown
table: top-1 on the 10,000 test images, mean ± standard deviation over seeds, and the gain over the
same width everywhere, seed by seed, with its standard error.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from _store import Progress, Store, limited
from rounding import MODEL, WEIGHTS, spread, table_line
from torch import nn

from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.engine.evaluation import Evaluation, evaluate
from subbyte.engine.limits import Limits
from subbyte.engine.quantization import quantize
from subbyte.io.cache import Cache
from subbyte.models import load_model
from subbyte.recipe import load_recipe
from subbyte.tasks import agreement

KEY = ("model", "data", "rounding", "recipe", "budget", "budget_for", "seed", "calibration")
COLUMNS = (
    *KEY,
    "bytes",
    "bits_per_weight",
    "top1",
    "agreement",
    "widths",
    "cpu_seconds",
    "float_top1",
)
UNIFORM = ("w2", "w3")


@dataclass(frozen=True)
class Run:
    """budget: empty for the same width everywhere, as budget_for is; w2 or w3 for its bytes; or as
    recipes have it.
    """

    rounding: str
    recipe: str
    budget: str
    budget_for: str
    seed: int
    calibration: int
    data: str

    @property
    def key(self) -> dict[str, object]:
        return {"model": MODEL} | {name: getattr(self, name) for name in KEY[1:]}

    @property
    def name(self) -> str:
        return (
            f"{self.recipe} everywhere"
            if not self.budget
            else f"for {self.budget_for}, {self.budget}"
        )


def runs_of(args: argparse.Namespace, data: str) -> list[Run]:
    """Budgets one after the other, each with its uniform width first."""
    runs = []
    for budget in args.budgets.split(","):
        for seed in map(int, args.seeds.split(",")):
            for rounding in args.roundings.split(","):
                if budget in UNIFORM:
                    runs.append(Run(rounding, budget, "", "", seed, args.calibration, data))
                for whose in args.whose.split(","):
                    runs.append(Run(rounding, "w2", budget, whose, seed, args.calibration, data))
    return runs


def measure(
    run: Run, store: Store, model: nn.Module, data: DataSet, before: Evaluation, cache: Path | None
) -> None:
    images = draw_calibration(data, run.calibration, run.seed)[0]
    settings = [f"weights.rounding={run.rounding}"]
    if run.budget:
        uniform = store.find(run.key | {"recipe": run.budget, "budget": "", "budget_for": ""})
        settings.append(f"budget_for={run.budget_for}")
        settings.append(f"budget={run.budget if uniform is None else uniform['bytes'] + 'B'}")
    start = time.process_time()
    limits = Limits(cache=Cache(cache, f"{MODEL} {data.fingerprint} {run.calibration} {run.seed}"))
    quantized = quantize(model, images, load_recipe(run.recipe, settings), limits=limits)
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
    """Widths by rounding: accuracy, and gain over the row of the same bytes everywhere."""
    rows = [(run, row) for run in runs if (row := store.find(run.key)) is not None]
    roundings = list(dict.fromkeys(run.rounding for run, _ in rows))
    head = ["widths", "bits a weight", *(text for name in roundings for text in (name, "gain"))]
    lines = [table_line(head), table_line(["---"] * len(head))]
    top1 = {(run.name, run.rounding, run.seed): float(row["top1"]) for run, row in rows}
    for name, budget in dict.fromkeys((run.name, run.budget) for run, _ in rows):
        bits = max(float(row["bits_per_weight"]) for run, row in rows if run.name == name)
        cells = [name, f"{bits:.3f}"]
        for rounding in roundings:
            mine = {
                seed: value
                for (other, how, seed), value in top1.items()
                if (other, how) == (name, rounding)
            }
            base = {seed: top1.get((f"{budget} everywhere", rounding, seed)) for seed in mine}
            gains = [
                value - before for seed, value in mine.items() if (before := base[seed]) is not None
            ]
            cells += [spread(list(mine.values())) if mine else "-", gain_of(gains)]
        lines.append(table_line(cells))
    return "\n".join(lines)


def gain_of(gains: list[float]) -> str:
    """Mean with its standard error."""
    if len(gains) < 2:
        return "" if not gains else f"{gains[0]:+.2f}"
    return f"{mean(gains):+.2f} ± {stdev(gains) / len(gains) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="needed unless --table-only")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--roundings", default="corrected,adaround")
    parser.add_argument(
        "--budgets", default="w2,2.5bits,w3", help="w2, w3, or what recipes take: 2.5bits, 80KB"
    )
    parser.add_argument("--for", dest="whose", default="layers,channels")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--cache", type=Path, help="folder for what budgets share")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument(
        "--images", type=int, help="of the test images, the first so many; for trying"
    )
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if args.data is None and not args.table_only:
        parser.error("--data is needed")
    runs = runs_of(args, "cifar10" if args.images is None else f"cifar10[:{args.images}]")
    store = Store(args.out, COLUMNS, KEY)
    left = [] if args.table_only else [run for run in runs if store.find(run.key) is None]
    if left:
        data = limited(
            load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet"),
            args.images,
        )
        model = load_model(MODEL, args.data / "weights" / WEIGHTS)
        before, progress = (
            evaluate(model, data.test),
            Progress([f"{run.rounding} {run.name}" for run in left]),
        )
        for run in left:
            measure(run, store, model, data, before, args.cache)
            row = store.find(run.key)
            assert row is not None
            progress.done(f"{run.rounding}, {run.name}, seed {run.seed}: top-1 {row['top1']} %")
    print("\n" + table(runs, store))


if __name__ == "__main__":
    main()
