"""Every kind of file that subbyte reads: how a small one is made, changed as only its readers
notice, and read.
"""

import io
import json
import pickle
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

import subbyte
import subbyte.graph.network as graph_network
from subbyte.analyses.sweeps.space import load_space
from subbyte.cli.quantize import show
from subbyte.cli.source import find_source
from subbyte.cli.tables import plan_table
from subbyte.cli.terminal import console
from subbyte.data import load_data
from subbyte.errors import FormatError
from subbyte.exporters import contents, form_of, seal, sealed
from subbyte.exporters.onnx_files import close
from subbyte.exporters.packed import read as read_packed
from subbyte.exporters.vectors import read_vectors
from subbyte.graph import Samples
from subbyte.io.cache import Cache
from subbyte.io.checkpoints import write_checkpoint
from subbyte.io.settings import same_settings
from subbyte.learn.training.checkpoint import load_checkpoint
from subbyte.models.states import read_state
from subbyte.pages.write import tell
from subbyte.recipe import Plan, load_recipe, load_target
from subbyte.records.outcome import read_outcome
from subbyte.records.result import read_result
from tests.attack.mutations import (
    _ODD,
    Content,
    as_json,
    as_yaml,
    changed,
    damaged,
    in_cells,
)
from tests.networks import build, images, quantized
from tests.pages.results import make_result, make_scan, make_sweep
from tests.pages.test_training import make_run

TARGETS = Path(subbyte.__file__).parent / "recipe/targets"


@dataclass(frozen=True)
class Kind:
    """make: write good files into a folder, those that are to be damaged returned; read: all that
    is in them, comparable; change: other contents of a file with a right checksum, from its own;
    whole: whether the file tells when it was damaged, so that there is never another result.
    share: of the mutations.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], object]
    change: Callable[[Content, Random], Content] | None = None
    whole: bool = False
    share: float = 1.0


def told(value: Any) -> object:
    """What a value holds, comparable: of tensors and arrays a digest, and no NaN in them."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            assert not np.isnan(value).any(), "NaN came through"
        return str(value.dtype), value.shape, sha256(value.tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: told(entry) for key, entry in value.items()}
    return [told(entry) for entry in value] if isinstance(value, list | tuple) else repr(value)


# ---- packed files ----


def _packed(folder: Path) -> list[Path]:
    path = folder / "model.safetensors"
    subbyte.save(quantized("shared", "w4a4"), path, {"model": "shared", "calibration": 40})
    return [path]


def _read_packed(path: Path) -> object:
    found = read_packed(path)
    plan_table(found.plan)
    stored = [layer for layer in found.plan.layers if layer.name in found.header.grids]
    weights = [found.weight(layer).dequantize() for layer in stored]
    signature, source = found.signature.described, find_source(path)
    return told([found.tensors, weights]), repr(found.header), signature, repr(source)


def _load_packed(path: Path) -> object:
    with torch.no_grad():
        found = subbyte.load(path, build("shared"))(images("shared")[:2])
    return found.numpy().tobytes()  # huge scales may make any number of it


def resealed(content: Content, random: Random) -> Content:
    """Another header, or other numbers, with a right checksum."""
    tensors = load_tensors(content)
    header = json.loads(zlib.decompress(tensors.pop("header").numpy().tobytes()))
    if random.random() < 0.2:
        numbers = tensors[random.choice(sorted(tensors))]
        odd = (0, 1, -1, 127) if not numbers.is_floating_point() else (0, -1, 1e38, *_NOT_FINITE)
        numbers[random.randrange(len(numbers))] = random.choice(odd)
    elif random.random() < 0.1:
        name = random.choice(sorted(tensors))
        tensors[name] = random.choice((tensors[name][:-1], tensors[name].view(torch.int8)))
    else:
        header = changed(header, random)
    text = as_json(header)
    header_tensor = torch.frombuffer(bytearray(zlib.compress(text)), dtype=torch.uint8)
    entry = {"sha256": sealed._digest(text, tensors), "version": sealed.VERSION}
    metadata = {"subbyte": json.dumps(entry)}
    return save_tensors({"header": header_tensor, **tensors}, metadata=metadata)


_NOT_FINITE = (float("nan"), float("inf"))


# ---- text ----


def _json(content: Content, random: Random) -> Content:
    return as_json(changed(json.loads(content), random))


def _yaml(content: Content, random: Random) -> Content:
    return as_yaml(changed(_parsed(content), random), random)


@cache
def _parsed(content: Content) -> Any:
    return yaml.safe_load(content)


def _table_or_json(content: Content, random: Random) -> Content:
    return (_json if content.startswith(b"{") else in_cells)(content, random)


