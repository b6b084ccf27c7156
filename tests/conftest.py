"""Tests compute in the order that commands do, from their first product on; what many of them
capture is captured once; and memory is seldom looked through for garbage.
"""

import gc
import logging
from collections.abc import Iterator

import pytest

from subbyte.io.repeatable import fix_order
from tests.captured import capture_once

fix_order()
gc.disable()
# torch.export traces what it does where anybody listens; pytest listens to loggers that do not
# propagate
logging.getLogger("torch.__trace").propagate = True


@pytest.fixture(scope="session", autouse=True)
def _seldom_collected() -> Iterator[None]:
    """torch.export makes many small objects, of which each collection looks at all that there are:
    what was imported before the first test need not be among them.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
    yield


@pytest.fixture(scope="session", autouse=True)
def _captured_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("subbyte.graph.network.capture", capture_once)
        yield
