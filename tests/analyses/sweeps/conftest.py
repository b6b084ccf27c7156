from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.analyses.sweeps.place import lay_out

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.py and data.npz."""
    return lay_out(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(autouse=True)
def _own_memory() -> Iterator[None]:
    """Networks that an earlier test has read are not kept for the next one."""
    from subbyte.analyses.sweeps.work import captured, load_inputs

    yield
    if load_inputs.cache_info().currsize > 1:
        load_inputs.cache_clear()
        captured.cache_clear()
