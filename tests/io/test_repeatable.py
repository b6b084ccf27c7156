"""The same bits with one thread and with several."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import subbyte
from subbyte.io.repeatable import threads

_BOTH = """
import torch
import subbyte
{first}
from subbyte.rounding.solve import cholesky, triangular
from subbyte.io.repeatable import power, total

torch.manual_seed(0)
rows, right = torch.randn(20_000, 144), torch.randn(1000, 1100)
found = []
for threads in (1, 2, 4):
    torch.set_num_threads(threads)
    factor = cholesky((right @ right.T).double())
    found.append(
        {{
            "products": rows.T @ rows,
            "factors": factor,
            "solutions": triangular(factor, right[:, :64].double(), upper=False),
            "sums": total(rows),
            "powers": power(rows),
        }}
    )
for name, value in found[0].items():
    if not all(torch.equal(value, other[name]) for other in found):
        print(name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other libraries add up elsewhere")
def test_threads_do_not_matter():
    """In a process of its own: MKL settles its order when it computes first."""
    assert _differing("subbyte.Limits") == ""


def _differing(first: str) -> str:
    code = [sys.executable, "-c", _BOTH.format(first=first)]
    return subprocess.run(code, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_threads_do_not_matter_with_a_few_samples(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 1),
        nn.Flatten(),
        nn.Linear(2048, 4),
    )
    for seed in range(4):
        images, found = torch.randn(3, 3, 8, 8, generator=torch.manual_seed(seed)), []
        for count in (1, 2):
            with threads(count):
                found.append(subbyte.quantize(model.eval(), images, recipe="w4a4"))
                assert torch.get_num_threads() == count
        for name, each in enumerate(found):
            subbyte.save(each, tmp_path / f"{seed} {name}.safetensors")
        one, two = ((tmp_path / f"{seed} {name}.safetensors").read_bytes() for name in range(2))
        assert one == two
