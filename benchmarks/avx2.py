"""8-bit files on x86 processors without integer dot products, emulated, beside this processor; and
what exactness costs here.

    python benchmarks/avx2.py --data DIR --work DIR --out avx2.csv [--only PATTERN]
        [--emulated 500,500] [--pairs 30] [--table avx2.md]

DIR holds cifar-10-batches-py/, weights/ and imagenet-val-1300/; the packages that
examples/efficientnet_lite0.py names are importable. Needs Debian's qemu-user: each file is run by
ONNX Runtime in two processes, one of them under `qemu-x86_64 -cpu Haswell-noTSX` (AVX2, no VNNI).
One row a network, file and option of the session; what has a row is skipped, and files, images and
outputs in the folder --work are used again, so the command can be stopped and started again.

Files: `speed` is what `subbyte.export` writes by default, `exact` the same with optimize="exact",
`7 bits` the recipe with target ort-x86-avx2, whose weights have at most 7 bits.
--emulated: so many images for resnet20 and for EfficientNet-Lite0.
`equal`, `classes`: percent of emulated rows that have the same bits, the same class.
`top1_native`, `top1_emulated`: of these images; `top1_all`: of `all` images, on this processor.
`x_1`, `x_32`: CPU time at that batch size over that of the default file without the option, in
turns, with the 95 % interval.
"""

import argparse
import fnmatch
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from _store import Progress, Store
from torch import nn

import subbyte
from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.exporters.sessions import open_session
from subbyte.models import load_model
from subbyte.recipe import load_recipe
from subbyte.speed.machine import processor
from subbyte.speed.pairs import Call, take_turns

SPEED, EXACT, SEVEN = "speed", "exact", "7 bits"
FILES = (SPEED, EXACT, SEVEN)
PRECISION = "session.x64quantprecision=1"
RUNS = ((SPEED, ""), (EXACT, ""), (SPEED, PRECISION), (SEVEN, ""))
EMULATOR = ("qemu-x86_64", "-cpu", "Haswell-noTSX")
BATCHES = (1, 32)
KEY = ("network", "file", "option")
COLUMNS = (
    *KEY,
    "exact_on",
    "images",
    "equal",
    "classes",
    "top1_native",
    "top1_emulated",
    "top1_all",
    "all",
    *(f"x_{batch}{end}" for batch in BATCHES for end in ("", "_low", "_high")),
    "onnxruntime",
    "processor",
)
IMAGES, LABELS = "all.npy", "labels.npy"
_WORKER = Path(__file__).with_name("_outputs.py")
_PROVEN, _LIMIT = 64, 30.0
_LITE = Path(__file__).parents[1] / "examples/efficientnet_lite0.py"
_LITE_PIXELS = "0.498039,0.498039,0.498039/0.501961,0.501961,0.501961"


@dataclass(frozen=True)
class Subject:
    """A network with its data. emulated: so many images; calibration: so many, drawn with seed 0;
    most: test images that are run natively.
    """

    name: str
    folder: Path
    emulated: int
    calibration: int
    most: int

    def network(self, data: Path) -> nn.Module:
        """The network with third-party weights."""
        if self.name == "resnet20":
            return load_model(self.name, data / "weights/resnet20-12fca82f.th")
        return load_model(f"{_LITE}:efficientnet_lite0")

    def data(self, data: Path) -> DataSet:
        """Its images."""
        if self.name == "resnet20":
            return load_data(f"cifar10:{data / 'cifar-10-batches-py'}", normalize="imagenet")
        return load_data(
            f"imagenet:{data / 'imagenet-val-1300'}", normalize=_LITE_PIXELS, resize=256, crop=224
        )


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="*")
    parser.add_argument("--emulated", default="500,500")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    store = Store(given.out, COLUMNS, KEY)
    small, large = map(int, given.emulated.split(","))
    subjects = [
        Subject("resnet20", given.work / "resnet20", small, 500, 10_000),
        Subject("efficientnet-lite0", given.work / "efficientnet-lite0", large, 32, 500),
    ]
    for subject in subjects:
        if not fnmatch.fnmatch(subject.name, given.only):
            continue
        runs = [{"network": subject.name, "file": file, "option": option} for file, option in RUNS]
        missing = [run for run in runs if store.find(run) is None]
        if missing:
            prepare(subject, given.data)
        progress = Progress([subject.name for _ in missing])
        for run in missing:
            store.add(run | row_of(subject, run["file"], run["option"], given.pairs))
            progress.done(" ".join(run.values()))
    text = "\n".join(table(store.rows)) + "\n"
    print(text)
    if given.table:
        given.table.write_text(text)


