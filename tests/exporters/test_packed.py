"""Packed files: what is read is what was written, and nothing else is read."""

import json
import pickle
import shutil
import zlib
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

import subbyte
import subbyte.graph.network as graph_network
from subbyte.errors import FormatError
from subbyte.exporters import packed, sealed
from subbyte.graph import capture
from subbyte.graph.instrument import copied
from tests.networks import NAMES, Chain, Residual, build, images, quantized


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A packed file of the residual network at w4a4; do not change it."""
    path = tmp_path_factory.mktemp("packed") / "model.safetensors"
    subbyte.save(quantized("residual", "w4a4"), path, {"model": "residual", "calibration": 40})
    return path


@pytest.fixture
def captured_once(monkeypatch):
    """Networks called `shared`, of the same numbers, are captured once."""
    monkeypatch.setattr(graph_network, "capture", lambda *_: copied(captured_graph()))


@cache
def captured_graph() -> fx.GraphModule:
    return capture(build("shared"), images("shared")[:2])


def header_end(data: bytes) -> int:
    """Where the tensors begin."""
    return 8 + int.from_bytes(data[:8], "little")


def parts(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The stored tensors of a file, and the entry of its metadata."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["subbyte"])


def rewritten(source: Path, target: Path, **changes: object) -> Path:
    """A copy whose header is changed, its checksum left as it was; version and sha256 are those of
    the metadata.
    """
    tensors, seal = parts(source)
    header = json.loads(zlib.decompress(tensors["header"].numpy().tobytes()))
    header |= {k: v for k, v in changes.items() if k not in seal and k != "seal"}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    tensors["header"] = torch.frombuffer(bytearray(zlib.compress(text, 9)), dtype=torch.uint8)
    seal |= {k: v for k, v in changes.items() if k in seal} | changes.get("seal", {})
    save_file(tensors, target, metadata={"subbyte": json.dumps(seal)})
    return target


RECIPES = ("w8a8", "w4a4", "w3", "w2", "ternary")
CASES = [
    pytest.param(
        name, RECIPES[k % len(RECIPES)], marks=pytest.mark.slow if k >= len(RECIPES) else []
    )
    for k, name in enumerate(NAMES)
]


def slow(*settings):
    return pytest.param(settings, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_what_is_loaded_is_what_was_saved(name, recipe, tmp_path):
    model, x = quantized(name, recipe), images(name, 30, seed=8)
    size = subbyte.save(model, tmp_path / "model.safetensors")
    assert size == (tmp_path / "model.safetensors").stat().st_size
    # other weights, other statistics
    loaded = subbyte.load(tmp_path / "model.safetensors", build(name, seed=2))
    assert torch.equal(loaded(x), model(x))
    assert loaded.ledger == model.ledger
    assert loaded.plan == model.plan
    assert loaded.findings.agreement == model.findings.agreement
    assert (
        loaded.bits_per_weight == model.bits_per_weight
        and loaded.packed_bytes == model.packed_bytes
    )
    for layer, weight in model.weights.items():
        other = loaded.weights[layer]
        assert torch.equal(weight.codes, other.codes) and torch.equal(
            weight.grid.scale, other.grid.scale
        )


@pytest.mark.parametrize(
    "settings",
    [
        ("weights.granularity=group", "weights.group_size=8"),
        ("weights.granularity=tensor", "weights.symmetric=false"),
        ("weights.bits=5", "weights.narrow=true", "layers={head: {skip: true}}"),
        ("weights.levels=7",),
        slow("weights.levels=wide"),
        ("weights.rounding=kmeans", "weights.bits=3"),
        slow("activations.symmetric=true", "first_last=8"),
        slow("weights.levels=wide", "weights.bits=8"),
        slow("weights.levels=apot"),
        slow("weights.rounding=kmeans", "weights.granularity=tensor"),
        ("weights.rounding={name: gpfq, regularizer: L0, penalty: 0.01}", "weights.symmetric=true"),
    ],
)
def test_other_grids_are_read_back_too(settings, tmp_path):
    model, x = quantized("shared", "w4a4", *settings), images("shared")
    subbyte.save(model, tmp_path / "model.safetensors")
    loaded = subbyte.load(tmp_path / "model.safetensors", build("shared", seed=2))
    assert torch.equal(loaded(x), model(x)) and loaded.ledger == model.ledger


def test_a_loaded_model_saves_to_the_same_bytes(written, tmp_path):
    loaded = subbyte.load(written, build("residual", seed=2))
    subbyte.save(loaded, tmp_path / "again.safetensors", {"model": "residual", "calibration": 40})
    assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes()


def test_the_same_model_gives_the_same_bytes(written, tmp_path):
    about = {"calibration": 40, "model": "residual"}  # order is no matter
    subbyte.save(quantized("residual", "w4a4"), tmp_path / "again.safetensors", about)
    assert (tmp_path / "again.safetensors").read_bytes() == written.read_bytes()


def test_what_it_is_about_is_kept(written):
    assert packed.read(written).header.about == {"model": "residual", "calibration": 40}


def test_files_are_small():
    """Codes take the bits they have: the tensors of 2-bit weights are little more than a quarter of
    8-bit ones.
    """
    sizes = {}
    for recipe in ("w8a8", "w4", "w2", "ternary"):
        tensors = packed._tensors(quantized("residual", recipe))
        sizes[recipe] = sum(t.numel() for name, t in tensors.items() if name.endswith("/codes"))
        assert all(t.dtype == torch.uint8 for name, t in tensors.items() if name.endswith("/codes"))
    count = 8 * 27 + 2 * 8 * 72 + 16 * 72 + 16 * 144 + 80
    assert sizes["w8a8"] == count and sizes["w4"] == count // 2 and sizes["w2"] == count // 4
    assert count / 5 <= sizes["ternary"] <= count / 5 + 6


def test_files_take_hardly_more_than_their_numbers(tmp_path):
    """Plan, names and places of 12 more layers with quantizers take less than a kilobyte."""
    more = []
    for depth in (4, 16):
        network = chain(depth)
        size = subbyte.save(network, tmp_path / f"{depth}.safetensors")
        more.append(size - network.packed_bytes)
    assert 0 < more[0] < 2000 and more[1] < more[0] + 12 * 80


def chain(depth: int) -> subbyte.QuantizedModel:
    torch.manual_seed(0)
    return subbyte.quantize(Chain(depth).eval(), torch.randn(8, 4, 6, 6), recipe="w4a4")


def test_a_header_that_would_fill_the_memory_is_refused(written, tmp_path, monkeypatch):
    monkeypatch.setattr(sealed, "_LARGEST", 1000)
    with pytest.raises(FormatError, match="not whole"):
        packed.read(written)


def test_numbers_of_another_type_than_stated_are_refused(written, tmp_path):
    """Even if their checksum is right."""
    tensors, seal = parts(written)
    text = zlib.decompress(tensors["header"].numpy().tobytes())
    tensors["uint8"] = tensors["uint8"].view(torch.int8)
    body = {name: tensor for name, tensor in tensors.items() if name != "header"}
    seal["sha256"] = sealed._digest(text, body)
    save_file(tensors, tmp_path / "odd.safetensors", metadata={"subbyte": json.dumps(seal)})
    with pytest.raises(FormatError, match=r".uint8. is torch\.int8"):
        packed.read(tmp_path / "odd.safetensors")


def test_it_is_a_plain_safetensors_file_without_the_float_weights(written):
    tensors, _ = parts(written)
    assert set(tensors) == {"header", "uint8", "int8", "float32"}
    assert all(tensor.ndim == 1 for tensor in tensors.values())
    model = quantized("residual", "w4a4")
    scales = sum(weight.grid.scale.numel() for weight in model.weights.values())
    biases = sum(value.numel() for value in model.leftovers.values())
    assert tensors["float32"].numel() == scales + biases + len(model.plan.taps)
    assert written.stat().st_size < quantized("residual", "w4a4").float_bytes


def test_nothing_is_unpickled(written, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a packed file was unpickled")

    model = build("residual")
    for module, name in (
        (pickle, "loads"),
        (pickle, "load"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, refuse)
    packed.read(written)
    monkeypatch.undo()
    assert written.read_bytes()[8:9] == b"{" and subbyte.load(written, model) is not None


@pytest.mark.parametrize("share", [0, 1e-9, 0.001, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_truncated_files_are_refused(share, written, tmp_path):
    data = written.read_bytes()
    length = min(int(share * len(data)) + (share == 1e-9) * 7, len(data) - 1)
    (tmp_path / "cut.safetensors").write_bytes(data[:length])
    with pytest.raises(FormatError, match=r"cut\.safetensors"):
        subbyte.load(tmp_path / "cut.safetensors", build("residual"))


def test_files_with_something_behind_are_refused(written, tmp_path):
    (tmp_path / "long.safetensors").write_bytes(written.read_bytes() + b"\0" * 8)
    with pytest.raises(FormatError):
        packed.read(tmp_path / "long.safetensors")


def test_a_changed_byte_of_a_tensor_is_found(written, tmp_path):
    data = written.read_bytes()
    start = header_end(data)
    for position in [start, *range(start + 5, len(data), 131), len(data) - 1]:
        for flip in (1, 128):
            changed = bytearray(data)
            changed[position] ^= flip
            (tmp_path / "changed.safetensors").write_bytes(changed)
            with pytest.raises(FormatError):
                packed.read(tmp_path / "changed.safetensors")


def test_a_changed_byte_of_the_header_is_found_or_changes_nothing(written, tmp_path):
    data = written.read_bytes()
    expected = packed.read(written)
    refused, positions = 0, [*range(0, 8), *range(8, header_end(data), 29)]
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1
        (tmp_path / "changed.safetensors").write_bytes(changed)
        try:
            found = packed.read(tmp_path / "changed.safetensors")
        except FormatError:
            refused += 1
        else:  # such as a last digit beyond a number's precision
            assert found.header == expected.header, position
    assert refused > 0.95 * len(positions)


@pytest.mark.parametrize("version", [0, 1, 3, 99, "2", None])
def test_unknown_versions_are_refused(version, written, tmp_path):
    with pytest.raises(FormatError, match=f"version {version!r}"):
        packed.read(rewritten(written, tmp_path / "other.safetensors", version=version))


@pytest.mark.parametrize(
    "changes",
    [
        {"about": {"model": "other"}},
        {"input_shape": [3, 10, 10]},
        {"findings": {}},
        {"sha256": "0" * 64},
        {"plan": None},
        {"plan": []},
        {"more": 1},
        {"seal": {"more": 1}},
        {"tensors": {}},
    ],
)
def test_altered_metadata_is_refused(changes, written, tmp_path):
    with pytest.raises(FormatError):
        packed.read(rewritten(written, tmp_path / "altered.safetensors", **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"x"', "1", '{"version": 1}'])
def test_metadata_of_any_other_kind_is_refused(text, tmp_path):
    save_file({"x": torch.zeros(3)}, tmp_path / "odd.safetensors", metadata={"subbyte": text})
    with pytest.raises(FormatError, match=r"odd\.safetensors"):
        packed.read(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    "missing",
    ["layers/inner/codes", "layers/head/scale", "activations/input/zero_point", "float/head.bias"],
)
def test_files_without_a_tensor_are_refused(missing, tmp_path, captured_once):
    """Even if their checksum is right."""
    whole = packed._tensors
    model = quantized("shared", "w4a4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            packed, "_tensors", lambda m: {k: v for k, v in whole(m).items() if k != missing}
        )
        packed.save(model, tmp_path / "part.safetensors")
    with pytest.raises(FormatError):
        subbyte.load(tmp_path / "part.safetensors", build("shared"))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("layers/head/codes", lambda t: t[:-1]),
        ("layers/head/codes", lambda t: t.float()),
        ("layers/head/scale", lambda t: t[:-1]),
        ("layers/head/scale", lambda t: -t),
        ("layers/head/scale", lambda t: t * torch.nan),
        ("activations/input/scale", lambda t: t.reshape(1).repeat(2)),
        ("float/head.bias", lambda t: t[:-1]),
        ("float/head.bias", lambda t: t.long()),
    ],
)
def test_files_with_odd_tensors_are_refused(name, change, tmp_path, captured_once):
    """Even if their checksum is right."""
    whole = packed._tensors
    model = quantized("shared", "w4a4")

    def changed(model: subbyte.QuantizedModel) -> dict[str, Tensor]:
        return {k: change(v).contiguous() if k == name else v for k, v in whole(model).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_tensors", changed)
        packed.save(model, tmp_path / "odd.safetensors")
    with pytest.raises(FormatError):
        subbyte.load(tmp_path / "odd.safetensors", build("shared"))


class Renamed(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.head = self.fc
        del self.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b2(self.b1(torch.relu(self.bn(self.stem(x))))).mean((2, 3)))


class Longer(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x))


class Straight(Residual):
    """The same layers without the shortcuts."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        for block in (self.b1, self.b2):
            x = torch.relu(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x))))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (lambda: Residual(width=6), "stem"),
        (lambda: Residual(classes=6), "fc"),
        (Renamed, "head"),
        (Longer, "6 layers"),
        (Straight, "made for"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), "layer"),
    ],
)
def test_files_of_other_networks_are_refused(network, named, written):
    torch.manual_seed(0)
    with pytest.raises(FormatError, match=named):
        subbyte.load(written, network().eval())


