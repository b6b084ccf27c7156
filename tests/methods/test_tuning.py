"""What tuning says of itself."""

import torch

from subbyte.methods import counted
from subbyte.tuning import Cascade, Distill


def test_threads_that_nobody_stated_are_stated_and_said(caplog):
    for method in (Distill(), Cascade()):
        caplog.clear()
        found = counted(method)
        assert found.threads == torch.get_num_threads()
        (told,) = caplog.messages
        assert f"with {found.threads} threads" in told and "may differ" in told
        caplog.clear()
        assert counted(found) == found and not caplog.messages
