"""Checkpoints: damaged ones and those of others are refused, and a disk that is full costs nothing
that was there.
"""

import errno
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from subbyte.errors import FormatError, NumericsError
from subbyte.learn.training import Own, TrainSettings
from subbyte.learn.training.checkpoint import load_checkpoint, save_checkpoint
from tests.learn.training.runs import (
    ADAM,
    FILES,
    Normed,
    digits,
    few,
    left_by,
    lively,
    replace,
    run,
    seeded,
    stopping,
)
from tests.workplace import names_in

DATA = few(digits(), 300)  # 2 steps an epoch


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", data=DATA, progress=stopping(4))
    return tmp_path / "out"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the same run leaves when it is not stopped."""
    return left_by(run(tmp_path_factory.mktemp("whole") / "out", data=DATA))


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def test_a_checkpoint_is_what_it_was_made_of(tmp_path):
    model = seeded(Normed)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(DATA.test.images(range(9))).sum().backward()
    optimizer.step()
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, 7, Own(model), optimizer)
    found = load_checkpoint(tmp_path)
    assert (
        found is not None
        and found.epoch == 7
        and names_in(tmp_path) == {"checkpoint.pt", "model.safetensors"}
    )
    assert found.model.keys() == model.state_dict().keys()
    assert all(
        torch.equal(found.model[name], tensor) for name, tensor in model.state_dict().items()
    )
    first = found.optimizer["state"][0]["momentum_buffer"]
    assert torch.equal(first, optimizer.state[next(model.parameters())]["momentum_buffer"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_never_written(value, tmp_path):
    model = seeded(Normed)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    save_checkpoint(tmp_path, 1, Own(model), optimizer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.bn2.running_var[3] = value
    with pytest.raises(
        NumericsError, match=r"after epoch 2, bn2.running_var \(6,\) holds NaN or Inf"
    ):
        save_checkpoint(tmp_path, 2, Own(model), optimizer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "first half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "zeros at the end": lambda content: content[:-500] + bytes(500),
    "a list": lambda content: saved([1, 2]),
    "no optimizer": lambda content: saved({"epoch": 1, "model": {}}),
    "code": lambda content: saved({"epoch": 1, "model": Path("x"), "optimizer": {}}),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_checkpoints_are_named(how, begun, whole):
    path = begun / "checkpoint.pt"
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with pytest.raises(
        FormatError,
        match=r"checkpoint\.pt is damaged .*delete it to start anew, or choose another --out",
    ):
        run(begun, data=DATA)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before
    path.unlink()  # as the message says
    run(begun, data=DATA)
    assert left_by(begun) == whole


@pytest.mark.parametrize(
    ("part", "value"),
    [("model", 3), ("optimizer", {}), ("epoch", "1")],
)
def test_checkpoints_with_parts_that_are_none_are_refused(part, value, begun):
    path = begun / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    path.write_bytes(saved(content | {part: value}))
    with pytest.raises(FormatError, match="checkpoint"):
        run(begun, data=DATA)


def test_a_bit_that_flipped_is_noticed(begun):
    path = begun / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    weights = load_checkpoint(begun).model["fc1.weight"].numpy().tobytes()
    content[content.index(weights) + 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError, match="damaged"):
        run(begun, data=DATA)


def swap(begun: Path, settings: TrainSettings, network: Callable[[], nn.Module] = lively) -> None:
    """Put the checkpoint of another run into a folder."""
    other = begun.parent / "other"
    with pytest.raises(KeyboardInterrupt):
        run(other, settings, model=seeded(network), data=DATA, progress=stopping(4))
    (begun / "checkpoint.pt").write_bytes((other / "checkpoint.pt").read_bytes())


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "other layers": Normed,
    "other classes": lambda: lively(12),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_of_another_network_is_refused(name, begun):
    swap(begun, ADAM, NETWORKS[name])
    with pytest.raises(
        FormatError,
        match=r"the checkpoint in .* is of another network or optimizer \(.*choose another",
    ):
        run(begun, data=DATA)


SGD = replace(ADAM, optimizer="sgd", lr=0.05)
SGD_ON_GRID = replace(SGD, qat="grid")
PAIRS = [
    (SGD_ON_GRID, SGD),
    (replace(SGD, optimizer="qsgd"), SGD_ON_GRID),
    (SGD_ON_GRID, replace(SGD_ON_GRID, optimizer="adamw")),
    *(
        (replace(SGD, optimizer=ours), replace(SGD, optimizer=theirs))
        for ours, theirs in [("adam", "adamw"), ("sgd", "qsgd"), ("qsgd-2021", "qsgd-2023")]
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_checkpoint_of_another_optimizer_is_refused(ours, theirs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(out, ours, data=DATA, progress=stopping(4))
    swap(out, theirs)
    with pytest.raises(
        FormatError,
        match=r"the checkpoint in .* is of another network or optimizer \(.*choose another",
    ):
        run(out, ours, data=DATA)


def test_a_checkpoint_with_a_quantizer_is_not_one_without(begun):
    swap(begun, replace(ADAM, qat="lsq"))
    with pytest.raises(FormatError, match="of another network or optimizer"):
        run(begun, data=DATA)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may become longer; an attempt fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full(monkeypatch: pytest.MonkeyPatch, name: str, verb: str) -> None:
    """Let files that end in `name` fail with 'no space left' from now on, as they are written or
    put in place.
    """
    before = getattr(Path, verb)

    def fail(self: Path, *arguments: Any) -> Any:
        if self.name.endswith(name) or (verb == "replace" and Path(arguments[0]).name == name):
            if verb != "replace":
                before(self, arguments[0][:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return before(self, *arguments)

    monkeypatch.setattr(Path, verb, fail)


def test_a_disk_too_small_for_the_checkpoint_keeps_the_one_before(begun, whole):
    before = (begun / "checkpoint.pt").read_bytes()
    with files_up_to(len(before) // 2), pytest.raises(OSError, match=r"checkpoint\.pt"):
        run(begun, data=DATA)
    assert (begun / "checkpoint.pt").read_bytes() == before and names_in(begun) == FILES
    run(begun, data=DATA)
    assert left_by(begun) == whole


@pytest.mark.parametrize(
    ("name", "verb"),
    [("checkpoint.pt", "replace"), ("steps.csv", "replace"), (".json", "write_bytes")],
)
def test_a_full_disk_is_an_error_that_names_the_file_and_costs_nothing(
    name, verb, begun, whole, monkeypatch
):
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    with monkeypatch.context() as patch:
        full(patch, name, verb)
        with pytest.raises(OSError) as error:
            run(begun, data=DATA)
    assert error.value.errno == errno.ENOSPC and str(error.value.filename).endswith(name)
    assert names_in(begun) == FILES  # nothing partial
    kept = load_checkpoint(begun)
    # it is written last: what it says is done, all files have
    assert kept is not None and kept.epoch == 1
    if name == "checkpoint.pt":
        assert (begun / name).read_bytes() == before[name]
    run(begun, data=DATA)
    assert left_by(begun) == whole


def test_files_can_be_read_by_whoever_may_read_the_folder(begun):
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in begun.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_reading_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    (tmp_path / "checkpoint.pt").write_bytes(saved({"epoch": 1, "model": Evil(), "optimizer": {}}))
    with pytest.raises(FormatError, match="damaged"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "evil").exists()
