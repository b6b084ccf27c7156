"""Moved, mirrored and resized images against plain loops."""

import pytest
import torch

from subbyte.learn.training.augment import AUGMENTATIONS, DRAWS
from tests.reference.training import crop_of, mirrored, resized, shifted

every_one = pytest.mark.parametrize("name", AUGMENTATIONS)


def random(*shape: int, seed: int = 0, uniform: bool = False) -> torch.Tensor:
    draw = torch.rand if uniform else torch.randn
    return draw(*shape, generator=torch.Generator().manual_seed(seed))


def draws(count: int, seed: int = 1) -> torch.Tensor:
    return random(count, DRAWS, seed=seed, uniform=True)


@every_one
@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (3, 3, 9, 16), (1, 3, 32, 32), (4, 2, 1, 5)])
def test_shapes_and_types_stay_and_images_are_not_touched(name, shape):
    images, numbers = random(*shape), draws(shape[0])
    before = images.clone(), numbers.clone()
    found = AUGMENTATIONS[name]().apply(images, numbers)
    assert found.shape == images.shape and found.dtype == torch.float32
    assert torch.equal(images, before[0]) and torch.equal(numbers, before[1])
    assert torch.equal(found, AUGMENTATIONS[name]().apply(images, numbers))


def test_none_is_none():
    images = random(4, 3, 8, 8)
    assert torch.equal(AUGMENTATIONS["none"]().apply(images, draws(4)), images)


@every_one
def test_an_image_depends_on_its_own_draws_alone(name):
    images, numbers = random(6, 2, 8, 9), draws(6)
    whole = AUGMENTATIONS[name]().apply(images, numbers)
    single = [
        AUGMENTATIONS[name]().apply(images[k : k + 1], numbers[k : k + 1])[0] for k in range(6)
    ]
    torch.testing.assert_close(whole, torch.stack(single), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 6, 17), (3, 32, 32)])
def test_shifts_are_those_of_a_plain_loop(shape):
    numbers = draws(12)
    # the ends
    numbers[:4, :2] = torch.tensor(
        [[0.0, 0.0], [1 - 2**-24, 0.0], [0.0, 1 - 2**-24], [1 - 2**-24] * 2]
    )
    images = random(12, *shape)
    found = AUGMENTATIONS["shift"]().apply(images, numbers)
    both = AUGMENTATIONS["shift-flip"]().apply(images, numbers)
    for k in range(12):
        expected = shifted(images[k], *numbers[k, :2].tolist())
        assert torch.equal(found[k], expected)
        assert torch.equal(both[k], mirrored(expected) if numbers[k, 2] < 0.5 else expected)
    assert {bool(number < 0.5) for number in numbers[:, 2]} == {True, False}


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (32, 4), (31, 3), (4, 1)])
def test_every_shift_up_to_an_eighth_is_as_likely(side, reach):
    count = 2 * reach + 1
    numbers = torch.zeros(10 * count, DRAWS)
    numbers[:, 0], numbers[:, 1] = 0.5, torch.arange(10 * count) / (10 * count) + 0.01
    image = torch.zeros(1, 1, 1, side)
    image[..., side // 2] = 1
    found = AUGMENTATIONS["shift"]().apply(image.expand(10 * count, 1, 1, side), numbers)
    places = side // 2 - found.flatten(1).argmax(1)
    assert places.unique(return_counts=True)[0].tolist() == list(range(-reach, reach + 1))
    assert places.unique(return_counts=True)[1].tolist() == [10] * count


@pytest.mark.parametrize("name", ["shift-flip", "resized"])
def test_about_half_are_mirrored(name):
    numbers = draws(2000)
    # where they are, as large as they are
    numbers[:, :2], numbers[:, 3], numbers[:, 4] = 0.5, 1 - 2**-24, 0.5
    image = random(1, 1, 8, 8)
    found = AUGMENTATIONS[name]().apply(image.expand(2000, 1, 8, 8), numbers)
    kept = (found - image).abs().amax((1, 2, 3)) < 1e-5
    turned = (found - image.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    # 22 is the deviation of one
    assert bool((kept ^ turned).all()) and 900 < int(turned.sum()) < 1100
    assert torch.equal(turned, numbers[:, 2] < 0.5)


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 6, 11)])
def test_resized_images_are_those_of_a_plain_loop(shape):
    images, numbers = random(8, *shape), draws(8, seed=2)
    numbers[0, 3], numbers[1, 3] = 0, 1 - 2**-24
    numbers[2, :2], numbers[3, :2] = 0, 1 - 2**-24
    found = AUGMENTATIONS["resized"]().apply(images, numbers)
    for k in range(8):
        expected = resized(images[k], numbers[k].tolist())
        torch.testing.assert_close(found[k].double(), expected, rtol=0, atol=2e-5)


def test_resized_images_hold_no_values_of_their_own():
    # far from 0, which padding would bring in
    images, numbers = random(300, 1, 8, 8) + 5, draws(300, seed=3)
    found = AUGMENTATIONS["resized"]().apply(images, numbers)
    low, high = images.amin((1, 2, 3)), images.amax((1, 2, 3))
    assert bool(
        (found.amin((1, 2, 3)) >= low - 1e-4).all() and (found.amax((1, 2, 3)) <= high + 1e-4).all()
    )


def test_parts_have_8_to_100_percent_of_the_area_a_shape_of_3_to_4_and_lie_inside():
    numbers = draws(1000, seed=4)
    numbers[:, 2] = 0.9  # not mirrored
    ramps = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))
    found = AUGMENTATIONS["resized"]().apply(ramps.expand(1000, 2, 64, 64), numbers)
    first, last = found[:, :, 20, 20], found[:, :, 43, 43]  # away from edges, where ramps end
    high, wide = ((last - first) / 23).unbind(1)  # sides of the part, as shares
    centre = (found[:, :, 31, 31] + found[:, :, 32, 32]) / 2 + 0.5  # in pixels
    for k in range(1000):
        top, left, tall, broad = crop_of(numbers[k].tolist())
        assert (float(high[k]), float(wide[k])) == pytest.approx((tall, broad), abs=1e-4)
        assert centre[k].tolist() == pytest.approx(
            [64 * (top + tall / 2), 64 * (left + broad / 2)], abs=1e-2
        )
    area, shape = high * wide, wide / high
    assert 0.0799 < float(area.min()) < 0.09 and float(area.max()) > 0.9
    assert float(shape.min()) > 0.7499 and float(shape.max()) < 1.3334
    for side, middle in zip((high, wide), centre.unbind(1), strict=True):
        assert (
            float((middle - 32 * side).min()) > -0.01 and float((middle + 32 * side).max()) < 64.01
        )
