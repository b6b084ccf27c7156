"""A run whose loss is no number any more says where, at what rate, and what is left; it harms no
checkpoint.
"""

import re

import pytest
import torch
from torch import Tensor, nn

from subbyte.errors import NumericsError
from subbyte.learn.training import train
from subbyte.learn.training.checkpoint import load_checkpoint
from tests.learn.training.runs import (
    ADAM,
    FILES,
    digits,
    few,
    left_by,
    lively,
    replace,
    rows,
    run,
    seeded,
)
from tests.workplace import names_in

DATA = few(digits(), 700)  # 5 steps an epoch
SGD = replace(ADAM, optimizer="sgd", lr=0.05)


class Bursting(nn.Module):
    """A network whose logits are no numbers from its training step `at` on, which is counted in a
    buffer.
    """

    def __init__(self, at: int, worth: float = float("nan")) -> None:
        super().__init__()
        self.net, self.at, self.worth = lively(), at, worth
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.net(x) * (self.worth if self.training and int(self.calls) >= self.at else 1)


@pytest.mark.parametrize(
    "method", [{"optimizer": name} for name in ("sgd", "adam", "qsgd")], ids=str
)
@pytest.mark.parametrize(("at", "log_every"), [(6, 1), (8, 4), (14, 100)])
def test_the_step_its_rate_and_what_is_kept_are_named(method, at, log_every, tmp_path):
    settings = replace(ADAM, **method, lr=0.02, log_every=log_every, lr_schedule="linear")
    epoch, rate = (at - 1) // 5, 0.02 * (1 - (at - 1) / 15)
    with pytest.raises(NumericsError) as error:
        train(seeded(lambda: Bursting(at)), DATA, settings, tmp_path)
    text = str(error.value)
    assert (
        f"diverged: the loss of step {at} (epoch {epoch + 1}) is nan, at a learning rate of "
        f"{rate:.4g}" in text
    )
    assert f"the checkpoint of epoch {epoch} is kept; lower --lr, or add --warmup" in text
    assert names_in(tmp_path) == FILES and len(rows(tmp_path, "epochs.csv")) == epoch
    kept = load_checkpoint(tmp_path)
    assert kept is not None and kept.epoch == epoch and int(kept.model["calls"]) == 5 * epoch
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.model.values())
    with pytest.raises(NumericsError) as again:  # the same from the checkpoint
        train(seeded(lambda: Bursting(at)), DATA, settings, tmp_path)
    assert str(again.value) == text


@pytest.mark.parametrize(("worth", "named"), [(float("nan"), "nan"), (float("inf"), "nan")])
def test_in_the_first_epoch_there_is_no_checkpoint(worth, named, tmp_path):
    with pytest.raises(
        NumericsError,
        match=rf"step 3 \(epoch 1\) is {named},.*there is no checkpoint yet; lower --lr",
    ):
        train(seeded(lambda: Bursting(3, worth)), DATA, SGD, tmp_path)
    assert names_in(tmp_path) == set()  # nothing that another run would be kept from


@pytest.mark.parametrize("optimizer", ["sgd", "qsgd", "qtadamw"])
def test_an_enormous_rate_names_the_weights_that_broke(optimizer, tmp_path):
    with pytest.raises(NumericsError) as error:
        run(tmp_path, replace(SGD, lr=1e36, optimizer=optimizer, log_every=1), data=DATA)
    found = re.search(
        r"the loss of step (\d) .*; (\w+\.\w+) holds NaN or Inf; there is no checkpoint yet",
        str(error.value),
    )
    assert found and found[2] in dict(seeded().named_parameters())


def test_with_a_lower_rate_another_folder_works(tmp_path):
    with pytest.raises(NumericsError):
        run(tmp_path / "fast", replace(SGD, lr=1e36), data=DATA)
    assert left_by(run(tmp_path / "slow", SGD, data=DATA))["epochs.csv"]


def test_weights_that_break_in_the_last_step_of_an_epoch_are_no_other_matter(tmp_path):
    # one step: its loss is a number
    settings = replace(SGD, lr=1e36, batch_size=700, lr_schedule="constant", epochs=1)
    with pytest.raises(NumericsError, match=r"(step|epoch) 1\b.*lower --lr"):
        run(tmp_path, settings, data=DATA)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_loss_far_above_that_of_guessing_is_divergence_too(tmp_path):
    """Though every number is finite."""
    with pytest.raises(
        NumericsError,
        match=r"diverged: the mean loss of epoch 2 is .*, guessing has 2\.303, at a lear",
    ):
        train(
            seeded(lambda: Bursting(8, 1000.0)),
            DATA,
            replace(SGD, optimizer="qsgd", lr=1e-4),
            tmp_path,
        )
    kept = load_checkpoint(tmp_path)
    assert kept is not None and kept.epoch == 1
