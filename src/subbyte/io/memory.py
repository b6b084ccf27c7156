"""Running out of memory, told apart from other errors: it is no fault of who was at work."""

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory has run out; torch has no type for that on processors."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
