"""The hyper-parameter analysis of GPFQ's authors, in one command each: accuracy against bits, or against the scalar C.

    python benchmarks/gpfq_analysis.py bits --data DIR --model resnet20 --out FILE.csv       # 1 to 8 bits, C = 1.16
    python benchmarks/gpfq_analysis.py scalars --data DIR --model lenet --out FILE.csv       # C = 1.00, 1.05 ... 2.00
        [--bits 4] [--scalar 1.16] [--linear-scalar C] [--conv-scalar C] [--percentile 1] [--stochastic]
        [--regularizer none|L1|L0] [--penalty 0.005] [--calibration 256] [--seed 0] [--images N]

The network is quantized with preset `gpfq` (one step a layer, 2^bits + 1 levels, all layers, biases and activations
float). --linear-scalar and --conv-scalar hold the scalar of these layers fixed. resnet20 takes DIR/cifar-10-batches-py
and DIR/weights, lenet DIR/mnist or DIR/MNIST; without --weights LeNet is trained for --epochs first and kept beside
FILE.csv for the next command. One row a run, written when it ends; runs whose row is there are skipped.

lambda: the penalty, in units of the weights; sparsity: weights that are 0; batch_size: images per step of the walk;
seconds: CPU seconds of the walk, the network's capture included.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from _store import Progress, Store, limited
from safetensors.torch import save_file
from torch import Tensor, nn

from subbyte.data import DataSet, Split, draw_calibration, load_data
from subbyte.errors import SubbyteError
from subbyte.evaluate import Evaluation, evaluate
from subbyte.models import MODELS, load_model
from subbyte.pipeline import quantize
from subbyte.recipe import load_recipe
from subbyte.walk import Limits

BITS, SCALARS = range(1, 9), [round(1 + 0.05 * k, 2) for k in range(21)]
RESNET20 = "resnet20-12fca82f.th"
EPOCHS, BATCH, RATE = 3, 64, 2e-3  # of LeNet's training
MEASURED = (
    "original_top1_percent", "quantized_top1_percent", "original_top5_percent", "quantized_top5_percent",
    "original_sparsity_percent", "quantized_sparsity_percent", "seconds",
)  # fmt: skip
COLUMNS = (
    "model", "data", "calibration_images", "original_top1_percent", "quantized_top1_percent", "original_top5_percent",
    "quantized_top5_percent", "bits", "linear_scalar", "conv_scalar", "percentile", "stochastic", "regularizer",
    "lambda", "original_sparsity_percent", "quantized_sparsity_percent", "batch_size", "seed", "seconds",
)  # fmt: skip
KEY = tuple(name for name in COLUMNS if name not in MEASURED)
Run = dict[str, object]


def plan(args: argparse.Namespace, data: str) -> list[Run]:
    """What to measure: the values of the key's columns."""
    pairs = [(bits, args.scalar) for bits in BITS] if args.sweep == "bits" else [(args.bits, c) for c in SCALARS]
    return [
        {
            "model": label(args),
            "data": data,
            "calibration_images": args.calibration,
            "bits": bits,
            "linear_scalar": scalar if args.linear_scalar is None else args.linear_scalar,
            "conv_scalar": scalar if args.conv_scalar is None else args.conv_scalar,
            "percentile": args.percentile,
            "stochastic": args.stochastic,
            "regularizer": args.regularizer,
            "lambda": args.penalty,
            "batch_size": Limits().chunk,
            "seed": args.seed,
        }
        for bits, scalar in pairs
    ]


def label(args: argparse.Namespace) -> str:
    """The model's name, with what is unusual about its weights: rows of other weights are other runs."""
    if args.weights is not None:
        return f"{args.model} ({args.weights.name})"
    if args.model == "lenet" and args.epochs != EPOCHS:
        return f"lenet ({args.epochs} epochs)"
    return str(args.model)


def overrides(run: Run) -> list[str]:
    """What the run changes in preset `gpfq`."""
    settings = [f"{name}: {run[column]}" for name, column in (("regularizer", "regularizer"), ("penalty", "lambda"))]
    settings += [f"stochastic: {str(run['stochastic']).lower()}", f"seed: {run['seed']}"]
    return [
        f"weights.bits={run['bits']}",
        f"weights.range={{name: rowmax, percentile: {run['percentile']}}}",
        f"weights.rounding={{name: gpfq, {', '.join(settings)}}}",
        f"layers.kind:linear.weights.scalar={run['linear_scalar']}",
        f"layers.kind:conv.weights.scalar={run['conv_scalar']}",
    ]