def _result(folder: Path) -> list[Path]:
    made = make_result(folder / "r")
    return [made / "result.json", made / "figures.json"]


def _read_result(path: Path) -> object:
    found = read_result(path.parent)
    with console.capture():
        show(found, path.parent)
    return repr(found), repr(tell([path.parent]))


def _plan(folder: Path) -> list[Path]:
    path = folder / "plan.yaml"
    path.write_text(quantized("shared", "w4a4").plan.to_yaml())
    return [path]


def _read_plan(path: Path) -> object:
    found = Plan.read(path, run=False)
    plan_table(found)
    return repr(found)


def _text(name: str, text: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_text(text)
        return [folder / name]

    return make


_RECIPE = """
weights: {bits: 4, rounding: {name: gptq, damping: 0.02}, granularity: channel}
activations: {bits: 8}
layers: {fc: {weights: {bits: 8}}, "conv*": {skip: true}}
"""
_SPACE = """
model: resnet20
data: digits
recipe: w4
seeds: 0..2
grid: {weights.bits: [2, 3, 4], weights.rounding: [nearest, gptq]}
"""
_SETTINGS = {"model": "net", "data": "digits", "bits": [2, 3], "lr": 0.1}
_OUTCOME = {"status": "failed", "error": "out of luck"}


def _scan(folder: Path) -> list[Path]:
    made = make_scan(folder / "s")
    return [made / name for name in ("scan.csv", "choices.csv", "settings.json")]


def _sweep(folder: Path) -> list[Path]:
    made = make_sweep(folder / "w")
    return [made / name for name in ("sweep.json", "results.csv", "summary.csv", "space.yaml")]


def _train(folder: Path) -> list[Path]:
    made = make_run(folder / "t", quantized=True)
    return [made / name for name in ("log.json", "epochs.csv", "steps.csv")]


def _tell(path: Path) -> object:
    return repr(tell([path.parent]))


def _same_settings(path: Path) -> object:
    same_settings(path.parent, _SETTINGS, "run", results=[path.name])
    return path.read_bytes()


# ---- archives ----


def _checkpoint(folder: Path) -> list[Path]:
    state = {"epoch": 2, "model": {"w": torch.ones(3)}, "method": "SGD", "optimizer": {"lr": 1}}
    write_checkpoint(folder / "checkpoint.pt", state)
    return [folder / "checkpoint.pt"]


def _read_checkpoint(path: Path) -> object:
    found = load_checkpoint(path.parent)
    assert found is not None
    return told([found.epoch, found.model, found.method, found.optimizer])


def _resaved(content: Content, random: Random) -> Content:
    """A checkpoint of odd values, or a pickle that runs a program, with right checksums."""
    kept = io.BytesIO()
    if random.random() < 0.3:
        return pickle.dumps(_Runs(), protocol=random.choice((2, 4)))
    whole = torch.load(io.BytesIO(content), weights_only=True)
    key = random.choice([*whole, "more"])
    torch.save(whole | {key: random.choice(_ODD)}, kept)
    return kept.getvalue()


class _Runs:
    """Unpickling one runs a program."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("true",)


def _weights(name: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        state = {"fc.weight": torch.ones(3, 2), "fc.bias": torch.zeros(3)}
        path = folder / name
        torch.save(state, path) if path.suffix == ".pt" else save_file(state, path)
        return [path]

    return make


def _read_weights(path: Path) -> object:
    state = read_state(path).tensors  # whether they are finite is asked of the network's own alone
    return {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in state.items()}


_CACHE = "graph for inputs torch.float32 (3, 10, 10)"


def _cache(folder: Path) -> list[Path]:
    Cache(folder).keep("x", {"a": torch.ones(4), "b": torch.zeros(2, dtype=torch.int64)})
    return list(folder.glob("*.npz"))


def _read_cache(path: Path) -> object:
    """What can't be read is as good as not there, and made again."""
    found = Cache(path.parent).find("x")
    if found is None:
        raise FormatError(f"{path}: not there")
    return told(found)


def _npz(folder: Path) -> list[Path]:
    pixels, labels = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), np.array([0, 1])
    np.savez(folder / "x.npz", images=pixels.astype(np.uint8), labels=labels)
    return [folder / "x.npz"]


