"""A look at a data set: how many images of which classes, how their values lie, and some of them.

Images are looked at as the network takes them: resized, cropped and normalized. Samples are drawn
class by class by the first of numpy.random.RandomState(seed).permutation, as calibration images
are.
"""

import numpy as np
import torch
from torch import Tensor

from subbyte.data import DataSet, Normalization, Split
from subbyte.engine.evidence import thumbnails
from subbyte.engine.stages import Report
from subbyte.errors import DataError
from subbyte.records.look import Channel, Look, Part, Sample

PICTURES = 400
"""Pictures of a split, at most; then the first classes are shown."""
_UNLABELLED = 10  # times as many pictures as of a class
_BATCH = 64


def look(data: DataSet, samples: int, measured: int, seed: int, report: Report) -> Look:
    """Look at both splits. samples: pictures of each class; measured: images whose values are read,
    at most.

    Raises DataError where samples are no images, and for images with NaN or Inf.
    """
    if data.image_shape is None:
        raise DataError(f"{data.name} has no images [n, channels, height, width] to look at")
    known = None if data.preprocess is None else data.preprocess.normalization
    splits = [data.test] if data.train is None else [data.train, data.test]
    parts = [
        _part(split, len(data.classes), samples, measured, seed, known, report)
        for split in splits
        if len(split)
    ]
    classes = list(data.classes)
    return Look(
        data=data.name, fingerprint=data.fingerprint, classes=classes, seed=seed, parts=parts
    )


def _part(
    split: Split,
    classes: int,
    samples: int,
    measured: int,
    seed: int,
    known: Normalization | None,
    report: Report,
) -> Part:
    places = np.linspace(0, len(split) - 1, min(len(split), measured)).astype(int)
    channels, ends = _channels(split, places, known, report)
    labels = split.labels.numpy() if split.has_labels else None
    chosen = _chosen(len(split), labels, classes, samples, seed)
    images = split.images(chosen)
    _, *shape = images.shape
    return Part(
        name=split.name,
        images=len(split),
        shape=(shape[0], shape[1], shape[2]),
        counts=[] if labels is None else np.bincount(labels, minlength=classes).tolist(),
        measured=len(places),
        channels=channels,
        samples=[
            Sample(index=index, label=None if labels is None else int(labels[index]), picture=png)
            for index, png in zip(chosen, thumbnails(images, ends), strict=True)
        ],
    )


def _channels(
    split: Split, places: np.ndarray, known: Normalization | None, report: Report
) -> tuple[list[Channel], Tensor]:
    """The values of each channel, and their ends as two images [2, channels, 1, 1]."""
    sums, count = torch.zeros(2, 0, dtype=torch.float64), 0
    low = high = torch.zeros(0)
    for start in range(0, len(places), _BATCH):
        report(split.name, start, len(places), "")
        images = split.images(places[start : start + _BATCH])
        if not bool(torch.isfinite(images).all()):
            raise DataError(f"images of the {split.name} split hold NaN or Inf; repair them")
        wide = images.double()
        found = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
        ends = images.amin((0, 2, 3)), images.amax((0, 2, 3))
        sums = sums + found if count else found
        low = torch.minimum(low, ends[0]) if count else ends[0]
        high = torch.maximum(high, ends[1]) if count else ends[1]
        count += images[:, 0].numel()
    report(split.name, len(places), len(places), "")
    mean = sums[0] / count
    std = (sums[1] / count - mean.square()).clamp_min(0).sqrt()
    channels = [
        Channel(mean=a, std=b, low=c, high=d)
        for a, b, c, d in zip(*(each.tolist() for each in (mean, std, low, high)), strict=True)
    ]
    if known is not None:
        channels = [_as_pixels(one, known, k) for k, one in enumerate(channels)]
    return channels, torch.stack([low, high])[:, :, None, None]


def _as_pixels(channel: Channel, known: Normalization, place: int) -> Channel:
    """The channel with its mean and deviation before it was normalized."""
    mean, std = (known.mean[place], known.std[place]) if known.mean else (0.0, 1.0)
    pixels = {"pixel_mean": channel.mean * std + mean, "pixel_std": channel.std * std}
    return channel.model_copy(update=pixels)


def _chosen(
    count: int, labels: np.ndarray | None, classes: int, samples: int, seed: int
) -> list[int]:
    """Indices of images, class by class."""
    order = np.random.RandomState(seed).permutation(count)
    if labels is None:
        return sorted(order[: min(PICTURES, _UNLABELLED * samples)].tolist())
    shown = range(min(classes, max(1, PICTURES // samples)))
    drawn = labels[order]
    return [
        index
        for label in shown
        for index in sorted(order[drawn == label][: min(samples, PICTURES)].tolist())
    ]