def measure(run: Run, model: nn.Module, images: Tensor, test: Split, before: Evaluation) -> Run:
    recipe = load_recipe("gpfq", overrides(run))
    start = time.process_time()
    quantized = quantize(model, images, recipe, limits=Limits(chunk=int(str(run["batch_size"]))))
    seconds = time.process_time() - start
    after = evaluate(quantized, test)
    return run | {
        "original_top1_percent": round(before.top1, 4),
        "quantized_top1_percent": round(after.top1, 4),
        "original_top5_percent": round(before.top5, 4),
        "quantized_top5_percent": round(after.top5, 4),
        "original_sparsity_percent": round(sparsity(model), 4),
        "quantized_sparsity_percent": round(quantized.zeros, 4),
        "seconds": round(seconds, 2),
    }


def sparsity(model: nn.Module) -> float:
    """Percent of the weights of all convolutions and linear layers that are 0."""
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return 100 * sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def measure_all(runs: list[Run], store: Store, model: nn.Module, data: DataSet, args: argparse.Namespace) -> None:
    before = evaluate(model, data.test)
    images, test = draw_calibration(data, args.calibration, args.seed)
    quantize(model, images[:8], "gpfq")  # or the first run would pay for loading code
    progress = Progress(["a run"] * len(runs))
    for run in runs:
        try:
            row = measure(run, model, images, test, before)
        except SubbyteError as error:
            progress.done(f"{run['bits']} bits: can't be done: {error}")
            continue
        store.add(row)
        progress.done(
            f"{run['bits']} bits, scalars {run['linear_scalar']} (linear) and {run['conv_scalar']} (conv): "
            f"top-1 {row['quantized_top1_percent']:.2f} of {before.top1:.2f} %, "
            f"{row['quantized_sparsity_percent']:.1f} % zeros"
        )


def load(args: argparse.Namespace) -> DataSet:
    if args.model == "resnet20":
        return load_data(f"cifar10:{args.data / 'cifar-10-batches-py'}", normalize="imagenet")
    upper = args.data / "MNIST"
    return load_data(f"mnist:{upper if upper.is_dir() else args.data / 'mnist'}")


def network(args: argparse.Namespace, data: DataSet) -> nn.Module:
    if args.weights is not None:
        return load_model(args.model, args.weights)
    if args.model == "resnet20":
        return load_model("resnet20", args.data / "weights" / RESNET20)
    kept = args.out.with_name(f"lenet-mnist-{args.epochs}-epochs-seed-{args.seed}.safetensors")
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_name(f".{kept.name}.partial")
        save_file(train(data, args.seed, args.epochs).state_dict(), fresh)
        fresh.replace(kept)
    return load_model("lenet", kept)


def train(data: DataSet, seed: int, epochs: int) -> nn.Module:
    """LeNet trained with Adam and a cosine schedule; deterministic for a seed."""
    assert data.train is not None
    torch.manual_seed(seed)
    model = MODELS["lenet"].build()
    images, labels = data.train.images(range(len(data.train))), data.train.labels
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        schedule.step()
        print(f"LeNet, epoch {epoch + 1} of {epochs}: mean loss {total / len(labels):.4f}", flush=True)
    return model.eval()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", choices=("bits", "scalars"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=("resnet20", "lenet"), default="resnet20")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=4, help="of `scalars`")
    parser.add_argument("--scalar", type=float, default=1.16, help="of `bits`")
    parser.add_argument("--linear-scalar", type=float)
    parser.add_argument("--conv-scalar", type=float)
    parser.add_argument("--percentile", type=float, default=1.0, help="quantile of a row's weights that sets its step")
    parser.add_argument("--stochastic", action="store_true", help="round up or down at random, by the seed")
    parser.add_argument("--regularizer", choices=("none", "L1", "L0"), default="none")
    parser.add_argument("--penalty", type=float, default=0.0, help="lambda, in units of the weights")
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="of calibration, stochastic rounding and LeNet's training")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of LeNet's training")
    parser.add_argument("--images", type=int, help="of the test images, the first so many; for trying")
    args = parser.parse_args()
    if args.sweep == "scalars" and args.linear_scalar is not None and args.conv_scalar is not None:
        parser.error("scalars: with --linear-scalar and --conv-scalar nothing is left to vary")
    return args


def main() -> None:
    args = options()
    try:
        data = limited(load(args), args.images)
        runs, store = plan(args, data.name), Store(args.out, COLUMNS, KEY)
        for run in runs:
            load_recipe("gpfq", overrides(run))  # what can't be is said before anything is trained
        left = [run for run in runs if store.find(run) is None]
        if left:
            measure_all(left, store, network(args, data), data, args)
    except SubbyteError as error:
        raise SystemExit(f"error: {error}") from error
    there = sum(store.find(run) is not None for run in runs)
    print(f"{args.out}: {there} of the {len(runs)} rows of these settings")


if __name__ == "__main__":
    main()
