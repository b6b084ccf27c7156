import builtins
import re
from collections.abc import Callable

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a library as if it were not installed."""
    real = builtins.__import__

    def hidden(library: str) -> None:
        def without(name: str, *args: object, **kwargs: object) -> object:
            if re.match(rf"{library}(\.|$)", name):
                raise ImportError(name)
            return real(name, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(builtins, "__import__", without)

    return hidden
