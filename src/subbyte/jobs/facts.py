"""Facts that a data set lets files of networks state: how its pixels become inputs, and what its
classes are called.
"""

from torch import Tensor

from subbyte.data import DataSet
from subbyte.records import About, Colours, Preprocessing

_COLOURS = {1: Colours.GRAY, 3: Colours.RGB, 4: Colours.RGBA}


def about(data: DataSet) -> About:
    """The facts. Names of classes that only count them are left out."""
    numbers = tuple(map(str, range(len(data.classes))))
    named = data.classes if data.classes != numbers else ()
    return About(preprocessing=_preprocessing(data), classes=named)


def _preprocessing(data: DataSet) -> Preprocessing | None:
    """The steps from images to inputs; None where they are not known."""
    steps = data.preprocess
    if steps is None or not len(data.test):
        return None
    image = data.test.samples([0])
    if not isinstance(image, Tensor) or image.ndim != 4:
        return None
    return Preprocessing(
        resize=steps.resize,
        crop=steps.crop,
        interpolation=steps.interpolation if steps.resize is not None else "",
        mean=steps.normalization.mean,
        std=steps.normalization.std,
        colours=_COLOURS.get(image.shape[1], Colours.UNKNOWN),
    )
