"""MNIST and Fashion-MNIST in IDX files written here, and the real one."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.data import DataSet, load_data
from subbyte.errors import DataError

rng = np.random.RandomState(0)
TRAIN = rng.randint(0, 256, (12, 5, 4)).astype(np.uint8), np.arange(12, dtype=np.uint8) % 10
TEST = rng.randint(0, 256, (6, 5, 4)).astype(np.uint8), np.arange(6, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write(folder: Path, zipped: bool = False, infix: str = "-idx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for what, array in (("images", images), ("labels", labels)):
            name = f"{part}-{what}{infix}{array.ndim}-ubyte"
            content = idx(array)
            (folder / (name + ".gz" * zipped)).write_bytes(
                gzip.compress(content) if zipped else content
            )
    return folder


def check(data: DataSet) -> None:
    assert data.train is not None
    for split, (images, labels) in ((data.train, TRAIN), (data.test, TEST)):
        assert split.labels.tolist() == labels.tolist()
        got = split.images(range(len(split)))
        assert got.dtype == torch.float32 and got.shape == (len(labels), 1, 5, 4)
        np.testing.assert_allclose(got[:, 0], images / 255.0, atol=1e-6)


@pytest.mark.parametrize("below", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_files_are_found_and_read_plain_or_zipped(tmp_path, below, zipped):
    write(tmp_path / below, zipped)
    check(load_data(f"mnist:{tmp_path}", normalize="none"))


def test_the_spelling_with_a_dot_is_read(tmp_path):
    check(load_data(f"mnist:{write(tmp_path, infix='.idx')}", normalize="none"))


def test_the_default_normalization_is_mnists(tmp_path):
    write(tmp_path)
    for kind in ("mnist", "fashion-mnist"):
        got = load_data(f"{kind}:{tmp_path}").test.images([0])
        np.testing.assert_allclose(got[0, 0], (TEST[0][0] / 255 - 0.1307) / 0.3081, atol=1e-5)


def test_fashion_mnist_takes_its_own_folder_and_class_names(tmp_path):
    write(tmp_path / "FashionMNIST" / "raw")
    data = load_data(f"fashion-mnist:{tmp_path}", normalize="none")
    check(data)
    assert (
        data.classes[0] == "T-shirt/top"
        and data.classes[9] == "Ankle boot"
        and len(data.classes) == 10
    )
    with pytest.raises(DataError, match="MNIST/raw"):
        load_data(f"mnist:{tmp_path}")


def test_the_fingerprint_depends_on_the_data_alone(tmp_path):
    plain = load_data(f"mnist:{write(tmp_path / 'a')}").fingerprint
    assert (
        plain
        == load_data(f"mnist:{write(tmp_path / 'b', zipped=True)}", normalize="none").fingerprint
    )
    images = TEST[0].copy()
    images[0, 0, 0] ^= 1
    (tmp_path / "a" / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    assert plain != load_data(f"mnist:{tmp_path / 'a'}").fingerprint
    (tmp_path / "b" / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(idx(TEST[1][::-1].copy()))
    )
    assert plain != load_data(f"mnist:{tmp_path / 'b'}").fingerprint


NAME = "t10k-images-idx3-ubyte"
DAMAGE = {
    "cut": (lambda b: b[:-1], r"announces \[6, 5, 4\], 120 bytes, but 119 follow"),
    "extra": (lambda b: b + b"x", "but 121 follow"),
    "magic": (lambda b: b"\0\0\x08\x01" + b[4:], "starts with 0x00000801, not 0x00000803"),
    "header": (lambda b: b[:9], "within its header"),
    "empty": (lambda b: b"", "starts with 0x,"),
    "fewer": (lambda b: idx(TEST[0][:5]), "5 images but 6 labels"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_named(tmp_path, damage):
    change, message = DAMAGE[damage]
    path = write(tmp_path) / NAME
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"{NAME}.*{message}"):
        load_data(f"mnist:{tmp_path}")


@pytest.mark.parametrize(
    "change", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" * 9 + b[29:], lambda b: b"not gzip"]
)
def test_damaged_zipped_files_are_named(tmp_path, change):
    path = write(tmp_path, zipped=True) / (NAME + ".gz")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=NAME):
        load_data(f"mnist:{tmp_path}")


def test_a_label_out_of_range_is_named(tmp_path):
    labels = np.array([0, 1, 2, 10, 4, 5], np.uint8)
    (write(tmp_path) / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*label of image 3 is 10"):
        load_data(f"mnist:{tmp_path}")


def test_a_missing_file_is_named(tmp_path):
    (write(tmp_path) / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        load_data(f"mnist:{tmp_path}")


def test_wrong_places_are_told_what_was_expected(tmp_path):
    with pytest.raises(DataError, match=r"no such files are there.*t10k-images-idx3-ubyte"):
        load_data(f"mnist:{tmp_path}")
    with pytest.raises(DataError, match="no such folder"):
        load_data(f"mnist:{tmp_path / 'nowhere'}")


def test_images_without_images_are_refused(tmp_path):
    folder = write(tmp_path)
    (folder / NAME).write_bytes(idx(TEST[0][:0]))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(TEST[1][:0]))
    with pytest.raises(DataError, match="no images"):
        load_data(f"mnist:{tmp_path}")


def test_the_real_mnist(real_data):
    data = load_data(f"mnist:{real_data}")
    assert data.train is not None and (len(data.train), len(data.test)) == (60_000, 10_000)
    # the histogram of the test labels that the literature gives
    assert data.test.labels.bincount().tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    # odd: even and odd images were written by others
    images = data.train.images(range(0, 60_000, 7))
    assert images.shape == (8572, 1, 28, 28)
    assert images.mean().item() == pytest.approx(
        0, abs=0.01
    ) and images.std().item() == pytest.approx(1, abs=0.01)
