"""Group norms in files: as exact as torch's where the mean is large beside the spread."""

import onnx
import pytest
import torch
from torch import Tensor, nn

import subbyte

SIZES = ("height", "width")


class Far(nn.Module):
    """A group norm of values far from 0, behind a convolution."""

    def __init__(self, groups: int, *, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.norm = nn.GroupNorm(groups, 6, affine=affine)
        if affine:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x) + 100)


@pytest.mark.parametrize(
    ("groups", "affine", "dynamic"),
    [(1, True, ()), (3, True, SIZES), (6, True, ()), (3, False, ())],
)
def test_groups_are_centred_before_they_are_squared(groups, affine, dynamic, tmp_path):
    torch.manual_seed(groups)
    model, x = Far(groups, affine=affine).eval(), torch.randn(8, 3, 12, 10)
    q = subbyte.quantize(model, x, "w4", dynamic=dynamic)
    path = subbyte.export(q, tmp_path / "net.onnx", x).path
    assert "GroupNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
    torch.testing.assert_close(subbyte.runner(path)(x), q(x), atol=1e-3, rtol=0)
