"""imagefolder and imagenet on folders of small pictures made here, and on real ImageNet images."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.errors import DataError

SYNSETS = [f"n{10_000_000 + 37 * k}" for k in range(1000)]


def paint(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> None:
    """A picture of one colour: red = value, green = value + 1, blue = value + 2. size is (height,
    width).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(np.array([value, value + 1, value + 2], np.uint8), (*size, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def reds(data: DataSet, kind: str = "test") -> list[int]:
    split = data.test if kind == "test" else data.train
    assert split is not None
    images = split.images(range(len(split)))
    assert images.dtype == torch.float32 and images.shape[1] == 3
    pixels = images * 255
    assert torch.allclose(pixels[:, 1], pixels[:, 0] + 1, atol=1e-3)  # the channels in order
    assert torch.allclose(pixels[:, 2], pixels[:, 0] + 2, atol=1e-3)
    return [round(float(x)) for x in pixels[:, 0, 0, 0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, base in (("train", 0), ("val", 100)):
        for k, name in enumerate(["ape", "bee", "cow"]):
            for i in range(2):
                paint(tmp_path / part / name / f"{i}.png", base + 10 * k + i)
    return tmp_path


def load(path: Path, kind: str = "imagefolder", **options: int) -> DataSet:
    return load_data(f"{kind}:{path}", normalize="none", **options)


def test_train_and_val_with_classes_in_the_order_of_their_names(folder):
    data = load(folder)
    assert data.classes == ("ape", "bee", "cow")
    assert reds(data) == [100, 101, 110, 111, 120, 121] and reds(data, "train") == [
        0,
        1,
        10,
        11,
        20,
        21,
    ]
    assert data.train is not None
    assert data.test.labels.tolist() == data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_test_does_for_val(folder):
    (folder / "val").rename(folder / "test")
    assert reds(load(folder)) == [100, 101, 110, 111, 120, 121]


def test_class_folders_directly_are_a_test_split(folder):
    data = load(folder / "val")
    assert data.train is None and data.classes == ("ape", "bee", "cow")
    assert reds(data) == [100, 101, 110, 111, 120, 121]
    images, rest = draw_calibration(data, 4, 0)
    assert len(images) == 4 and len(rest) == 2


def test_val_may_lack_a_class_of_train_without_shifting_the_others(folder):
    for file in (folder / "val" / "ape").iterdir():
        file.unlink()
    (folder / "val" / "ape").rmdir()
    assert load(folder).test.labels.tolist() == [1, 1, 2, 2]


def test_a_class_of_val_that_train_lacks_is_refused(folder):
    paint(folder / "val" / "dog" / "0.png", 7)
    with pytest.raises(DataError, match=r"dog: this folder is not one of the 3 classes"):
        load(folder)


def test_the_default_normalization_is_imagenets(folder):
    got = load_data(f"imagefolder:{folder}").test.images([0])[0, :, 0, 0]
    wanted = (np.array([100, 101, 102]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_grey_palette_and_transparent_pictures_become_rgb(folder):
    for i, mode in enumerate(("L", "P", "RGBA", "CMYK", "1")):
        suffix = "jpg" if mode == "CMYK" else "png"
        Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(
            folder / "val" / "cow" / f"x{i}.{suffix}"
        )
    images = load(folder).test.images(range(6, 11))
    assert images.shape == (5, 3, 8, 8) and torch.allclose(images, torch.ones(()), atol=0.02)


def test_nothing_is_decoded_before_it_is_asked_for(folder):
    (folder / "val" / "cow" / "1.png").write_bytes(b"no picture")
    data = load(folder)
    assert len(data.test.images(range(5))) == 5
    with pytest.raises(DataError, match=r"1.png: not a whole image file"):
        data.test.images([5])


def test_a_cut_file_is_named(folder):
    path = folder / "val" / "bee" / "0.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (8, 8, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:120])
    with pytest.raises(DataError, match=r"0.png: not a whole image file"):
        load(folder).test.images(range(6))


def test_the_first_picture_of_another_shape_is_named(folder):
    for name in ("bee/1.png", "cow/0.png"):
        paint(folder / "val" / name, 110, (8, 9))
    with pytest.raises(
        DataError, match=r"bee.1.png: the image is 8 x 9 pixels .* 8 x 8; give --resize N --crop N"
    ):
        load(folder).test.images(range(6))


def test_resize_and_crop_bring_shapes_together(folder):
    paint(folder / "val" / "bee" / "1.png", 111, (20, 13))
    paint(folder / "train" / "ape" / "0.png", 0, (12, 40))
    data = load(folder, resize=6, crop=5)
    assert data.test.images([0, 3]).shape == (2, 3, 5, 5)
    assert reds(data) == [100, 101, 110, 111, 120, 121] and reds(data, "train")[0] == 0


def test_too_small_for_the_crop(folder):
    with pytest.raises(DataError, match=r"0.png: the image is 8 x 8 .* too small for --crop 9"):
        load(folder, crop=9)


def test_a_file_that_is_no_picture_is_not_skipped(folder):
    (folder / "val" / "cow" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt: not an image"):
        load(folder)


def test_a_loose_picture_is_not_skipped(folder):
    paint(folder / "val" / "loose.png", 3)
    with pytest.raises(DataError, match=r"loose.png: an image outside of the class folders"):
        load(folder)


def test_a_hidden_file_is_logged(folder, caplog):
    (folder / "val" / "cow" / ".DS_Store").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "subbyte"):
        assert len(load(folder).test) == 6
    assert ".DS_Store" in caplog.text


def test_an_empty_class_folder_is_named(folder):
    (folder / "val" / "dog").mkdir()
    (folder / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=r"train.dog: no image"):
        load(folder)


@pytest.mark.parametrize("kind", ["imagefolder", "imagenet"])
def test_wrong_places_are_told_what_was_expected(tmp_path, kind):
    with pytest.raises(DataError, match=rf"no such folder; {kind}:PATH expects train/"):
        load(tmp_path / "nowhere", kind)
    with pytest.raises(DataError, match=rf"no folders in it; {kind}:PATH expects train/"):
        load(tmp_path, kind)


def test_train_alone_is_refused_for_imagefolder(folder):
    (folder / "val").rename(folder.parent / "elsewhere")
    with pytest.raises(DataError, match="neither val/ nor test/"):
        load(folder)


def test_a_fingerprint_changes_with_the_files_and_not_with_the_place(folder, tmp_path_factory):
    first = load(folder).fingerprint
    moved = folder.rename(tmp_path_factory.mktemp("moved") / "there")
    assert load(moved, crop=4).fingerprint == first
    paint(moved / "val" / "cow" / "1.png", 99)
    assert load(moved).fingerprint != first


@pytest.mark.skipif(os.name == "nt", reason="there all names are text")
def test_names_that_are_no_text_are_shown_as_text(tmp_path):
    odd = tmp_path / os.fsdecode(b"b\xe4lder")
    for name in (b"\xff", "ä".encode()):
        paint(odd / os.fsdecode(name) / os.fsdecode(b"\xfe.png"), 7)
    data = load(odd)
    assert (data.name, data.classes) == ("imagefolder:b\ufffdlder", ("ä", "\ufffd"))
    assert reds(data) == [7, 7] and len(load_data(f"images:{odd}").test) == 2


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    for k, value in ((999, 9), (3, 3), (500, 5)):
        paint(tmp_path / "val" / SYNSETS[k] / "a.JPEG", 20 * value)
    return tmp_path


def mapping(order: list[str]) -> str:
    return "".join(f"{s} name {k}, other name\n" for k, s in enumerate(order))


@pytest.mark.parametrize("file", ["synset_words.txt", "LOC_synset_mapping.txt"])
def test_imagenet_labels_are_the_lines_of_the_mapping(imagenet, file):
    order = SYNSETS[::-1]  # not the sorted order, to tell the two rules apart
    (imagenet / file).write_text(mapping(order))
    data = load(imagenet, "imagenet")
    assert data.test.labels.tolist() == [996, 499, 0]
    assert data.classes[996] == "name 996, other name" and len(data.classes) == 1000
    assert data.train is None


def test_synset_words_goes_before_the_other_mapping(imagenet):
    (imagenet / "synset_words.txt").write_text(mapping(SYNSETS))
    (imagenet / "LOC_synset_mapping.txt").write_text(mapping(SYNSETS[::-1]))
    assert load(imagenet, "imagenet").test.labels.tolist() == [3, 500, 999]


def test_imagenet_without_a_mapping_needs_all_thousand_folders(imagenet):
    with pytest.raises(DataError, match=r"synset_words.txt there"):
        load(imagenet, "imagenet")
    for synset in SYNSETS:
        target = imagenet / "train" / synset
        target.mkdir(parents=True)
        (target / "x.jpeg").hardlink_to(imagenet / "val" / SYNSETS[3] / "a.JPEG")
    data = load(imagenet, "imagenet")
    assert data.test.labels.tolist() == [3, 500, 999] and data.classes[3] == SYNSETS[3]
    assert data.train is not None and data.train.labels.tolist() == list(range(1000))


def test_imagenet_with_train_alone_evaluates_on_it_and_says_so(imagenet, caplog):
    (imagenet / "synset_words.txt").write_text(mapping(SYNSETS))
    (imagenet / "val").rename(imagenet / "train")
    with caplog.at_level(logging.WARNING, "subbyte"):
        data = load(imagenet, "imagenet")
    assert data.train is None and data.test.labels.tolist() == [3, 500, 999]
    assert "images of train/" in caplog.text


def test_a_folder_that_the_mapping_lacks_is_named(imagenet):
    (imagenet / "synset_words.txt").write_text(mapping(SYNSETS))
    paint(imagenet / "val" / "n00000001" / "a.JPEG", 4)
    with pytest.raises(DataError, match=r"n00000001: .* no class in .*synset_words.txt"):
        load(imagenet, "imagenet")


def test_a_mapping_that_names_a_synset_twice_is_refused(imagenet):
    (imagenet / "synset_words.txt").write_text(mapping([*SYNSETS, SYNSETS[0]]))
    with pytest.raises(DataError, match="1001 lines but 1000 synsets"):
        load(imagenet, "imagenet")


def test_real_imagenet_images(real_data):
    data = load_data(f"imagenet:{real_data / 'imagenet-val-1300'}")
    assert data.train is None and len(data.test) == 1300 and len(data.classes) == 1000
    assert len(data.test.labels.unique()) == 725
    folders = sorted(p.name for p in (real_data / "imagenet-val-1300" / "val").iterdir())
    names = dict(zip(folders, data.test.labels.unique().tolist(), strict=True))
    # as every listing of the 1,000 classes has it
    assert names["n01440764"] == 0 and data.classes[0].startswith("tench")
    assert data.classes[281].startswith("tabby") and data.classes[999].startswith("toilet tissue")
    images = data.test.images(range(0, 1300, 65))
    assert images.shape == (20, 3, 227, 227)
    assert images.mean().abs() < 0.3 and 0.7 < images.std() < 1.4
    assert (
        load_data(f"imagenet:{real_data / 'imagenet-val-1300'}", crop=224)
        .test.images([7])
        .shape[-1]
        == 224
    )
