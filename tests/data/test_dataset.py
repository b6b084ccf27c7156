"""Split, DataSet, draw_calibration."""

import pickle

import numpy as np
import pytest
import torch

from subbyte.data import DataSet, Split, draw_apart, draw_calibration
from subbyte.data.dataset import spread
from subbyte.errors import DataError
from subbyte.io.digests import digest


class Counter:
    """Image i is filled with the number i; remembers what was read."""

    def __init__(self, nan_at: int | None = None) -> None:
        self.nan_at = nan_at
        self.most = 0

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(indices))
        images = indices.float().view(-1, 1, 1, 1).expand(-1, 2, 3, 4).clone()
        images[indices == self.nan_at] = float("nan")
        return images


def make(n: int, read: Counter | None = None, name: str = "test") -> Split:
    return Split.labelled(name, torch.arange(n) % 7, read or Counter())


def numbers(split: Split) -> list[int]:
    return [int(x) for images, _ in split.batches(5) for x in images[:, 0, 0, 0]]


def data_set(train: int | None, test: int, nan_at: int | None = None) -> DataSet:
    split = None if train is None else make(train, Counter(nan_at), "train")
    return DataSet("toy", split, make(test, Counter(nan_at)), tuple("abcdefg"), "0")


def test_batches_cover_all_images_in_order_and_never_read_more_than_one_batch():
    read = Counter()
    split = make(23, read)
    batches = list(split.batches(5))
    assert [len(images) for images, _ in batches] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat([labels for _, (labels,) in batches]), split.labels)
    assert numbers(split) == list(range(23))
    assert read.most == 5


@pytest.mark.parametrize(
    "indices", [[4, 0, 4], np.array([4, 0, 4], np.int32), torch.tensor([4, 0, 4])]
)
def test_images_come_in_the_order_asked(indices):
    assert make(5).images(indices)[:, 1, 2, 3].tolist() == [4, 0, 4]


def test_take_and_without_are_complements_and_nest():
    split = make(20)
    taken, rest = split.take([3, 19, 0]), split.without([3, 19, 0])
    assert numbers(taken) == [3, 19, 0]
    assert taken.labels.tolist() == [3, 5, 0]
    assert numbers(rest) == [i for i in range(20) if i not in (0, 3, 19)]
    assert len(rest) == 17 and rest.name == "test"
    inner = rest.without([0, 1]).take([2, 0])  # of 4, 5, 6, ...
    assert numbers(inner) == [6, 4]
    assert inner.labels.tolist() == [6, 4]
    assert len(split) == 20  # nothing happened to the whole


def test_empty_parts_are_allowed():
    assert len(make(3).take([])) == 0
    assert list(make(3).without(range(3)).batches(2)) == []


@pytest.mark.parametrize("indices", [[5], [-1], [0, 99]])
def test_an_index_beyond_the_split_is_refused(indices):
    for call in (make(5).images, make(5).take, make(5).without):
        with pytest.raises(DataError, match=r"index (5|-1|99) is beyond its 5 images"):
            call(indices)


@pytest.mark.parametrize("indices", [[True, False, True], [0.0, 1.0], [[0], [1]]])
def test_what_is_not_an_index_is_refused(indices):
    with pytest.raises(DataError, match="whole numbers"):
        make(5).images(indices)


def test_labels_must_be_int64_vectors():
    for labels in (
        torch.zeros(3),
        torch.zeros(3, dtype=torch.int32),
        torch.zeros(3, 1, dtype=torch.int64),
    ):
        with pytest.raises(DataError, match="int64"):
            Split.labelled("test", labels, Counter())


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(DataError, match="size=0"):
        list(make(5).batches(0))


def test_a_part_can_be_sent_to_another_process():
    part = pickle.loads(pickle.dumps(make(9).without([1]).take([1, 2])))
    assert numbers(part) == [2, 3]


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
def test_calibration_is_the_head_of_the_seeded_permutation_of_the_training_split(seed):
    data = data_set(40, 10)
    images, rest = draw_calibration(data, 8, seed)
    assert images.shape == (8, 2, 3, 4)
    assert (
        images[:, 0, 0, 0].int().tolist()
        == np.random.RandomState(seed).permutation(40)[:8].tolist()
    )
    assert rest is data.test


def test_calibration_draws_differ_by_seed_and_nest_by_count():
    data = data_set(1000, 10)
    first, again, other = (draw_calibration(data, 50, s)[0] for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(draw_calibration(data, 20, 3)[0], first[:20])


def test_without_training_split_calibration_is_held_apart_from_the_evaluation():
    data = data_set(None, 30)
    images, rest = draw_calibration(data, 12, 5)
    drawn = images[:, 0, 0, 0].int().tolist()
    assert drawn == np.random.RandomState(5).permutation(30)[:12].tolist()
    assert sorted(drawn + numbers(rest)) == list(range(30))
    assert numbers(rest) == sorted(numbers(rest))


@pytest.mark.parametrize("count", [0, -3, 41])
def test_calibration_of_a_wrong_size_is_refused_with_both_numbers(count):
    with pytest.raises(DataError, match=rf"{count} calibration images from the 40 "):
        draw_calibration(data_set(40, 10), count, 0)


def test_all_training_images_may_be_drawn_but_not_all_test_images():
    assert len(draw_calibration(data_set(40, 10), 40, 0)[0]) == 40
    with pytest.raises(DataError, match=r"from the 40 .* ask for 1 to 39"):
        draw_calibration(data_set(None, 40), 40, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(DataError, match="seed"):
        draw_calibration(data_set(40, 10), 4, seed)


def test_nan_in_a_calibration_image_is_found_and_named():
    with pytest.raises(
        DataError, match=r"1 of 40 calibration images hold NaN or Inf.* image 17 of the train"
    ):
        draw_calibration(data_set(40, 10, nan_at=17), 40, 0)


def test_digest_sees_order_and_borders():
    digests = {digest(x) for x in ([b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"abc"], [])}
    assert len(digests) == 5


@pytest.mark.parametrize("count", [0, 1, 5, 64, 65, 10_000])
def test_spread_is_even_and_within_range(count):
    picked = spread(count)
    assert len(picked) == min(count, 64) and picked == sorted(set(picked))
    assert all(0 <= i < count for i in picked)
    if count > 64:
        assert max(np.diff(picked)) - min(np.diff(picked)) <= 1


@pytest.mark.parametrize("train", [60, None])
def test_what_is_held_apart_is_neither_calibrated_on_nor_tested_on(train):
    data = data_set(train, 40)
    images, _ = draw_calibration(data, 10, 3)
    apart, rest = draw_apart(data, 10, 12, 3)
    drawn = [int(x) for x in images[:, 0, 0, 0]]
    assert len(apart) == 12 and not set(numbers(apart)) & set(drawn)
    if train is None:
        assert sorted([*drawn, *numbers(apart), *numbers(rest)]) == list(range(40))
    else:
        assert rest is data.test
    most, _ = draw_apart(data, 10, 1000, 3)
    assert len(most) == (50 if train else 15)
    assert numbers(most)[:12] == numbers(apart)
    with pytest.raises(DataError, match="no samples are left to hold apart"):
        draw_apart(data, train or 39, 5, 3)
