"""Batches: every image at most once an epoch, in another order every time; the same whoever shares
them.
"""

import threading

import pytest
import torch
from torch import Tensor

from subbyte.data import Split
from subbyte.errors import DataError
from subbyte.learn.training.augment import AUGMENTATIONS, Resized, Unchanged
from subbyte.learn.training.batches import Batches
from tests.learn.training.runs import digits, numbered


def seen(batches: Batches, epoch: int) -> list[list[int]]:
    """Labels by step, which in these splits number the images."""
    return [labels.tolist() for _, (labels,) in batches.epoch(epoch)]


@pytest.mark.parametrize(
    ("count", "size", "steps"), [(23, 5, 4), (20, 5, 4), (7, 7, 1), (9, 1, 9), (13, 7, 1)]
)
def test_an_epoch_visits_every_image_at_most_once_and_leaves_the_last_batch_out(count, size, steps):
    batches = Batches(numbered(count), size, Unchanged(), 0)
    assert batches.steps == steps
    for epoch in range(4):
        found = seen(batches, epoch)
        assert [len(step) for step in found] == [size] * steps
        flat = [number for step in found for number in step]
        assert len(set(flat)) == len(flat) and set(flat) <= set(range(count))


def test_images_go_with_their_labels():
    for images, (labels,) in Batches(numbered(23), 5, Unchanged(), 3).epoch(2):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64
        assert torch.equal(images[:, 0, 0, 0], labels.float())


def test_the_order_is_another_every_epoch_and_for_every_seed_and_comes_again():
    split = numbered(23)
    orders = {
        (seed, epoch): seen(Batches(split, 5, Unchanged(), seed), epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len({str(order) for order in orders.values()}) == 9  # (0, 1) and (1, 0) differ, too
    assert orders[1, 2] == seen(Batches(split, 5, Unchanged(), 1), 2)
    assert all(order[0] != sorted(order[0]) for order in orders.values())


def test_the_next_batch_is_read_while_the_caller_is_at_work():
    split, second = numbered(10), threading.Event()
    count = 0

    def read(indices: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == 2:
            second.set()
        return split.images(indices)

    watched = Split("train", read, len(split), split.targets)
    batches = Batches(watched, 5, Unchanged(), 0).epoch(0)
    next(batches)
    assert second.wait(10)  # without being asked for


def test_no_image_is_left_out_for_good():
    batches = Batches(numbered(23), 5, Unchanged(), 0)
    counts = torch.zeros(23)
    for epoch in range(100):
        for labels in seen(batches, epoch):
            counts[labels] += 1
    assert counts.min() > 70 and counts.max() <= 100  # 87 on average, 3.4 the deviation of one


@pytest.mark.parametrize("augment", [cls() for cls in AUGMENTATIONS.values()])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_shares_of_processes_make_up_the_batch_of_one(world, augment):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randn(50, 2, 9, 8, generator=generator)
    split = Split.labelled("train", torch.arange(50), lambda indices: stored[indices])
    whole = list(Batches(split, 12, augment, 5).epoch(3))
    shares = [list(Batches(split, 12, augment, 5, rank, world).epoch(3)) for rank in range(world)]
    assert all(len(share) == len(whole) == 4 for share in shares)
    for step, (images, (labels,)) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [len(part_labels) for _, (part_labels,) in parts] == [12 // world] * world
        by_label: dict[int, Tensor] = {}
        for part_images, (part_labels,) in parts:
            by_label.update(zip(part_labels.tolist(), part_images, strict=True))
        assert sorted(by_label) == sorted(labels.tolist()) and len(by_label) == 12
        assert all(
            torch.equal(by_label[label], image)
            for label, image in zip(labels.tolist(), images, strict=True)
        )


def test_every_image_and_epoch_has_draws_of_its_own():
    stored = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0))
    split = Split.labelled(
        "train", torch.arange(40), lambda indices: stored.expand(len(indices), 1, 9, 16)
    )
    batches = Batches(split, 20, Resized(), 0)
    kinds = {
        image.numpy().tobytes()
        for epoch in range(2)
        for images, _ in batches.epoch(epoch)
        for image in images
    }
    assert len(kinds) == 80


def test_a_split_that_fills_no_batch_is_an_error():
    with pytest.raises(
        DataError,
        match=r"'train' has 9 images to train on, too few for a batch of 10.*--batch-size",
    ):
        Batches(numbered(9), 10, Unchanged(), 0)


def test_real_images_come_as_they_are_stored():
    train = digits().train
    assert train is not None
    images, (labels,) = next(Batches(train, 64, Unchanged(), 0).epoch(0))
    stored, (known,) = next(train.batches(len(train)))
    pairs = zip(stored, known, strict=True)
    where = {image.numpy().tobytes(): int(label) for image, label in pairs}
    assert [where[image.numpy().tobytes()] for image in images] == labels.tolist()