def _rezipped(content: Content, random: Random) -> Content:
    """Arrays of other types, shapes and numbers; objects, whose reading would run a program."""
    with np.load(io.BytesIO(content)) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    name = random.choice([*held, "more"])
    old = held.get(name, np.zeros(3))
    held[name] = random.choice(
        (
            *(
                old.reshape(-1)[:1],
                old.astype("U3"),
                np.ones(old.shape),
                np.ones(old.shape, np.complex64),
            ),
            *(old.reshape(-1), np.array(1), np.array([_Runs()], dtype=object)),
            *(np.full_like(old, 200), np.zeros((0, 3)), np.array(["x"]), old[..., None]),
        )
    )
    if random.random() < 0.2:
        del held[name]
    kept = io.BytesIO()
    np.savez(kept, **held)
    return kept.getvalue()


def _lying(content: Content, random: Random) -> Content:
    """An archive whose arrays' headers announce other sizes than follow, checksums right."""
    import zipfile

    kept = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(kept, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            size = random.choice((b"2", b"999999999", b"-1", b"1e9", b"None", b"()", b"[1]"))
            at = part.index(b"'shape': (") + len("'shape': (")
            new.writestr(name, part[:at] + size + part[at + len(size) :])
    return kept.getvalue()


def _rezipped_or_lying(content: Content, random: Random) -> Content:
    return random.choice((_rezipped, _lying))(content, random)


def _read_data(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        data = load_data(f"{name}:{path if name == 'npz' else path.parent}")
        every = torch.arange(len(data.test))
        return told([data.test.images(every), *(target[every] for target in data.test.targets)])

    return read


# ---- data sets ----


def _cifar(folder: Path) -> list[Path]:
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [3, 9]}
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return [folder / "test_batch"]


def _cifar_binary(folder: Path) -> list[Path]:
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(bytes(3073 * 2))
    return [folder / "test_batch.bin"]


def _repickled(content: Content, random: Random) -> Content:
    batch = pickle.loads(content)
    match random.randrange(4):
        case 0:
            batch[random.choice(list(batch))] = random.choice(_ODD)
        case 1:
            return pickle.dumps(random.choice((_Runs(), {b"data": _Runs()}, *_ODD)))
        case 2:  # a place in the unpickler's memory that would fill ours
            number = random.choice((2**20, 2**31 - 1, 2**32 - 1)).to_bytes(4, "little")
            return content[:2] + b"}r" + number + b"0" + content[2:]
        case _:
            sizes = random.choice(((2, 3071), (1, 3072), (0, 3072), (2, 3, 1024)))
            batch[b"data"] = np.zeros(sizes, random.choice((np.uint8, np.float32, object)))
    return pickle.dumps(batch, protocol=random.choice((0, 2, 4)))


def _mnist(folder: Path) -> list[Path]:
    for part in ("train", "t10k"):
        sizes = np.array([2, 28, 28], ">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + bytes(1568))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02\1\2")
    return [folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"]


def _folders(folder: Path) -> list[Path]:
    for part in ("train/a", "train/b", "val/a", "val/b"):
        (folder / part).mkdir(parents=True)
        Image.new("RGB", (5, 4), (9, 200, 30)).save(folder / part / "x.png")
    Image.new("L", (5, 4), 7).save(folder / "val/b/x.png")
    return [folder / "val/b/x.png"]


def _read_folders(path: Path) -> object:
    data = load_data(f"imagefolder:{path.parents[2]}", resize=4, crop=4)
    return told(data.test.images(torch.arange(len(data.test))))


# ---- exported files ----


def _onnx(folder: Path) -> list[Path]:
    x, y = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 3]) for n in ("x", "y")
    )
    weight = onnx.numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    program = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], [weight]))
    facts = {"recipe": "w4", "classes": '["a", "b"]', "batch": "1"}
    for name, text in facts.items():
        program.metadata_props.add(key=f"subbyte.{name}", value=text)
    path = folder / "model.onnx"
    path.write_bytes(program.SerializeToString())
    close(path, "16 samples")
    return [path]


def _read_onnx(path: Path) -> object:
    own = seal(path)
    held, form = contents(path), form_of(path)
    if own.stated and not own.broken:  # as proven
        return repr(held), repr(form)
    raise FormatError(f"{path}: changed since it was proven")


def _restated(content: Content, random: Random) -> Content:
    """Other facts under a digest of their own."""
    program = onnx.ModelProto.FromString(content)
    entry = random.choice(program.metadata_props)
    entry.value = as_json(changed({"x": [1, "a"]}, random)).decode()
    return program.SerializeToString()


