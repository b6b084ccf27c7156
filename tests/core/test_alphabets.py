"""Which codes an alphabet has, what it is called, and what contradicts itself."""

import pytest
import torch

from subbyte.core import (
    TERNARY,
    Codebook,
    Counts,
    Grid,
    GridSpec,
    Levels,
    PerGroup,
    PerTensor,
    Uniform,
    Widths,
    share_of,
)
from subbyte.errors import NumericsError, RecipeError


@pytest.mark.parametrize(
    ("alphabet", "ends", "label"),
    [
        *((Uniform(b), (-(2 ** (b - 1)), 2 ** (b - 1) - 1), str(b)) for b in range(2, 9)),
        *((Uniform(b, signed=False), (0, 2**b - 1), str(b)) for b in range(1, 9)),
        *((Uniform(b, narrow=True), (1 - 2 ** (b - 1), 2 ** (b - 1) - 1), str(b)) for b in (3, 8)),
        (TERNARY, (-1, 1), "ternary"),
        (Uniform(1, wide=True), (-1, 1), "ternary"),
        (Uniform(2, wide=True), (-2, 2), "2.32"),
        (Uniform(8, wide=True), (-128, 128), "8.01"),
        (Levels((-1, 0, 3)), (0, 2), "ternary"),
        (Levels((-3, -1, 1, 3)), (0, 3), "2"),
        (Levels(range(7)), (0, 6), "2.81"),
        (Codebook(16), (0, 15), "4"),
        (Codebook(3), (0, 2), "ternary"),
        (Codebook(512), (0, 511), "9"),
        (Widths(mean=2.7), (-128, 127), "2.7 mixed"),
        (Counts((3, 2, 4, 8)), (0, 126), "1.90 mixed"),
    ],
)
def test_codes_and_labels(alphabet, ends, label):
    assert (alphabet.qmin, alphabet.qmax) == ends and alphabet.label == label


def test_rows_that_vary_say_what_each_may_be():
    assert Widths(3, 2.0, signed=True).choices == {
        1: Uniform(1, signed=False, symmetric=False),
        2: Uniform(2),
        3: Uniform(3),
    }
    counts = Counts((4, 2, 4))
    assert counts.choices == {2: Levels((-0.5, 0.5)), 4: Levels((-1.5, -0.5, 0.5, 1.5))}
    assert counts.given.tolist() == [[4], [2], [4]]
    grid = Grid.of(GridSpec(Widths(), share_of("channel")), torch.ones(2, 1), own=counts.given[:2])
    assert (grid.label, grid.words) == ("3.00 mixed", "channels of 0 to 8 bits")


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: Uniform(0, signed=False), ["1 to 8", "got 0"]),
        (lambda: Uniform(9), ["1 to 8", "got 9"]),
        (lambda: Uniform(1), ["2 bits", "ternary"]),
        (lambda: Uniform(wide=True, narrow=True), ["wide"]),
        (lambda: Uniform(wide=True, signed=False), ["wide", "signed"]),
        (lambda: Uniform(wide=True, symmetric=False), ["wide", "symmetric"]),
        (lambda: Levels((1.0,)), ["strictly increasing", "(1.0,)"]),
        (lambda: Levels(()), ["strictly increasing", "()"]),
        (lambda: Levels((0.0, 2.0, 1.0)), ["strictly increasing", "2.0, 1.0"]),
        (lambda: Levels((0.0, 1.0, 1.0)), ["strictly increasing"]),
        (lambda: Levels((0.0, float("nan"))), ["levels"]),
        (lambda: Levels((0.0, float("inf"))), ["levels"]),
        (lambda: Levels(range(257)), ["257 levels", "8 bits"]),
        (lambda: Codebook(1), ["codebook", "got 1"]),
        (lambda: Codebook(513), ["codebook", "got 513"]),
        (lambda: Widths(mean=9.0), ["mean width", "got 9"]),
        (lambda: Widths(mean=-1.0), ["mean width", "got -1"]),
        (lambda: Counts((1, 3)), ["2..127"]),
        (lambda: Counts((3, 128)), ["2..127"]),
        (lambda: Counts(()), ["2..127"]),
        (lambda: PerGroup(0), ["at least 1", "got 0"]),
        (lambda: share_of("tensor", 4), ["group_size=4", "'tensor'"]),
        (lambda: share_of("group"), ["group_size=None", "'group'"]),
        (lambda: GridSpec(Codebook(3), PerGroup(4)), ["codebook", "channel"]),
        (lambda: GridSpec(Widths(), PerTensor()), ["granularity", "'tensor'"]),
        (lambda: GridSpec(Counts((3,)), PerGroup(4)), ["granularity", "'group'"]),
        (lambda: GridSpec.from_dict({"alphabet": {"kind": "?"}, "share": {}}), ["uniform", "'?'"]),
        (
            lambda: GridSpec.from_dict({"alphabet": {"kind": "codebook"}, "share": {}}),
            ["codebook", "size"],
        ),
        (
            lambda: GridSpec.from_dict({"alphabet": TERNARY.to_dict(), "share": {"kind": "?"}}),
            ["channel", "'?'"],
        ),
    ],
)
def test_contradictions_are_named_with_their_numbers(make, shown):
    with pytest.raises(RecipeError) as caught:
        make()
    assert all(text in str(caught.value) for text in shown), str(caught.value)


@pytest.mark.parametrize(
    "codebook",
    [
        [[0.0, 1.0]],
        [0.0, 1.0, 2.0],
        [[0.0, 1.0, 2.0]] * 2,
        [[0.0, 2.0, 1.0]],
        [[0.0, 1.0, 1.0 + 1e-12]],  # equal in float32
        [[0.0, float("nan"), 1.0]],
    ],
)
def test_codebooks_that_do_not_fit_are_refused(codebook):
    given = torch.tensor(codebook, dtype=torch.float64)
    with pytest.raises(RecipeError, match="codebook"):
        Grid.of(GridSpec(Codebook(3)), torch.tensor(1.0), own=given)


def test_numbers_must_be_finite():
    with pytest.raises(NumericsError, match="codebook"):
        Grid.of(GridSpec(Codebook(2)), torch.tensor(1.0), own=torch.tensor([[0.0, torch.inf]]))
    for bad, shown in ((0.0, "0"), (-1.0, "-1"), (torch.nan, "nan"), (1e-60, "0")):
        with pytest.raises(NumericsError, match=shown):
            Grid.of(GridSpec(Uniform()), torch.tensor(bad, dtype=torch.float64))
