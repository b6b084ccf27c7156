"""CIFAR-10 in batches written here byte by byte, as Python 2 pickled them, and the real one."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.data import DataSet, load_data
from subbyte.errors import DataError

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
rng = np.random.RandomState(3)
BATCHES = {
    n: (rng.randint(0, 256, (4, 3072)).astype(np.uint8), rng.randint(0, 10, 4).tolist())
    for n in NAMES
}


def short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text  # SHORT_BINSTRING, a str of Python 2


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)  # BININT


def pickled_array(array: np.ndarray) -> bytes:
    """What Python 2's cPickle, protocol 2, writes for a uint8 matrix."""
    call = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + short(b"b")
    )
    state = b"(" + number(1) + b"".join(map(number, array.shape)) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + short(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + short(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    content = b"T" + struct.pack("<i", array.nbytes) + array.tobytes()  # BINSTRING
    return call + b"\x87R" + state + dtype + b"\x89" + content + b"tb"


def pickled_batch(data: bytes, labels: list[int]) -> bytes:
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return (
        b"\x80\x02}("
        + short(b"batch_label")
        + short(b"b")
        + short(b"labels")
        + listed
        + short(b"data")
        + data
        + b"u."
    )


def write_python(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, labels) in BATCHES.items():
        (folder / name).write_bytes(pickled_batch(pickled_array(data), labels))
    return folder


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, labels) in BATCHES.items():
        records = [bytes([label]) + row.tobytes() for label, row in zip(labels, data, strict=True)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder


def check(data: DataSet) -> None:
    assert data.train is not None and (len(data.train), len(data.test)) == (20, 4)
    assert data.train.labels.tolist() == [x for n in NAMES[:5] for x in BATCHES[n][1]]
    assert data.test.labels.tolist() == BATCHES["test_batch"][1]
    got = data.train.images(range(20))
    assert got.shape == (20, 3, 32, 32) and got.dtype == torch.float32
    for image in range(20):
        row = BATCHES[NAMES[image // 4]][0][image % 4]
        for channel in range(3):  # red, green, blue planes of 1024 bytes
            plane = row[1024 * channel : 1024 * (channel + 1)].reshape(32, 32) / 255
            np.testing.assert_allclose(got[image, channel], plane, atol=1e-6)


@pytest.mark.parametrize("below", [".", "cifar-10-batches-py"])
def test_the_python_version(tmp_path, below):
    write_python(tmp_path / below)
    data = load_data(f"cifar10:{tmp_path}", normalize="none")
    check(data)
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
def test_the_binary_version(tmp_path, below):
    write_binary(tmp_path / below)
    check(load_data(f"cifar10:{tmp_path}", normalize="none"))


def test_both_versions_have_one_fingerprint(tmp_path):
    a, b = write_python(tmp_path / "a"), write_binary(tmp_path / "b")
    assert load_data(f"cifar10:{a}").fingerprint == load_data(f"cifar10:{b}").fingerprint


def test_the_pickle_written_here_is_one_that_pickle_reads():
    array = BATCHES["test_batch"][0]
    content = pickled_batch(pickled_array(array), [1, 2, 3, 4]).replace(
        b"numpy.core", b"numpy._core"
    )
    batch = pickle.loads(content, encoding="bytes")
    assert np.array_equal(batch[b"data"], array) and batch[b"labels"] == [1, 2, 3, 4]


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_pickled_by_todays_python_are_read(tmp_path, protocol):
    write_python(tmp_path)
    for name, (data, labels) in BATCHES.items():
        content = pickle.dumps({b"data": data, b"labels": labels}, protocol)
        (tmp_path / name).write_bytes(content)
    check(load_data(f"cifar10:{tmp_path}", normalize="none"))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_execute_code_is_refused_unexecuted(tmp_path, protocol):
    write_python(tmp_path)
    trap = tmp_path / "executed"
    content = pickle.dumps({b"data": Evil(trap), b"labels": []}, protocol)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=r"data_batch_2: would execute code"):
        load_data(f"cifar10:{tmp_path}")
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists()  # it was a trap indeed


@pytest.mark.parametrize(
    "name",
    [
        "builtins\neval",
        "posix\nsystem",
        "numpy\nload",
        "numpy.lib.npyio\nload",
        "codecs\nopen",
        "numpy\nndarray.tofile",
    ],
)
def test_no_other_name_is_looked_up(tmp_path, name):
    write_python(tmp_path)
    (tmp_path / "test_batch").write_bytes(b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(DataError, match="would execute code"):
        load_data(f"cifar10:{tmp_path}")


GOOD = pickled_array(BATCHES["test_batch"][0])
BROKEN = {
    "cut": (pickled_batch(GOOD, [1, 2, 3, 4])[:-500], "not a whole CIFAR batch"),
    "empty": (b"", "not a whole CIFAR batch"),
    "text": (b"hello", "not a whole CIFAR batch"),
    "list": (b"\x80\x02].", "b'data' is NoneType"),
    "width": (
        pickled_batch(pickled_array(np.zeros((4, 3071), np.uint8)), [1] * 4),
        r"uint8 \[4, 3071\], not",
    ),
    "string": (pickled_batch(short(b"x"), [1] * 4), "b'data' is bytes"),
    "labels": (pickled_batch(GOOD, [1, 2, 3]), "4 images but 3 labels"),
    "range": (pickled_batch(GOOD, [1, 2, 3, 10]), "label of image 3 is 10, out of range"),
    "negative": (pickled_batch(GOOD, [-1, 2, 3, 1]), "label of image 0 is -1, out of range"),
    "keys": (pickled_batch(GOOD, [1] * 4).replace(b"labels", b"labelz"), "b'labels' is NoneType"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_damaged_batches_are_named(tmp_path, damage):
    content, message = BROKEN[damage]
    write_python(tmp_path)
    (tmp_path / "data_batch_4").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_4.*{message}"):
        load_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "12291 bytes are not a whole number of records of 3073"),
        (lambda b: b"", "0 bytes"),
        (lambda b: bytes([77]) + b[1:], "label of image 0 is 77"),
    ],
)
def test_damaged_binary_batches_are_named(tmp_path, change, message):
    path = write_binary(tmp_path) / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_3.bin.*{message}"):
        load_data(f"cifar10:{tmp_path}")


def test_a_missing_batch_is_named(tmp_path):
    (write_python(tmp_path) / "data_batch_5").unlink()
    with pytest.raises(DataError, match="data_batch_5 is missing"):
        load_data(f"cifar10:{tmp_path}")
    with pytest.raises(
        DataError, match=r"no such folder.*data_batch_1 to data_batch_5 and test_batch"
    ):
        load_data(f"cifar10:{tmp_path / 'nowhere'}")


def test_the_real_cifar10(real_data):
    data = load_data(f"cifar10:{real_data}")
    assert data.train is not None and (len(data.train), len(data.test)) == (50_000, 10_000)
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    images = data.train.images(range(0, 50_000, 10))
    # the constants are this data set's, in this order
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
