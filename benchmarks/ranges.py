"""ACIQ's pieces one by one, with rounding to nearest: the shape of the paper's tables 1 and 2, all
layers quantized.

    python benchmarks/ranges.py --data DIR --out FILE.csv [--model resnet20] [--bits
    4/4,8/4,4/8,3/3]
        [--pieces naive,all] [--seeds 0,1,2] [--calibration 500] [--images N] [--table-only]

Bits are weights/activations. Models: resnet20 on CIFAR-10 (DIR holds cifar-10-batches-py/ and
weights/) and efficientnet-lite0 on ImageNet images (DIR is a folder for `imagefolder:`; the
packages of examples/efficientnet_lite0.py must be there). One row of FILE.csv a run, written when
the run ends; a run whose row is there is skipped. Prints a Markdown table a network: pieces by
bits, top-1 (mean ± standard deviation over seeds).
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _store import Progress, Store, limited
from torch import Tensor, nn

from subbyte.data import DataSet, Split, draw_calibration, load_data
from subbyte.engine.evaluation import Evaluation, evaluate
from subbyte.engine.quantization import quantize
from subbyte.models import load_model
from subbyte.recipe import load_recipe
from subbyte.tasks import agreement

PLACES = ("weights", "activations", "others", "input")
NAIVE = (
    "weights.rounding=nearest",
    "weights.correction=none",
    *(f"{place}.range=minmax" for place in PLACES),
)
# clipping weights brings nothing (the paper, and here)
CLIP = tuple(f"{place}.range=aciq" for place in PLACES[1:])
BIAS = ("weights.correction={name: weights, norm: false}",)  # as the authors run it
CHANNEL = ("activations.granularity=channel", "others.granularity=channel")
ALLOCATE = (*CHANNEL, "weights.allocate=optimum", "activations.allocate=optimum")
PIECES = {
    "naive": (),
    "naive, a scale a channel": CHANNEL,
    "+ clipping": CLIP,
    "+ bias correction": BIAS,
    "+ bit allocation": ALLOCATE,
    "+ bit allocation, closed form": (
        *CHANNEL,
        "weights.allocate=aciq",
        "activations.allocate=aciq",
    ),
    "all": (*CLIP, *BIAS, *ALLOCATE),
    "all, output means": (*CLIP, *ALLOCATE, "weights.correction=bias"),
    "all, output moments": (*CLIP, *ALLOCATE, "weights.correction=moments"),
    "all, no scales a channel": (*CLIP, "weights.correction=bias"),
}
"""What is changed of the naive recipe; edit freely: a row belongs to its settings too."""
KEY = ("model", "data", "piece", "recipe", "weight_bits", "activation_bits", "seed", "calibration")
COLUMNS = (*KEY, "top1", "agreement", "bits_per_weight", "cpu_seconds", "float_top1")
_LITE = Path(__file__).parents[1] / "examples" / "efficientnet_lite0.py"
_PIXELS = "0.498039,0.498039,0.498039/0.501961,0.501961,0.501961"


@dataclass(frozen=True)
class Run:
    model: str
    data: str
    piece: str
    weight_bits: int
    activation_bits: int
    seed: int
    calibration: int

    @property
    def settings(self) -> list[str]:
        bits = [f"weights.bits={self.weight_bits}", f"activations.bits={self.activation_bits}"]
        return [*bits, *NAIVE, *PIECES[self.piece]]

    @property
    def key(self) -> dict[str, object]:
        return vars(self) | {"recipe": " ".join(self.settings)}


def load(model: str, folder: Path) -> tuple[nn.Module, DataSet]:
    if model == "resnet20":
        data = load_data(f"cifar10:{folder / 'cifar-10-batches-py'}", normalize="imagenet")
        return load_model(model, folder / "weights" / "resnet20-12fca82f.th"), data
    return load_model(f"{_LITE}:efficientnet_lite0", None), load_data(
        f"imagenet:{folder}", normalize=_PIXELS
    )


def measure(
    run: Run, model: nn.Module, drawn: tuple[Tensor, Split], before: Evaluation
) -> dict[str, object]:
    images, split = drawn
    start = time.process_time()
    quantized = quantize(model, images, load_recipe("w4a4", run.settings))
    seconds = time.process_time() - start
    after = evaluate(quantized, split)
    return run.key | {
        "top1": round(after.top1, 4),
        "agreement": round(agreement(before.logits, after.logits), 4),
        "bits_per_weight": round(quantized.bits_per_weight, 4),
        "cpu_seconds": round(seconds, 2),
        "float_top1": round(before.top1, 4),
    }


def table(runs: list[Run], store: Store) -> str:
    """Pieces by bits, from the rows of these runs."""
    rows = [row for row in (store.find(run.key) for run in runs) if row is not None]
    if not rows:
        return f"{store.path}: no rows of these runs"
    one = rows[0]
    seeds = ", ".join(dict.fromkeys(row["seed"] for row in rows))
    bits = list(dict.fromkeys((row["weight_bits"], row["activation_bits"]) for row in rows))
    lines = [
        f"{one['model']}, {one['data']}, all layers, rounding to nearest, {one['calibration']} "
        f"calibration images "
        f"without labels, seeds {seeds}; float top-1 {float(one['float_top1']):.2f} %",
        "",
        f"| | {' | '.join(f'W{w}A{a}' for w, a in bits)} |",
        f"|---|{'---|' * len(bits)}",
    ]
    for piece in dict.fromkeys(row["piece"] for row in rows):
        cells = [
            [
                float(r["top1"])
                for r in rows
                if (r["piece"], r["weight_bits"], r["activation_bits"]) == (piece, *pair)
            ]
            for pair in bits
        ]
        lines.append(f"| {piece} | {' | '.join(map(_spread, cells))} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="needed unless --table-only")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="resnet20", choices=["resnet20", "efficientnet-lite0"])
    parser.add_argument("--bits", default="4/4,8/4,4/8,3/3")
    parser.add_argument(
        "--pieces", default=";".join(PIECES), help="separated by semicolons; default: %(default)s"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument("--images", type=int, help="of the test images, the first so many")
    parser.add_argument("--table-only", action="store_true", help="measure nothing")
    args = parser.parse_args()
    pieces, pairs = args.pieces.split(";"), [pair.split("/") for pair in args.bits.split(",")]
    if unknown := sorted(set(pieces) - set(PIECES)):
        parser.error(f"unknown: {unknown[0]!r}; pieces: {'; '.join(PIECES)}")
    if args.data is None and not args.table_only:
        parser.error("--data is needed")
    name = {"resnet20": "cifar10"}.get(args.model, "imagenet") + (
        "" if args.images is None else f"[:{args.images}]"
    )
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs = [
        Run(args.model, name, piece, int(w), int(a), seed, args.calibration)
        for seed in seeds
        for w, a in pairs
        for piece in pieces
    ]
    store = Store(args.out, COLUMNS, KEY)
    left = [] if args.table_only else [run for run in runs if store.find(run.key) is None]
    if left:
        model, data = load(args.model, args.data)
        data = limited(data, args.images)
        progress, seed = Progress([run.piece for run in left]), None
        for run in left:
            if run.seed != seed:
                seed, drawn = run.seed, draw_calibration(data, run.calibration, run.seed)
                # without a training split the rest of the test images
                before = evaluate(model, drawn[1])
            row = measure(run, model, drawn, before)
            store.add(row)
            progress.done(
                f"{run.piece}, W{run.weight_bits}A{run.activation_bits}, seed {run.seed}: "
                f"{row['top1']:.2f} %"
            )
    print("\n" + table(runs, store))


if __name__ == "__main__":
    sys.exit(main())
