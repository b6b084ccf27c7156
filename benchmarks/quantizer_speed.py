"""Speed of affine fake-quantization, as multiples of a copy of the same bytes, measured in the same
run.

    python benchmarks/quantizer_speed.py [--megabytes 0.25,4,32,256] [--threads 1,2] [--repeats 7]
    [--bits 4]
        [--out benchmarks/results/quantizer_speed.json]

y = (clamp(round(x / s) + z, 0, 2^bits - 1) - z) s, the quantizer of GEMMLOWP, on float32, one scale
for the tensor or one for each of 64 channels:

copy       into memory that is there: the reference, whose GB/s (bytes read and written) are given
clone      a copy into new memory: nothing that returns a new tensor is faster
naive      the formula in torch operations, each a pass that returns a new tensor
in place   the same passes, one new tensor
folded     in place, two passes fewer: s clamp(round(x / s), -z, 2^bits - 1 - z), one z for the
           tensor, a plain number
fused      torch.fake_quantize_per_tensor_affine and ..._per_channel_affine
tap        `FakeQuantize`, what the quantized networks of subbyte run
compiled   torch.compile of the naive one: C++ on the CPU, Triton on the GPU; left out, with a note,
           where that fails

On the CPU with each number of threads; on the GPU too where there is one. Before anything is timed
all must agree with
the naive one: a value may lie one step off only where x / s is within float32 rounding of a tie, as
the fused operator multiplies by 1 / s. Runs take turns, each of several calls where tensors are
small, without gradients. On one thread of the CPU the median CPU time of --repeats runs counts;
elsewhere the fastest by the wall clock, to which other programs only add; where the load average
(in FILE.json) is above the number of cores, trust one thread only. Compiling is not timed; how long
it takes is said.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from subbyte.core import Grid, GridSpec, Uniform, share_of
from subbyte.graph.instrument import FakeQuantize

CHANNELS = 64
LEAST = 16 * 2**20  # bytes of input in one timed run
CHECKED = 2**16  # values of the check, half of them ties
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Quantizer:
    """scale: float32 and zero: whole float32, [] or [channels, 1]; inputs are [n, channels, m]."""

    scale: Tensor
    zero: Tensor
    top: int

    def naive(self, x: Tensor) -> Tensor:
        return (
            torch.clamp(torch.round(x / self.scale) + self.zero, 0, self.top) - self.zero
        ) * self.scale

    def in_place(self, x: Tensor) -> Tensor:
        return (
            (x / self.scale)
            .round_()
            .add_(self.zero)
            .clamp_(0, self.top)
            .sub_(self.zero)
            .mul_(self.scale)
        )

    def folded(self) -> Run:
        low, high = -float(self.zero), self.top - float(self.zero)
        return lambda x: (x / self.scale).round_().clamp_(low, high).mul_(self.scale)

    def fused(self, x: Tensor) -> Tensor:
        scale, zero = self.scale.reshape(self.shape), self.zero.reshape(self.shape).int()
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, self.top)
        return torch.fake_quantize_per_channel_affine(x, scale, zero, self.axis, 0, self.top)

    @property
    def axis(self) -> int | None:
        return 1 if self.scale.ndim else None

    @property
    def shape(self) -> tuple[int, ...]:
        return (-1,) if self.scale.ndim else ()

    def tap(self) -> Run:
        bits = (self.top + 1).bit_length() - 1
        spec = GridSpec(
            Uniform(bits, signed=False, symmetric=False),
            share_of("channel" if self.scale.ndim else "tensor"),
        )
        tap = FakeQuantize("benchmark", self.axis).to(self.scale.device)
        tap.set_grid(Grid.of(spec, self.scale, self.zero))
        return tap

    def runs(self) -> dict[str, Run]:
        folded = {"folded": self.folded()} if self.axis is None else {}
        return {
            "naive": self.naive,
            "in place": self.in_place,
            **folded,
            "fused": self.fused,
            "tap": self.tap(),
        }


def quantizer(channels: bool, bits: int, device: str) -> Quantizer:
    generator = torch.Generator().manual_seed(0)
    shape = (CHANNELS, 1) if channels else ()
    top = 2**bits - 1
    scale = (0.8 + 0.4 * torch.rand(shape, generator=generator)) * 6 / top
    zero = torch.full(shape, float(round(0.4 * top)))
    return Quantizer(scale.to(device), zero.to(device), top)


def compiled(q: Quantizer) -> Run | str:
    """The compiled naive quantizer, run once, or why there is none."""
    torch.compiler.reset()  # the number of threads is compiled in
    start = time.perf_counter()
    run = torch.compile(q.naive, dynamic=True)
    try:
        for count in (CHECKED, 4 * CHECKED):
            run(inputs(count, q))
    # no compiler, no headers, no Triton: each fails with a type of its own
    except Exception as error:
        return f"not compiled: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
    return run


def inputs(count: int, q: Quantizer) -> Tensor:
    x = torch.randn(
        count // CHANNELS // 16, CHANNELS, 16, generator=torch.Generator().manual_seed(1)
    )
    return 1.5 * x.to(q.scale.device)


def check(q: Quantizer, runs: dict[str, Run]) -> dict[str, int]:
    """Number of values, of those at or near ties, that differ from the naive quantizer's; none may
    differ elsewhere.
    """
    ties = torch.round(inputs(CHECKED // 2, q) / q.scale).add(0.5) * q.scale
    x = torch.cat([inputs(CHECKED // 2, q), ties])
    exact = (x.double() / q.scale.double()).abs()
    tied = (exact % 1 - 0.5).abs() <= 2 * torch.finfo(torch.float32).eps * exact
    wanted, found = q.naive(x), {}
    for name, run in runs.items():
        off = (run(x) - wanted).abs()
        differs = off > 1e-6 * q.scale  # the step below; z times s is not taken alike by all
        if bool((differs & ~tied).any()) or bool((off > 1.001 * q.scale).any()):
            raise SystemExit(
                f"{name} and naive differ in {int((differs & ~tied).sum())} values that are no ties"
            )
        found[name] = int(differs.sum())
    return found


def alone(device: str) -> bool:
    """The process's CPU time is that of the work."""
    return device == "cpu" and torch.get_num_threads() == 1


