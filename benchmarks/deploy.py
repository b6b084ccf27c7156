"""Exported files against the float network and against ONNX Runtime's own static quantization, in
turns, and what that takes in bytes and memory.

    python benchmarks/deploy.py --out deploy.csv [--only PATTERN] [--recipes w8a8,w4]
        [--batches 1,32] [--pairs 30] [--limit 120] [--table deploy.md]

One row a network, recipe and batch size; what has a row is skipped, so the command can be stopped
and started again. One thread, CPU time, medians of turns with the 95 % interval of the ratio of
each pair. Networks beyond the built-in ones need torchvision and timm beside a torch they go with
(extra `vision`); weights are random, as speed does not depend on them, and batch-norms have the
statistics of a batch of noise. OpenVINO runs the same files where it can be imported.

`ours` is the file that `subbyte.export` writes by default: onnx-int8 where activations are
quantized, else onnx-compact. `x_static`, `x_float`: our time over theirs, 1 is as fast and less is
faster. `resident`: MiB that loading the file adds to a fresh process.
"""

import argparse
import fnmatch
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _store import Progress, Store
from torch import Tensor, nn
from zoo import calibrated, cheap, make

import subbyte
from subbyte.errors import SubbyteError
from subbyte.exporters.float_onnx import write_float, write_static
from subbyte.exporters.kernels import read_kernels
from subbyte.exporters.sessions import Feeds, inputs_of, made_up, open_session
from subbyte.models import MODELS
from subbyte.records import Ratio
from subbyte.speed.bench import clock_for, prepared
from subbyte.speed.machine import processor
from subbyte.speed.memory import resident_memory
from subbyte.speed.pairs import Turns, take_turns

