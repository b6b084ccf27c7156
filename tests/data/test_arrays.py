"""npz files and what users' own functions return."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.data import DataSet, load_data
from subbyte.errors import DataError

rng = np.random.RandomState(0)
BYTES = rng.randint(0, 256, (6, 10, 12, 3)).astype(np.uint8)  # [n, H, W, C]
LABELS = np.array([0, 3, 1, 1, 2, 0])


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path / "d.npz", **arrays)
    return f"npz:{path / 'd.npz'}"


def all_images(data: DataSet) -> np.ndarray:
    return data.test.images(range(len(data.test))).numpy()


def test_images_and_labels_are_a_test_split(tmp_path):
    data = load_data(save(tmp_path, images=BYTES, labels=LABELS))
    assert data.train is None and data.test.labels.tolist() == LABELS.tolist()
    assert data.classes == ("0", "1", "2", "3")
    np.testing.assert_allclose(all_images(data), BYTES.transpose(0, 3, 1, 2) / 255.0, atol=1e-6)


def test_four_arrays_are_two_splits(tmp_path):
    spec = save(
        tmp_path, x_train=BYTES[:4], y_train=LABELS[:4], x_test=BYTES[4:], y_test=LABELS[4:, None]
    )
    data = load_data(spec)
    assert data.train is not None and len(data.train) == 4
    assert data.train.labels.tolist() == [0, 3, 1, 1] and data.test.labels.tolist() == [2, 0]
    assert len(data.classes) == 4
    np.testing.assert_allclose(all_images(data), BYTES[4:].transpose(0, 3, 1, 2) / 255.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_both_layouts_and_all_types_give_the_same_images(tmp_path, dtype):
    images = BYTES if dtype == np.uint8 else (BYTES / 255).astype(dtype)
    wanted = BYTES.transpose(0, 3, 1, 2) / 255.0
    for layout in (images, images.transpose(0, 3, 1, 2)):
        got = all_images(load_data(save(tmp_path, images=layout, labels=LABELS)))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=1e-3 if dtype == np.float16 else 1e-6)


def test_grey_images_may_lack_the_channel_axis(tmp_path):
    got = all_images(load_data(save(tmp_path, images=BYTES[..., 0], labels=LABELS)))
    np.testing.assert_allclose(got[:, 0], BYTES[..., 0] / 255.0, atol=1e-6)


def test_normalize_resize_and_crop_apply(tmp_path):
    spec = save(tmp_path, images=BYTES, labels=LABELS)
    plain, normalized = (
        load_data(spec, resize=5, crop=4),
        load_data(spec, "0.5,0.5,0.5/0.1,0.1,0.1", 5, 4),
    )
    assert all_images(plain).shape == (6, 3, 4, 4)
    np.testing.assert_allclose(all_images(normalized), (all_images(plain) - 0.5) / 0.1, atol=1e-5)
    with pytest.raises(DataError, match=r"d.npz \(test\), image 2: .* too small for --crop 11"):
        load_data(spec, crop=11).test.images([2])


def test_a_normalization_for_other_channels_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match=r"for 1 channels.* images have 3"):
        load_data(save(tmp_path, images=BYTES, labels=LABELS), normalize="mnist")


WRONG = {
    "three of four": (
        {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES},
        "'y_test' is missing",
    ),
    "other names": ({"a": BYTES}, "'images' is missing; it has a"),
    "lengths": ({"images": BYTES, "labels": LABELS[:5]}, "6 images but 5 labels"),
    "empty": ({"images": BYTES[:0], "labels": LABELS[:0]}, "no images"),
    "axes": ({"images": BYTES[0, 0], "labels": LABELS}, r"images: shape \[12, 3\]"),
    "ambiguous": ({"images": BYTES[:, :3], "labels": LABELS}, r"shape \[6, 3, 12, 3\]: which axis"),
    "no channels": (
        {"images": BYTES[:, :, :, :2], "labels": LABELS},
        r"shape \[6, 10, 12, 2\]: which axis",
    ),
    "image type": ({"images": BYTES.astype(np.int64), "labels": LABELS}, "images: type int64"),
    "label type": ({"images": BYTES, "labels": LABELS * 1.0}, "labels: float64"),
    "label axes": ({"images": BYTES, "labels": np.eye(6, dtype=int)}, r"labels: int64 \[6, 6\]"),
    "negative": ({"images": BYTES, "labels": LABELS - 1}, "label of image 0 is -1"),
    "huge": ({"images": BYTES, "labels": LABELS + 10**12}, "out of range"),
    "pickled": ({"images": BYTES, "labels": np.array([{}] * 6)}, "not a whole .npz file"),
    "shapes": (
        {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES[:, 1:], "y_test": LABELS},
        r"training images are \[3, 10, 12\] but test images \[3, 9, 12\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(tmp_path, case):
    arrays, message = WRONG[case]
    with pytest.raises(DataError, match=f"d.npz.*{message}"):
        load_data(save(tmp_path, **arrays))


def test_damaged_files_are_named(tmp_path):
    spec = save(tmp_path, images=BYTES, labels=LABELS)
    path = tmp_path / "d.npz"
    whole = path.read_bytes()
    flipped = whole[:300] + bytes(b ^ 255 for b in whole[300:310]) + whole[310:]
    for content in (whole[:-50], whole[:100], b"", b"text", flipped):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"d.npz: not a whole .npz file"):
            load_data(spec)
    with pytest.raises(DataError, match="no such file"):
        load_data(f"npz:{tmp_path / 'nowhere.npz'}")


def test_a_single_array_file_is_no_npz(tmp_path):
    np.save(tmp_path / "d.npy", BYTES)
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        load_data(f"npz:{tmp_path / 'd.npy'}")


def test_unused_arrays_are_logged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "subbyte"):
        load_data(save(tmp_path, images=BYTES, labels=LABELS, names=np.arange(3)))
    assert "names are not used" in caplog.text


USER = """
import torch
from subbyte.data import DataSet, Split

