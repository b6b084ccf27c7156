"""Brevitas' GPTQ beside our walk: resnet20 with 4-bit weights from the same 500 CIFAR-10 images, in
turns, and top-1 over the test images.

    brevitas/bin/python benchmarks/peers/walk_brevitas.py --data FOLDER [--repeats 3] [--test 10000]
        [--out FILE.json]

The top of rounding_speed_brevitas.py says how to get a venv with both. Brevitas runs as its
documentation shows: `layerwise_quantize` with its 8-bit weight quantizer per channel at 4 bits
(scales from each row's largest weight, narrow grid), then `gptq_mode`, layer after layer; once as
it is by default and once with its MSE search for scales. Ours is `walk` with the preset w4, and
with `gptq` in it. One thread, CPU seconds, medians; capture is not counted.
"""

import argparse
import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import subbyte
from subbyte.engine.quantization import assemble
from subbyte.engine.walk import walk
from subbyte.graph import prepare
from subbyte.recipe import load_recipe, make_plan
from subbyte.speed.machine import processor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of optional kernels for GPUs
    import brevitas.nn as quant
    from brevitas.graph.gptq import gptq_mode
    from brevitas.graph.quantize import layerwise_quantize
    from brevitas.quant.scaled_int import Int8WeightPerChannelFloat, Int8WeightPerChannelFloatMSE

Made = Callable[[Tensor], Tensor]


def theirs(model: nn.Module, images: Tensor, scales: type) -> Made:
    settings = {"weight_quant": scales, "weight_bit_width": 4, "return_quant_tensor": False}
    layers = {
        nn.Conv2d: (quant.QuantConv2d, settings),
        nn.Linear: (quant.QuantLinear, settings),
    }
    found = layerwise_quantize(copy.deepcopy(model), compute_layer_map=layers).eval()
    batches = images.split(64)
    with torch.no_grad():
        found(batches[0])  # fixes the scales
    with torch.no_grad(), gptq_mode(found) as running:
        for _ in range(running.num_layers):
            for batch in batches:
                running.model(batch)
            running.update()
    return found


def measure(runs: dict[str, Callable[[], Made]], repeats: int) -> tuple[dict, dict]:
    """Median CPU seconds, and what the last run gave."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    made: dict[str, Made] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            made[name] = run()
            seconds[name].append(time.process_time() - start)
            print(f"  {name}: {seconds[name][-1]:.1f} CPU s", flush=True)
    return {name: statistics.median(each) for name, each in seconds.items()}, made


@torch.no_grad()
def top1(made: Made, images: Tensor, labels: Tensor) -> float:
    right = sum(
        int((made(x).argmax(1) == y).sum())
        for x, y in zip(images.split(250), labels.split(250), strict=True)
    )
    return 100 * right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = subbyte.load_data(f"cifar10:{args.data}")
    images = subbyte.draw_calibration(data, 500, 0)[0]
    model = subbyte.load_model("resnet20", weights="builtin:resnet20-cifar10").eval()
    network = prepare(model, images[:2])

    def ours(*settings: str) -> Made:
        plan = make_plan(network, load_recipe("w4", list(settings)))
        return assemble(network, plan, walk(network, plan, images))

    runs: dict[str, Callable[[], Made]] = {
        "subbyte w4": ours,
        "subbyte w4, gptq": lambda: ours("weights.rounding=gptq"),
        "brevitas gptq": lambda: theirs(model, images, Int8WeightPerChannelFloat),
        "brevitas gptq, mse": lambda: theirs(model, images, Int8WeightPerChannelFloatMSE),
    }
    seconds, made = measure(runs, args.repeats)
    test, labels = data.test.images(range(args.test)), data.test.labels[: args.test]
    found = {"float": {"top1": top1(model, test, labels)}} | {
        name: {"cpu_seconds": seconds[name], "top1": top1(made[name], test, labels)}
        for name in runs
    }
    print(json.dumps(found, indent=2))
    if args.out is not None:
        about = {"repeats": args.repeats, "images": 500, "test": len(labels), "threads": 1}
        about |= {"torch": torch.__version__, "processor": processor()}
        args.out.write_text(json.dumps(about | {"runs": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
