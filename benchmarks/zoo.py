"""Networks of all families of torchvision and timm, end to end: capture, quantize, save, load,
export, proof.

    python benchmarks/zoo.py --out zoo.csv [--sample 24] [--only PATTERN] [--recipes w8a8,w4a4]
        [--limit 300] [--jobs 2] [--full PATTERN] [--table docs/zoo.md]

Needs torchvision and timm beside a torch they go with (extra `vision`), and nothing from the
internet: weights are random, and batch-norms have the statistics of a batch of noise. The networks
are those of zoo.txt, by name; each gets 4 images of noise, of the smallest size it takes, and is
made shallow by its own arguments where it has any (`reduced` says so) unless it matches --full. One
row a network and recipe, each in a process of its own that is stopped after --limit seconds of
processor time; what has a row is skipped, so the command can be stopped and started again.

Columns: layers and products whose factors are all on grids, of all; `float`: percent of
multiplications with a factor that is float; `exact`: whether the packed file, loaded, gives the
same outputs bit for bit; `integer_nodes`: of those that compute, in the graph that ONNX Runtime
makes of the file; `parity`: the largest distance of a row of an output from torch's, by what
rounding explains (1 and less is right, more is refused).
"""

import argparse
import fnmatch
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from _store import Progress, Store
from torch import Tensor, nn

