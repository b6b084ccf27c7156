"""Processes exchange tensors bit for bit, in the order of their ranks."""

import pytest
import torch
from torch import Tensor

import subbyte
from subbyte.errors import ModelError
from subbyte.io import processes
from subbyte.io.processes import ALONE, Processes, join
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


def test_a_group_is_shared_by_who_says_so(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert subbyte.processes() == ALONE
    monkeypatch.setattr(processes.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(processes.dist, "get_world_size", lambda: 2)
    assert subbyte.processes() == Processes(1, 2) and subbyte.Limits().processes == ALONE


@pytest.fixture
def started(monkeypatch):
    """Two processes as WORLD_SIZE alone tells, on a machine that has one GPU."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "check_device", processes.is_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return monkeypatch


def test_processes_that_do_not_come_together_say_so(started):
    with pytest.raises(ModelError, match=r"2 processes of WORLD_SIZE can't .* RANK expected"):
        join("cpu")
    with pytest.raises(ModelError, match=r"one of 2 processes .* call torch.distributed.init_proc"):
        subbyte.processes()
    started.setenv("WORLD_SIZE", "two")
    with pytest.raises(ModelError, match=r"WORLD_SIZE must be a number, .* got 'two'"):
        join("cpu")


def test_more_processes_than_gpus_are_refused(started):
    started.setenv("LOCAL_RANK", "1")
    with pytest.raises(ModelError, match=r"process 1 .* torch finds 1; .* --nproc-per-node 1"):
        join("cuda")
