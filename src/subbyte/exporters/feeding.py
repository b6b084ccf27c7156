"""Inputs of a network as a file of another form takes them: as pixels, in batches of one size.

x = (u / 255 - mean) / std,    u = 0 ... 255
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from subbyte.errors import DataError, RecipeError
from subbyte.graph import Leaf, Samples, Signature
from subbyte.methods import Form, InputType, Runner
from subbyte.records import Preprocessing

LARGEST = 255
_SLACK = 0.51  # how far an input may lie from what a pixel makes, in steps of pixels


def check_pixels(signature: Signature, preprocessing: Preprocessing | None) -> Leaf:
    """The one input that is images. Raises RecipeError where a file can't take pixels for it: there
    are none or several, or nothing says how they become inputs.
    """
    images = [leaf for leaf in signature.tensors if _holds_images(leaf)]
    if len(images) != 1:
        raise RecipeError(
            f"input uint8 is for networks of images, one float32 [n, channels, height, width]; "
            f"this one takes {signature.described}"
        )
    if preprocessing is None:
        raise RecipeError(
            "input uint8: nothing says how pixels become inputs; name data of images with their "
            "--normalize, or give about=About(preprocessing=Preprocessing(mean=..., std=...))"
        )
    (leaf,), channels = images, images[0].shape[0]
    if preprocessing.mean and len(preprocessing.mean) != channels:
        raise RecipeError(
            f"input uint8: {len(preprocessing.mean)} means, but the network's images have "
            f"{channels} channels"
        )
    return leaf


def check_inputs(form: Form, signature: Signature, samples: Samples) -> None:
    """Raise RecipeError or DataError where a file of this form can't be made for a network, or
    proven on these samples.
    """
    if form.input is InputType.UINT8:
        check_pixels(signature, form.about.preprocessing)
        representable(samples, form)


def _holds_images(leaf: Leaf) -> bool:
    return leaf.batched and len(leaf.shape) == 3 and leaf.dtype == torch.float32


def inputs_of(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pixels uint8 [n, C, H, W] as inputs, float32."""
    x = pixels.float() / LARGEST
    mean, std = _by_channel(preprocessing)
    return (x - mean) / std if preprocessing.mean else x


def pixels_of(inputs: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The pixels that make inputs [n, C, H, W], or the nearest ones: uint8."""
    return _steps(inputs, preprocessing).round().clamp(0, LARGEST).to(torch.uint8)


def _steps(inputs: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Inputs in steps of pixels."""
    mean, std = _by_channel(preprocessing)
    return LARGEST * (inputs.double() * std + mean if preprocessing.mean else inputs.double())


def _by_channel(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    mean, std = (
        torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1)
        for numbers in (preprocessing.mean, preprocessing.std)
    )
    return mean, std


def representable(samples: Samples, form: Form) -> Samples:
    """Samples that a file of this form can be given: images that pixels make. Raises DataError
    where images are no such thing.
    """
    preprocessing = form.about.preprocessing
    if form.input is InputType.FLOAT or preprocessing is None:
        return samples
    leaves = list(samples.leaves)
    for k, leaf in enumerate(leaves):
        if _is_images(leaf):
            steps = _steps(leaf, preprocessing)
            pixels = pixels_of(leaf, preprocessing)
            gap = float((steps - pixels).abs().max())
            if not gap <= _SLACK:
                low, high = float(steps.min()), float(steps.max())
                raise DataError(
                    f"input uint8: with mean {list(preprocessing.mean)} and std "
                    f"{list(preprocessing.std)} the images would hold pixels from {low:.4g} to "
                    f"{high:.4g}, not 0 to {LARGEST}; say how these images were normalized"
                )
            leaves[k] = inputs_of(pixels, preprocessing)
    return replace(samples, leaves=tuple(leaves))


def _is_images(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim == 4 and leaf.is_floating_point()


def taken(given: Sequence[Any], form: Form) -> list[Any]:
    """Inputs of the network as a file of this form takes them, in a batch of any size."""
    preprocessing = form.about.preprocessing
    if form.input is InputType.FLOAT or preprocessing is None:
        return list(given)
    return [pixels_of(x, preprocessing) if _is_images(x) else x for x in given]


def fed(run: Runner, form: Form) -> Runner:
    """A file of this form at work on what its network takes, in batches of any size.

    The last batch of a fixed size is filled up with its last sample.
    """

    def call(*given: Tensor) -> Any:
        own = taken(given, form)
        if form.batch is None:
            return run(*own)
        count = next(len(x) for x in own if x.ndim)
        parts = [_listed(run(*part)) for part in _batches(own, count, form.batch)]
        found = tuple(_joined(column, count, form.batch) for column in zip(*parts, strict=True))
        return found if len(found) > 1 else found[0]

    return call


def of_one_batch(given: Sequence[Tensor], form: Form) -> list[Tensor]:
    """The first samples as one batch for a file of this form: one, or as many as it takes."""
    own = taken(given, form)
    count = next(len(x) for x in own if x.ndim)
    return next(_batches(own, count, form.batch or 1))


def _batches(given: list[Any], count: int, size: int) -> Iterator[list[Any]]:
    """Batches of one size; tensors that do not count `count` samples go into each as they are."""
    for start in range(0, count, size):
        rows = torch.arange(start, start + size).clamp_max(count - 1)
        yield [x[rows] if x.ndim and len(x) == count else x for x in given]


def _listed(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _joined(parts: Sequence[Tensor], count: int, size: int) -> Tensor:
    """An output of all samples. Raises DataError where it has no axis of samples."""
    if not parts[0].ndim or len(parts[0]) != size:
        raise DataError(
            f"a file for batches of {size} has an output {list(parts[0].shape)} that does not "
            f"count samples along its first axis; export it for any batch"
        )
    return torch.cat(list(parts))[:count]
