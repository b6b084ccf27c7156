"""A tiny network and its images, spaces over them, engines that only pretend, and tables as they
are compared.
"""

import csv
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from subbyte.analyses.sweeps import Space, load_space, make_runs
from subbyte.analyses.sweeps.space import Run
from subbyte.analyses.sweeps.store import Task, task_of
from subbyte.records.outcome import METRICS, Done, Outcome

NETWORK = """
import os

import torch
from torch import nn


def net(channels=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        convolution, head = nn.Conv2d(1, channels, 3), nn.Linear(36 * channels, 6)
        return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), head)


def other():
    return net(seed=1)


def deadly():
    if os.environ.get("SWEEP_PARENT") != str(os.getpid()):  # only workers die
        os._exit(7)
    return net(seed=2)


def broken():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 6))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net(seed=3)

    def forward(self, x):
        return self.inner(torch.relu(x))
"""
ROOT = Path(__file__).parents[3]


def lay_out(folder: Path) -> Path:
    """Write net.py, and data.npz with 80 training and 40 test images in 6 classes."""
    (folder / "net.py").write_text(NETWORK)
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 80), ("test", 40)):
        arrays[f"x_{part}"] = generator.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)
        arrays[f"y_{part}"] = generator.integers(0, 6, count)
    np.savez(folder / "data.npz", **arrays)
    np.savez(folder / "other.npz", **(arrays | {"y_test": arrays["y_test"][::-1]}))
    return folder


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """A space of 6 runs as its file holds it, with changes."""
    content = {
        "recipe": "w4",
        "model": f"{folder}/net.py:net",
        "data": f"npz:{folder}/data.npz",
        "calibration": 16,
        "validation": 30,
        "set": {"weights.correction": "none", "weights.rounding": "nearest"},
        "grid": {"weights.bits": [2, 3, 4]},
        "seeds": [0, 1],
    } | changes
    return {name: value for name, value in content.items() if value is not ...}


def write_space(folder: Path, path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(settings(folder, **changes), sort_keys=False))
    return path


def read_space(text: str, tmp_path: Path, **changes: Any) -> Space:
    """The space that a file with this text holds."""
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return load_space(path, changes)


def space_of(folder: Path, **changes: Any) -> Space:
    return Space.model_validate(settings(folder, **changes))


def tasks_of(space: Space) -> list[Task]:
    """Tasks without reading networks or data."""
    return [task_of(run, str(run.inputs), "1") for run in make_runs(space)]


def metrics(top1: float = 50.0, **changes: float) -> Done:
    """What a run measures."""
    return Done.model_validate(
        dict.fromkeys(METRICS, 1.0) | {"quantized_top1_percent": top1} | changes
    )


def without_times(outcome: Outcome) -> dict[str, object]:
    """An outcome but for what differs by machine."""
    found = outcome.model_dump()
    return {name: value for name, value in found.items() if not name.endswith("_seconds")}


class Fake:
    """An engine that does nothing but ask `outcome`, and remembers what it was asked for."""

    def __init__(self, outcome: Callable[[Run], Outcome] = lambda _: metrics()) -> None:
        self.outcome = outcome
        self.asked: list[Task] = []

    def __call__(self, cache: Path) -> "Fake":
        return self

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            self.asked.append(task)
            yield task, self.outcome(task.run)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(path: Path) -> str:
    """A table byte for byte, but for the columns that differ by machine."""
    rows = table(path)
    kept = [name for name in rows[0] if not name.endswith("_seconds")]
    return "\n".join(
        ",".join(row[name] for name in kept) for row in [dict(zip(kept, kept, strict=True)), *rows]
    )


def command(*arguments: object) -> "subprocess.Popen[str]":
    """`subbyte` in a process group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "-m", "subbyte", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
