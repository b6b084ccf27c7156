import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks on several threads take many times longer where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets, or a skip."""
    folder = Path(os.environ.get("SUBBYTE_DATA", Path.home() / ".cache/subbyte/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set SUBBYTE_DATA")
    return folder
