"""Results in plain words, against sentences written by hand."""

import copy
from math import sqrt

import pytest

from subbyte.pages.wording import (
    bits_of,
    chance,
    percent,
    points,
    signed,
    size,
    standard_error,
    summary,
    weakest,
)
from subbyte.records import Result
from tests.pages.results import EVIDENCE, RESULT


def result(**changes):
    return Result.model_validate(copy.deepcopy(RESULT) | changes)


def rows(*bits):
    return [dict(RESULT["layers"][0], name=f"l{k}", bits=b) for k, b in enumerate(bits)]


def test_a_network_in_a_sentence():
    assert summary(result(images=10000, data="cifar10", model="resnet20")) == (
        "resnet20, 4-bit weights and activations in all layers: 90.81 % top-1 on 10,000 test "
        "images of cifar10, 0.92 "
        "points below float; 141 kB instead of 1.1 MB; onnx-int8 agrees with the torch model on "
        "100 % of images."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"layers": rows("2", "2"), "activations": []},
            "2-bit weights in all layers, float activations",
        ),
        (
            {"layers": rows("ternary"), "activations": []},
            "ternary weights in all layers, float activations",
        ),
        (
            {"layers": rows("4", "float", "4"), "activations": []},
            "4-bit weights in 2 of 3 layers, float activations",
        ),
        (
            {"layers": rows("8", "ternary", "3.17")},
            "ternary to 8-bit weights (4.10 bits each) in all layers, 4-bit activations",
        ),
        ({"layers": rows("float")}, "float weights"),
        (
            {"settings": {"activations": {"bits": 8}}},
            "4-bit weights in all layers, 8-bit activations",
        ),
        ({"settings": {}}, "4-bit weights in all layers, 4-bit to 8-bit activations"),
        (
            {"layers": rows("2.52 mixed"), "activations": []},
            "mixed 2.52-bit weights in all layers, float activations",
        ),
    ],
)
def test_bits_are_named(changes, words):
    assert bits_of(result(**changes)) == words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9999, "10 kB"),
        (180794, "181 kB"),
        (999_700, "1.0 MB"),
        (1_076_136, "1.1 MB"),
        (12_345_678, "12 MB"),
        (2_500_000_000, "2.5 GB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


def test_percentages_differences_and_errors():
    assert [percent(x) for x in (100.0, 99.999, 50.0)] == ["100 %", "99.99 %", "50.00 %"]
    assert points(-0.916) == "0.92 points below float" and points(0.3) == "0.30 points above float"
    assert points(0.004) == "the same as float"
    assert [signed(x) for x in (-0.001, 1.5, -2.25)] == ["0.00", "+1.50", "-2.25"]
    assert (
        standard_error(90.81, 10000) == pytest.approx(0.2889, abs=1e-4)
        and standard_error(100, 5) == 0
    )


def test_chance_counts_what_changed():
    found = EVIDENCE.predictions
    error = 100 * sqrt(found.lost + found.gained) / 200
    text = chance(result(), EVIDENCE)
    assert text.startswith("One standard error of an accuracy on 200 images is 2.04 points. ")
    assert (
        f"{found.lost} became wrong, {found.gained} became right, {found.moved} stayed wrong"
        in text
    )
    assert text.endswith(f"a standard error of {error:.2f} points.")
    assert (
        chance(result(), None) == "One standard error of an accuracy on 200 images is 2.04 points."
    )
    same = EVIDENCE.model_copy(
        update={"predictions": found.model_copy(update={"lost": 0, "gained": 0, "moved": 0})}
    )
    assert chance(result(), same).endswith("No prediction changed.")


def test_the_weakest_layer_is_named():
    assert weakest(result().layers, "layers") == (
        "The lowest signal-to-noise ratio of layers is that of block.<b>1</b>, 18.2 dB."
    )
    assert weakest(result().layers[2:], "layers") == ""
