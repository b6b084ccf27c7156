"""Speed of the clip search: all channels, clips and bit widths of a network at once, beside a plain
loop.

    python benchmarks/clip_speed.py --out FILE.json [--model resnet20] [--resolution 100] [--bits
        1-8] [--sample 12] [--threads 1]

ours   `clips.scores` and the best clip of every channel by every metric: what `subbyte gradquant`
       does per channel
loop   the way the original works: for every metric, channel and clip one call that rounds and one
       that measures, and a number read back; float32 throughout. Its grids and measures are the
       original's where it has them. Timed on `--sample` channels spread over each layer size with
       10 of the clips and the outermost and middle bit widths, and scaled up.

CPU seconds, in one run. Weights and evidence are Gaussian (times do not depend on them); exact
Hessian blocks are given for layers of up to 1,024 weights, as the run collects them, Gauss-Newton's
stand in elsewhere. Metrics: all of `metrics.METRICS`, with the powers of the original's search.
"""

import argparse
import platform
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from subbyte.cli.common import read_bits
from subbyte.compat.gradquant import distance, divergence, quantize
from subbyte.graph import prepare
from subbyte.io.files import write_json
from subbyte.models import input_shape, load_model
from subbyte.ranges.clips import best, clip_spec, fractions, scores
from subbyte.ranges.metrics import Evidence, parse_metric
from subbyte.stats import GradientStats

POWERS = [1 + k / 2 for k in range(12)]
METRICS = (
    "mse:1",
    "mse:2",
    *(f"grad:{power:g}" for power in POWERS),
    "grad:1:signed",
    "fisher",
    "hessian",
    "gauss_newton",
    "kl",
)
EXACT = 1024
Shape = tuple[int, int]


def problem(shape: Shape) -> tuple[Tensor, Evidence]:
    rows, columns = shape
    x = torch.randn(512, columns)
    gradients = GradientStats(*torch.rand(3, *shape), torch.rand(rows), 512)
    blocks = torch.randn(rows, columns, columns) if rows * columns <= EXACT else None
    return torch.randn(shape), Evidence(gradients, (x.T @ x / 512)[None], blocks)


def ours(shape: Shape, bits: list[int], clips: Tensor) -> float:
    weight, evidence = problem(shape)
    metrics = [parse_metric(name) for name in METRICS]
    start = time.process_time()
    for width in bits:
        spec, tried = (
            clip_spec(width, symmetric=False, per_channel=True),
            clips.expand(shape[0], -1),
        )
        for values in scores(weight, spec, tried, tried, metrics, evidence):
            best(values, clips)
    return time.process_time() - start


def loop(shape: Shape, bits: list[int], clips: Tensor, sample: int) -> float:
    """Seconds for all channels, clips and bits, from some of each."""
    weight, evidence = problem((min(sample, shape[0]), shape[1]))
    g, H = evidence.gradients, evidence.H[0]
    some_bits = sorted({bits[0], bits[len(bits) // 2], bits[-1]})
    some_clips = clips[:: max(1, len(clips) // 10)].tolist()
    absolute, gradient, fisher = g.absolute.float(), g.gradient.float(), g.fisher.float()
    start = time.process_time()
    for n, row in enumerate(weight):
        curved = H if evidence.hessian is None else evidence.hessian[n]
        measures = [partial(_mse, power=power) for power in (1.0, 2.0)]
        measures += [partial(_grad, gradient=absolute[n], power=power) for power in POWERS]
        measures += [
            lambda w, q, b, n=n: ((q - w) * gradient[n]).sum().abs(),
            lambda w, q, b, n=n: (fisher[n] * (q - w) ** 2).sum() / 2,
            lambda w, q, b, n=n, A=curved: (
                (gradient[n] * (q - w)).sum() + (q - w) @ A @ (q - w) / 2
            ),
            lambda w, q, b, n=n: g.outputs[n] * ((q - w) @ H @ (q - w)) / 2,
            lambda w, q, b: divergence(w, q, b, float(w.abs().max())),
        ]
        assert len(measures) == len(METRICS)
        for width in some_bits:
            for measure in measures:
                least = float("inf")
                for clip in some_clips:
                    rounded = quantize(row, width, clip, symmetric=False)
                    least = min(least, measure(row, rounded, width).item())
    seconds = time.process_time() - start
    return (
        seconds
        * (shape[0] / len(weight))
        * (len(clips) / len(some_clips))
        * (len(bits) / len(some_bits))
    )


def _mse(w: Tensor, q: Tensor, bits: int, power: float) -> Tensor:
    return distance(w, q, power)


def _grad(w: Tensor, q: Tensor, bits: int, gradient: Tensor, power: float) -> Tensor:
    return distance(w, q, power, gradient)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--resolution", type=int, default=100)
    parser.add_argument("--bits", default="1-8")
    parser.add_argument("--sample", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    network = prepare(load_model(args.model), torch.zeros(2, *input_shape(args.model)))
    shapes = Counter((layer.geometry.rows, layer.geometry.columns) for layer in network.layers)
    bits, clips = list(read_bits(args.bits)), fractions(0, 1, args.resolution)
    ours(min(shapes), bits[:1], clips[:2])  # everything runs once, so that it is loaded
    found = {"ours": 0.0, "loop": 0.0}
    for shape, count in shapes.items():
        found["ours"] += sum(ours(shape, bits, clips) for _ in range(count))
        found["loop"] += count * loop(shape, bits, clips, args.sample)
        print(
            f"{shape[0]} x {shape[1]}, {count} layers: {found['ours']:.1f} s, loop "
            f"{found['loop']:.0f} s",
            flush=True,
        )
    channels = sum(rows * count for (rows, _), count in shapes.items())
    result = {
        "model": args.model,
        "channels": channels,
        "clips": len(clips),
        "bits": bits,
        "metrics": list(METRICS),
        "seconds": {name: round(value, 2) for name, value in found.items()},
        "ratio": round(found["loop"] / found["ours"], 1),
        "threads": args.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    write_json(args.out, result)
    print(f"ours {found['ours']:.1f} s, loop {found['loop']:.0f} s: {result['ratio']} times")


if __name__ == "__main__":
    main()