def test_networks_with_other_inputs_are_refused_or_fail_to_capture(written):
    with pytest.raises(subbyte.errors.SubbyteError):
        subbyte.load(written, nn.Sequential(nn.Flatten(), nn.Linear(10, 3)))


def test_float_checkpoints_are_refused(tmp_path):
    save_file(build("residual").state_dict(), tmp_path / "float.safetensors")
    with pytest.raises(FormatError, match="subbyte did not write it"):
        subbyte.load(tmp_path / "float.safetensors", build("residual"))
    assert not sealed.is_sealed(tmp_path / "float.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 64])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(content)
    with pytest.raises(FormatError):
        packed.read(tmp_path / "other.safetensors")
    assert not sealed.is_sealed(tmp_path / "other.safetensors")


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FormatError):
            packed.read(path)


def test_packed_files_are_known_by_their_header(written, tmp_path):
    assert sealed.is_sealed(written)
    shutil.copy(written, tmp_path / "model.bin")
    assert not sealed.is_sealed(tmp_path / "model.bin")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_when_saving_fails(existing, error, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    if existing:
        path.write_bytes(b"earlier")

    def fail(file, content):
        with file.open("wb") as half:
            half.write(content[:4])
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(type(error)):
        subbyte.save(quantized("residual", "w4a4"), path)
    assert [p.name for p in tmp_path.iterdir()] == (["model.safetensors"] if existing else [])
    assert not existing or path.read_bytes() == b"earlier"


def test_saving_makes_the_folder(tmp_path):
    subbyte.save(quantized("residual", "w4a4"), tmp_path / "a" / "b" / "model.safetensors")
    assert sealed.is_sealed(tmp_path / "a" / "b" / "model.safetensors")
