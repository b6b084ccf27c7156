"""A cache of what many runs need: arrays on disk, in files whose names are the hash of all that
determines them.

What changes has another name, as far as those who name it know what it depends on. The folder stays
below a limit, those files going first that were not read for longest. What is missing or damaged is
computed again, and what can't be written is no reason to fail.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import FormatError
from subbyte.io.arrays import read_arrays
from subbyte.io.files import written
from subbyte.io.workplaces import sweep

CACHE_BYTES = 2 << 30


@dataclass(frozen=True)
class Cache:
    """folder: None for a cache that keeps nothing; about: what its entries depend on; limit: bytes
    in the folder.
    """

    folder: Path | None = None
    about: str = ""
    limit: int = CACHE_BYTES

    def of(self, *parts: object) -> "Cache":
        """The same folder, for entries that depend on these things, too, as `str` tells them
        apart.
        """
        return Cache(self.folder, _digest(self.about, *parts), self.limit)

    def fetch(self, what: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """An entry, made where there is none."""
        kept = self.find(what)
        if kept is not None:
            return kept
        made = make()
        self.keep(what, made)
        return made

    def find(self, what: str) -> dict[str, Tensor] | None:
        """An entry's tensors, on the CPU, or None."""
        if self.folder is None:
            return None
        path = self._path(what)
        with suppress(FormatError, OSError, TypeError):  # torch has not all types of NumPy's
            found = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
            os.utime(path)
            return found
        return None

    def keep(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        """Write an entry, whole or not at all; tensors of types that NumPy has not are not kept."""
        if self.folder is None:
            return
        arrays: dict[str, Any] = {}
        with suppress(TypeError):
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        size = sum(array.nbytes for array in arrays.values())
        if size > self.limit or len(arrays) < len(tensors):
            return
        with suppress(OSError), written(self._path(what)) as temporary:
            np.savez(temporary, **arrays)
            self._trim(temporary.stat().st_size)

    def _path(self, what: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{_digest(self.about, what)}.npz"

    def _trim(self, coming: int) -> None:
        """Delete what was not read for longest, so that `coming` bytes more are within the
        limit.
        """
        assert self.folder is not None
        sweep(self.folder)
        aged = []
        for path in self.folder.glob("[!.]*.npz"):
            with suppress(FileNotFoundError):  # another process trims, too
                found = path.stat()
                aged.append((found.st_mtime_ns, found.st_size, path))
        total = coming
        for _, size, path in sorted(aged, reverse=True):
            total += size
            if total > self.limit:
                path.unlink(missing_ok=True)


NO_CACHE = Cache()
"""Keeps nothing."""


def _digest(*parts: object) -> str:
    """32 hexadecimal digits; parts that are told apart by `str` are told apart by it."""
    digest = sha256()
    for part in parts:
        text = str(part).encode()
        digest.update(f"{len(text)} ".encode() + text)
    return digest.hexdigest()[:32]
