"""Facts that a data set lets files of networks state: how its pixels become inputs, and what its
classes are called.
"""

from torch import Tensor

from subbyte.data.dataset import DataSet
from subbyte.records import About


def about(data: DataSet) -> About:
    """The facts. Names of classes that only count them are left out."""
    preprocessing = None
    image = data.test.samples([0]) if data.preprocess is not None and len(data.test) else None
    if data.preprocess is not None and isinstance(image, Tensor) and image.ndim == 4:
        preprocessing = data.preprocess.about(image.shape[1])
    numbers = tuple(map(str, range(len(data.classes))))
    named = data.classes if data.classes != numbers else ()
    return About(preprocessing=preprocessing, classes=named)
