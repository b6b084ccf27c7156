"""Kinds of image files: each becomes the picture it was meant to be, with a word on what was done,
or is refused by name.
"""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data import DataSet, load_data
from subbyte.data.pictures import is_hidden, open_rgb
from subbyte.errors import DataError

GREY = np.arange(48, dtype=np.uint16).reshape(6, 8) * 5  # bytes up to 235


def wide(path: Path, dtype: str = "<u2") -> Path:
    """The grey picture in 16 bits; bytes times 257 end where the bytes ended."""
    Image.fromarray((GREY * 257).astype(dtype)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "dtype", "mode"),
    [
        ("a.png", "<u2", "I;16"),
        ("a.tif", "<u2", "I;16"),
        ("a.tif", ">u2", "I;16B"),
        ("a.pgm", "<u2", "I"),
        ("a.tif", "<i4", "I"),
    ],
)
def test_16_bits_are_scaled_to_8(tmp_path, name, dtype, mode):
    path = wide(tmp_path / name, dtype)
    with Image.open(path) as file:
        assert file.mode == mode
    found = open_rgb(path)
    assert found.notes == ("has 16 bits a pixel, which are scaled to 8",)
    for channel in np.asarray(found.image).transpose(2, 0, 1):
        np.testing.assert_array_equal(channel, GREY)


@pytest.mark.parametrize("values", [[-1, 5], [0, 2**16]])
def test_whole_numbers_without_a_known_white_are_refused(tmp_path, values):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a.tif: .* from {values[0]} to {values[1]}.*8 or 16"):
        open_rgb(tmp_path / "a.tif")


def test_floating_point_is_refused_with_what_to_do(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif: .*floating point .*8 or 16 bits .*npz"):
        open_rgb(tmp_path / "a.tif")


def red_and_blue(size: tuple[int, int] = (8, 4)) -> Image.Image:
    """The left half red, the right one blue."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, size[0], size[1]))
    return image


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "PA"])
def test_colours_of_every_mode_are_kept_without_a_word(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "PA" else "a.png")
    red_and_blue().convert("P" if mode == "PA" else mode).save(path)
    found = open_rgb(path)
    assert not found.notes and found.image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(red_and_blue()))


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    found = open_rgb(tmp_path / "a.png")
    assert not found.notes
    np.testing.assert_array_equal(np.asarray(found.image)[..., 1], 255 * (GREY > 100))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_keep_their_colour_and_it_is_said(tmp_path, mode):
    image = Image.fromarray(GREY.astype(np.uint8)).convert(mode)
    image.putalpha(Image.fromarray((GREY + 20).astype(np.uint8)))
    image.save(tmp_path / "a.png")
    found = open_rgb(tmp_path / "a.png")
    assert len(found.notes) == 1 and "transparent" in found.notes[0]
    np.testing.assert_array_equal(np.asarray(found.image)[..., 2], GREY)


def test_a_transparent_entry_of_a_palette_is_said(tmp_path):
    image = red_and_blue().convert("P")
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    found = open_rgb(tmp_path / "a.png")
    assert "transparent" in " ".join(found.notes)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(red_and_blue()))


def test_cmyk_is_said(tmp_path):
    Image.new("RGB", (8, 8), (255, 255, 255)).convert("CMYK").save(tmp_path / "a.jpg")
    found = open_rgb(tmp_path / "a.jpg")
    assert "CMYK" in " ".join(found.notes) and np.asarray(found.image).min() > 250


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp"])
def test_the_first_of_several_frames_is_read(tmp_path, name):
    second = Image.new("RGB", (8, 4), (0, 255, 0))
    red_and_blue().save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    found = open_rgb(tmp_path / name)
    assert found.notes == ("holds several frames, of which the first is read",)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(red_and_blue()))


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_exif_orientation_is_obeyed(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be shown a quarter turn clockwise
    red_and_blue().save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    found = open_rgb(tmp_path / f"a.{suffix}")
    assert "upright" in " ".join(found.notes) and found.image.size == (4, 8)
    upright = red_and_blue().transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(upright))


def folder_of(path: Path, count: int) -> DataSet:
    for k in range(count):
        (path / "a").mkdir(parents=True, exist_ok=True)
        wide(path / "a" / f"{k}.png")
    return load_data(f"imagefolder:{path}", normalize="none")


def test_every_kind_of_note_is_logged_once_for_a_data_set(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "subbyte"):
        data = folder_of(tmp_path, 5)
        for _ in range(2):
            images = data.test.images([3, 1, 4])
    assert images.amax() == 235 / 255
    (record,) = caplog.records
    assert "3.png has 16 bits" in record.getMessage()


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "ehthumbs.db"]
)
@pytest.mark.parametrize("place", ["a", "."])
def test_what_systems_leave_behind_is_skipped_and_said(tmp_path, caplog, name, place):
    folder_of(tmp_path, 2)
    (tmp_path / place / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "subbyte"):
        assert len(folder_of(tmp_path, 2).test) == 2
    (record,) = caplog.records
    assert name in record.getMessage() and is_hidden(name)


@pytest.mark.parametrize("place", ["__MACOSX/a", "a/__MACOSX", "a/.thumbnails"])
def test_hidden_folders_are_no_classes_and_hold_no_images(tmp_path, caplog, place):
    folder_of(tmp_path, 2)
    (tmp_path / place).mkdir(parents=True)
    wide(tmp_path / place / "0.png")
    with caplog.at_level(logging.WARNING, "subbyte"):
        data = folder_of(tmp_path, 2)
    assert len(data.test) == 2 and data.classes == ("a",)
    (record,) = caplog.records
    assert "hidden, not read" in record.getMessage()


@pytest.mark.parametrize("mode", ["P", "1", "<u2", ">u2", "<i4"])
def test_maps_of_classes_are_never_scaled(tmp_path, mode):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    wide(tmp_path / "images" / "a.png")
    classes = GREY.astype(np.int64) % 2 if mode == "1" else GREY.astype(np.int64) * 4
    path = tmp_path / "masks" / ("a.png" if mode in ("P", "1") else "a.tif")
    if mode == "P":
        classes //= 4
        mask = Image.fromarray(classes.astype(np.uint8)).convert("P")
        mask.putpalette([255 - k // 3 for k in range(768)])
    else:
        mask = Image.fromarray(classes.astype(bool if mode == "1" else mode))
    mask.save(path)
    (target,) = load_data(f"masks:{tmp_path}").test.targets
    np.testing.assert_array_equal(target[np.array([0])][0], classes)
    (target,) = load_data(f"masks:{tmp_path}", crop=4).test.targets
    np.testing.assert_array_equal(target[np.array([0])][0], classes[1:5, 2:6])


@pytest.mark.parametrize("mode", ["RGB", "F", "LA"])
def test_masks_of_other_kinds_are_refused(tmp_path, mode):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    wide(tmp_path / "images" / "a.png")
    path = tmp_path / "masks" / ("a.tif" if mode == "F" else "a.png")
    Image.new(mode, (8, 6)).save(path)
    (target,) = load_data(f"masks:{tmp_path}").test.targets
    with pytest.raises(DataError, match=rf"{path.name}: a mask of mode {mode}; .*class numbers"):
        target[np.array([0])]
