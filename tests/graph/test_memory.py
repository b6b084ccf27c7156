"""Values beyond the budget live in files, exactly, and leave nothing behind."""

import gc
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from subbyte.errors import ResourceError
from subbyte.graph.memory import Memory, Pair, room_on


def values() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, generator=generator)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-45])
    return [
        x,
        x.double() / 3,
        x.half(),
        x.bfloat16(),
        (10 * x).to(torch.int8),
        (x.double() * 2**50).long(),
        x > 0,
        special,
        x.T,
        x[::2, 1:],
        x[0, 0],
        torch.zeros(3, 0),
        x[None].expand(4, 6, 5),
        x.to(torch.uint8),
    ]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    )


def size(value: torch.Tensor) -> int:
    return value.numel() * value.element_size()


@pytest.mark.parametrize("index", range(len(values())))
def test_values_survive_exactly_in_memory_and_in_files(index, tmp_path):
    value = values()[index]
    kept = Memory(10**6, tmp_path)
    assert kept.admit(value) is value and kept.used == size(value) and kept.spilled == 0
    spilling = Memory(0, tmp_path)
    copy = spilling.admit(value)
    assert same(copy, value) and torch.equal(torch.signbit(copy), torch.signbit(value))
    assert spilling.used == 0 and spilling.spilled == size(value)


def test_a_file_does_not_follow_its_original():
    value = torch.ones(4)
    copy = Memory(0).admit(value)
    value.zero_()
    assert copy.tolist() == [1.0] * 4


def test_the_budget_is_kept_to_the_byte(tmp_path):
    memory = Memory(100, tmp_path)
    first, second, third = torch.ones(15), torch.ones(10), torch.ones(1)
    assert memory.admit(first) is first and memory.used == 60
    assert memory.admit(second) is second and memory.used == 100
    assert memory.admit(third) is not third and (memory.used, memory.spilled) == (100, 4)


def test_what_fits_is_kept_even_after_something_large_was_spilled():
    memory = Memory(100)
    large, small = torch.ones(50), torch.ones(20)
    assert memory.admit(large) is not large and memory.admit(small) is small


def test_release_gives_the_budget_back():
    memory = Memory(100)
    chunks = [memory.admit(torch.ones(10)) for _ in range(4)]  # two of them in files
    assert (memory.used, memory.spilled) == (80, 80)
    memory.release(Pair(chunks, chunks))
    assert memory.used == 0 and chunks == []
    again = torch.ones(25)
    assert memory.admit(again) is again


def test_a_value_from_a_file_admitted_again_costs_nothing():
    memory = Memory(100)
    room = [memory.admit(torch.ones(20))]
    spilled = memory.admit(torch.ones(10))
    memory.release(Pair(room, room))
    again = [memory.admit(spilled)]
    assert again[0].tolist() == [1.0] * 10
    memory.release(Pair(again, again))
    assert memory.used == 0


def test_numbers_and_tuples_pass_through():
    memory = Memory(0)
    pair = (torch.ones(2), torch.ones(2))
    assert memory.admit(7) == 7 and memory.admit(None) is None and memory.admit(pair) is pair
    chunks = [7, None, pair]
    memory.release(Pair(chunks, chunks))
    assert (memory.used, memory.spilled, chunks) == (0, 0, [])


def test_nothing_is_seen_on_disk_and_nothing_stays_mapped(tmp_path):
    memory = Memory(0, tmp_path)
    chunks = [memory.admit(torch.full((1000,), float(k))) for k in range(3)]
    assert list(tmp_path.iterdir()) == []
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path) in maps.read_text(), "the values are not in files of this folder"
    assert [float(c.mean()) for c in chunks] == [0.0, 1.0, 2.0]
    memory.release(Pair(chunks, chunks))
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    if maps.exists():
        assert str(tmp_path) not in maps.read_text()


def test_files_go_to_the_given_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        Memory(0, tmp_path / "missing").admit(torch.ones(3))
    Memory(100, tmp_path / "missing").admit(torch.ones(3))


def test_a_pair_is_the_same_until_it_parts():
    chunks = [torch.ones(2)]
    assert Pair(chunks, chunks).same
    assert not Pair(chunks, list(chunks)).same


def test_values_of_a_device_stay_there_while_they_fit():
    memory = Memory(100, on_device=100)
    chunks = [memory.admit(torch.ones(10, device="meta")) for _ in range(2)]
    assert (memory.used, memory.used_on_device) == (0, 80)
    memory.release(Pair(chunks, chunks))
    assert memory.used_on_device == 0
    assert room_on("cpu") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a limit of its own needs a process of its own")
def test_a_full_folder_is_an_error_and_leaves_nothing(tmp_path):
    import resource

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(ResourceError, match="TMPDIR") as error:
            Memory(0, tmp_path).admit(torch.ones(1000))
        assert f"paged to {tmp_path}: File too large (4,000 bytes needed, " in str(error.value)

    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            limited()
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0 and not list(tmp_path.iterdir())
