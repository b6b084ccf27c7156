"""Kinds of grids are made of an alphabet and a share, and of nothing else."""

import pytest

from subbyte.core import GridSpec, PerChannel, Uniform
from subbyte.errors import RecipeError


@pytest.mark.parametrize("alphabet", ["int4", 4, Uniform, None])
def test_what_is_no_alphabet_is_refused(alphabet):
    with pytest.raises(RecipeError, match=r"is an Alphabet, such as Uniform\(4\); got "):
        GridSpec(alphabet)


@pytest.mark.parametrize("share", ["channel", PerChannel, None])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(RecipeError, match=r"is a Share, such as PerChannel\(\); got "):
        GridSpec(Uniform(4), share)