COLUMNS = (
    "model",
    "recipe",
    "input",
    "reduced",
    "result",
    "layers",
    "products",
    "float",
    "walk_seconds",
    "exact",
    "parity",
    "integer_nodes",
    "reason",
)
KEY = ("model", "recipe")
_IMAGES, _FRAMES, _MEMORY = 4, 16, 20 * 2**30
_SIZES = (64, 96, 128, 224, 240, 256, 288, 384)
_SHALLOW: tuple[dict[str, Any], ...] = (
    {"depth": 2},
    {"depths": (1, 1, 1, 1)},
    {"depths": (1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
    {},
)
_CHEAP = {
    "weights": {"rounding": "nearest", "range": "minmax", "correction": "bias"},
    "range": "minmax",
}
_NO_COMPUTATION = {
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Shape", "Gather", "Concat", "Slice", "Cast"),
    *("Expand", "Split", "Identity", "Flatten", "Pad", "QuantizeLinear", "DequantizeLinear"),
}
_BACKBONE = "backbone of "


def main() -> None:
    """Do what is missing, or one network in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sample", type=int, help="so many networks, evenly over the list")
    parser.add_argument("--only", default="*")
    parser.add_argument("--full", default="", help="networks that are not made shallow")
    parser.add_argument("--recipes", default="w8a8,w4a4")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "RECIPE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        resource.setrlimit(resource.RLIMIT_CPU, (given.limit, given.limit + 5))
        print(json.dumps(row_of(*given.one, full=fnmatch.fnmatch(given.one[0], given.full))))
        return
    if given.out is None:
        parser.error("--out is needed")
    store = Store(given.out, COLUMNS, KEY)
    names = [n for n in names_of() if fnmatch.fnmatch(n, given.only)]
    if given.sample:
        names = names[:: max(1, len(names) // given.sample)][: given.sample]
    runs = [
        {"model": name, "recipe": recipe} for name in names for recipe in given.recipes.split(",")
    ]
    missing = [run for run in runs if store.find(run) is None]
    progress = Progress(["network"] * len(missing))
    pool = ThreadPoolExecutor(given.jobs)
    waiting = [
        pool.submit(in_process, run["model"], run["recipe"], given.full, given.limit)
        for run in missing
    ]
    try:
        for finished in as_completed(waiting):
            tell(finished.result(), store, progress)
    finally:
        pool.shutdown(cancel_futures=True)
    text = table(store.rows)
    print(text)
    if given.table:
        given.table.write_text(text)


def tell(row: dict[str, Any], store: Store, progress: Progress) -> None:
    """Keep a row, and print how far it is."""
    store.add(row)
    progress.done(f"{row['model']} {row['recipe']}: {row['result']} {row['reason'][:100]}")


def names_of() -> list[str]:
    """The networks of the list."""
    return Path(__file__).with_suffix(".txt").read_text().splitlines()


def in_process(name: str, recipe: str, full: str, limit: int) -> dict[str, Any]:
    """A row, made in a process of its own."""
    command = [sys.executable, __file__, "--one", name, recipe, "--full", full]
    done = subprocess.run(
        [*command, "--limit", str(limit)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return row
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    stopped = done.returncode < 0
    reason = f"stopped by signal {-done.returncode} (limit {limit} s)" if stopped else last
    return empty(name, recipe) | {"result": "stopped" if stopped else "error", "reason": reason}


def empty(name: str, recipe: str) -> dict[str, Any]:
    """A row without findings."""
    return dict.fromkeys(COLUMNS, "") | {"model": name, "recipe": recipe}


def row_of(name: str, recipe: str, *, full: bool) -> dict[str, Any]:
    """Everything about one network."""
    import subbyte
    from subbyte.errors import CaptureError, SubbyteError

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x, reduced = build(name, full=full)
    row = empty(name, recipe)
    row |= {"input": "x".join(map(str, x.shape[1:])), "reduced": reduced}
    start = time.process_time()
    try:
        quantized = subbyte.quantize(model, x, cheap(recipe))
        row["walk_seconds"] = round(time.process_time() - start, 1)
        row |= counts(quantized)
        with tempfile.TemporaryDirectory() as folder:
            row |= files(quantized, model, x, Path(folder))
        row["result"] = "passed"
    except SubbyteError as error:
        row |= {"result": type(error).__name__, "reason": " ".join(str(error).split())[:300]}
        if isinstance(error, CaptureError) and not captures(model, x):
            row["result"] = "torch.export"
    return row


def cheap(recipe: str) -> dict[str, Any]:
    """A preset with methods that take no time."""
    from subbyte.recipe import load_recipe

    settings: dict[str, Any] = load_recipe(recipe).stated()
    settings["weights"] |= _CHEAP["weights"]
    for part in ("activations", "others", "input"):
        settings[part]["range"] = _CHEAP["range"]
    return settings


def captures(model: nn.Module, x: Tensor) -> bool:
    """Whether torch.export itself takes the network."""
    try:
        torch.export.export(model, (x,))
    except Exception:  # of any kind
        return False
    return True


def build(name: str, *, full: bool) -> tuple[nn.Module, Tensor, str]:
    """The network in evaluation mode with sane statistics, images, and how it was cut down."""
    problem = ""
    for size in _SIZES:
        for shallow in ({},) if full else _SHALLOW:
            for sized in ({"img_size": size}, {}):
                try:
                    model = make(name, {**shallow, **sized})
                    x = torch.randn(_IMAGES, *shape(name, model, size))
                    calibrated(model, x)
                except Exception as error:  # of any kind: these arguments do not fit
                    problem = repr(error)
                    continue
                return model, x, json.dumps(shallow) if shallow else ""
    raise SystemExit(f"{name}: no size and arguments fit: {problem}")


def make(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A network of one of the libraries, weights random."""
    library, _, own = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(own, pretrained=False, **arguments)  # type: ignore[no-any-return]
    import torchvision

    if arguments:
        raise TypeError("torchvision's networks are taken as they are")
    whole = torchvision.models.get_model(
        own.removeprefix(_BACKBONE), weights=None, **_no_weights(own)
    )
    return whole.backbone if own.startswith(_BACKBONE) else whole  # type: ignore[no-any-return]


def _no_weights(name: str) -> dict[str, None]:
    dense = ("fcn", "deeplab", "lraspp", _BACKBONE)
    return {"weights_backbone": None} if name.startswith(dense) else {}


def shape(name: str, model: nn.Module, size: int) -> tuple[int, ...]:
    """Sizes of an image or film."""
    films = ("r3d", "mc3", "r2plus1d", "s3d", "mvit", "swin3d")
    if name.partition(":")[2].startswith(films) and name.startswith("torchvision"):
        return 3, _FRAMES, size, size
    with suppress(AttributeError):
        return int(model.default_cfg["input_size"][0]), size, size
    return 3, size, size


@torch.no_grad()
def calibrated(model: nn.Module, x: Tensor) -> None:
    """Give batch-norms the statistics of a batch, and see that the network takes it."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None
    model(x)
    model.eval()
    model(x)


def counts(quantized: Any) -> dict[str, str]:
    """What is on grids."""
    rows = quantized.ledger
    found: dict[str, str] = {}
    for kind in ("layer", "product"):
        own = [row for row in rows if row.kind == kind]
        kept = sum(row.bits != "float" if kind == "layer" else row.integer for row in own)
        found[f"{kind}s"] = f"{kept} of {len(own)}"
    total = sum(row.multiplications for row in rows)
    left = sum(row.multiplications for row in rows if not row.integer)
    return found | {"float": f"{100 * left / max(1, total):.2f}"}


def files(quantized: Any, model: nn.Module, x: Tensor, folder: Path) -> dict[str, str]:
    """The packed file and the ONNX file."""
    import subbyte

    subbyte.save(quantized, folder / "net.safetensors")
    again = subbyte.load(folder / "net.safetensors", model)
    same = all(map(torch.equal, outputs(again, x), outputs(quantized, x)))
    exported = subbyte.export(quantized, folder / "net.onnx", x, to="onnx-int8")
    return {
        "exact": "yes" if same else "no",
        "parity": f"{exported.parity.ratio:.2f}",
        "integer_nodes": integers(folder / "net.onnx", folder),
    }


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The tensors that a network returns."""
    leaves = torch.utils._pytree.tree_leaves(model(x))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def integers(path: Path, folder: Path) -> str:
    """Integer nodes of those that compute, after ONNX Runtime's optimisation."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimized.onnx", load_external_data=False).graph.node
    kinds = Counter(node.op_type for node in nodes if node.op_type not in _NO_COMPUTATION)
    whole = sum(count for kind, count in kinds.items() if "QLinear" in kind or "Integer" in kind)
    return f"{whole + kinds['QGemm']} of {kinds.total()}"


def table(rows: list[dict[str, str]]) -> str:
    """The table as Markdown."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: list[dict[str, str]]) -> Iterator[str]:
    passed = sum(row["result"] == "passed" for row in rows)
    whole = [row for row in rows if row["result"] != "torch.export"]
    yield "# The zoo: networks of torchvision and timm, end to end"
    yield ""
    yield f"{passed} of {len(rows)} rows passed; torch.export takes the networks of {len(whole)}."
    yield "Made by `python benchmarks/zoo.py`; random weights, 4 images of noise, the presets with"
    yield "rounding `nearest`, range `minmax`, correction `bias`. The columns are explained there."
    yield ""
    shown = [name for name in COLUMNS if name != "reason"]
    yield "| " + " | ".join(shown) + " | |"
    yield "|" + "---|" * (len(shown) + 1)
    for row in rows:
        yield "| " + " | ".join(row[name] for name in shown) + f" | {row['reason']} |"


if __name__ == "__main__":
    main()
