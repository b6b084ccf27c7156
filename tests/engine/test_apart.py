"""Samples held apart: some choose, the others measure drops."""

import pytest
import torch
from torch import Tensor, nn

from subbyte.data import Split
from subbyte.engine.apart import Apart
from subbyte.errors import DataError
from subbyte.tasks import Regression

IMAGES = torch.eye(4).repeat(60, 1)  # [240, 4]: the class is the place of the 1
LABELS = IMAGES.argmax(1)


def split(*targets: Tensor) -> Split:
    return Split("apart", lambda indices: IMAGES[indices], len(IMAGES), targets)


class Wrong(nn.Module):
    """Names another class from some sample on."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop, self.seen = start, stop, 0

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(self.seen, self.seen + len(x))
        self.seen = (self.seen + len(x)) % len(IMAGES)
        turned = (places >= self.start) & (places < self.stop)
        return torch.where(turned[:, None], x.roll(1, 1), x)


def test_the_first_tenth_chooses_and_the_others_measure():
    apart = Apart(nn.Identity(), split(LABELS))
    assert (apart.choosing, apart.samples, apart.measure.name) == (24, 216, "top-1")
    early = apart.judge(Wrong(0, 24), 0.05)
    assert early.drop.value == 0 and early.distance > 0
    late = apart.judge(Wrong(24, 24 + 54), 0.05)
    assert late.drop.value == pytest.approx(25) and late.distance == 0
    assert late.drop.low < 25 < late.drop.high


def test_without_targets_drops_are_of_agreement():
    apart = Apart(nn.Identity(), split())
    assert apart.measure.name == "agreement"
    assert apart.judge(Wrong(24, 24 + 54), 0.05).drop.value == pytest.approx(25)


def test_of_another_task_drops_are_of_its_first_score():
    noisy = IMAGES + torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    apart = Apart(nn.Identity(), split(noisy), (Regression(),))
    found = apart.judge(Wrong(24, 240), 0.05).drop
    assert not apart.measure.higher and found.value > found.low > 0


def test_what_float_says_is_asked_for_once_where_there_is_room(monkeypatch):
    model = nn.Identity()
    apart, calls = Apart(model, split(LABELS)), list[int]()
    model.register_forward_hook(lambda *_: calls.append(1))
    first = apart.judge(Wrong(24, 48), 0.05)
    once = len(calls)
    assert apart.judge(Wrong(24, 48), 0.05) == first and len(calls) == once
    monkeypatch.setattr("subbyte.engine.apart._NUMBERS", 0)
    apart = Apart(model, split(LABELS))
    assert apart.judge(Wrong(24, 48), 0.05) == apart.judge(Wrong(24, 48), 0.05) == first


def test_a_few_samples_are_refused():
    few = split(LABELS).take(range(19))
    with pytest.raises(DataError, match="19 samples held apart are too few"):
        Apart(nn.Identity(), few)
