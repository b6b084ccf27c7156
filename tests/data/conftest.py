import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data sets, or a skip."""
    folder = Path(os.environ.get("SUBBYTE_DATA", Path.home() / ".cache/subbyte/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set SUBBYTE_DATA")
    return folder
