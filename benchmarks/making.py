"""What it costs to make a quantized network, as multiples of what can't be saved, in one run.

    python benchmarks/making.py [--data DIR] [--repeats 5] [--only walk,linear] [--out FILE.json]

walk       walks with w4 on resnet20 and resnet56, over the matrix products of resnet20's layer
           moments alone: H, G and F as plain products of the shapes that its walk multiplied
linear     `corrected` with the MSE range on a 3072 x 768 layer, 4 bits, over the products of its
           moments (H, G, F) for 256 images of 197 tokens
conv       the same on 512 x 4608, a 3 x 3 convolution of 512 channels, for 256 images of 7 x 7
depthwise  moments from rows laid out for dense layers, channels last, over those from
           `MomentCollector`: how many times faster it is
help       CPU seconds of `subbyte --help` beyond those of Python itself

One thread, CPU seconds, medians of --repeats runs that take turns. resnet20 has the weights that
come along; images are CIFAR-10's training images where --data names the folder, else noise.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from _turns import interleaved
from torch import Tensor

import subbyte
from subbyte.core import Convolution, GridSpec, Linear, PerChannel, Uniform
from subbyte.engine.walk import walk
from subbyte.graph import prepare
from subbyte.models import MODELS
from subbyte.ranges import RANGES, GridFitter
from subbyte.recipe import load_recipe, make_plan
from subbyte.rounding import Corrected
from subbyte.stats import MomentCollector, moments

CHUNK, FACTORS = 2000, 32
Runs = dict[str, Callable[[], object]]
Seconds = dict[str, float]


def images_of(data: Path | None) -> Tensor:
    if data is None:
        return torch.randn(500, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return subbyte.draw_calibration(subbyte.load_data(f"cifar10:{data}"), 500, 0)[0]


def multiplied(run: Callable[[], object]) -> Counter[torch.Size]:
    """Shapes of the rows that a walk's moments multiply, with how often they do."""
    found: Counter[torch.Size] = Counter()
    plain = moments.MomentCollector._add_patches

    def noted(self: MomentCollector, rows: Tensor, rows_q: Tensor, weights: Tensor | None) -> None:
        found[rows.shape] += 1 if rows is rows_q else 3
        plain(self, rows, rows_q, weights)

    moments.MomentCollector._add_patches = noted  # type: ignore[method-assign]
    run()
    moments.MomentCollector._add_patches = plain  # type: ignore[method-assign]
    return found


def walks(data: Path | None) -> Runs:
    images, runs = images_of(data), Runs()
    for name in ("resnet20", "resnet56"):
        torch.manual_seed(0)
        model = MODELS[name].build()
        if name == "resnet20":
            model = subbyte.load_model(name, weights="builtin:resnet20-cifar10")
        network = prepare(model.eval(), images[:2])
        plan = make_plan(network, load_recipe("w4"))
        runs[f"walk of {name}"] = lambda n=network, p=plan: walk(n, p, images)
    shapes = multiplied(runs["walk of resnet20"])
    rows = {shape: torch.randn(shape) for shape in shapes}

    def products() -> None:
        for shape, count in shapes.items():
            for _ in range(count):
                rows[shape].mT @ rows[shape]

    return {"products": products} | runs


def rounding(rows: int, columns: int, samples: int) -> Runs:
    torch.manual_seed(0)
    mixing = torch.randn(FACTORS, columns) / FACTORS**0.5
    weight = torch.randn(rows, columns) / columns**0.5
    collector, kept = MomentCollector(Linear((rows, columns))), []
    for start in range(0, samples, CHUNK):
        size = min(CHUNK, samples - start)
        x = torch.relu(torch.randn(size, FACTORS) @ mixing + torch.randn(size, columns))
        x_q = (x + 0.1 * torch.randn(size, columns)).relu_()
        collector.add(x, x_q)
        kept.append((x, x_q))
    stats = collector.finish()
    importance = stats.power.expand(rows, columns)
    spec = GridSpec(Uniform(4, signed=False, symmetric=False), PerChannel())
    fit = GridFitter(RANGES["mse"](), spec, importance)

    def products() -> None:
        for x, x_q in kept:
            x.T @ x, x_q.T @ x, x_q.T @ x_q

    return {"products": products, "rounding": lambda: Corrected().round(weight, fit, stats)}


def depthwise(channels: int = 144, size: int = 28, taken: int = 128) -> Runs:
    torch.manual_seed(0)
    shape = (channels, 1, 3, 3)
    geometry = Convolution(shape, (1, 1), ((1, 1), (1, 1)), (1, 1), (), channels)
    x = torch.randn(64, channels, size, size).relu_()
    x_q = (x + 0.05 * torch.randn_like(x)).relu_()
    positions = torch.rand(64, size * size).argsort(1)[:, :taken]

    def rows_of(value: Tensor) -> Tensor:
        where = torch.unravel_index(positions, (size, size))
        windows = geometry.windows(value)[(torch.arange(64)[:, None], *where)]
        return windows.flatten(0, 1).flatten(1, 2).permute(2, 0, 1)

    def channels_last() -> None:
        a, b = rows_of(x), rows_of(x_q)
        for left, right in ((b, b), (b, a), (a, a)):
            (left.mT @ right).double()
        for value in (a, b):
            value.sum(1, dtype=torch.float64)

    return {"ours": lambda: MomentCollector(geometry, taken).add(x, x_q), "last": channels_last}


def children(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def helped(repeats: int) -> Seconds:
    each = [(children("-m", "subbyte", "--help"), children("-c", "pass")) for _ in range(repeats)]
    return dict(
        zip(("help", "python"), map(statistics.median, zip(*each, strict=True)), strict=True)
    )


def measure(args: argparse.Namespace, wanted: list[str]) -> dict[str, Seconds]:
    parts: dict[str, Callable[[], Runs]] = {
        "walk": lambda: walks(args.data),
        "linear": lambda: rounding(3072, 768, 256 * 197),
        "conv": lambda: rounding(512, 4608, 256 * 49),
        "depthwise": depthwise,
    }
    seconds = {"help": helped(args.repeats)} if "help" in wanted else {}
    for name in wanted:
        if name in parts:
            seconds[name] = interleaved(parts[name](), args.repeats)
            print(
                name, {what: round(value, 3) for what, value in seconds[name].items()}, flush=True
            )
    return seconds


RATIOS = {
    "walk": {
        "resnet20's walk / its products": ("walk of resnet20", "products"),
        "resnet56's walk / resnet20's": ("walk of resnet56", "walk of resnet20"),
    },
    "linear": {"rounding of 3072 x 768 / products": ("rounding", "products")},
    "conv": {"rounding of 512 x 4608 / products": ("rounding", "products")},
    "depthwise": {"depthwise moments: times faster": ("last", "ours")},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="help,depthwise,walk,linear,conv")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure(args, args.only.split(","))
    ratios = {
        text: seconds[part][top] / seconds[part][bottom]
        for part, each in RATIOS.items()
        if part in seconds
        for text, (top, bottom) in each.items()
    }
    if "help" in seconds:
        ratios["--help beyond Python, CPU s"] = seconds["help"]["help"] - seconds["help"]["python"]
    for text, value in ratios.items():
        print(f"{text}: {value:.2f}")
    if args.out is not None:
        about = {"repeats": args.repeats, "threads": 1, "torch": torch.__version__}
        about |= {"machine": platform.machine(), "images": "CIFAR-10" if args.data else "noise"}
        args.out.write_text(
            json.dumps(about | {"ratios": ratios, "cpu_seconds": seconds}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
