"""Networks from files of exported programs (torch.export.save).

Such a file is a program, as a file of Python is: open those of people you trust. torch's own reader
falls back to unpickling whatever the archive holds; here pickles are read with `weights_only=True`,
and archives with objects other than tensors are refused.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from subbyte.errors import ModelError

SUFFIX = ".pt2"
_OBJECTS = ("custom_obj", "opaque_obj")


def read_program(path: Path) -> nn.Module:
    """The network of an exported program. Raises ModelError as `load_program`."""
    network = load_program(path).module(check_guards=False)
    assert isinstance(network, nn.Module)
    return network


def load_program(path: Path, beside: dict[str, str] | None = None) -> torch.export.ExportedProgram:
    """An exported program. beside: names of texts that lie beside it in the archive, with what to
    put there; each that is found is put in its place.

    Raises ModelError when the file can't be read, or holds more than a graph and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file") from error
    except Exception as error:  # zipfile's own, and whatever it meets in a damaged list
        raise ModelError(f"{path}: no exported program ({error})") from error
    found = [name for name in names if any(word in name for word in _OBJECTS)]
    if found:
        raise ModelError(f"{path}: holds objects other than tensors ({found[0]}); it is not read")
    try:
        with _tensors_only():
            return torch.export.load(path, extra_files=beside)
    except Exception as error:  # torch raises errors of many kinds for each kind of damage
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: no exported program that can be read: {reason}") from error


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Within, torch.load reads tensors and plain values alone, whatever it is asked for."""
    before = torch.load

    def plain(*args: Any, **kwargs: Any) -> Any:
        return before(*args, **{**kwargs, "weights_only": True})

    with patch.object(torch, "load", plain):
        yield
