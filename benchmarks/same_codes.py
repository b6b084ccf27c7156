"""Fingerprints of 30 quantized networks: does a change of the code change a single code, scale or
bias?

    python benchmarks/same_codes.py             # compare with benchmarks/results/same_codes.csv;
                                                exit 1 where it differs
    python benchmarks/same_codes.py --write     # write the list

The list is made once, before code is moved about, and read after. A fingerprint is the sha256 of
all codes, scales, zero points, fitted levels and biases of layers, and of the scales and zero
points of activations. One thread; numbers
hold for one machine and one version of torch.
"""

import argparse
import csv
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte

LIST = Path(__file__).parent / "results" / "same_codes.csv"
IMAGES = {"lenet-digits": 128, "resnet20": 48, "mixed": 64}

CASES: list[tuple[str, str, int, tuple[str, ...]]] = [
    ("lenet-digits", "w8a8", 0, ()),
    ("lenet-digits", "w4a4", 0, ()),
    ("lenet-digits", "w4", 0, ("weights.rounding=gptq",)),
    ("lenet-digits", "w3", 1, ("weights.rounding=qronos", "weights.range=minmax")),
    ("lenet-digits", "w2", 0, ("weights.rounding=beacon",)),
    ("lenet-digits", "ternary", 0, ("weights.granularity=group", "weights.group_size=8")),
    ("lenet-digits", "gpfq", 0, ()),
    (
        "lenet-digits",
        "gpfq",
        1,
        ("weights.bits=3", "weights.rounding={name: gpfq, regularizer: L1}"),
    ),
    ("lenet-digits", "ldnq", 0, ()),
    ("lenet-digits", "w4", 0, ("weights.rounding=kmeans", "weights.symmetric=true")),
    ("lenet-digits", "w3", 0, ("weights.rounding=descent", "weights.guided=2")),
    (
        "lenet-digits",
        "w4",
        0,
        ("weights.levels=apot", "weights.symmetric=true", "weights.range=fisher"),
    ),
    ("lenet-digits", "w2", 0, ("weights.levels=odd", "weights.precondition=magr")),
    ("lenet-digits", "w4a4", 0, ("weights.allocate=optimum", "activations.granularity=channel")),
    ("lenet-digits", "w4a4", 1, ("activations.allocate=aciq", "activations.granularity=channel")),
    ("lenet-digits", "w2", 0, ("budget=2.5bits",)),
    ("lenet-digits", "w2", 0, ("budget=2.5bits", "budget_for=channels")),
    ("lenet-digits", "w4a8", 0, ("activations.dynamic=true", "activations.range=minmax")),
    ("resnet20", "w8a8", 0, ()),
    ("resnet20", "w4a4", 0, ()),
    ("resnet20", "w2", 0, ()),
    ("resnet20", "ternary", 0, ()),
    ("resnet20", "w3", 0, ("weights.rounding=spfq", "weights.correction=bias")),
    (
        "resnet20",
        "w4a4",
        0,
        ("weights.range=aciq", "activations.range=aciq", "weights.correction=weights"),
    ),
    ("mixed", "w8a8", 0, ()),
    ("mixed", "w4a4", 0, ("first_last=8", "activations.range=kl")),
    ("mixed", "w3", 0, ("weights.rounding=gptaq", "weights.granularity=tensor")),
    ("mixed", "w4", 1, ("weights.levels=[-3, -1, 0, 1, 3]", "weights.rounding=stochastic")),
    ("mixed", "w2", 0, ("weights.rounding=adaround", "layers.head.weights.bits=8")),
    (
        "mixed",
        "w4",
        0,
        ("weights.range=percentile", "weights.rounding=nearest", "layers.point.skip=true"),
    ),
]


class Mixed(nn.Module):
    """Grouped, depthwise and transposed convolutions, a shared layer, a concatenation, a residual
    add.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.grouped, self.inner = nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 12, 1)
        self.up, self.head = nn.ConvTranspose2d(12, 6, 3, 2, 1), nn.Linear(18, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.point(F.relu(self.depthwise(x)))
        x = F.relu(self.inner(F.relu(self.inner(F.relu(self.grouped(x))))))
        return self.head(torch.cat([x.mean((2, 3)), F.relu(self.up(x)).mean((2, 3))], 1))


def network(name: str) -> nn.Module:
    """A trained network that comes along, or one with random weights."""
    if name != "mixed":
        weights = {"lenet-digits": "builtin:lenet-digits", "resnet20": "builtin:resnet20-cifar10"}[
            name
        ]
        return subbyte.load_model(name, weights=weights).eval()
    torch.manual_seed(3)
    return Mixed().eval()


def images(name: str, seed: int) -> Tensor:
    """Digits, or noise of low frequencies."""
    if name == "lenet-digits":
        return subbyte.draw_calibration(subbyte.load_data("digits"), IMAGES[name], seed)[0]
    coarse = torch.randn(IMAGES[name], 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (
        F.interpolate(coarse, size=32, mode="bilinear")
        if name == "resnet20"
        else coarse.repeat(1, 1, 2, 2)
    )


def numbers(q: subbyte.QuantizedModel) -> Iterable[tuple[str, Tensor]]:
    """Everything that was decided: the one place that knows where a quantized network keeps it."""
    for name, weight in sorted(q.weights.items()):
        yield f"{name} codes", weight.codes.to(torch.int32)
        yield f"{name} scale", weight.grid.scale
        yield f"{name} zero_point", weight.grid.zero_point
        if weight.grid.own.numel():
            yield f"{name} {weight.grid.spec.alphabet.own}", weight.grid.own
    for name, value in sorted(q.leftovers.items()):
        yield f"float {name}", value
    for tap in q.plan.taps:
        grid = q.instrumented.tap(tap.name).grid
        if grid is not None:
            yield f"{tap.name} scale", grid.scale
            yield f"{tap.name} zero_point", grid.zero_point


def fingerprint(case: tuple[str, str, int, tuple[str, ...]]) -> str:
    name, recipe, seed, overrides = case
    torch.manual_seed(0)
    model, x = network(name), images(name, seed)
    q = subbyte.quantize(model, x, subbyte.load_recipe(recipe, list(overrides)))
    digest = hashlib.sha256()
    for what, value in numbers(q):
        digest.update(what.encode())
        digest.update(str(list(value.shape)).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the list anew")
    parser.add_argument("--only", default="", help="only cases whose text holds this")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    known = (
        {} if chosen.write else {row["case"]: row["sha256"] for row in csv.DictReader(LIST.open())}
    )
    rows, differ = [], 0
    for case in CASES:
        text = " ".join([case[0], case[1], f"seed {case[2]}", *case[3]])
        if chosen.only not in text:
            continue
        found = fingerprint(case)
        rows.append({"case": text, "sha256": found})
        same = known.get(text, found) == found
        differ += not same
        print(f"{'same  ' if same else 'DIFFER'} {found[:12]} {text}", flush=True)
    if chosen.write:
        with LIST.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["case", "sha256"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(f"{len(rows) - differ} of {len(rows)} are the same")
    sys.exit(differ > 0)


if __name__ == "__main__":
    main()
