"""Commands run in this process on a small network and its images."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from subbyte.cli.main import app
from subbyte.cli.terminal import console, errors
from tests.workplace import lay_out

torch.set_num_threads(1)


class Done:
    """How a command ended, and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def run(*arguments: object) -> Done:
    """A command in this process; `quantize` and `train` measure no speed unless told to."""
    given = [str(argument) for argument in arguments]
    if given[0] in ("quantize", "train") and "--bench" not in given:
        given.append("--no-bench")
    result = CliRunner().invoke(app, given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    """Room for tables without folded cells."""
    before = console.width, errors.width
    console.width = errors.width = 220
    yield
    console.width, errors.width = before


@pytest.fixture(scope="session")
def subbyte() -> Callable[..., Done]:
    """Runs a command in this process."""
    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.py, net.safetensors, data.npz."""
    return lay_out(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="session")
def given(place: Path) -> list[object]:
    """Options that say what is quantized, on what."""
    net, weights, data = place / "net.py", place / "net.safetensors", place / "data.npz"
    return [
        "--model",
        f"{net}:net",
        "--weights",
        weights,
        "--data",
        f"npz:{data}",
        "--calibration",
        40,
    ]


@pytest.fixture(scope="session")
def result(place: Path, given: list[object]) -> tuple[Path, Done]:
    """A folder that `quantize` wrote with w4a8, and what it printed; do not change it."""
    console.width = errors.width = 220
    done = run("quantize", *given, "--recipe", "w4a8", "--out", place / "out")
    assert done.code == 0, done.err
    return place / "out", done
