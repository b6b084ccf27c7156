"""Processes exchange tensors bit for bit, in the order of their ranks."""

import pytest
import torch
from torch import Tensor

from subbyte.io import processes
from subbyte.io.processes import Processes
from tests.together import together


@pytest.mark.parametrize("piece", [5, 2**24])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bool])
def test_all_have_what_each_has(piece, dtype, monkeypatch):
    monkeypatch.setattr(processes, "_PIECE", piece)  # bytes; 5: no number is whole in one
    values = [torch.randn(rows, 3).to(dtype) for rows in (4, 0, 1)]

    def work(here: Processes) -> list[Tensor]:
        own = values[here.rank].clone()
        return [*here.gather(own), here.from_first(lambda: own.t())]

    for found in together(work, 3):
        assert isinstance(found, list)
        for one, value in zip(found, [*values, values[0].t()], strict=True):
            assert one.dtype == dtype and torch.equal(one, value)
