"""The same bits with one thread and with several."""

import subprocess
import sys

import pytest

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
