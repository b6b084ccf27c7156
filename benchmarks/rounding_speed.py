"""Speed of the rounding methods on one synthetic layer, as ratios measured in one run.

    python benchmarks/rounding_speed.py --out FILE.json [--rows 512] [--columns 4608] [--samples
        50000] [--residual-columns 256] [--methods gptq,gpfq] [--repeats 3] [--threads 1]

residual   GPFQ as its papers state it: u [rows, samples], and column by column two rank-1 updates
           and one product; in float32, on inputs stored column by column. Timed on the first
           --residual-columns columns and scaled up, as every column costs the same. It is a kernel:
           no fit of the grid, no choice between rows.
path       the same codes from second moments, blocked: the kernel of our `gpfq`
           (`rounding.path.follow_path`)
diffusion  the kernel of our `gptq`: damping, factor, recursion
methods    `round` as the walk calls it: grid (min-max), kernel, nearest codes, the better of both
           row by row
moments    collecting them, as the walk does: H alone while the networks agree (all that GPTQ
           reads); H, G and F else

Before anything is timed, residual and path must give equal codes on a small layer. CPU seconds;
kernels, GPFQ and GPTQ are medians of --repeats runs that take turns, the others run once. FILE.json
is written after every step. Times hardly
depend on the values: inputs are rectified Gaussians with common factors; those of the quantized
    network have noise.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, Linear, PerChannel, QTensor, Uniform
from subbyte.ranges import RANGES, GridFitter
from subbyte.rounding import ROUNDINGS
from subbyte.rounding.diffusion import Diffusion
from subbyte.rounding.path import follow_path
from subbyte.stats import LayerStats, MomentCollector

CHUNK = 2000  # samples
FACTORS = 32  # common to all columns
SMALL = (16, 96, 1000)  # rows, columns, samples of the check
KERNELS = ("path", "diffusion", "gpfq", "gptq")


@dataclass(frozen=True, eq=False)
class Problem:
    """weight: [rows, columns]; x, x_q: [samples, columns], inputs in the float and in the quantized
    network.
    """

    weight: Tensor
    x: Tensor
    x_q: Tensor
    fit: GridFitter

    @property
    def grid(self) -> Grid:
        return self.fit(self.weight)


def problem(rows: int, columns: int, samples: int, bits: int) -> Problem:
    torch.manual_seed(0)
    mixing = torch.randn(FACTORS, columns) / FACTORS**0.5
    x = torch.empty(samples, columns)
    for part in x.split(CHUNK):
        part.copy_(
            torch.relu(torch.randn(len(part), FACTORS) @ mixing + torch.randn(len(part), columns))
        )
    x_q = x.clone()
    for part in x_q.split(CHUNK):
        part.add_(0.1 * torch.randn(len(part), columns)).relu_()
    weight = torch.randn(rows, columns) / columns**0.5
    return Problem(
        weight, x, x_q, GridFitter(RANGES["minmax"](), GridSpec(Uniform(bits), PerChannel()))
    )


def residual(weight: Tensor, grid: Grid, x: Tensor, x_q: Tensor) -> Tensor:
    """Values [rows, columns]; x, x_q: [columns, samples], each column of the inputs in one
    piece.
    """
    u = torch.zeros(len(weight), x.shape[1])
    scale = grid.scale[:, 0]
    rounded = torch.empty_like(weight)
    for t in range(weight.shape[1]):
        u.addr_(weight[:, t], x[t])
        argument = (u @ x_q[t]) / x_q[t].dot(x_q[t])
        q = (
            torch.round(argument / scale)
            .clamp_(grid.spec.alphabet.qmin, grid.spec.alphabet.qmax)
            .mul_(scale)
        )
        u.addr_(q, x_q[t], alpha=-1)
        rounded[:, t] = q
    return rounded


def collect(p: Problem, agree: bool) -> LayerStats:
    """Moments of all samples; agree: as if both networks' inputs were those of the quantized
    one.
    """
    collector = MomentCollector(Linear(tuple(p.weight.shape)))
    for x, x_q in zip(p.x.split(CHUNK), p.x_q.split(CHUNK), strict=True):
        collector.add(x_q if agree else x, x_q)
    return collector.finish()


def check(bits: int, methods: list[str]) -> None:
    """Residual and path give equal codes, or nothing is worth timing; everything runs once, so that
    it is loaded.
    """
    p = problem(*SMALL, bits)
    long = residual(p.weight, p.grid, p.x.T.contiguous(), p.x_q.T.contiguous())
    stats = collect(p, agree=False)
    short = follow_path(p.weight, p.grid, stats)
    codes = [QTensor.nearest(values, p.grid).codes for values in (long, short)]
    if not torch.equal(*codes):
        raise SystemExit(
            f"residual and path differ in {int((codes[0] != codes[1]).sum())} codes: nothing was "
            f"timed"
        )
    for run in actions(p, stats, methods).values():
        run()
    print(
        "residual and path: equal codes on a layer of {} x {} with {} samples".format(*SMALL),
        flush=True,
    )


def timed(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


class Table:
    """Seconds by name, in the file at once."""

    def __init__(self, out: Path, settings: dict[str, object]) -> None:
        self.out, self.settings, self.seconds = out, settings, {}

    def add(self, seconds: dict[str, float]) -> None:
        self.seconds |= seconds
        for name, value in seconds.items():
            print(f"  {name}: {value:.3f} CPU s", flush=True)
        self.write({})

    def write(self, ratios: dict[str, float]) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.out.with_name(f".{self.out.name}.partial")
        fresh.write_text(
            json.dumps({**self.settings, "cpu_seconds": self.seconds, "ratios": ratios}, indent=2)
            + "\n"
        )
        fresh.replace(self.out)


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    return {name: statistics.median(values) for name, values in seconds.items()}


def time_residual(p: Problem, columns: int, table: Table) -> Tensor:
    """What all columns would take, from the first ones; returns the values of these."""
    x, x_q = (m[:, :columns].T.contiguous() for m in (p.x, p.x_q))
    weight, grid = p.weight[:, :columns], p.grid
    start = time.process_time()
    values = residual(weight, grid, x, x_q)
    seconds, whole = time.process_time() - start, p.weight.shape[1]
    print(
        f"residual: {seconds:.3f} CPU s for {columns} of {whole} columns, scaled up by "
        f"{whole / columns:g}"
    )
    table.add({"residual": seconds * whole / columns})
    return values


def time_all(p: Problem, methods: list[str], columns: int, repeats: int, table: Table) -> None:
    table.add({"moments: H": timed(lambda: collect(p, agree=True))})
    start = time.process_time()
    stats, grid = collect(p, agree=False), p.grid
    table.add({"moments: H, G, F": time.process_time() - start})
    values = time_residual(p, columns, table)
    same = values == follow_path(p.weight, grid, stats)[:, :columns]
    print(
        f"path gives {100 * float(same.double().mean()):.3f} % of the same codes there (the "
        f"others: float32)"
    )
    runs = actions(p, stats, methods)
    table.add(interleaved({name: runs.pop(name) for name in KERNELS}, repeats))
    for name, run in runs.items():
        table.add({name: timed(run)})


def actions(p: Problem, stats: LayerStats, methods: list[str]) -> dict[str, Callable[[], object]]:
    """What is timed on moments, by name."""
    kernels = {
        "path": lambda: follow_path(p.weight, p.grid, stats),
        "diffusion": lambda: Diffusion(stats, 0.01, "diagonal").round(p.weight, p.grid),
    }
    names = dict.fromkeys(["gpfq", "gptq", *methods])
    return kernels | {
        name: lambda n=name: ROUNDINGS[n]().round(p.weight, p.fit, stats) for name in names
    }


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """The figures of merit."""
    return {
        "residual / path": seconds["residual"] / seconds["path"],
        "residual / (path + moments)": seconds["residual"]
        / (seconds["path"] + seconds["moments: H, G, F"]),
        "path / diffusion (kernels)": seconds["path"] / seconds["diffusion"],
        "gpfq / gptq (methods)": seconds["gpfq"] / seconds["gptq"],
    }


def report(table: Table, columns: int, whole: int) -> None:
    found = ratios(table.seconds)
    table.write(found)
    print("\n| what | CPU s | / gptq |\n|---|---|---|")
    for name, value in table.seconds.items():
        note = f" ({columns} of {whole} columns, scaled up)" if name == "residual" else ""
        print(f"| {name}{note} | {value:.3f} | {value / table.seconds['gptq']:.2f} |")
    print("\n" + "\n".join(f"{name} = {value:.2f}" for name, value in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--columns", type=int, default=4608)
    parser.add_argument("--samples", type=int, default=50000)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--residual-columns", type=int, default=256)
    parser.add_argument("--methods", default=",".join(ROUNDINGS), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    methods, columns = args.methods.split(","), min(args.residual_columns, args.columns)
    if unknown := [name for name in methods if name not in ROUNDINGS]:
        parser.error(f"unknown method {unknown[0]!r}; known: {', '.join(ROUNDINGS)}")
    torch.set_num_threads(args.threads)
    check(args.bits, methods)
    settings = {
        name: getattr(args, name)
        for name in ("rows", "columns", "samples", "bits", "repeats", "threads")
    }
    settings |= {
        "residual_columns": columns,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    table = Table(args.out, settings)
    p = problem(args.rows, args.columns, args.samples, args.bits)
    time_all(p, methods, columns, args.repeats, table)
    report(table, columns, args.columns)


if __name__ == "__main__":
    main()
