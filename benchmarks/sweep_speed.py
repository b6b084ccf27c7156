"""Throughput of a sweep: one worker process, two, and a Ray cluster of two processors on this
machine.

    python benchmarks/sweep_speed.py --data DIR [--runs 24] [--validation 1000] [--engines
    one,two,ray]
        [--out FILE.json]

resnet20 on CIFAR-10 (DIR), weights of 2 to 4 bits by `corrected`, 64 calibration images, one thread
a worker. Each engine does the same runs in a folder of its own, one engine after the other; the
clock runs from the start of the command to its end, workers' start and Ray's included. Prints a
Markdown table with throughput as a ratio to one worker.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ENGINES = {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "ray": ["--ray", "local"]}
WIDTHS = (2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    names = args.engines.split(",")
    seconds = {name: measure(name, args) for name in names}
    print("| engine | seconds | runs a minute | throughput |\n|---|---|---|---|")
    for name in names:
        options = " ".join(ENGINES[name])
        rate, ratio = 60 * args.runs / seconds[name], seconds[names[0]] / seconds[name]
        print(f"| `{options}` | {seconds[name]:.0f} | {rate:.1f} | {ratio:.2f} |")
    if args.out:
        found = {
            "runs": args.runs,
            "validation_images": args.validation,
            "processors": os.cpu_count(),
        }
        args.out.write_text(json.dumps({**found, "seconds": seconds}, indent=2) + "\n")


def measure(engine: str, args: argparse.Namespace) -> float:
    """Seconds that a sweep takes."""
    space = {
        "recipe": "w4",
        "model": "resnet20",
        "checkpoint": "builtin:resnet20-cifar10",
        "data": f"cifar10:{args.data}",
        "calibration": 64,
        "validation": args.validation,
        "grid": {"weights.bits": list(WIDTHS)},
        "seeds": list(range(args.runs // len(WIDTHS))),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(yaml.safe_dump(space))
        options = [str(path), "--out", f"{folder}/out", "--no-report", *ENGINES[engine]]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "subbyte", "sweep", *options],
            env=environment,
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
