"""Brevitas' GPFQ and GPTQ beside ours on one linear layer, with the same weights, grid, samples and
batches.

    python -m venv brevitas && brevitas/bin/pip install torch==2.13.0     # with a local CPU build;
                                                                          see below
    brevitas/bin/pip install -c constraints.txt .                         # subbyte; or its
                                                                          packages, and
                                                                          PYTHONPATH=src
    brevitas/bin/pip install --no-deps brevitas==0.13.4 unfoldNd==0.2.3   # with dependencies torch
    may be replaced brevitas/bin/pip install dependencies==2.0.1 'setuptools<81' packaging sympy
    typing-extensions numpy brevitas/bin/python benchmarks/peers/rounding_speed_brevitas.py [--rows
        512] [--columns 4608] [--samples 50000] [--batch 2000] [--bits 4] [--repeats 1] [--threads
        1] [--out FILE.json]

Without a local build of torch, take it from its CPU index (--index-url
https://download.pytorch.org/whl/cpu).

A row is a run: `collect` is feeding the samples, `round` what follows. Brevitas runs as its
documentation shows: `gpfq_mode` and `gptq_mode` around a model that is one QuantLinear, defaults,
scales fixed from the weights' largest per row (narrow grid); ours are the collector, `Gpfq()` and
`Gptq(order="natural")`, which round row by row to nearest where that is better. One layer has no
layers before it, so both networks' inputs are the same numbers; Brevitas' GPFQ
still collects H and G, and ours H, G and F, as in the middle of a network. `equal codes` compares
with Brevitas' codes; GPFQ's differ in the rows that ours rounds to nearest. CPU seconds, medians of
--repeats. Brevitas quantizes the whole
matrix again for every column of GPFQ: the full size takes minutes.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional kernels for GPUs
        from brevitas.core.scaling import ScalingImplType
        from brevitas.graph.gpfq import gpfq_mode
        from brevitas.graph.gptq import gptq_mode
        from brevitas.nn import QuantLinear
        from brevitas.quant.scaled_int import Int8WeightPerChannelFloat
except ImportError as reason:
    raise SystemExit(
        f"brevitas can't be imported ({reason}); the top of this file says how to get it"
    ) from reason
try:
    from subbyte.core import GridSpec, Linear, PerChannel, Uniform
    from subbyte.ranges import RANGES, GridFitter
    from subbyte.rounding import Gpfq, Gptq
    from subbyte.stats import MomentCollector
except ImportError as reason:
    raise SystemExit(
        f"subbyte can't be imported ({reason}); install it, or set PYTHONPATH=src"
    ) from reason


@dataclass(frozen=True, eq=False)
class Outcome:
    """CPU seconds of a run, and the codes [rows, columns]."""

    collect: float
    round: float
    codes: Tensor


def brevitas(mode: type, weight: Tensor, batches: list[Tensor], bits: int) -> Outcome:
    model = nn.Sequential(quant_linear(weight, bits)).eval()
    with torch.no_grad():
        model(batches[0][:1])  # fixes the scales
        with mode(model) as running:
            start = time.process_time()
            for batch in batches:
                running.model(batch)
            collected = time.process_time()
            running.update()
            done = time.process_time()
        codes = model[0].quant_weight().int()
    return Outcome(collected - start, done - collected, codes)


def quant_linear(weight: Tensor, bits: int) -> QuantLinear:
    rows, columns = weight.shape
    layer = QuantLinear(
        columns,
        rows,
        bias=False,
        weight_quant=Int8WeightPerChannelFloat,
        weight_bit_width=bits,
        weight_scaling_impl_type=ScalingImplType.PARAMETER_FROM_STATS,
    )
    layer.weight.data.copy_(weight)
    return layer


def ours(method: Gpfq | Gptq, weight: Tensor, batches: list[Tensor], bits: int) -> Outcome:
    fit = GridFitter(RANGES["minmax"](), GridSpec(Uniform(bits, narrow=True), PerChannel()))
    collector = MomentCollector(Linear(tuple(weight.shape)))
    start = time.process_time()
    for batch in batches:
        # another object: G and F are collected
        other = batch.view_as(batch) if isinstance(method, Gpfq) else batch
        collector.add(other, batch)
    stats = collector.finish()
    collected = time.process_time()
    rounded = method.round(weight, fit, stats)
    return Outcome(collected - start, time.process_time() - collected, rounded.codes)


def contest(weight: Tensor, batches: list[Tensor], bits: int) -> dict[str, Callable[[], Outcome]]:
    """The runs, by name."""
    return {
        "brevitas gpfq": lambda: brevitas(gpfq_mode, weight, batches, bits),
        "subbyte gpfq": lambda: ours(Gpfq(), weight, batches, bits),
        "brevitas gptq": lambda: brevitas(gptq_mode, weight, batches, bits),
        "subbyte gptq": lambda: ours(Gptq(order="natural"), weight, batches, bits),
    }


def measure(runs: dict[str, Callable[[], Outcome]], repeats: int) -> dict[str, Outcome]:
    """Medians, taking turns."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            outcomes[name].append(run())
            last = outcomes[name][-1]
            print(f"  {name}: collect {last.collect:.2f}, round {last.round:.2f} CPU s", flush=True)
    return {
        name: Outcome(
            statistics.median(one.collect for one in all_),
            statistics.median(one.round for one in all_),
            all_[0].codes,
        )
        for name, all_ in outcomes.items()
    }


def samples(count: int, columns: int, batch: int) -> list[Tensor]:
    """Batches [batch, columns]: rectified Gaussians with common factors."""
    mixing = torch.randn(32, columns) / 32**0.5
    sizes = [min(batch, count - start) for start in range(0, count, batch)]
    return [torch.relu(torch.randn(n, 32) @ mixing + torch.randn(n, columns)) for n in sizes]


def report(found: dict[str, Outcome], settings: dict[str, object], out: Path | None) -> None:
    rows, ratios = {}, {}
    print("\n| run | collect CPU s | round CPU s | both | equal codes % |\n|---|---|---|---|---|")
    for name, one in found.items():
        peer = found[name.replace("subbyte", "brevitas")]
        equal = 100 * float((one.codes == peer.codes).double().mean())
        rows[name] = {"collect": one.collect, "round": one.round, "equal_codes_percent": equal}
        print(
            f"| {name} | {one.collect:.2f} | {one.round:.2f} | {one.collect + one.round:.2f} | "
            f"{equal:.2f} |"
        )
        if peer is not one:
            both = (peer.collect + peer.round) / (one.collect + one.round)
            ratios[name] = {"round": peer.round / one.round, "collect and round": both}
    for name, ratio in ratios.items():
        shown = ", ".join(f"{part} {value:.2f} times" for part, value in ratio.items())
        print(f"\nbrevitas / {name}: {shown}")
    if out is not None:
        out.write_text(
            json.dumps(settings | {"cpu_seconds": rows, "brevitas_over_subbyte": ratios}, indent=2)
            + "\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--columns", type=int, default=4608)
    parser.add_argument("--samples", type=int, default=50000)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    weight = torch.randn(args.rows, args.columns) / args.columns**0.5
    for run in contest(
        weight[:8, :64], samples(200, min(64, args.columns), 200), args.bits
    ).values():
        run()  # or the first runs would pay for loading code
    runs = contest(weight, samples(args.samples, args.columns, args.batch), args.bits)
    settings = {name: value for name, value in vars(args).items() if name != "out"} | {
        "torch": torch.__version__
    }
    report(measure(runs, args.repeats), settings, args.out)


if __name__ == "__main__":
    main()
