"""Data without labels, with maps, with several targets, and for networks of other inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subbyte.data import DataSet, draw_calibration, draw_samples, load_data
from subbyte.errors import DataError
from subbyte.graph import Samples

rng = np.random.RandomState(0)
IMAGES = rng.randint(0, 256, (6, 10, 12, 3)).astype(np.uint8)
LABELS = np.array([0, 3, 1, 1, 2, 0])
MAPS = rng.randint(0, 5, (6, 10, 12)).astype(np.uint8)


def save(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path / "d.npz", **arrays)
    return f"npz:{path / 'd.npz'}"


def targets(data: DataSet, size: int = 4) -> list[torch.Tensor]:
    """All targets of the test split, read by batches."""
    batches = [wanted for _, wanted in data.test.batches(size)]
    return [torch.cat(column) for column in zip(*batches, strict=True)]


def test_images_alone_are_enough(tmp_path):
    data = load_data(save(tmp_path, images=IMAGES))
    assert len(data.test) == 6 and data.test.targets == data.classes == ()
    assert len(load_data(save(tmp_path, x_train=IMAGES, x_test=IMAGES[:2])).test) == 2
    assert [wanted for _, wanted in data.test.batches(5)] == [(), ()]
    with pytest.raises(DataError, match=r"no class labels.* its targets are: none"):
        _ = data.test.labels


def test_maps_are_read_as_whole_numbers_and_kept_as_bytes(tmp_path):
    data = load_data(save(tmp_path, images=IMAGES, maps=MAPS))
    (maps,) = targets(data)
    assert maps.dtype == torch.int64 and np.array_equal(maps, MAPS)
    assert data.test.targets[0].values.dtype == torch.uint8
    assert not data.test.has_labels
    taken = data.test.take([4, 1]).take([1])
    assert torch.equal(next(iter(taken.batches(1)))[1][0], maps[[1]])


def test_targets_come_in_the_order_of_the_file_labels_first(tmp_path):
    boxes, heat = rng.rand(6, 4), rng.rand(6, 2, 5, 6).astype(np.float32)
    spec = save(tmp_path, heat=heat, images=IMAGES, boxes=boxes, labels=LABELS)
    data = load_data(spec)
    assert data.name == "npz:d"
    found = targets(data)
    assert [x.dtype for x in found] == [torch.int64, torch.float32, torch.float32]
    assert found[0].tolist() == LABELS.tolist()
    np.testing.assert_allclose(found[1], heat)
    np.testing.assert_allclose(found[2], boxes, rtol=1e-6)


def test_targets_of_two_splits_are_pairs(tmp_path):
    arrays = {"x_train": IMAGES, "depth_train": MAPS * 0.5, "x_test": IMAGES[:2]}
    data = load_data(save(tmp_path, **arrays, depth_test=MAPS[:2] * 0.5))
    assert data.train is not None and len(data.train.targets) == 1
    np.testing.assert_allclose(targets(data)[0], MAPS[:2] * 0.5)
    with pytest.raises(DataError, match="'depth_test' is missing; every target"):
        load_data(save(tmp_path, **arrays))
    with pytest.raises(DataError, match="depth_test: 1 values for 2 images; each image needs one"):
        load_data(save(tmp_path, **arrays, depth_test=MAPS[:1] * 0.5))


def test_fingerprints_tell_targets_apart_and_not_their_types(tmp_path):
    def found(**arrays: np.ndarray) -> str:
        return load_data(save(tmp_path, images=IMAGES, **arrays)).fingerprint

    prints = [found(), found(maps=MAPS), found(maps=MAPS + 1), found(labels=LABELS)]
    assert len(set(prints)) == 4 and found(maps=MAPS) == prints[1]


def test_maps_are_not_left_behind_when_images_are_resized(tmp_path):
    spec = save(tmp_path, images=IMAGES, maps=MAPS)
    with pytest.raises(DataError, match=r"d\.npz: --resize and --crop change images, but not"):
        load_data(spec, resize=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, values in (("images", IMAGES), ("masks", MAPS)):
        (tmp_path / "f" / name).mkdir(parents=True)
        for k, pixels in enumerate(values):
            Image.fromarray(pixels).save(tmp_path / "f" / name / f"{k}.png")
    return tmp_path / "f"


def test_a_flat_folder_of_images_has_no_labels(folder):
    data = load_data(f"images:{folder / 'images'}", normalize="none")
    assert len(data.test) == 6 and data.test.targets == () and data.train is None
    pixels = data.test.images([5])[0].permute(1, 2, 0)
    np.testing.assert_allclose(pixels, IMAGES[5] / 255, atol=1e-6)


def test_images_and_masks_of_one_name_belong_together(folder):
    data = load_data(f"masks:{folder}")
    assert data.train is None and np.array_equal(targets(data)[0], MAPS)
    (folder / "images" / "3.png").rename(folder / "images" / "3.bmp")
    assert np.array_equal(targets(load_data(f"masks:{folder}"))[0], MAPS)


def test_masks_of_train_and_val_are_two_splits(folder):
    for name in ("images", "masks"):
        for kind in ("train", "val"):
            (folder / kind).mkdir(exist_ok=True)
        (folder / name).rename(folder / "train" / name)
        (folder / "val" / name).mkdir()
        (folder / "train" / name / "5.png").rename(folder / "val" / name / "5.png")
    data = load_data(f"masks:{folder}")
    assert data.train is not None and (len(data.train), len(data.test)) == (5, 1)
    assert np.array_equal(targets(data)[0], MAPS[5:])


def test_masks_are_resized_to_the_nearest_pixel(folder):
    data = load_data(f"masks:{folder}", resize=20, crop=16)
    (maps,) = targets(data)
    assert maps.shape == (6, 16, 16) == (6, *data.test.images([0]).shape[2:])
    doubled = MAPS.repeat(2, 1).repeat(2, 2)[:, 2:18, 4:20]
    assert np.array_equal(maps, doubled)


def test_palettes_are_class_numbers_and_colours_are_refused(folder):
    picture = Image.fromarray(MAPS[0], "P")
    picture.putpalette([k % 256 for k in range(768)])
    picture.save(folder / "masks" / "0.png")
    assert np.array_equal(targets(load_data(f"masks:{folder}"))[0], MAPS)
    Image.fromarray(IMAGES[1]).save(folder / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1\.png: a mask of mode RGB; its pixels must be class"):
        targets(load_data(f"masks:{folder}"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "masks" / "2.png").unlink(), r"2\.png has no fellow .* in masks/"),
        (lambda f: (f / "images" / "2.png").unlink(), r"2\.png has no fellow .* in images/"),
        (lambda f: (f / "masks").rename(f / "m"), "masks: there is no such folder"),
        (lambda f: Image.fromarray(MAPS[0][:5]).save(f / "masks" / "2.png"), "5 x 12 pixels"),
        (lambda f: (f / "masks" / "2.png").write_bytes(b"png"), "not a whole image file"),
    ],
)
def test_folders_that_do_not_fit_are_explained(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        targets(load_data(f"masks:{folder}"))


USER = """
import numpy as np, torch
from torch.utils.data import TensorDataset
from subbyte.graph import Inputs

