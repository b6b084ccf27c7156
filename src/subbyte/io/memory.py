"""Memory that runs out: errors that say so are nobody's fault, and pass as what they are."""

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory has run out; torch has no type for that on processors."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
