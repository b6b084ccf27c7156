import gc
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _no_collections_in_between() -> Iterator[None]:
    """torch.export makes many small objects; collections in between would take a third of the
    time.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()
