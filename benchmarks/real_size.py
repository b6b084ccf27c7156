"""Seconds and memory of quantizing networks of real size: ResNet-50 and ViT-S, 256 images of 224 x
224 pixels.

    python benchmarks/real_size.py [--models torchvision:resnet50,timm:vit_small_patch16_224]
        [--recipe w8a8] [--images 256] [--memory 2] [--data NAME:PATH --normalize NAME]
        [--out FILE.json]

Needs torchvision and timm beside a torch they go with. Weights are random, unless a
`file.py:callable` brings some, and images noise, unless --data names others: neither time nor
memory depends on them. One thread. Prints how far it is, with the time left, and per network CPU
and wall seconds and the most memory that the process itself took; --out keeps them in a file, by
network and recipe. What the walk pages to files (--memory GiB stay) is not in that: the system
gives it back when others want it.
"""

import argparse
import json
import multiprocessing
import re
import threading
import time
from pathlib import Path

import torch

import subbyte
from subbyte.models import new_model
from subbyte.speed.machine import processor

MODELS = "torchvision:resnet50,timm:vit_small_patch16_224"


def main() -> None:
    """A process a network, so that one's memory is not the other's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--recipe", default="w8a8")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--memory", type=float, default=2)
    parser.add_argument("--data")
    parser.add_argument("--normalize")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for name in given.models.split(","):
        context = multiprocessing.get_context("spawn")
        work = context.Process(target=measure, args=(name, given))
        work.start()
        work.join()


def images_of(given: argparse.Namespace) -> torch.Tensor:
    if given.data is None:
        return torch.randn(given.images, 3, 224, 224)
    data = subbyte.load_data(given.data, normalize=given.normalize)
    return subbyte.draw_calibration(data, given.images, 0)[0]


def measure(name: str, given: argparse.Namespace) -> None:
    """Quantize one network and print what it took."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, recipe = new_model(name).eval(), given.recipe
    x = images_of(given)
    start, cpu, most = time.perf_counter(), time.process_time(), [0]
    threading.Thread(target=watch, args=(most,), daemon=True).start()

    def progress(stage: str, done: int, total: int, what: str) -> None:
        spent = time.perf_counter() - start
        left = spent / max(1, done) * (total - done)
        print(f"{name}: {stage} {done}/{total} {what}, about {left:.0f} s left", flush=True)

    limits = subbyte.Limits(chunk=16, memory=int(given.memory * 2**30))
    quantized = subbyte.quantize(model, x, recipe, limits=limits, progress=progress)
    found = {
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "gib": round(max(most) / 2**20, 2),
        "bits_per_weight": round(quantized.bits_per_weight, 3),
        "images": f"{given.images} of {(given.data or 'noise').split(':')[0]}",
        "torch": torch.__version__,
        "processor": processor(),
    }
    print(f"{name}, {recipe}: {found}", flush=True)
    if given.out is not None:
        known = json.loads(given.out.read_text()) if given.out.exists() else {}
        known[f"{name.rpartition(':')[2]} {recipe}"] = found
        given.out.write_text(json.dumps(known, indent=2) + "\n")


def watch(most: list[int]) -> None:
    """Note the most memory of this process that no file stands behind, in KiB."""
    while True:
        status = Path("/proc/self/status").read_text()
        most[0] = max(most[0], int(re.findall(r"RssAnon:\s+(\d+)", status)[0]))
        time.sleep(0.05)


if __name__ == "__main__":
    main()
