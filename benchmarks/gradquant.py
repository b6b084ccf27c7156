"""What each metric of the clip search chooses, and what that costs: resnet20 on CIFAR-10.

    python benchmarks/gradquant.py --data FOLDER --out FILE.csv [--models resnet20] [--bits 2,3,4]
        [--seeds 0,1,2] [--work runs/gradquant] [--images N]

FOLDER holds cifar-10-batches-py/ and weights/. One clip for the whole network (each layer its own
range) and one for every channel; symmetric grids, all layers, weights only. 32 clips from 0.225 to
1; statistics from 500 training images without labels, true loss on 1,000 others, top-1 on the test
split; `loss` is the network's clip with the least true loss, `minmax` no clip. Seeds draw both sets
of images. A row a run is written as soon as it is known, with the mean of the clips; what is in
FILE.csv or in --work is not run again. Prints a Markdown table: mean and, after +-, the standard
deviation over the seeds. --images: test images to take, for trying out.
"""

import argparse
import statistics
from pathlib import Path

from _store import Progress, Row, Store, limited

from subbyte.analyses.clips import Granularity, Search, run
from subbyte.data import load_data
from subbyte.models import load_model
from subbyte.records.clips import read_table

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet44": "resnet44-014dd654.th"}
METRICS = ("mse:2", "grad:1", "grad:1.5", "fisher", "gauss_newton", "kl")
SHARED: tuple[Granularity, ...] = ("network", "channel")
COLUMNS = (
    "model",
    "bits",
    "seed",
    "granularity",
    "metric",
    "clip",
    "loss",
    "divergence",
    "accuracy",
    "top1",
    "images",
)
KEY = (*COLUMNS[:5], "images")


def rows(model: str, seed: int, images: int, folder: Path) -> list[Row]:
    """The choices in a folder of results."""
    return [
        {
            "model": model,
            "bits": row["bits"],
            "seed": seed,
            "granularity": row["granularity"],
            "metric": row["metric"],
            "clip": f"{float(row['lower']):.4f}",
            "loss": f"{float(row['loss']):.4f}",
            "divergence": f"{float(row['divergence']):.4f}",
            "accuracy": row["accuracy"],
            "top1": row["test"],
            "images": images,
        }
        for row in read_table(folder / "choices.csv")
    ]


def table(found: list[dict[str, str]]) -> str:
    """Markdown: a row a metric, bit width and granularity."""
    lines = [
        "| model | bits | one clip per | metric | clip | true loss | top-1 % |",
        "|---|---|---|---|---|---|---|",
    ]
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in found:
        runs.setdefault((row["model"], row["bits"], row["granularity"], row["metric"]), []).append(
            row
        )
    for name, seeds in sorted(
        runs.items(), key=lambda item: (*item[0][:3], -_mean(item[1], "top1"))
    ):
        cells = [
            f"{_mean(seeds, column):.{digits}f} +- {_spread(seeds, column):.{digits}f}"
            for column, digits in (("clip", 3), ("loss", 3), ("top1", 2))
        ]
        lines.append(f"| {' | '.join((*name, *cells))} |")
    return "\n".join(lines)


def _mean(seeds: list[dict[str, str]], column: str) -> float:
    return statistics.mean(float(row[column]) for row in seeds)


def _spread(seeds: list[dict[str, str]], column: str) -> float:
    return statistics.stdev(float(row[column]) for row in seeds) if len(seeds) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="resnet20")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, default=Path("runs/gradquant"))
    parser.add_argument("--images", type=int)
    args = parser.parse_args()
    data = limited(
        load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet"), args.images
    )
    store = Store(args.out, COLUMNS, KEY)
    jobs = [
        (model, int(seed), int(bits))
        for model in args.models.split(",")
        for seed in args.seeds.split(",")
        for bits in args.bits.split(",")
    ]
    progress = Progress([model for model, _, _ in jobs])
    for model, seed, bits in jobs:
        count = len(data.test)
        about: Row = {"model": model, "bits": bits, "seed": seed, "images": count}
        last = about | {"granularity": SHARED[-1], "metric": METRICS[-1]}
        if store.find(last) is None:
            search = Search(
                bits=(bits,),
                clip=(0.2, 1.0),
                resolution=32,
                metrics=METRICS,
                granularities=SHARED,
                evaluate=1000,
                seed=seed,
            )
            network = load_model(model, args.data / "weights" / WEIGHTS[model])
            folder = args.work / f"{model}-{bits}-{seed}-{count}"
            run(search, network, data, folder, lambda *_: None)
            for row in rows(model, seed, count, folder):
                store.add(row)
        progress.done(f"{model}, {bits} bits, seed {seed}")
    wanted = {(model, str(bits), str(seed)) for model, seed, bits in jobs}
    print(table([row for row in store.rows if (row["model"], row["bits"], row["seed"]) in wanted]))


if __name__ == "__main__":
    main()