def timed(run: Callable[[], object], calls: int, device: str) -> float:
    """Seconds of one call."""
    clock = time.process_time if alone(device) else time.perf_counter
    start = clock()
    for _ in range(calls):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / calls


def typical(runs: dict[str, Run], x: Tensor, repeats: int) -> dict[str, float]:
    out = torch.empty_like(x)
    size, device = x.numel() * x.element_size(), x.device.type
    actions = {"copy": lambda: out.copy_(x), "clone": x.clone} | {
        name: lambda r=r: r(x) for name, r in runs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            value = timed(action, -(-LEAST // size), device)
            if repeat:  # the first warms up
                seconds[name].append(value)
    choose = statistics.median if alone(device) else min
    return {name: choose(values) for name, values in seconds.items()}


def measure(device: str, threads: int, args: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each granularity and size."""
    torch.set_num_threads(threads)
    rows: list[dict[str, object]] = []
    for channels in (False, True):
        q = quantizer(channels, args.bits, device)
        runs, fast = q.runs(), compiled(q)
        if isinstance(fast, str):
            print(fast, flush=True)
        else:
            runs["compiled"] = fast
        differing = check(q, runs)
        for size in args.megabytes:
            x = inputs(int(size * 2**20 / 4), q)
            seconds = typical(runs, x, args.repeats)
            copy = seconds.pop("copy")
            row = {
                "device": device,
                "threads": threads,
                "scales": "channel" if channels else "tensor",
                "megabytes": size,
                "copy_gb_per_s": round(2 * x.numel() * x.element_size() / copy / 1e9, 1),
                "times_a_copy": {name: round(value / copy, 2) for name, value in seconds.items()},
                "load_average": round(os.getloadavg()[0], 1),
                "ties_that_differ_from_naive": differing,
                "compiled": fast if isinstance(fast, str) else "yes",
            }
            print({key: row[key] for key in list(row)[:6]}, flush=True)
            rows.append(row)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    names = ["clone", "naive", "in place", "folded", "fused", "tap", "compiled"]
    lines = [
        f"| device | threads | scales | MB | copy GB/s | {' | '.join(names)} |",
        f"|{'---|' * (5 + len(names))}",
    ]
    for row in rows:
        ratios = row["times_a_copy"]
        assert isinstance(ratios, dict)
        cells = [row[key] for key in ("device", "threads", "scales", "megabytes", "copy_gb_per_s")]
        cells += [f"{ratios[name]:.1f}" if name in ratios else "" for name in names]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=_list(float), default=[0.25, 4, 32, 256])
    parser.add_argument("--threads", type=_list(int), default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "quantizer_speed.json"
    )
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    with torch.no_grad():
        for threads in args.threads:
            rows += measure("cpu", threads, args)
        if torch.cuda.is_available():
            rows += measure("cuda", torch.get_num_threads(), args)
    settings = {
        "bits": args.bits,
        "repeats": args.repeats,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = args.out.with_name(f".{args.out.name}.partial")
    fresh.write_text(json.dumps({**settings, "rows": rows}, indent=2) + "\n")
    fresh.replace(args.out)
    print(
        f"\ntimes a copy of the same bytes\n\n{table(rows)}\n\nties that differ from naive: "
        f"{tied(rows)}"
    )


def tied(rows: list[dict[str, object]]) -> str:
    """The counts of each granularity on each device, once."""
    found = {
        f"{row['device']}, {row['scales']}": row["ties_that_differ_from_naive"] for row in rows
    }
    return f"of {CHECKED // 2} ties: " + "; ".join(
        f"{name}: {counts}" for name, counts in found.items()
    )


def _list(number: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: [number(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
