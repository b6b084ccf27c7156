"""Whatever happened to a file: reading it gives the same result, or one line that names the file.
Never another error, hardly time or memory, no program started, and where a file holds a checksum
never another result.

SUBBYTE_ATTACK is the number of mutations of all kinds together, some hundreds by default; `make
attack` takes 100,000.
"""

import os
import pickle
import sys
from collections import Counter
from contextlib import suppress
from random import Random
from types import SimpleNamespace

import pytest
import torch

import subbyte.graph.network as graph_network
from subbyte.data import mnist, pickles
from subbyte.errors import DataError
from subbyte.exporters import sealed
from subbyte.graph import capture
from subbyte.graph.instrument import copied
from subbyte.records import outcome as outcome_files
from tests.attack.kinds import KINDS, mutated
from tests.attack.watch import End, FaultError, outcome
from tests.networks import build, images

COUNT = int(os.environ.get("SUBBYTE_ATTACK", "700"))
SHARES = sum(kind.share for kind in KINDS.values())


@pytest.fixture(scope="module", autouse=True)
def _captured_once():
    """The network that packed files are loaded into is captured once."""
    graph = capture(build("shared"), images("shared")[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_network, "capture", lambda *_: copied(graph))
        yield


def attack(name: str, folder, count: int) -> Counter[End]:
    """How reading ended, over mutations of a kind of file. Raises FaultError, with the number."""
    kind, ends = KINDS[name], Counter[End]()
    files = kind.make(folder)
    good = {path: path.read_bytes() for path in files}
    expected = {path: kind.read(path) for path in files}
    for number in range(count):
        random = Random(f"{name} {number}")
        path = random.choice(files)
        content, sealed_again = mutated(kind, good[path], random)
        path.write_bytes(content)
        try:
            end = outcome(kind.read, path, expected[path])
            if end is End.OTHER and kind.whole and not sealed_again:
                raise FaultError("another result, though the file has a checksum")
        except FaultError as fault:
            kept = folder / f"{number}{path.suffix}"
            kept.write_bytes(content)
            raise FaultError(f"{name}, mutation {number} ({kept}): {fault}") from fault.__cause__
        finally:
            path.write_bytes(good[path])
        ends[end] += 1
    return ends


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused_or_read_as_they_were(name, tmp_path, capsys):
    count = max(3, round(COUNT * KINDS[name].share / SHARES))
    ends = attack(name, tmp_path, count)
    if "SUBBYTE_ATTACK" in os.environ:  # a row of the table in docs/reliability.md
        with capsys.disabled():
            cells = [name, f"{count:,}", *(f"{ends[end]:,}" for end in End)]
            sys.stdout.write(f"\n| {' | '.join(cells)} |\n")
    assert sum(ends.values()) == count


# ---- the harness finds bugs that are planted ----


class _Any(str):
    """Equals every checksum and every length."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


def _no_lengths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mnist, "math", SimpleNamespace(prod=lambda sizes: _Any()))


def _no_checksum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sealed, "_digest", lambda *_: _Any())


def _no_types(patch: pytest.MonkeyPatch) -> None:
    believed = SimpleNamespace(validate_python=lambda found: outcome_files.Failed(**found))
    patch.setattr(outcome_files, "_OUTCOME", believed)


def _no_nan(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch, "isnan", lambda x: torch.zeros(1, dtype=torch.bool))


def _any_code(patch: pytest.MonkeyPatch) -> None:
    known = pickles._Unpickler.find_class

    def found(self, module, name):
        with suppress(DataError):
            return known(self, module, name)
        return pickle.Unpickler.find_class(self, module, name)

    patch.setattr(pickles._Unpickler, "find_class", found)


@pytest.mark.parametrize(
    ("plant", "name", "found"),
    [
        (_no_lengths, "MNIST", "ValueError"),
        (_no_checksum, "packed", "another result"),
        (_no_types, "run of a sweep", "TypeError"),
        (_no_nan, "packed", "NaN came through"),
        (_any_code, "CIFAR, python", "a program was started"),
    ],
)
def test_planted_bugs_are_found(plant, name, found, tmp_path, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(FaultError, match=found):
        attack(name, tmp_path, 1000)
