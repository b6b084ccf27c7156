"""Which codes may saturate, against the arithmetic of kernels that add pairs of products in
int16.
"""

from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from subbyte.exporters.arrays import may_saturate
from tests.exporters.pairs import paired_sums, worst_inputs


@pytest.mark.parametrize("largest", [3, 15, 127, 128, 255])
def test_sums_are_exact_in_every_order_of_columns_where_no_pair_saturates(largest):
    draw = np.random.default_rng(largest)
    said = set()
    for limit in (1, 7, 32, 63, 64, 65, 127):
        codes = draw.integers(-limit - 1, limit + 1, (3, 5))
        random = draw.integers(0, largest + 1, (20, 5))
        inputs = np.concatenate([random, *worst_inputs(codes, largest)])
        exact = inputs @ codes.T
        orders = list(permutations(range(5)))
        differ = [order for order in orders if (paired_sums(inputs, codes, order) != exact).any()]
        said.add(may_saturate(codes, largest))
        assert bool(differ) == may_saturate(codes, largest), (limit, differ[:1])
    assert said == ({True, False} if largest > 128 else {False})


@pytest.mark.parametrize(
    ("codes", "largest", "saturates"),
    [
        ([[64, 64, 0]], 255, False),
        ([[64, 0, 65]], 255, True),
        ([[127, -128, 1]], 255, False),  # of two signs: no inputs make both count
        ([[127, -128, 2]], 255, True),
        ([[0, -64, -64]], 255, False),
        ([[0, -64, -65]], 255, True),
        ([[0, -128, -128]], 128, False),  # -32,768 fits
        ([[0, 127, 127]], 129, False),
        ([[0, 127, 127]], 130, True),
        ([[1, 1, 1], [3, 127, 127]], 255, True),
        ([[127]], 255, False),
    ],
)
def test_the_border_is_that_of_int16(codes, largest, saturates):
    codes = np.array(codes)
    assert may_saturate(codes, largest) is saturates
    inputs = np.concatenate(worst_inputs(codes, largest))
    orders = permutations(range(codes.shape[1]))
    exact = inputs @ codes.T
    assert any((paired_sums(inputs, codes, each) != exact).any() for each in orders) is saturates


@pytest.mark.parametrize(("limit", "saturates"), [(64, False), (127, True)])
def test_a_convolution_is_exact_with_channels_first_and_last(limit, saturates):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(200, 256, (2, 6, 5, 5), generator=generator)
    codes = torch.randint(limit - 5, limit + 1, (4, 6, 3, 3), generator=generator)
    exact = F.conv2d(x.double(), codes.double(), padding=1).flatten(2)
    windows = F.unfold(x.double(), 3, padding=1).mT.flatten(0, 1).numpy().astype(int)
    matrix = codes.flatten(1).numpy()
    assert may_saturate(matrix, 255) is saturates
    columns = np.arange(54).reshape(6, 9)
    for order in (columns.ravel(), columns.T.ravel()):
        sums = torch.from_numpy(paired_sums(windows, matrix, order)).reshape(2, 25, 4).mT
        assert torch.equal(sums.double(), exact) is not saturates
