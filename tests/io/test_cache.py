"""What runs share on disk: found again, never stale, bounded, no trouble where it is damaged or the
disk is full.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.io.cache import NO_CACHE, Cache
from subbyte.io.locks import claimed

ENTRY = {
    "a": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
    "b": torch.tensor(7),
    "empty": torch.zeros(0, 2),
    "text": torch.frombuffer(bytearray(b"abc"), dtype=torch.uint8),
}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", "network 1")


def files(cache: Cache):
    assert cache.folder is not None
    return sorted(cache.folder.iterdir()) if cache.folder.exists() else []


def same(found, wanted=ENTRY):
    kinds = [(name, value.dtype, value.shape) for name, value in (found or {}).items()]
    return kinds == [(name, value.dtype, value.shape) for name, value in wanted.items()] and all(
        torch.equal(found[name], value) for name, value in wanted.items()
    )


def test_what_is_kept_is_found(cache):
    assert cache.find("moments") is None and not files(cache)
    cache.keep("moments", ENTRY)
    assert same(cache.find("moments")) and len(files(cache)) == 1


def test_it_is_made_once(cache):
    made = []

    def make():
        made.append(1)
        return ENTRY

    assert (
        same(cache.fetch("moments", make)) and same(cache.fetch("moments", make)) and len(made) == 1
    )


@pytest.mark.parametrize(
    "parts", [("network 2",), ("x", "y"), ("xy",), ("x y",), ("1 x",), (1, "x"), (1.0,), (1,)]
)
def test_what_entries_depend_on_tells_them_apart(parts, cache):
    others = [
        cache,
        Cache(cache.folder),
        *(cache.of(*o) for o in ((), ("xy", ""), ("x", " y"), ("1", "  x"))),
    ]
    cache.of(*parts).keep("moments", ENTRY)
    assert same(cache.of(*parts).find("moments")) and cache.of(*parts).find("others") is None
    assert all(other.find("moments") is None for other in others)


def test_no_cache_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same(NO_CACHE.of("network").fetch("moments", lambda: ENTRY))
    assert NO_CACHE.find("moments") is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:100], lambda b: b[:-30], lambda b: b"hello"]
)
def test_what_is_damaged_is_made_again(damage, cache):
    cache.keep("moments", ENTRY)
    (path,) = files(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cache.find("moments") is None
    assert same(cache.fetch("moments", lambda: ENTRY)) and path.read_bytes() == whole


def test_pickles_are_not_read(cache):
    cache.keep("moments", ENTRY)
    (path,) = files(cache)
    np.savez(path, a=np.array([{"an": "object"}], dtype=object))
    assert cache.find("moments") is None


def test_a_full_disk_only_costs_the_cache(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    assert same(cache.fetch("moments", lambda: ENTRY)) and not files(cache)


def test_types_that_numpy_has_not_are_not_kept(cache):
    entry = {"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float8_e5m2)}
    assert cache.fetch("moments", lambda: entry) is entry and not files(cache)
    cache.keep("moments", {"a": torch.zeros(2, dtype=torch.bfloat16)})
    assert not files(cache)


def test_what_killed_processes_left_goes_and_what_others_write_stays(cache):
    cache.keep("a", ENTRY)
    assert cache.folder is not None
    dead, live = (cache.folder / f".{name}.npz.1-00000000.partial" for name in ("dead", "live"))
    dead.mkdir()
    live.mkdir()
    with claimed(live):
        cache.keep("b", ENTRY)
        assert not dead.exists() and live.exists()


def kept_at(cache: Cache, what: str, seconds: int) -> None:
    before = set(files(cache))
    cache.keep(what, {"x": torch.zeros(1000)})
    for path in set(files(cache)) - before:
        os.utime(path, (seconds, seconds))


def test_it_stays_below_its_limit_and_what_was_read_last_stays(cache):
    cache = replace(cache, limit=13_000)  # three entries of 4,000 bytes and their headers
    for age, what in enumerate("abc"):
        kept_at(cache, what, 1000 + age)
    assert cache.find("a") is not None
    for what in "de":
        kept_at(cache, what, 2000)
    assert sum(path.stat().st_size for path in files(cache)) <= 13_000
    assert [cache.find(what) is not None for what in "abcde"] == [True, False, False, True, True]


def test_what_is_larger_than_the_limit_is_not_kept(cache):
    cache = replace(cache, limit=5_000)
    cache.keep("a", {"x": torch.zeros(1000)})
    cache.keep("b", {"x": torch.zeros(2000)})
    assert cache.find("a") is not None and cache.find("b") is None
