"""Pickles of plain values and byte arrays, read without executing anything.

A pickle can execute code. These are read by an unpickler that knows five names, all that an array
of bytes needs, and for each a stand-in of its own: NumPy's own classes believe whatever a pickle
says of their types and sizes.
"""

import io
import pickle
import pickletools
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subbyte.errors import DataError

_BYTE = ("u1", "uint8", b"u1", b"uint8")


class PickledType:
    """Stands for a type of NumPy's; its name is all that counts."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Nothing more is wanted to be known."""


class PickledArray:
    """Stands for an array of NumPy's: what a pickle says of it."""

    def __init__(self, *_: object) -> None:
        self._state: object = None

    def __setstate__(self, state: object) -> None:
        self._state = state

    def bytes(self) -> NDArray[np.uint8]:
        """The array. Raises DataError where it is none of unsigned bytes, or its size is another
        than announced.
        """
        match self._state:
            case (int(), tuple(shape), PickledType() as kind, fortran, bytes(content)):
                if kind.name not in _BYTE:
                    raise DataError(f"an array of {str(kind.name)[:20]}, not of uint8")
                sizes = [size for size in shape if isinstance(size, int) and size >= 0]
                if len(sizes) == len(shape) and prod(sizes) == len(content):
                    flat = np.frombuffer(content, np.uint8)
                    return flat.reshape(sizes[::-1]).T if fortran else flat.reshape(sizes)
                raise DataError(f"an array of {shape} with {len(content)} bytes")
        raise DataError("no array of uint8")


def _encoded(text: str, _: str) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    return text.encode("latin-1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): PickledType,
    ("_codecs", "encode"): _encoded,
}


def read_pickle(content: bytes) -> object:
    """The values of a pickle. Raises DataError where reading it would execute code, or it is
    damaged.
    """
    try:
        for operation, argument, _ in pickletools.genops(content):
            # the unpickler makes room for as many things as a pickle numbers
            if operation.name.endswith("PUT") and int(argument or 0) > len(content):
                raise DataError(f"it remembers {argument} things")
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()  # as Python 2 wrote str
    except DataError:
        raise
    except Exception as reason:  # a damaged pickle raises errors of many types
        why = " ".join(f"{type(reason).__name__}: {reason}".split())[:200]
        raise DataError(f"not a whole CIFAR batch ({why}); unpack it again") from reason


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise DataError(
                f"would execute code: it asks for {module[:40]!r}, {name[:40]!r}, which no CIFAR "
                f"batch needs, so it is not read; fetch the data set from its authors"
            )
        return _KNOWN[module, name]