images, labels = torch.full((4, 1, 6, 6), 0.5), torch.tensor([0, 1, 2, 1])

def pair():
    return images, labels

def named():
    return {"x_train": images, "y_train": labels, "x_test": images[:2], "y_test": labels[:2]}

def ready():
    split = Split.labelled("test", labels, images.__getitem__)
    return DataSet("mine", None, split, ("a", "b", "c"), "f")

def lists():
    return [1], [2]

def number():
    return 3

def broken():
    return 1 / 0
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(USER)
    return tmp_path / "mine.py"


def test_a_users_function_may_return_a_pair_or_named_arrays(user):
    pair, named = load_data(f"{user}:pair", normalize="0.5/0.25"), load_data(f"{user}:named")
    assert pair.train is None and pair.test.labels.tolist() == [0, 1, 2, 1] and pair.name == "pair"
    assert torch.equal(pair.test.images([0]), torch.zeros(1, 1, 6, 6))
    assert named.train is not None and len(named.train) == 4 and len(named.test) == 2
    assert torch.equal(named.test.images([0]), torch.full((1, 1, 6, 6), 0.5))


def test_a_users_data_set_is_taken_as_it_is(user):
    assert load_data(f"{user}:ready").classes == ("a", "b", "c")
    with pytest.raises(DataError, match="whose images are ready"):
        load_data(f"{user}:ready", normalize="mnist")
    with pytest.raises(DataError, match="whose images are ready"):
        load_data(f"{user}:ready", crop=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lists", "images: is a list"),
        ("number", "returned a int"),
        ("broken", r"mine.py, line 24: broken\(\) raised ZeroDivisionError: division by zero"),
        ("missing", r"'missing' is not in it; its callables are: .*pair"),
    ],
)
def test_a_users_mistakes_are_explained(user, name, message):
    with pytest.raises(DataError, match=message):
        load_data(f"{user}:{name}")


def test_bytes_that_are_stored_as_floats_are_noticed(tmp_path, caplog):
    spec = save(tmp_path, images=BYTES.astype(np.float32), labels=LABELS)
    with caplog.at_level(logging.WARNING, "subbyte"):
        np.testing.assert_array_equal(all_images(load_data(spec)), BYTES.transpose(0, 3, 1, 2))
    assert "d.npz, images: floating-point images from" in caplog.text
    with pytest.raises(DataError, match=r"d.npz, images: .* divide by 255"):
        load_data(spec, normalize="cifar10")
