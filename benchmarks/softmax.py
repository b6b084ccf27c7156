"""Levels for a softmax's outputs: equal steps against powers of two, at equal bits.

    python benchmarks/softmax.py [--seeds 0,1,2] [--epochs 30]

Trains a small network with attention on the digits (16 patches of 2 x 2 pixels and a class token, 2
blocks of 4 heads, width 32), one a seed, quantizes it with the outputs of its softmaxes on either
kind of levels, and prints a Markdown table: signal-to-noise ratio of the logits against the float
network's, and top-1, both on the 359 test images; mean over seeds, and each.
"""

import argparse
import logging
import tempfile
from math import log10
from pathlib import Path

import torch
from torch import Tensor, nn

import subbyte
from subbyte.data import draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.learn.training import TrainSettings, train

WIDTH, HEADS, BLOCKS = 32, 4, 2
EQUAL, POWERS = "equal steps", "log2"
WAYS = [
    (base, bits, levels)
    for base in ("w8a8", "w4a4")
    for bits in (8, 5, 4, 3)
    for levels in ((EQUAL,) if bits == 8 else (EQUAL, POWERS))
]


class Block(nn.Module):
    """Attention and two layers, each added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(*parts)
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Patches(nn.Module):
    """Digits of 8 x 8 pixels to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def trained(seed: int, epochs: int) -> nn.Module:
    torch.manual_seed(seed)
    model = Patches()
    settings = TrainSettings.of(
        epochs=epochs,
        batch_size=32,
        lr=3e-3,
        optimizer="adamw",
        warmup=2,
        augment="shift",
        evaluate_every=epochs,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(model, load_data("digits"), settings, Path(folder) / "run")
    return model.eval()


def measure(seed: int, epochs: int) -> list[tuple[float, float]]:
    """Signal-to-noise ratio (dB) and top-1 (%) of each way; the float network's top-1 first."""
    data, model = load_data("digits"), trained(seed, epochs)
    images, test = draw_calibration(data, 256, seed)
    expected = evaluate(model, test)
    found = [(float("inf"), expected.top1)]
    for base, bits, levels in WAYS:
        softmax = f"softmax={{bits: {bits}, levels: {'log2' if levels == POWERS else 'null'}}}"
        recipe = subbyte.load_recipe(base, [softmax])
        got = evaluate(subbyte.quantize(model, images, recipe), test)
        noise = (got.logits - expected.logits).double().square().sum()
        ratio = 10 * log10(float(expected.logits.double().square().sum() / noise))
        found.append((ratio, got.top1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs = [measure(seed, args.epochs) for seed in seeds]
    print("| recipe | softmax bits | levels | SNR of logits, dB (each seed) | top-1 % |")
    print("|---|---|---|---|---|")
    for way, found in zip([("float", "", ""), *WAYS], zip(*runs, strict=True), strict=True):
        ratios, tops = ([one[k] for one in found] for k in (0, 1))
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        mean = f"{sum(ratios) / len(ratios):.2f} ({each})" if way[0] != "float" else ""
        print(f"| {' | '.join(map(str, way))} | {mean} | {sum(tops) / len(tops):.2f} |")


if __name__ == "__main__":
    main()
