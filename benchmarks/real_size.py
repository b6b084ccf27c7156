"""Seconds and memory of quantizing networks of real size: ResNet-50 and ViT-S, 256 images of 224 x
224 pixels.

    python benchmarks/real_size.py [--models torchvision:resnet50,timm:vit_small_patch16_224]
        [--recipe w8a8] [--images 256] [--memory 2]

Needs torchvision and timm beside a torch they go with. Weights are random and images noise: neither
time nor memory depends on them. Prints how far it is, with the time left, and per network CPU and
wall seconds and the most memory that the process itself took. What the walk pages to files
(--memory GiB stay) is not in that: the system gives it back when others want it.
"""

import argparse
import multiprocessing
import re
import threading
import time
from pathlib import Path

import torch

import subbyte
from subbyte.models import new_model

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
    given = parser.parse_args()
    for name in given.models.split(","):
        context = multiprocessing.get_context("spawn")
        work = context.Process(
            target=measure, args=(name, given.recipe, given.images, given.memory)
        )
        work.start()
        work.join()


def measure(name: str, recipe: str, images: int, memory: float) -> None:
    """Quantize one network and print what it took."""
    torch.manual_seed(0)
    model = new_model(name).eval()
    x = torch.randn(images, 3, 224, 224)
    start, cpu, most = time.perf_counter(), time.process_time(), [0]
    threading.Thread(target=watch, args=(most,), daemon=True).start()

    def progress(stage: str, done: int, total: int, what: str) -> None:
        spent = time.perf_counter() - start
        left = spent / max(1, done) * (total - done)
        print(f"{name}: {stage} {done}/{total} {what}, about {left:.0f} s left", flush=True)

    limits = subbyte.Limits(chunk=16, memory=int(memory * 2**30))
    quantized = subbyte.quantize(model, x, recipe, limits=limits, progress=progress)
    print(
        f"{name}, {recipe}, {images} images: {time.process_time() - cpu:.0f} CPU s, "
        f"{time.perf_counter() - start:.0f} s, {max(most) / 2**20:.2f} GiB, "
        f"{quantized.bits_per_weight:.2f} bits a weight",
        flush=True,
    )


def watch(most: list[int]) -> None:
    """Note the most memory of this process that no file stands behind, in KiB."""
    while True:
        status = Path("/proc/self/status").read_text()
        most[0] = max(most[0], int(re.findall(r"RssAnon:\s+(\d+)", status)[0]))
        time.sleep(0.05)


if __name__ == "__main__":
    main()