ids, mask = torch.arange(24).view(8, 3), torch.ones(8, 3)
labels, pixels = torch.arange(8) % 3, torch.rand(8, 1, 5, 5)

def calls():
    for part in (slice(0, 5), slice(5, 8)):
        yield Inputs(ids[part], mask=mask[part])

def labelled():
    parts = (slice(0, 5), slice(5, 8))
    return [(Inputs(ids[part], mask=mask[part]), labels[part]) for part in parts]

def one():
    return Inputs(ids, mask=mask), labels

def tensors():
    return [ids[:3], ids[3:]]

def images():
    return pixels

def maps():
    return pixels, torch.zeros(8, 5, 5, dtype=torch.int64), labels

def items():
    return TensorDataset(pixels, labels)

def uneven():
    return [(ids[:3], labels[:3]), (ids[3:],)]

def short():
    return [(ids, labels[:3])]

def words():
    return ["a", "b"]

def nothing():
    return []
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(USER)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("name", ["calls", "labelled", "one"])
def test_calls_of_several_inputs_are_samples(user, name):
    data = load_data(f"{user}:{name}")
    assert len(data.test) == 8 and data.test.has_labels == (name != "calls")
    samples, rest = draw_samples(data, 3, 0)
    assert isinstance(samples, Samples) and len(samples) == 3 and len(rest) == 5
    drawn = np.random.RandomState(0).permutation(8)[:3]
    assert samples.call.args[0][:, 0].tolist() == (3 * drawn).tolist()
    assert list(samples.call.kwargs) == ["mask"]
    if name != "calls":
        assert rest.labels.tolist() == [k % 3 for k in range(8) if k not in drawn]
        assert data.classes == ("0", "1", "2")
    with pytest.raises(DataError, match="where one tensor of images is needed"):
        draw_calibration(data, 3, 0)


@pytest.mark.parametrize(
    ("name", "forms"),
    [("tensors", []), ("images", []), ("maps", [(8, 5, 5), (8,)]), ("items", [(8,)])],
)
def test_a_users_function_may_return_any_of_these(user, name, forms):
    data = load_data(f"{user}:{name}")
    assert len(data.test) == 8 and isinstance(data.test.samples([0]), torch.Tensor)
    assert [tuple(x.shape) for x in targets(data)] == forms if forms else not data.test.targets


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uneven", "batch 1: 5 samples, and targets .*the same number of targets"),
        ("short", "batch 0: 8 samples, and targets"),
        ("words", "batch 0 holds a str; data must be a subbyte.data.DataSet"),
        ("nothing", "returned no batches"),
    ],
)
def test_batches_that_do_not_fit_are_explained(user, name, message):
    with pytest.raises(DataError, match=message):
        load_data(f"{user}:{name}")
