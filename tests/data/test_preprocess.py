"""Resizing and cropping against torch's own antialiased bicubic, and against slices."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from subbyte.data import Interpolation, Normalization
from subbyte.data.normalize import parse_normalization
from subbyte.data.preprocess import Preprocess, hold_bytes
from subbyte.errors import DataError

NONE = Normalization()


def picture(height: int, width: int) -> Image.Image:
    smooth = np.random.RandomState(1).rand(6, 7, 3) * 255
    return Image.fromarray(smooth.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BILINEAR
    )


@pytest.mark.parametrize(
    ("height", "width", "resize", "size"),
    [
        (60, 80, 30, (30, 40)),
        (80, 60, 30, (40, 30)),
        (50, 50, 20, (20, 20)),
        (60, 89, 20, (20, 29)),
        (20, 30, 40, (40, 60)),
    ],
)
def test_the_shorter_side_is_resized_and_the_aspect_kept(height, width, resize, size):
    image = picture(height, width)
    got = np.asarray(Preprocess(NONE, resize=resize).reshape(image, "x"))
    assert got.shape == (*size, 3)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].double()
    wanted = (
        F.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        .clamp(0, 255)[0]
        .permute(1, 2, 0)
    )
    # Both round to whole pixels on the way, Pillow once per direction: at most one level apart or
    # so.
    assert np.abs(got - wanted.numpy()).max() <= 1.5


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_filter_is_the_one_asked_for(mode):
    image = picture(60, 80)
    preprocess = Preprocess(NONE, resize=30, interpolation=Interpolation(mode))
    got = preprocess.reshape_tensor(torch.from_numpy(np.asarray(image)[None, :, :, 0].copy()), "x")
    pixels = torch.from_numpy(np.asarray(image)[None, None, :, :, 0].copy()).double()
    wanted = F.interpolate(pixels, size=(30, 40), mode=mode, antialias=True).clamp(0, 255)[0]
    assert (got - wanted).abs().max() <= 1.5


def test_every_filter_is_one_of_pillows():
    found = {
        one: np.asarray(Preprocess(NONE, 30, None, one).reshape(picture(60, 80), "x"))
        for one in Interpolation
    }
    # one pixel of two by two
    assert np.array_equal(found[Interpolation.NEAREST], np.asarray(picture(60, 80))[1::2, 1::2])
    assert len({array.tobytes() for array in found.values()}) == len(Interpolation)


@pytest.mark.parametrize("height", [10, 11, 13])
@pytest.mark.parametrize("crop", [1, 4, 10])
def test_the_crop_is_the_centre(height, crop):
    image = picture(height, 17)
    got = np.asarray(Preprocess(NONE, crop=crop).reshape(image, "x"))
    tops = [(height - crop) // 2, (height - crop + 1) // 2]
    lefts = [(17 - crop) // 2, (17 - crop + 1) // 2]
    whole = np.asarray(image)
    candidates = [whole[t : t + crop, s : s + crop] for t in tops for s in lefts]
    assert got.shape == (crop, crop, 3)
    assert any(np.array_equal(got, c) for c in candidates)


def test_odd_margins_round_half_to_even_as_torchvision_does():
    image = picture(13, 15)
    got = np.asarray(Preprocess(NONE, crop=10).reshape(image, "x"))  # margins 1.5 -> 2 and 2.5 -> 2
    assert np.array_equal(got, np.asarray(image)[2:12, 2:12])


def test_resize_comes_before_crop():
    image = picture(64, 64)
    got = np.asarray(Preprocess(NONE, resize=32, crop=16).reshape(image, "x"))
    whole = np.asarray(Preprocess(NONE, resize=32).reshape(image, "x"))
    assert np.array_equal(got, whole[8:24, 8:24])


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(
        DataError, match=r"cat.png: the image is 10 x 20 pixels .* --crop 16; give --resize 16"
    ):
        Preprocess(NONE, crop=16).reshape(picture(10, 20), "cat.png")


@pytest.mark.parametrize("options", [{"resize": 0}, {"crop": -1}])
def test_sizes_below_one_pixel_are_refused(options):
    with pytest.raises(DataError, match="at least 1 pixel"):
        Preprocess(NONE, **options)


def test_bytes_are_divided_by_255_and_floats_are_not():
    bytes_ = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert Preprocess(NONE).finish(bytes_).flatten().tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    assert torch.equal(Preprocess(NONE).finish(floats), floats)


def test_tensors_are_reshaped_as_pictures_are():
    image = picture(40, 30)
    preprocess = Preprocess(NONE, resize=20, crop=16)
    wanted = torch.from_numpy(np.asarray(preprocess.reshape(image, "x")).copy()).permute(2, 0, 1)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    assert torch.equal(preprocess.reshape_tensor(pixels, "x"), wanted)
    floats = preprocess.reshape_tensor(pixels.float() / 255, "x")
    assert (floats * 255 - wanted.float()).abs().max() <= 1.5


def images(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, 48).view(1, 3, 4, 4)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 16), (3, 200.5)])
def test_floats_that_are_bytes_are_noticed(low, high, caplog):
    assert hold_bytes(images(low, high)) and hold_bytes(images(low, high).double())
    with pytest.raises(DataError, match=rf"here: .* up to {high}.*uint8, or divide by 255"):
        Preprocess(parse_normalization("imagenet")).check_scale(images(low, high), "here")
    with caplog.at_level(logging.WARNING, "subbyte"):
        Preprocess(parse_normalization("none")).check_scale(images(low, high), "here")
        Preprocess(parse_normalization("127,127,127/1,1,1")).check_scale(images(low, high), "x")
    assert f"here: floating-point images from {low} to {high}" in caplog.messages[0]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.04, 1.03), (-2.1, 2.6), (0, 1000), (-1, 9)])
def test_other_floats_are_not(low, high, caplog):
    with caplog.at_level(logging.WARNING, "subbyte"):
        Preprocess(parse_normalization("imagenet")).check_scale(images(low, high), "here")
    assert not caplog.messages and not hold_bytes(images(low, high))
    assert not hold_bytes(torch.full((1, 3, 2, 2), 200, dtype=torch.uint8))
    assert not hold_bytes(torch.full((1, 3), 200.0)) and not hold_bytes(torch.empty(0, 3, 2, 2))
