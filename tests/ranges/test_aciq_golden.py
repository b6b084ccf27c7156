"""What the functions of ACIQ's authors return, run unmodified; and where ours, by exact expected
error, is better.

The golden values lie beside the repository, in ../shared/oracles; without them only the last tests
run.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.compat.aciq import (
    Clip,
    RowStats,
    allocated,
    allocated_to_goal,
    bins,
    channel_rows,
    correct_weights,
    mean_shift,
    norm_ratio,
    quantize_activations,
    quantize_activations_by_image,
    quantize_weights,
)
from subbyte.compat.aciq_coding import (
    alpha_mult,
    kl_threshold,
    mid_tread_activations,
    mid_tread_weights,
    most_frequent_value_bits,
)
from subbyte.core import shannon_entropy
from subbyte.stats.priors import formula_mse

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles" / "aciq.json"


@cache
def golden() -> dict[str, Any]:
    if not ORACLES.parent.is_dir():
        pytest.skip(f"no golden values: {ORACLES.parent} does not exist")
    return json.loads(ORACLES.read_text())


def same(got: Tensor, key: str, part: str | None = None) -> None:
    wanted = golden()[key] if part is None else golden()[key][part]
    torch.testing.assert_close(got.double(), torch.tensor(wanted).double(), rtol=1e-6, atol=2e-8)


def given() -> tuple[Tensor, Tensor]:
    return torch.tensor(golden()["inputs"]["W"]), torch.tensor(golden()["inputs"]["X"])


def activations(key: str, x: Tensor) -> Tensor:
    """What a key such as act_pc_laplace_signed_4b or midtread_act_pc_relu_t4 stands for."""
    relu, bits = "relu" in key, int(re.search(r"(\d)b?$", key)[1])  # type: ignore[index]
    if key.startswith("midtread"):
        rows = mid_tread_activations(channel_rows(x), bits, relu)
        return rows.reshape(3, 2, 3, 4).transpose(0, 1)
    if "avgbatch" in key:
        return quantize_activations_by_image(x, bits, relu)
    clips = {"minmax": Clip.MINMAX, "laplace": Clip.LAPLACE, "gaus": Clip.GAUSS, "2std": Clip.SIGMA}
    clip = next(clip for word, clip in clips.items() if f"_{word}_" in key)
    return quantize_activations(
        x, clip, bits, relu, per_channel="_pc_" in key, allocate="bitalloc" in key
    )


def test_activations():
    x = given()[1]
    keys = [key for key in golden() if re.match(r"(midtread_)?act_p[ct]_", key)]
    assert len(keys) == 20
    for key in keys:
        same(activations(key, x), key)


def test_statistics_and_bits_of_activations():
    stats = RowStats.of(channel_rows(given()[1]))
    for name, part in {
        "std": stats.std,
        "b": stats.b,
        "min": stats.low,
        "max": stats.high,
        "mean": stats.mean,
    }.items():
        same(part, "act_stats", name)
    same(allocated_to_goal(stats.std, 4), "act_bits_4b")
    same(bins(stats.std, 16), "omega_t4")


def test_weights():
    w = given()[0]
    for bits in (2, 4, 8):
        same(quantize_weights(w, bits), f"weights_per_channel_minmax_{bits}b")
    same(quantize_weights(w, 4, per_channel=False), "weights_per_tensor_minmax_4b")
    same(allocated_to_goal(w.std(1), 4), "weights_bits_4b")
    same(mid_tread_weights(w, 4), "midtread_weights_t4")
    q = quantize_weights(w, 3)
    same(mean_shift(w, q), "bias_corr_3b", "mean_shift")
    same(norm_ratio(w, q), "bias_corr_3b", "xi")
    same(correct_weights(w, q), "bias_corr_3b", "bcw")
    same(correct_weights(w, q, norm=True), "bias_corr_3b", "vcw_bcw")


def test_allocation():
    sigma = torch.tensor(golden()["alloc_sigma"])
    keys = [key for key in golden() if key.startswith(("alloc_eq11", "alloc_fixed"))]
    for key in keys:
        way, target, rounding = re.fullmatch(r"alloc_(.*)_t(\d)_(.*)", key).groups()  # type: ignore[union-attr]
        function = allocated if way == "eq11" else allocated_to_goal
        same(function(sigma, int(target), ceil=rounding == "ceil"), key)
    assert len(keys) == 10


def test_coefficients_for_real_numbers_of_bins():
    omega = torch.tensor(golden()["alpha_mult"]["omega"])
    same(alpha_mult(omega), "alpha_mult", "sym")
    same(alpha_mult(omega, relu=True), "alpha_mult", "asym")


def test_expected_errors():
    alphas = np.array(golden()["mse_laplace"]["alpha"])
    for b, bits in ((1, 2), (2, 4)):
        got = b * b * formula_mse("laplace", alphas / b, 2**bits)
        same(torch.from_numpy(got), "mse_laplace", f"b={b},M={bits}")


def test_entropies_and_thresholds():
    codes = torch.tensor(golden()["entropy"]["t"])
    assert shannon_entropy(codes) == pytest.approx(golden()["entropy"]["H"], rel=1e-6)
    assert most_frequent_value_bits(codes) == pytest.approx(
        golden()["entropy"]["mfv_8_1"], rel=1e-6
    )
    values = np.random.RandomState(3).laplace(0, 1, 20000)
    assert golden()["kld"]["input"].startswith("np.random.RandomState(3).laplace(0,1,20000)")
    threshold, _ = kl_threshold(values)
    assert threshold == pytest.approx(golden()["kld"]["th_15bins_2001"], rel=1e-6)
    low, high, least, wide = golden()["kld"]["full_8001_255"]
    assert (values.min(), values.max()) == pytest.approx((low, high), rel=1e-6)
    assert kl_threshold(values, 8001, 255) == pytest.approx((wide, least), rel=1e-6)


def test_every_entry_is_reproduced():
    """By the tests above; what starts otherwise would be new."""
    known = (
        r"inputs|weights_|bias_corr_3b|act_|midtread_|omega_t4|alloc_|alpha_mult|mse_laplace"
        r"|kld|entropy"
    )
    assert all(re.match(known, key) for key in golden())
