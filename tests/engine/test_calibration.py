"""Calibration samples are the same whatever holds them."""

import logging
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import subbyte
from subbyte import Inputs
from subbyte.engine.calibration import collect
from subbyte.errors import DataError
from subbyte.graph import Samples
from tests.reference.kinds.trees import Keyword, Positional

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(20)


class Rows(Dataset):
    """Samples as a data set yields them: an image and its label, or by name."""

    def __init__(self, *columns: Tensor, names: tuple[str, ...] = ()) -> None:
        self.columns, self.names = columns, names

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> object:
        row = tuple(column[index] for column in self.columns)
        return dict(zip(self.names, row, strict=True)) if self.names else row


def one() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def two() -> nn.Module:
    torch.manual_seed(0)
    return Positional().eval()


def by_name(model, batch):
    return model(batch["image"])


ONE = {
    "call": (Inputs(X), None),
    "samples": (Samples.of(X), None),
    "array": (X.numpy(), None),
    "double": (X.double(), None),
    "batches": (X.split(7), None),
    "batches of arrays": ([part.numpy() for part in X.split(7)], None),
    "calls": ([Inputs(part) for part in X.split(7)], None),
    "generator": ((part for part in X.split(7)), None),
    "loader of pairs": (DataLoader(TensorDataset(X, LABELS), batch_size=7), None),
    "data set of pairs": (Rows(X, LABELS), None),
    "data set of torch": (TensorDataset(X), None),
    "forward_fn": (DataLoader(Rows(X, LABELS, names=("image", "label"))), by_name),
}


@cache
def of_a_tensor() -> subbyte.QuantizedModel:
    return subbyte.quantize(one(), X, "w4a8")


@pytest.mark.parametrize("form", ONE)
def test_one_input_in_all_forms(form, tmp_path):
    given, forward_fn = ONE[form]
    wanted = of_a_tensor()
    found = subbyte.quantize(one(), given, "w4a8", forward_fn=forward_fn)
    subbyte.save(wanted, tmp_path / "wanted.safetensors")
    subbyte.save(found, tmp_path / "found.safetensors")
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("wanted", "found")]
    assert torch.equal(found(X), wanted(X)) and files[0] == files[1]


def test_arguments_of_dictionaries_keep_their_names():
    found = subbyte.quantize(one(), [{"input": X, "label": LABELS}], "w4a8")
    assert torch.equal(found(input=X), of_a_tensor()(X))
    with pytest.raises(DataError, match="takes"):
        found(X)


TWO = {
    "batches of tuples": list(zip(X.split(7), Y.split(7), strict=True)),
    "batches of lists, labels last": [
        [x, y, z] for x, y, z in zip(X.split(7), Y.split(7), LABELS.split(7), strict=True)
    ],
    "loader": DataLoader(TensorDataset(X, Y, LABELS), batch_size=7),
    "data set": Rows(X, Y, LABELS),
}


@pytest.mark.parametrize("form", TWO)
def test_two_inputs_in_all_forms(form):
    samples, wanted = collect(TWO[form], two()), Samples.of(Inputs(X, Y))
    assert samples.tree == wanted.tree and samples.batched == (True, True)
    assert all(torch.equal(a, b) for a, b in zip(samples.leaves, wanted.leaves, strict=True))


def test_dictionaries_hold_arguments_by_their_names():
    rows = Rows(X, Y, LABELS, names=("x", "y", "label"))
    samples = collect(DataLoader(rows, batch_size=7), two())
    wanted = Samples.of(Inputs(x=X, y=Y))
    assert samples.tree == wanted.tree
    assert all(torch.equal(a, b) for a, b in zip(samples.leaves, wanted.leaves, strict=True))
    optional = collect([{"x": X, "other": Y, "scale": 2.0}], Keyword())
    assert optional.call.kwargs["scale"] == 2.0 and len(optional) == 20


@pytest.mark.parametrize(
    ("batches", "shown"),
    [
        ([X, X[:, :5]], r"batch 1 is float32 \[20, 5\]"),
        ([(X, Y), (X, Y.long())], r"batch 1 .*int64"),
        ([Inputs(X, torch.ones(3)), Inputs(X, torch.zeros(3))], "batch 1"),
        ({"x": X}, "batches of them, got dict"),
        ([X[:0]], r"no tensor \[n"),
        (["text"], "a str"),
    ],
)
def test_batches_that_do_not_go_together_are_refused(batches, shown):
    with pytest.raises(DataError, match=shown):
        collect(batches, two())


def test_a_function_that_does_not_call_the_network_is_refused():
    with pytest.raises(DataError, match="forward_fn did not call"):
        collect([X], one(), lambda model, batch: None)


def test_what_is_the_same_for_all_samples_stays_once():
    mask = torch.ones(3, 3)
    joined = collect([Inputs(part, mask) for part in X.split(10)], two())
    assert joined.batched == (True, False) and joined.leaves[1].shape == (3, 3)
    assert [len(part) for part in joined.split(8)] == [8, 8, 4]
    assert np.array_equal(joined[5:7].leaves[0], X[5:7])


def test_images_that_are_bytes_are_noted(caplog):
    model, pixels = nn.Conv2d(3, 2, 1), torch.linspace(0, 255, 96).view(2, 3, 4, 4)
    with caplog.at_level(logging.WARNING, "subbyte"):
        for source in (pixels / 255, pixels / 60 - 2, X):
            collect(source, model)
        assert not caplog.messages
        for source in (pixels, pixels.numpy(), [pixels, pixels]):
            collect(source, model)
    assert len(caplog.messages) == 3
    assert "calibration images: floating-point images from 0 to 255" in caplog.messages[0]
