"""State dicts in the containers of many makers, and files of other kinds, which are named."""

import argparse

import numpy as np
import pytest
import torch
from torch import nn

import subbyte
from subbyte.errors import ModelError
from subbyte.models.states import AVERAGED, RAW, read_state

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
MEANS = {name: tensor + 10 for name, tensor in WEIGHTS.items()}
FEW = {"a.bias": MEANS["a.bias"]}


def read(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    return read_state(tmp_path / "w.pth")


def same(found, wanted) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("key", RAW)
def test_weights_are_found_where_scripts_put_them(tmp_path, key):
    state = read(tmp_path, {"epoch": 3, key: WEIGHTS, "optimizer": {"state": {}}})
    assert same(state.tensors, WEIGHTS) and not state.notes


@pytest.mark.parametrize("key", AVERAGED)
def test_averages_go_before_the_last_weights_which_is_said(tmp_path, key):
    state = read(tmp_path, {"model": WEIGHTS, key: MEANS})
    assert same(state.tensors, MEANS)
    assert state.notes == (f"averaged weights of {key!r} are taken, not the last ones of 'model'",)
    state = read(tmp_path, {key: {"module": MEANS, "updates": 7}})
    assert same(state.tensors, MEANS) and key in state.notes[0] and "not the" not in state.notes[0]


def test_averages_of_a_part_of_the_weights_are_not_taken(tmp_path):
    state = read(tmp_path, {"state_dict": WEIGHTS, "ema": FEW})
    assert same(state.tensors, WEIGHTS) and "'ema' are not all" in state.notes[0]


def test_a_name_of_its_own_is_found_where_nothing_else_has_tensors_and_is_said(tmp_path):
    state = read(tmp_path, {"generator": WEIGHTS, "epoch": 3, "optimizer": {"state": {}, "lr": 1}})
    assert same(state.tensors, WEIGHTS) and state.notes == ("they are found in 'generator'",)
    with pytest.raises(ModelError, match="entry 'student' is a dict, not a tensor"):
        read(tmp_path, {"student": WEIGHTS, "teacher": MEANS})


def test_numbers_of_numpy_and_options_beside_the_weights(tmp_path):
    arrays = {name: tensor.numpy() for name, tensor in WEIGHTS.items()}
    args = argparse.Namespace(lr=0.1, layers=[1, 2])
    state = read(tmp_path, {"net": arrays, "best": np.float64(93.1), "args": args})
    assert same(state.tensors, WEIGHTS)
    kinds = {k: np.ones(2, k) for k in ("f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8", "?")}
    state = read(tmp_path, kinds | {"scalar": np.int64(7)})
    assert all(
        x.dtype == torch.from_numpy(kinds[k]).dtype for k, x in list(state.tensors.items())[:-1]
    )
    assert state.tensors["scalar"] == 7


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([None]), np.array([1 + 2j])])
def test_other_arrays_are_no_weights(tmp_path, value):
    with pytest.raises(ModelError, match=r"w\.pth: "):
        read(tmp_path, {"a.weight": value})


def test_what_modules_keep_beside_their_tensors_is_left_out(tmp_path):
    assert same(read(tmp_path, WEIGHTS | {"a._extra_state": None}).tensors, WEIGHTS)


def test_a_packed_network_is_named(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    path = tmp_path / "packed.safetensors"
    subbyte.save(subbyte.quantize(model, torch.rand(8, 3, 2, 2)), path)
    with pytest.raises(ModelError, match=r"a packed network, quantized by subbyte.*evaluate"):
        read_state(path)


def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path):
    model = nn.Linear(2, 2)
    program = torch.export.export(model, (torch.rand(1, 2),))
    for name in ("net.pt2", "net.pth"):
        torch.export.save(program, tmp_path / "net.pt2")
        (tmp_path / "net.pt2").rename(tmp_path / name)
        with pytest.raises(ModelError, match=r"an exported program.*as --model, without --weights"):
            read_state(tmp_path / name)
    with pytest.warns((DeprecationWarning, FutureWarning)):  # by torch's version
        torch.jit.save(torch.jit.trace(model, torch.rand(1, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelError, match=r"a TorchScript file.*network\.state_dict\(\)"):
        read_state(tmp_path / "script.pt")
    for name, kind in (("net.onnx", "an ONNX file"), ("net.tflite", "another runtime")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ModelError, match=rf"{kind}.*give those that it was exported from"):
            read_state(tmp_path / name)
    torch.save(model, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"a whole pickled network, or other objects beside"):
        read_state(tmp_path / "whole.pth")
    np.savez(tmp_path / "arrays.npz", **{name: x.numpy() for name, x in WEIGHTS.items()})
    with pytest.raises(ModelError, match=r"arrays, or another framework's weights"):
        read_state(tmp_path / "arrays.npz")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ModelError, match=r"not a whole file: it is empty"):
        read_state(tmp_path / "empty.pth")


def test_a_checkpoint_of_our_own_training_is_known(tmp_path):
    content = {"epoch": 1, "model": WEIGHTS, "method": "SGD", "optimizer": {}}
    state = read(tmp_path, content)
    assert same(state.tensors, WEIGHTS) and "subbyte train" in state.advice
    assert not read(tmp_path, {"epoch": 1, "model": WEIGHTS}).advice
