"""Which codes a grid has, and what contradicts itself."""

import pytest
import torch

from subbyte.core import GridSpec
from subbyte.errors import RecipeError, SubbyteError

SIGNED = {
    2: (-2, 1),
    3: (-4, 3),
    4: (-8, 7),
    5: (-16, 15),
    6: (-32, 31),
    7: (-64, 63),
    8: (-128, 127),
}
UNSIGNED = {1: 1, 2: 3, 3: 7, 4: 15, 5: 31, 6: 63, 7: 127, 8: 255}


@pytest.mark.parametrize(("bits", "ends"), SIGNED.items())
def test_signed_codes_are_centred_on_zero(bits, ends):
    spec = GridSpec(bits=bits)
    assert (spec.qmin, spec.qmax, spec.count) == (*ends, 2**bits)
    assert (spec.label, spec.is_ternary, spec.code_dtype) == (str(bits), False, torch.int8)


@pytest.mark.parametrize(("bits", "ends"), SIGNED.items())
def test_narrow_grids_drop_the_lowest_code(bits, ends):
    spec = GridSpec(bits=bits, narrow=True)
    assert (spec.qmin, spec.qmax, spec.count) == (ends[0] + 1, ends[1], 2**bits - 1)
    assert spec.qmin == -spec.qmax


@pytest.mark.parametrize(("bits", "top"), UNSIGNED.items())
def test_unsigned_codes_count_from_zero(bits, top):
    spec = GridSpec(bits=bits, signed=False)
    assert (spec.qmin, spec.qmax, spec.count, spec.code_dtype) == (0, top, top + 1, torch.uint8)


def test_ternary_is_two_bits_narrow():
    spec = GridSpec.ternary()
    assert spec == GridSpec(bits=2, narrow=True, granularity="channel")
    assert (spec.qmin, spec.qmax, spec.count, spec.is_ternary, spec.label) == (
        -1,
        1,
        3,
        True,
        "ternary",
    )
    assert GridSpec.ternary("group", 16).group_size == 16


@pytest.mark.parametrize(
    ("count", "bits"),
    [
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 3),
        (7, 3),
        (8, 3),
        (9, 4),
        (16, 4),
        (17, 5),
        (128, 7),
        (129, 8),
        (256, 8),
    ],
)
def test_level_sets_take_the_fewest_bits(count, bits):
    spec = GridSpec.level_set(tuple(range(count)))
    assert (spec.bits, spec.qmin, spec.qmax, spec.count) == (bits, 0, count - 1, count)
    assert spec.code_dtype == torch.uint8 and spec.granularity == "channel"
    assert spec.is_ternary == (count == 3)


def test_levels_become_floats():
    levels = GridSpec.level_set((-1, 0, 2)).levels
    assert levels == (-1.0, 0.0, 2.0) and all(isinstance(level, float) for level in levels)


@pytest.mark.parametrize(
    "spec",
    [
        *(GridSpec(bits=b, narrow=n) for b in SIGNED for n in (False, True)),
        *(GridSpec(bits=b, signed=False) for b in UNSIGNED),
        *(GridSpec(bits=b, wide=True) for b in UNSIGNED),
        *(GridSpec.fitted(n) for n in (2, 17, 255, 256, 257, 512)),
        GridSpec.level_set(tuple(range(256))),
    ],
)
def test_the_code_type_holds_every_code(spec):
    codes = torch.arange(spec.qmin, spec.qmax + 1)
    assert torch.equal(codes.to(spec.code_dtype).long(), codes)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"bits": 0, "signed": False}, ["1 to 8", "got 0"]),
        ({"bits": 9}, ["1 to 8", "got 9"]),
        ({"bits": -1}, ["got -1"]),
        ({"bits": 1}, ["2 bits", "ternary"]),
        ({"group_size": 4}, ["group_size=4", "'tensor'"]),
        ({"group_size": 4, "granularity": "channel"}, ["group_size=4", "'channel'"]),
        ({"granularity": "group"}, ["group_size=None", "'group'"]),
        ({"granularity": "group", "group_size": 0}, ["at least 1", "got 0"]),
        ({"granularity": "group", "group_size": -3}, ["at least 1", "got -3"]),
        ({"levels": (1.0,)}, ["strictly increasing", "(1.0,)"]),
        ({"levels": ()}, ["strictly increasing", "()"]),
        ({"levels": (0.0, 2.0, 1.0)}, ["strictly increasing", "2.0, 1.0"]),
        ({"levels": (0.0, 1.0, 1.0)}, ["strictly increasing", "1.0, 1.0"]),
        ({"bits": 2, "levels": (0.0, 1.0, 2.0, 3.0, 4.0)}, ["5 levels", "2 bits"]),
        ({"wide": True, "narrow": True}, ["wide"]),
        ({"wide": True, "signed": False}, ["wide", "signed"]),
        ({"wide": True, "symmetric": False}, ["wide", "symmetric"]),
        ({"bits": 2, "codebook": 5}, ["codebook of 5", "2 bits"]),
        ({"bits": 2, "codebook": 1}, ["codebook of 1"]),
        ({"bits": 8, "codebook": 257}, ["codebook of 257", "8 bits"]),
        ({"bits": 9, "codebook": 513}, ["codebook of 513", "9 bits"]),
        ({"bits": 10, "codebook": 513}, ["1 to 9", "got 10"]),
        ({"bits": 2, "codebook": 3, "levels": (0.0, 1.0, 2.0)}, ["codebook", "levels"]),
        (
            {"bits": 2, "codebook": 3, "granularity": "group", "group_size": 4},
            ["codebook", "channel"],
        ),
    ],
)
def test_contradictions_are_named_with_their_numbers(given, shown):
    with pytest.raises(RecipeError) as caught:
        GridSpec(**given)
    assert isinstance(caught.value, SubbyteError)
    assert all(text in str(caught.value) for text in shown), str(caught.value)


