"""The door by which safetensors files come in: their library has other errors for every trouble."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from subbyte.errors import FormatError
from subbyte.io.files import check_name


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The tensors and metadata of a safetensors file.

    Raises SafetensorError where it is none, OSError where it can't be read, and FormatError where
    the library can't open it, for its name or for lack of descriptors.
    """
    check_name(path)
    path.open("rb").close()  # for want of a descriptor the library says that there is no file
    with ExitStack() as stack:
        try:
            file = stack.enter_context(safe_open(str(path), framework="pt"))
        except RuntimeError as reason:  # torch opens it once more
            raise FormatError(f"{path} can't be opened: {reason}") from reason
        yield file