def _vectors(folder: Path) -> list[Path]:
    path = folder / "model.vectors.npz"
    arrays = {
        "names": np.array(["a"]),
        "input:x": np.ones((2, 3), np.float32),
        "codes:a": np.ones((2, 3), np.uint8),
        "near:a": np.packbits(np.zeros(6, bool)),
        "scale:a": np.float32(0.5),
        "zero_point:a": np.int32(0),
        "axis:a": np.array(0),
        "output:y": np.ones((2, 2), np.float32),
        "bounds:y": np.ones(2),
    }
    np.savez_compressed(path, **arrays)
    return [path]


def _read_vectors(path: Path) -> object:
    found = read_vectors(path)
    return told([dict(found.inputs), dict(found.outputs), dict(found.bounds)]), [
        (name, told([v.codes, v.near, v.scale, v.zero_point, v.axis]))
        for name, v in found.values.items()
    ]


# ---- captured graphs ----


def _captured(path: Path) -> Any:
    """The network's graph: from the cache, or captured anew where that can't be read."""
    model, samples = build("shared"), Samples.of(images("shared")[:2])
    expected, outputs = pytree.tree_flatten(graph_network._call(model, samples))
    found = graph_network._captured(model, samples, expected, outputs, Cache(path.parent))
    return found(images("shared")[:2])  # the code that torch made of it


def _graph(folder: Path) -> list[Path]:
    _captured(folder / "x")
    return list(folder.glob("*.npz"))


def _read_graph(path: Path) -> object:
    return [f"{number:.3f}" for number in _captured(path).reshape(-1).tolist()]


def _redrawn(content: Content, random: Random) -> Content:
    """Other nodes, right checksums; at times code in place of a name."""
    with np.load(io.BytesIO(content)) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    text = bytes(held["graph"]).decode()
    if random.random() < 0.3:
        names = re.findall(r'"([a-z_]\w*)"', text)
        code = "__import__('os').system('true')"
        odd = random.choice(
            (f"x={code}", f"{code}", f"x): {code} #", f"x\\n    {code}", "aten.a.b")
        )
        changed_text = text.replace(f'"{random.choice(names)}"', f'"{odd}"').encode()
    else:
        changed_text = as_json(changed(json.loads(text), random))
    held["graph"] = np.frombuffer(changed_text, np.uint8)
    kept = io.BytesIO()
    np.savez(kept, **held)
    return kept.getvalue()


KINDS = {
    "packed": Kind(_packed, _read_packed, resealed, whole=True, share=3),
    "loaded": Kind(_packed, _load_packed, resealed, whole=True, share=0.3),
    "result": Kind(_result, _read_result, _json, share=2),
    "plan": Kind(_plan, _read_plan, _yaml),
    "recipe": Kind(_text("mine.yaml", _RECIPE), lambda p: repr(load_recipe(p)), _yaml),
    "target": Kind(
        _text("t.yaml", (TARGETS / "int8-mcu.yaml").read_text()),
        lambda p: repr(load_target(str(p))),
        _yaml,
    ),
    "space": Kind(_text("s.yaml", _SPACE), lambda p: repr(load_space(p)), _yaml),
    "run of a sweep": Kind(
        _text("0f.json", json.dumps(_OUTCOME)), lambda p: repr(read_outcome(p)), _json
    ),
    "settings": Kind(_text("settings.json", json.dumps(_SETTINGS)), _same_settings, _json),
    "sweep": Kind(_sweep, _tell, _table_or_json, share=0.3),
    "scan": Kind(_scan, _tell, _table_or_json),
    "training run": Kind(_train, _tell, _table_or_json),
    "checkpoint": Kind(_checkpoint, _read_checkpoint, _resaved, whole=True),
    "weights, torch": Kind(_weights("net.pt"), _read_weights, _resaved, whole=True),
    "weights, safetensors": Kind(_weights("net.safetensors"), _read_weights),
    "cache": Kind(_cache, _read_cache, _rezipped_or_lying, whole=True),
    "npz": Kind(_npz, _read_data("npz"), _rezipped_or_lying, whole=True),
    "CIFAR, python": Kind(_cifar, _read_data("cifar10"), _repickled),
    "CIFAR, binary": Kind(_cifar_binary, _read_data("cifar10")),
    "MNIST": Kind(_mnist, _read_data("mnist")),
    "images": Kind(_folders, _read_folders),
    "onnx": Kind(_onnx, _read_onnx, _restated, whole=True),
    "captured graph": Kind(_graph, _read_graph, _redrawn, whole=True),
    "vectors": Kind(_vectors, _read_vectors, _rezipped_or_lying, whole=True),
}


def mutated(kind: Kind, content: Content, random: Random) -> tuple[Content, bool]:
    """Other contents of a file, and whether its checksum is right."""
    if kind.change is not None and random.random() < 0.5:
        return kind.change(content, random), True
    return damaged(content, random), False