@pytest.mark.parametrize(
    "levels",
    [(float("nan"), 1.0), (0.0, 1.0, float("nan")), (0.0, float("inf")), (-float("inf"), 0.0)],
)
def test_levels_must_be_numbers(levels):
    with pytest.raises(RecipeError, match="levels"):
        GridSpec.level_set(levels)


@pytest.mark.parametrize("count", [0, 1, 257])
def test_level_sets_hold_2_to_256_levels(count):
    with pytest.raises(RecipeError, match="levels"):
        GridSpec.level_set(tuple(range(count)))


@pytest.mark.parametrize("bits", range(1, 9))
def test_wide_grids_add_a_code_above(bits):
    spec = GridSpec(bits=bits, wide=True)
    assert (spec.qmin, spec.qmax, spec.count) == (-(2 ** (bits - 1)), 2 ** (bits - 1), 2**bits + 1)
    assert spec.code_dtype == (torch.int16 if bits == 8 else torch.int8)
    assert spec.reach == (spec.qmin, spec.qmax) and spec.uniform and spec.fixed_zero


def test_one_bit_wide_is_ternary():
    spec = GridSpec(bits=1, wide=True)
    assert (spec.qmin, spec.qmax, spec.is_ternary, spec.label) == (-1, 1, True, "ternary")


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        *((GridSpec(bits=b), str(b)) for b in SIGNED),
        *((GridSpec(bits=b, narrow=True), str(b)) for b in SIGNED if b > 2),
        *((GridSpec(bits=b, signed=False), str(b)) for b in UNSIGNED),
        (GridSpec(bits=2, wide=True), "2.32"),
        (GridSpec(bits=3, wide=True), "3.17"),
        (GridSpec(bits=4, wide=True), "4.09"),
        (GridSpec(bits=8, wide=True), "8.01"),
        (GridSpec.level_set((-1, 0, 3)), "ternary"),
        (GridSpec.level_set((-1, 1)), "1"),
        (GridSpec.level_set((-3, -1, 1, 3)), "2"),
        (GridSpec.level_set(tuple(range(7))), "2.81"),
        (GridSpec.level_set(tuple(range(5))), "2.32"),
        (GridSpec.fitted(16), "4"),
        (GridSpec.fitted(15), "3.91"),
        (GridSpec.fitted(3), "ternary"),
        (GridSpec.fitted(11, "tensor"), "3.46"),
    ],
)
def test_the_label_is_the_width(spec, label):
    assert spec.label == label


@pytest.mark.parametrize(
    ("count", "bits"),
    [
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 3),
        (8, 3),
        (9, 4),
        (128, 7),
        (129, 8),
        (256, 8),
        (257, 9),
        (512, 9),
    ],
)
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_codebooks_take_the_fewest_bits(count, bits, granularity):
    spec = GridSpec.fitted(count, granularity)
    assert (spec.bits, spec.qmin, spec.qmax, spec.count) == (bits, 0, count - 1, count)
    assert (
        spec.code_dtype == (torch.uint8 if count <= 256 else torch.int16)
        and spec.granularity == granularity
    )
    assert spec.reach is None and not spec.uniform and spec.fixed_zero


@pytest.mark.parametrize("count", [-1, 0, 1, 513])
def test_codebooks_hold_2_to_512_levels(count):
    with pytest.raises(RecipeError, match="codebook"):
        GridSpec.fitted(count)


@pytest.mark.parametrize(
    ("spec", "reach"),
    [
        (GridSpec(bits=4), (-8, 7)),
        (GridSpec(bits=4, narrow=True, symmetric=False), (-7, 7)),
        (GridSpec(bits=3, signed=False), (0, 7)),
        (GridSpec.level_set((-4, -1, 0, 2)), (-4, 2)),
        (GridSpec.level_set((-4, -1.5, 0, 2)), None),
    ],
)
def test_reach_is_in_whole_steps(spec, reach):
    assert spec.reach == reach
