"""What runs of a sweep save by sharing: CPU seconds of each run alone, and with what runs before it
left on disk.

    python benchmarks/sweep_sharing.py --data DIR [--calibration 500] [--images 2000] [--rounds 2]
    [--out FILE.csv]

DIR is the folder cifar-10-batches-py. CIFAR-10's resnet20 (builtin), all layers, weights of 3 bits,
several roundings, and three budgets shared out with `gptq`. Each run is done alone with an empty
folder, then with the folder that all runs share, in one process of one thread, turn by turn;
captures are forgotten in between, as in a new worker. Prints a Markdown table: the least CPU
seconds of the rounds, and their ratio.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import torch

from subbyte.analyses.sweeps import Space, make_runs
from subbyte.analyses.sweeps.work import captured, execute, load_inputs

RUNS: dict[str, dict[str, object]] = {
    **{
        rounding: {"weights.rounding": rounding}
        for rounding in ("nearest", "gpfq", "gptq", "qronos", "corrected")
    },
    "gptq, fisher": {"weights.rounding": "gptq", "weights.range": "fisher"},
    "gptq, guided": {"weights.rounding": "gptq", "weights.guided": 4},
    **{
        f"budget {bits} bits": {"weights.rounding": "gptq", "budget": f"{bits}bits"}
        for bits in (2.5, 3, 3.5)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--calibration", type=int, default=500)
    parser.add_argument("--images", type=int, default=2000, help="to validate on")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(args)
    print("| run | alone, CPU s | sharing, CPU s | ratio |\n|---|---|---|---|")
    for row in rows:
        print("| {run} | {alone:.1f} | {sharing:.1f} | {ratio:.2f} |".format_map(row))
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def measure(args: argparse.Namespace) -> list[dict[str, object]]:
    """A row a run."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in RUNS}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as shared:
            done(RUNS["nearest"], args, Path(shared))
            for name, settings in RUNS.items():
                with tempfile.TemporaryDirectory() as empty:
                    seconds[name][0].append(done(settings, args, Path(empty)))
                seconds[name][1].append(done(settings, args, Path(shared)))
    return [
        {"run": name, "alone": round(min(alone), 2), "sharing": round(min(sharing), 2)}
        | {"ratio": round(min(alone) / min(sharing), 3)}
        for name, (alone, sharing) in seconds.items()
    ]


def done(settings: dict[str, object], args: argparse.Namespace, folder: Path) -> float:
    """CPU seconds of a run."""
    space = Space(
        recipe="w3",
        model="resnet20",
        checkpoint="builtin:resnet20-cifar10",
        data=f"cifar10:{args.data}",
        calibration=args.calibration,
        validation=args.images,
        set=settings,
        grid={},
        seeds=[0],
    )
    (run,) = make_runs(space)
    inputs = load_inputs(*run.inputs)
    captured.cache_clear()
    start = time.process_time()
    execute(run, inputs, folder)
    return time.process_time() - start


if __name__ == "__main__":
    main()
