"""Accuracy of every preset on the CIFAR-10 ResNets, all layers quantized, over several draws of
calibration images.

    python benchmarks/accuracy.py --data DIR [--models resnet20] [--recipes w4,w3] [--seeds 0,1,2]
    [--out FILE.csv]

DIR holds cifar-10-batches-py/ and weights/. Prints a Markdown table: mean and spread (standard
deviation) of top-1 on the 10,000 test images, agreement with the float network, bits per weight,
CPU seconds of the walk.
"""

import argparse
import csv
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from subbyte.data import DataSet, Split, draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.engine.quantization import quantize
from subbyte.models import load_model
from subbyte.recipe import PRESETS
from subbyte.tasks import agreement

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet44": "resnet44-014dd654.th"}


def measure(
    model: torch.nn.Module, data: DataSet, recipe: str, count: int, seed: int, logits: torch.Tensor
) -> dict:
    images, split = draw_calibration(data, count, seed)
    start = time.process_time()
    quantized = quantize(model, images, recipe)
    seconds = time.process_time() - start
    found = evaluate(quantized, split)
    return {
        "recipe": recipe,
        "seed": seed,
        "top1": found.accuracy.top1,
        "agreement": agreement(logits, found.logits),
        "bits_per_weight": quantized.bits_per_weight,
        "cpu_seconds": seconds,
    }


def table(model: str, float_top1: float, rows: list[dict], count: int) -> str:
    lines = [
        f"{model}, CIFAR-10, all layers, {count} calibration images without labels; float top-1 "
        f"{float_top1:.2f}",
        "",
        "| recipe | seeds | top-1 % (mean ± sd) | agrees with float % | bits / weight | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        mine = [row for row in rows if row["recipe"] == recipe]
        mean = partial(_mean, mine)
        spread = statistics.stdev(row["top1"] for row in mine) if len(mine) > 1 else 0.0
        lines.append(
            f"| {recipe} | {', '.join(str(row['seed']) for row in mine)} | {mean('top1'):.2f} ± "
            f"{spread:.2f} | "
            f"{mean('agreement'):.2f} | {mean('bits_per_weight'):.2f} | {mean('cpu_seconds'):.1f} |"
        )
    return "\n".join(lines)


def _mean(rows: list[dict], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def _float(model: torch.nn.Module, split: Split) -> tuple[float, torch.Tensor]:
    found = evaluate(model, split)
    return found.accuracy.top1, found.logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", default="resnet20")
    parser.add_argument("--recipes", default=",".join(PRESETS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    data = load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet")
    everything = []
    for name in args.models.split(","):
        model = load_model(name, args.data / "weights" / WEIGHTS[name])
        float_top1, logits = _float(model, data.test)
        rows = [
            measure(model, data, recipe, args.calibration, int(seed), logits)
            for recipe in args.recipes.split(",")
            for seed in args.seeds.split(",")
        ]
        print(table(name, float_top1, rows, args.calibration), flush=True)
        everything += [{"model": name, **row} for row in rows]
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(everything[0]))
            writer.writeheader()
            writer.writerows(everything)


if __name__ == "__main__":
    main()
