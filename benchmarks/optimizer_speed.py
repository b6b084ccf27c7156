"""Time of an optimizer's step, as a ratio to torch's own (foreach), on the parameters of a network.

    python benchmarks/optimizer_speed.py [--model resnet20] [--threads 1] [--rounds 60] [--device
    cpu] [--out FILE.json]

All optimizers take turns; of each the fastest of `rounds` turns of 20 steps counts. Prints a
Markdown table.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from subbyte.learn.optimizers import QSGD, GridSettings, GridSGD, Lattice, QtAdamW
from subbyte.models import new_model

STEPS = 20
SGD = {"momentum": 0.9, "weight_decay": 5e-4}
Make = Callable[[list[Tensor]], torch.optim.Optimizer]


def _on_grid(params: list[Tensor]) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in params if p.ndim > 1]},
        {"params": [p for p in params if p.ndim == 1], "bits": None},
    ]
    return GridSGD(groups, 0.1, **SGD, settings=GridSettings())


CASES: dict[str, tuple[str, Make]] = {
    "torch SGD": ("torch SGD", lambda p: torch.optim.SGD(p, 0.1, **SGD, foreach=True)),
    "QSGD": ("torch SGD", lambda p: QSGD(p, 0.1, **SGD)),
    "QSGD, resolution fixed": (
        "torch SGD",
        lambda p: QSGD(p, 0.1, **SGD, lattice=Lattice(schedule="fixed")),
    ),
    "QSGD, resolution by tensor": (
        "torch SGD",
        lambda p: QSGD(
            p, 0.1, **SGD, lattice=Lattice(schedule={"name": "on-stall", "scope": "tensor"})
        ),
    ),
    "QSGD, error feedback": (
        "torch SGD",
        lambda p: QSGD(p, 0.1, **SGD, lattice=Lattice(error_feedback=True)),
    ),
    "QSGD, stochastic": (
        "torch SGD",
        lambda p: QSGD(p, 0.1, **SGD, lattice=Lattice(rounding="stochastic")),
    ),
    "GridSGD, 4 + 4 bits, stochastic": ("torch SGD", _on_grid),
    "torch SGD, no momentum": (
        "torch SGD, no momentum",
        lambda p: torch.optim.SGD(p, 0.1, foreach=True),
    ),
    "QSGD, no momentum": ("torch SGD, no momentum", lambda p: QSGD(p, 0.1)),
    "torch AdamW": ("torch AdamW", lambda p: torch.optim.AdamW(p, 0.1, foreach=True)),
    "QtAdamW": ("torch AdamW", lambda p: QtAdamW(p, 0.1)),
}
"""By name: what to compare with, and how to make it."""


def measure(model: str, device: str, rounds: int) -> dict[str, float]:
    """Seconds a step, by case."""
    optimizers = {}
    for name, (_, make) in CASES.items():
        torch.manual_seed(0)
        params = list(new_model(model).to(device).parameters())
        for p in params:
            p.grad = 1e-3 * torch.randn_like(p)
        optimizers[name] = make(params)
    best = dict.fromkeys(CASES, float("inf"))
    for _ in range(rounds):
        for name, optimizer in optimizers.items():
            _wait(device)
            start = time.perf_counter()
            for _ in range(STEPS):
                optimizer.step()
            _wait(device)
            best[name] = min(best[name], (time.perf_counter() - start) / STEPS)
    return best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    seconds = measure(args.model, args.device, args.rounds)
    print(
        f"{args.model}, {args.device}, {args.threads} thread(s)\n\n| optimizer | us a step | ratio "
        f"|\n|---|---|---|"
    )
    rows = []
    for name, (reference, _) in CASES.items():
        ratio = seconds[name] / seconds[reference]
        rows.append(
            {
                "optimizer": name,
                "microseconds": round(1e6 * seconds[name]),
                "ratio": round(ratio, 3),
            }
        )
        print(f"| {name} | {1e6 * seconds[name]:.0f} | {ratio:.2f} |")
    if args.out:
        about = {
            "model": args.model,
            "device": args.device,
            "threads": args.threads,
            "torch": torch.__version__,
        }
        args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
