"""Networks of every structural kind go all the way: quantized, saved, loaded, exported and proven,
every multiplication accounted for.
"""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import subbyte
from subbyte import Inputs
from subbyte.graph import Samples, unwrapped
from tests.networks import signal_to_noise
from tests.reference.kinds import KINDS, Kind
from tests.reference.multiplications import multiplications

COUNT = 24


def returned(model: object, inputs: Inputs) -> object:
    """What a float network says in evaluation mode; inputs are copied, as some change them."""
    args, kwargs = copy.deepcopy((inputs.args, inputs.kwargs))
    network = unwrapped(model)
    training = network.training
    if isinstance(model, nn.Module):
        network.eval()
    with torch.no_grad():
        found = network(*args, **kwargs)
    network.training = training
    return found


def compared(expected: object, found: object, decibels: float) -> None:
    """Both have one form, and every tensor of it is near."""
    ours, tree = pytree.tree_flatten(expected)
    theirs, other = pytree.tree_flatten(found)
    assert tree == other
    for own, one in zip(ours, theirs, strict=True):
        if not isinstance(own, Tensor):
            assert own == one
        elif own.is_floating_point():
            assert own.shape == one.shape and one.dtype == torch.float32
            noise = signal_to_noise(own.float(), one)
            assert noise > decibels, f"{noise:.1f} dB"
        else:
            assert own.dtype == one.dtype and float((own == one).float().mean()) > 0.9


QUICK = 15  # one kind of so many is tried in the quick suite


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if k % QUICK == 0 else pytest.mark.slow)
        for k, name in enumerate(KINDS)
    ],
)
def test_every_kind_goes_all_the_way(name, tmp_path):
    kind: Kind = KINDS[name]
    model, inputs = kind.network(), kind.call(COUNT)
    state = unwrapped(model).state_dict()
    before = {key: value.clone() for key, value in state.items()}
    expected = returned(model, inputs)
    unwrapped(model).load_state_dict(before)  # counters of calls
    q = subbyte.quantize(model, inputs, subbyte.load_recipe(kind.recipe, list(kind.settings)))
    assert all(torch.equal(state[key], before[key]) for key in before)
    samples = Samples.of(inputs)
    found = q(*samples.call.args, **samples.call.kwargs)
    compared(expected, found, kind.decibels)

    rows = q.ledger
    assert not [row for row in rows if row.kind == "layer" and row.bits == "float"]
    assert len({row.name for row in rows}) == len(rows)
    if kind.counted:
        counted = sum(row.multiplications for row in rows)
        assert counted == multiplications(unwrapped(kind.network()), inputs) / COUNT
    recurrent = {layer.name for layer in q.layers if layer.kind == "recurrent"}
    multiplied = [row for row in rows if row.multiplications and row.name not in recurrent]
    of_codes = {p.name for p in q.products if {x.weight for x in q.layers} & set(p.constants)}
    assert [row for row in multiplied if not row.integer and row.name not in of_codes] == []
    assert len(multiplied) >= len(q.products)

    subbyte.save(q, tmp_path / "net.safetensors")
    other = kind.network(seed=2)  # other weights: all numbers are the file's
    loaded = subbyte.load(tmp_path / "net.safetensors", other, inputs)
    again = loaded(*samples.call.args, **samples.call.kwargs)
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(again), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))

    path = tmp_path / "net.onnx"
    assert subbyte.export(q, path, inputs, to="onnx-int8").parity.samples == COUNT
    outputs = subbyte.runner(path)(*(x for x in samples.leaves if isinstance(x, Tensor)))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for own, one in zip(q.outputs(samples), outputs, strict=True):
        assert own.shape == one.shape and own.dtype == one.dtype
