"""load_weights: what fits is loaded exactly, anything else is refused and leaves the network as it
was.
"""

import collections
import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from subbyte.errors import ModelError, NumericsError
from subbyte.models import load_weights, weights_file


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


SOURCE = network(1).state_dict() | {"1.num_batches_tracked": torch.tensor(7)}
WRAPPINGS = {
    "plain": lambda sd: sd,
    "state_dict": lambda sd: {"epoch": 3, "best": 0.5, "state_dict": sd},
    "model_state_dict": lambda sd: {"model_state_dict": sd, "optimizer": {"state": {}}},
    "model": lambda sd: {"model": sd, "args": [1, "x"]},
    "twice": lambda sd: {"model": {"state_dict": sd}},
    "parallel": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "wrapped and parallel": lambda sd: {
        "state_dict": collections.OrderedDict((f"module.{k}", v) for k, v in sd.items())
    },
    "half": lambda sd: {k: v.half() if v.is_floating_point() else v for k, v in sd.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False])
def test_all_usual_checkpoints_load(tmp_path, wrapping, zipped):
    path = tmp_path / "w.pth"
    torch.save(WRAPPINGS[wrapping](SOURCE), path, _use_new_zipfile_serialization=zipped)
    model = network()
    load_weights(model, path)
    wanted = (
        {k: v.half().float() if v.is_floating_point() else v for k, v in SOURCE.items()}
        if wrapping == "half"
        else SOURCE
    )
    assert same(model.state_dict(), wanted)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_load(tmp_path, prefix):
    safetensors.torch.save_file(
        {prefix + k: v for k, v in SOURCE.items()}, tmp_path / "w.safetensors"
    )
    model = network()
    load_weights(model, str(tmp_path / "w.safetensors"))
    assert same(model.state_dict(), SOURCE)


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path):
    class Outer(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = network(seed)

    torch.save(Outer(1).state_dict(), tmp_path / "w.pth")
    model = Outer(0)
    load_weights(model, tmp_path / "w.pth")
    assert same(model.state_dict(), Outer(1).state_dict())


def test_old_files_without_batch_counters_load(tmp_path):
    torch.save({k: v for k, v in SOURCE.items() if "num_batches" not in k}, tmp_path / "w.pth")
    model = network()
    load_weights(model, tmp_path / "w.pth")
    assert same(model.state_dict(), SOURCE | {"1.num_batches_tracked": torch.tensor(0)})


def renamed(sd: dict[str, torch.Tensor], **names: str) -> dict[str, torch.Tensor]:
    return {names.get(k.replace(".", "_"), k): v for k, v in sd.items()}


BAD = {
    "missing": (
        lambda sd: {k: v for k, v in sd.items() if not k.startswith("3.")},
        ModelError,
        r"2 of the network's 9 tensors are missing \(first: 3.weight\); 0 of the file's 7 are "
        r"unexpected\.",
    ),
    "unexpected": (
        lambda sd: sd | {"head.w": torch.ones(1), "z": torch.ones(1)},
        ModelError,
        r"2 of .* unexpected \(first: head.w\)",
    ),
    "renamed": (
        lambda sd: renamed(sd, **{"0_weight": "conv.weight", "0_bias": "conv.bias"}),
        ModelError,
        r"2 of .* missing \(first: 0.weight\); 2 of .* unexpected \(first: conv.weight\)",
    ),
    "partly prefixed": (
        lambda sd: renamed(sd, **{"3_bias": "module.3.bias"}),
        ModelError,
        r"first: module.3.bias",
    ),
    "shape": (
        lambda sd: sd | {"3.weight": torch.ones(5, 12), "3.bias": torch.ones(5)},
        ModelError,
        r"3.weight is \[5, 12\] there, \[4, 12\] here; 3.bias is \[5\] there, \[4\] here",
    ),
    "nan": (
        lambda sd: sd | {"3.bias": torch.tensor([0, float("nan"), 0, 0])},
        NumericsError,
        r"3.bias holds 1 NaN or Inf among its 4",
    ),
    "inf": (
        lambda sd: sd | {"1.running_var": torch.full((3,), float("inf"))},
        NumericsError,
        r"1.running_var holds 3 NaN or Inf",
    ),
    "codes": (
        lambda sd: sd | {"3.weight": torch.ones(4, 12, dtype=torch.int8)},
        ModelError,
        r"3.weight is int8, where floating point is needed",
    ),
    "no tensor": (
        lambda sd: sd | {"epoch": 3},
        ModelError,
        r"entry 'epoch' is a int, not a tensor",
    ),
    "a list": (lambda sd: list(sd.values()), ModelError, r"holds a list, not a state_dict"),
    "nothing": (lambda sd: {}, ModelError, r"missing \(first: 0.weight\); 0 of the file's"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path, case):
    change, error, message = BAD[case]
    torch.save(change(dict(SOURCE)), tmp_path / "w.pth")
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=message) as caught:
        load_weights(model, tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(caught.value)
    assert same(model.state_dict(), before)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle 2", "pickle 5"])
def test_a_pickle_that_would_execute_code_is_refused_unexecuted(tmp_path, how):
    trap, path = tmp_path / "executed", tmp_path / "w.pth"
    content = {"state_dict": SOURCE, "extra": Evil(trap)}
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, int(how[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match="would execute code") as caught:
        load_weights(model, path)
    assert not trap.exists() and same(model.state_dict(), before)
    assert "save_file" in str(caught.value)
    if how in ("zip", "legacy"):
        assert re.search(r"it asks for [\w.]+", str(caught.value))
        torch.load(path, weights_only=False)
        assert trap.exists()  # it was a trap indeed


def test_a_whole_pickled_network_is_refused_with_its_class(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"would execute code \(it asks for torch.nn.modules.linear.Linear\)"
    ):
        load_weights(network(), tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_cut_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(SOURCE, path)
    else:
        safetensors.torch.save_file(SOURCE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=rf"w{suffix}: not a whole"):
        load_weights(network(), path)


def test_an_archive_of_two_disks_is_refused(tmp_path):
    path, locator = tmp_path / "w.pth", b"PK\x06\x07" + bytes(12) + b"\x02\0\0\0"
    torch.save(SOURCE, path)
    content = path.read_bytes()
    path.write_bytes(content[:-22] + locator + content[-22:])  # before the end's own 22 bytes
    with pytest.raises(ModelError, match=r"w\.pth: not a whole .*multiple disks"):
        load_weights(network(), path)


def test_random_bytes_are_refused(tmp_path):
    path = tmp_path / "w.bin"
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        path.write_bytes(
            torch.randint(0, 256, (200,), generator=generator, dtype=torch.uint8).numpy().tobytes()
        )
        with pytest.raises(ModelError, match=r"w.bin"):
            load_weights(network(), path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_weights(network(), tmp_path / "nowhere.pth")
    with pytest.raises(ModelError, match="this is a folder"):
        load_weights(network(), tmp_path)


def test_weights_files_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_file("~/w.pth") == weights_file(Path("~/w.pth")) == tmp_path / "w.pth"
    assert weights_file("folder/builtin:x") == Path("folder/builtin:x")
    folder = tmp_path / "pretrained"
    monkeypatch.setattr("subbyte.models.weights.PRETRAINED", folder)
    with pytest.raises(ModelError, match="no built-in weights 'b'; known: none"):
        weights_file("builtin:b")
    folder.mkdir()
    for name in ("b.safetensors", "a-1.safetensors", "notes.txt"):
        (folder / name).touch()
    assert weights_file("builtin:b") == weights_file(Path("builtin:b")) == folder / "b.safetensors"
    for name in ("c", "", "b.safetensors", "notes", "../w", "./b"):
        with pytest.raises(
            ModelError, match=re.escape(f"no built-in weights {name!r}; known: a-1, b")
        ):
            weights_file(f"builtin:{name}")


@pytest.mark.parametrize("kind", [str, Path])
def test_built_in_weights_load(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("subbyte.models.weights.PRETRAINED", tmp_path)
    safetensors.torch.save_file(SOURCE, tmp_path / "small-toy.safetensors")
    model = network()
    load_weights(model, kind("builtin:small-toy"))
    assert same(model.state_dict(), SOURCE)


def test_an_exported_program_is_refused(tmp_path):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.rand(1, 2),)), tmp_path / "w.pt2")
    with pytest.raises(ModelError, match=r"w.pt2"):
        load_weights(network(), tmp_path / "w.pt2")
