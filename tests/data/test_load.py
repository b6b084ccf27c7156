"""Specs of data sets, and the digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from subbyte.data import KINDS, load_data
from subbyte.errors import DataError


def test_digits_are_all_of_scikit_learns_split_by_class():
    data = load_data("digits")
    assert data.train is not None and data.classes == tuple("0123456789")
    assert len(data.train) + len(data.test) == 1797
    everything = load_digits()
    shares = data.test.labels.bincount().numpy() / np.bincount(everything.target)
    # each class to the nearest image; the smallest has 174
    assert np.abs(shares - 0.2).max() < 0.5 / 174 + 1e-9
    images = [split.images(range(len(split))).numpy() for split in (data.train, data.test)]
    rows = np.concatenate(images).reshape(1797, 64) * 16
    labels = np.concatenate([data.train.labels, data.test.labels])
    ours = sorted(map(tuple, np.column_stack([rows.round().astype(int), labels])))
    theirs = sorted(map(tuple, np.column_stack([everything.data.astype(int), everything.target])))
    assert ours == theirs
    assert images[0].max() == 1 and images[0].min() == 0 and images[0].shape[1:] == (1, 8, 8)


def test_digits_are_split_alike_every_time():
    a, b = load_data("digits"), load_data("digits")
    assert a.fingerprint == b.fingerprint and len(a.fingerprint) == 64
    assert a.test.labels.tolist() == b.test.labels.tolist()
    assert a.test.labels[:30].unique().numel() > 5  # in the order of the collection, not by class


def test_digits_can_be_resized_and_normalized():
    assert load_data("digits", resize=28).test.images([0, 1]).shape == (2, 1, 28, 28)
    plain, shifted = load_data("digits"), load_data("digits", normalize="0.5/0.5")
    np.testing.assert_allclose(shifted.test.images([3]), plain.test.images([3]) * 2 - 1, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"digits"}))
def test_every_other_kind_needs_a_path(kind):
    for spec in (kind, f"{kind}:"):
        with pytest.raises(DataError, match=rf"where is it\? Write {kind}:"):
            load_data(spec)


def test_digits_take_no_path():
    with pytest.raises(DataError, match="have no path"):
        load_data("digits:somewhere")


@pytest.mark.parametrize(
    "spec", ["cifar:x", "cfar10:x", "cifar10", "fashon-mnist:x", "", "x.npz", "quark:x"]
)
def test_unknown_kinds_list_the_valid_ones(spec):
    with pytest.raises(DataError) as caught:
        load_data(spec)
    if spec not in KINDS:
        assert all(kind in str(caught.value) for kind in KINDS) and ".py:callable" in str(
            caught.value
        )
    if "f" in spec:
        assert ("fashion-mnist" if "fash" in spec else "cifar10") in str(caught.value).partition(
            "Valid"
        )[0]


def test_kinds_are_registered_under_their_names():
    assert all(
        name == kind.name and kind.description.startswith(name) for name, kind in KINDS.items()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"normalize": "imagnet"},
        {"resize": 0},
        {"crop": 0},
        {"normalize": "imagenet"},
        {"interpolation": "bilinear"},  # of what is not resized
        {"interpolation": "cubic", "resize": 8},
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(DataError):
        load_data("digits", **options)
