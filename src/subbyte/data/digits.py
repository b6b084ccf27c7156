"""The handwritten digits that come with scikit-learn: 1,797 images of 8 x 8, and nothing to
download.
"""

import numpy as np
import torch

from subbyte.data.arrays import Arrays, array_data
from subbyte.data.dataset import DataSet
from subbyte.data.preprocess import Preprocess

SEED = 0
TEST_SHARE = 0.2  # of every class
BRIGHTEST = 16.0  # pixels count from 0 to 16


def load_digits(preprocess: Preprocess) -> DataSet:
    """Load the digits: images [1, 8, 8] from 0 to 1; 80 % of every class train, 20 % test, ever the
    same.
    """
    from sklearn.datasets import load_digits as fetch  # a second to import

    bunch = fetch()
    pixels = torch.from_numpy((bunch.images / BRIGHTEST).astype(np.float32))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    draw = np.random.RandomState(SEED)
    tested = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = draw.permutation(np.flatnonzero(bunch.target == digit))
        tested[members[: round(TEST_SHARE * len(members))]] = True
    where = "scikit-learn's digits"
    train, test = (
        Arrays(pixels[mask], labels[mask], where)
        for mask in (torch.tensor(~tested), torch.tensor(tested))
    )
    return array_data("digits", train, test, tuple("0123456789"), preprocess)
