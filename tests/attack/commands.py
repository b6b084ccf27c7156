"""Small runs of every command that writes something, on a network that has learnt its images."""

from dataclasses import dataclass
from typing import Any

Patches = tuple[tuple[str, str, Any], ...]
_DATA = ("--data", "npz:data.npz")
_NET = ("--model", "net.py:net", "--weights", "net.safetensors", *_DATA)
_PLAIN = ("--export", "none", "--no-bench", "--no-report")
_SPACE = """
name: Breiten für w4
model: net.py:net
checkpoint: net.safetensors
data: npz:data.npz
recipe: w4
grid: {weights.bits: [2, 3]}
calibration: 16
seeds: [0]
measure: test
"""
FILES = {"space.yaml": _SPACE}
"""Texts that commands read."""


@dataclass(frozen=True)
class Command:
    """argv: without `--out`; out: what it writes. other: what makes it another run, for a second
    writer. before: runs that it needs; goes_on: two one after another both
    end well. patches: of what would take too long.
    """

    argv: tuple[str, ...]
    out: str = "out"
    other: tuple[str, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()
    goes_on: bool = False
    patches: Patches = ()

    @property
    def line(self) -> tuple[str, ...]:
        """All arguments."""
        return (*self.argv, f"--out={self.out}")


_QUANTIZE = ("quantize", *_NET, "--calibration", "16", *_PLAIN)
_START = (*_QUANTIZE, "--recipe", "w4", "--out=start")
_TRAIN = (
    "train",
    "--model",
    "net.py:net",
    *_DATA,
    "--batch-size",
    "32",
    "--no-report",
    "--no-bench",
)
_FROM_W4 = ("--weights", "net.safetensors", "--recipe", "w4", "--calibration", "16")
_SCAN = ("--bits", "2", "--resolution", "2", "--metrics", "mse", "--calibration", "16")
_SHORT = ("--set", "batch=8", "--set", "precision=float32")

COMMANDS: dict[str, Command] = {
    "quantize": Command((*_QUANTIZE, "--recipe", "w4"), other=("--recipe", "w2")),
    "quantize --force": Command(
        (*_QUANTIZE, "--recipe", "w4", "--force"),
        other=("--recipe", "w2"),
        before=((*_QUANTIZE, "--recipe", "w3", "--out=out"),),
        goes_on=True,
    ),
    "quantize --recipe best": Command(
        (*_QUANTIZE, "--recipe", "best", "--bits", "4", "--apart", "20"), other=("--bits", "3")
    ),
    "tune": Command(
        ("tune", "start", "--weights", "net.safetensors", "--steps", "3", *_SHORT, *_PLAIN),
        other=("--steps", "2"),
        before=(_START,),
    ),
    "train": Command((*_TRAIN, "--epochs", "2", "--lr", "0.01"), other=("--lr", "0.02")),
    "train, more epochs": Command(
        (*_TRAIN, "--epochs", "2", "--lr", "0.01"),
        goes_on=True,
        before=((*_TRAIN, "--epochs", "1", "--lr", "0.01", "--out=out"),),
    ),
    "train --recipe": Command(
        (
            *_TRAIN,
            "--weights",
            "net.safetensors",
            "--recipe",
            "w4",
            "--calibration",
            "16",
            "--epochs",
            "1",
            "--lr",
            "0.001",
        ),
        other=("--lr", "0.002"),
    ),
    "sweep": Command(("sweep", "space.yaml", "--no-report"), goes_on=True),
    "gradquant": Command(
        (
            "gradquant",
            *_NET,
            "--bits",
            "2",
            "--resolution",
            "2",
            "--metrics",
            "mse",
            "--calibration",
            "16",
            "--evaluate",
            "16",
            "--dump",
            "--no-report",
        ),
        other=("--resolution", "3"),
    ),
    "aciq": Command(
        ("aciq", "--bits", "2", "--samples", "1000", "--no-report"), other=("--bits", "3")
    ),
    "look": Command(
        ("look", "--data", "digits", "--samples", "1", "--no-report"), other=("--samples", "2")
    ),
    "export": Command(("export", "start", "--to", "onnx-compact"), "a.onnx", before=(_START,)),
    "export into a folder": Command(
        ("export", "start", "--to", "onnx-compact", "--no-report"),
        "start/a.onnx",
        before=(_START,),
    ),
    "bench": Command(
        ("bench", "a.onnx", "--pairs", "1", "--seconds", "1", "--no-static"),
        "bench.json",
        before=(_START, ("export", "start", "--to", "onnx-compact", "--out=a.onnx")),
    ),
    "report": Command(("report", "start"), "page.html", before=(_START,), goes_on=True),
    "demo": Command(
        ("demo", "--no-report"),
        patches=(
            ("subbyte.cli.demo", "_EPOCHS", 1),
            ("subbyte.cli.demo", "_RECIPES", ("w3",)),
        ),
        other=("--seed", "1"),
    ),
}
