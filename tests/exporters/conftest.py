import pytest
import torch

from subbyte.exporters import onnx

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def long_names():
    """ONNX files are written with the names that values are made with: tests find them by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "shorten", lambda program, named: {})
        yield