def prepare(subject: Subject, data: Path) -> None:
    """Make the images and files that are not there yet."""
    subject.folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in FILES if not path_of(subject, name).exists()]
    if (subject.folder / LABELS).exists() and not missing:
        return
    images, split = draw_calibration(subject.data(data), subject.calibration, 0)
    if EXACT in missing or SPEED in missing:
        model = subbyte.quantize(subject.network(data), images, "w8a8")
        for name in (SPEED, EXACT):
            path = path_of(subject, name)
            subbyte.export(model, path, images[:_PROVEN], optimize=name, force=True)
    if SEVEN in missing:
        recipe = load_recipe("w8a8", ["weights.bits=7"])
        model = subbyte.quantize(subject.network(data), images, recipe, target="ort-x86-avx2")
        subbyte.export(model, path_of(subject, SEVEN), images[:_PROVEN])
    order = np.random.RandomState(0).permutation(len(split))[: subject.most].tolist()
    np.save(subject.folder / IMAGES, split.images(order).numpy())
    np.save(subject.folder / LABELS, split.labels[order].numpy())


def path_of(subject: Subject, file: str) -> Path:
    """The place of a file."""
    return subject.folder / f"{file.replace(' ', '-')}.onnx"


def row_of(subject: Subject, file: str, option: str, pairs: int) -> dict[str, Any]:
    """Everything about a file in sessions with an option."""
    labels = np.load(subject.folder / LABELS)
    whole = outputs(subject, file, option, len(labels), emulated=False)
    few = subject.emulated
    native, emulated = whole[:few], outputs(subject, file, option, few, emulated=True)
    equal = (native.view(np.int32) == emulated.view(np.int32)).all(1)
    predicted, again = whole.argmax(1), emulated.argmax(1)
    held = onnx.load(path_of(subject, file), load_external_data=False).metadata_props
    found = {
        "exact_on": next(one.value for one in held if one.key == "subbyte.exact_on"),
        "images": len(emulated),
        "equal": percent(equal),
        "classes": percent(predicted[:few] == again),
        "top1_native": percent(predicted[:few] == labels[:few]),
        "top1_emulated": percent(again == labels[:few]),
        "top1_all": percent(predicted == labels),
        "all": len(labels),
        "onnxruntime": onnxruntime.__version__,
        "processor": processor(),
    }
    for batch in BATCHES:
        found |= cost(subject, file, option, batch, pairs)
    return found


def percent(right: np.ndarray) -> str:
    """The share of what is true."""
    return f"{100 * right.mean():.2f}"


def outputs(subject: Subject, file: str, option: str, count: int, *, emulated: bool) -> np.ndarray:
    """Outputs of a file for the first images, made in a process of its own."""
    where = "emulated" if emulated else "native"
    form = "option" if option else "plain"
    place = subject.folder / f"{file.replace(' ', '-')}.{form}.{where}.{count}.npy"
    if not place.exists():
        given = subject.folder / f"images.{count}.npy"
        if not given.exists():
            np.save(given, np.load(subject.folder / IMAGES, mmap_mode="r")[:count])
        command = [sys.executable, str(_WORKER), str(path_of(subject, file)), str(given)]
        command += [str(place), *([option] if option else [])]
        done = subprocess.run(
            [*(EMULATOR if emulated else ()), *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr[-500:]}")
    found: np.ndarray = np.load(place)
    return found


def cost(subject: Subject, file: str, option: str, batch: int, pairs: int) -> dict[str, str]:
    """CPU time at a batch size over that of the default file without the option."""
    if (file, option) == (SPEED, ""):
        return {f"x_{batch}{end}": "1.000" for end in ("", "_low", "_high")}
    images = np.load(subject.folder / IMAGES, mmap_mode="r")[:batch]
    calls = {
        name: call_of(path_of(subject, one), images, own)
        for name, one, own in (("mine", file, option), ("default", SPEED, ""))
    }
    ratio = take_turns(calls, pairs, limit=_LIMIT).ratio("mine", "default")
    values = {"": ratio.median, "_low": ratio.low, "_high": ratio.high}
    return {f"x_{batch}{end}": f"{value:.3f}" for end, value in values.items()}


def call_of(path: Path, images: np.ndarray, option: str) -> Call:
    """One run of a file in a session with an option."""

    def change(options: onnxruntime.SessionOptions) -> None:
        if option:
            options.add_session_config_entry(*option.split("="))

    session = open_session(path, 1, change)
    feeds = {session.get_inputs()[0].name: np.ascontiguousarray(images)}
    return partial(session.run, None, feeds)


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """The rows as Markdown."""
    shown = [name for name in COLUMNS if name not in ("onnxruntime", "processor")]
    told = {f"{row['processor']}, ONNX Runtime {row['onnxruntime']}" for row in rows}
    yield f"Natively: {', '.join(sorted(told))}; emulated: {' '.join(EMULATOR)}; one thread."
    yield ""
    yield "| " + " | ".join(shown) + " |"
    yield "|" + "---|" * len(shown)
    for row in rows:
        yield "| " + " | ".join(row[name] for name in shown) + " |"


if __name__ == "__main__":
    main()