SIZES = {"resnet20": 32, "resnet44": 32}
"""Pixels of images, where not 224."""
NETWORKS = (
    "resnet20",
    "resnet44",
    "timm:tf_efficientnet_lite0",
    "mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "resnet50",
    "timm:vit_small_patch16_224",
)
RECIPES = ("w8a8", "w4a4", "w4", "w2", "ternary")
KEY = ("network", "recipe", "batch")
MEASURED = (
    "ms_float",
    "ms_static",
    "ms_ours",
    "x_static",
    "x_static_low",
    "x_static_high",
    "x_float",
    "x_float_low",
    "x_float_high",
    "pairs",
    "openvino_x_float",
    "openvino_x_static",
    "bytes_float",
    "bytes_static",
    "bytes_ours",
    "resident_float",
    "resident_ours",
    "values_alive",
    "integer_multiplications",
    "integer_nodes",
    "findings",
)
COLUMNS = (*KEY, *MEASURED, "processor", "reason")
FLOAT, STATIC, OURS = "float", "static", "ours"
_IMAGES, _MIB = 8, 2**20


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="*")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for all turns of a row")
    parser.add_argument("--table", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    store = Store(given.out, COLUMNS, KEY)
    batches = list(map(int, given.batches.split(",")))
    runs = [
        (name, recipe)
        for name in NETWORKS
        if fnmatch.fnmatch(name, given.only)
        for recipe in given.recipes.split(",")
        if any(
            store.find({"network": name, "recipe": recipe, "batch": batch}) is None
            for batch in batches
        )
    ]
    progress = Progress([name for name, _ in runs])
    for name, recipe in runs:
        for row in rows_of(name, recipe, batches, given.pairs, given.limit):
            if store.find(row) is None:
                store.add(row)
        progress.done(f"{name} {recipe}")
    text = "\n".join(table(store.rows)) + "\n"
    print(text)
    if given.table:
        given.table.write_text(text)


def rows_of(
    name: str, recipe: str, batches: list[int], pairs: int, limit: float
) -> Iterator[dict[str, Any]]:
    """The rows of one network and recipe; a reason where there are no figures."""
    blank = dict.fromkeys(COLUMNS, "") | {"network": name, "recipe": recipe}
    blank["processor"] = processor()
    try:
        with tempfile.TemporaryDirectory() as place:
            files = written(name, recipe, Path(place))
            about = described(files)
            for batch in batches:
                yield blank | about | {"batch": batch} | timed(files, batch, pairs, limit)
    except (SubbyteError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        yield from (blank | {"batch": batch, "reason": reason} for batch in batches)


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights, and images of noise."""
    torch.manual_seed(0)
    size = SIZES.get(name, 224)
    model = MODELS[name].build() if name in MODELS else make(name, {})
    images = torch.randn(_IMAGES, 3, size, size)
    calibrated(model, images)
    return model, images


def written(name: str, recipe: str, place: Path) -> dict[str, Path]:
    """The float file, what ONNX Runtime's tool makes of it where activations are quantized, and
    ours.
    """
    model, images = network(name)
    quantized = subbyte.quantize(model, images, cheap(recipe))
    files = {FLOAT: place / "float.onnx", OURS: place / "ours.onnx"}
    write_float(model, quantized.signature, quantized.output_names, files[FLOAT])
    subbyte.export(quantized, files[OURS], images)
    if quantized.plan.taps:
        files[STATIC] = place / "static.onnx"
        (name,) = inputs(files[FLOAT], 1)
        samples = [{name: images[k : k + 1].numpy()} for k in range(len(images))]
        write_static(files[FLOAT], samples, files[STATIC])
    return files


def inputs(path: Path, batch: int) -> Feeds:
    """Noise of a batch size."""
    return made_up(inputs_of(open_session(path), path), batch, {})


def described(files: dict[str, Path]) -> dict[str, Any]:
    """Bytes, memory, and what ONNX Runtime made of our file."""
    one = inputs(files[FLOAT], 1)
    kernels = read_kernels(files[OURS], one)
    found: dict[str, Any] = {f"bytes_{name}": path.stat().st_size for name, path in files.items()}
    for name in (FLOAT, OURS):
        resident = resident_memory(files[name], one, 1)
        found[f"resident_{name}"] = "" if resident is None else f"{resident.loaded / _MIB:.1f}"
    return found | {
        "values_alive": kernels.activations,
        "integer_multiplications": f"{kernels.multiplied_percent:.1f}",
        "integer_nodes": f"{kernels.integer_percent:.1f}",
        "findings": kernels.summary.partition("; ")[2],
    }


def timed(files: dict[str, Path], batch: int, pairs: int, limit: float) -> dict[str, Any]:
    """Times of all files in turns, in both runtimes."""
    feeds = inputs(files[FLOAT], batch)
    calls = {name: prepared(path, feeds, 1) for name, path in files.items()}
    turns = take_turns(calls, pairs, limit=limit, clock=clock_for(1))
    found: dict[str, Any] = {f"ms_{name}": f"{1000 * turns.median(name):.4g}" for name in files}
    for other in (STATIC, FLOAT):
        if other in files:
            ratio = turns.ratio(OURS, other)
            found |= _ratio(f"x_{other}", ratio) | {"pairs": ratio.pairs}
    return found | _in_openvino(files, feeds, pairs, limit)


def _ratio(name: str, ratio: Ratio) -> dict[str, str]:
    values = {name: ratio.median, f"{name}_low": ratio.low, f"{name}_high": ratio.high}
    return {key: f"{value:.3f}" for key, value in values.items()}


def _in_openvino(files: dict[str, Path], feeds: Feeds, pairs: int, limit: float) -> dict[str, Any]:
    """Ratios of our file's time in OpenVINO, where that can be imported and takes the files."""
    try:
        calls = {name: _openvino(path, feeds) for name, path in files.items()}
    except (ImportError, RuntimeError):
        return {}
    turns: Turns = take_turns(calls, pairs, limit=limit, clock=clock_for(1))
    return {
        f"openvino_x_{other}": f"{turns.ratio(OURS, other).median:.3f}"
        for other in (FLOAT, STATIC)
        if other in calls
    }


def _openvino(path: Path, feeds: Feeds) -> Callable[[], object]:
    """One run of a file in OpenVINO, on one thread."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(str(path), "CPU", settings).create_infer_request()
    return partial(request.infer, dict(feeds))


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """The rows as Markdown."""
    shown = [name for name in COLUMNS if name not in ("processor", "reason")]
    yield f"Processor: {', '.join(sorted({row['processor'] for row in rows}))}; one thread."
    yield ""
    yield "| " + " | ".join(shown) + " | |"
    yield "|" + "---|" * (len(shown) + 1)
    for row in rows:
        yield "| " + " | ".join(row[name] for name in shown) + f" | {row['reason']} |"


if __name__ == "__main__":
    main()
