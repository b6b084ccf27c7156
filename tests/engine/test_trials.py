"""The search for the best network: it holds what it says, and its plan makes the network again."""

from itertools import count

import pytest
import torch
from numpy.random import RandomState

import subbyte
from subbyte.engine import sensitivity, trials
from subbyte.engine.apart import Apart, Verdict
from subbyte.engine.deadline import Deadline
from subbyte.engine.drops import Drop
from subbyte.engine.quantization import Quantization
from subbyte.engine.trials import Wish, search
from subbyte.errors import DataError, RecipeError
from subbyte.graph import prepare
from subbyte.methods import counted
from subbyte.recipe import Recipe, load_recipe
from subbyte.tuning import Distill

torch.set_num_threads(1)
WIDTHS = {"widths": [2, 4]}
FAST = {"weights": {"bits": 2, "rounding": "nearest"}}


@pytest.fixture(scope="module")
def given():
    """A float network, calibration images, and others with their labels."""
    data = subbyte.load_data("digits")
    assert data.train is not None
    order = torch.from_numpy(RandomState(0).permutation(len(data.train)))
    model = subbyte.load_model("lenet-digits", "builtin:lenet-digits")
    images = data.train.images(order)
    return model, images[:64], images[64:800], data.train.labels[order[64:800]]


@pytest.fixture(scope="module")
def promised(given) -> tuple[Quantization, list[str], int]:
    """What holds a drop of 2.5 points; what was told on the way; surveys that were made."""
    told, surveys = list[str](), list[int]()
    own = sensitivity._Survey.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity._Survey, "run", lambda it: surveys.append(1) or own(it))
        found = subbyte.best(
            given[0],
            given[1],
            given[2],
            WIDTHS,
            max_drop=2.5,
            targets=given[3],
            progress=lambda stage, done, total, what: told.append(f"{stage}: {what}"),
        )
    return found, told, len(surveys)


def same(a: subbyte.QuantizedModel, b: subbyte.QuantizedModel) -> bool:
    return all(
        torch.equal(q.codes, b.weights[name].codes)
        and torch.equal(q.grid.scale, b.weights[name].grid.scale)
        for name, q in a.weights.items()
    )


def test_the_smallest_that_holds_is_found_and_said(promised):
    record = promised[0].trials
    assert record is not None and record.figure == "top-1" and record.max_drop == 2.5
    chosen = record.chosen
    assert chosen.holds and chosen.high is not None and chosen.high <= 2.5
    assert chosen.bytes == promised[0].model.packed_bytes
    smaller = [one for one in record.trials if one.bytes < chosen.bytes]
    assert smaller and not any(one.holds for one in smaller)
    assert {one.rounding for one in record.trials} == {"corrected", "adaround"}
    assert record.told[0].startswith(f"chosen: {chosen.name}")


def test_sensitivities_are_measured_once_and_what_is_tried_is_told(promised):
    _, told, surveys = promised
    assert surveys == 1
    assert any(line.startswith("walk: ") and "B, adaround: " in line for line in told)
    assert any(line.startswith("judge: ") for line in told)


def test_its_plan_makes_the_network_again(promised, given):
    again = subbyte.quantize(given[0], given[1], promised[0].model.plan)
    assert same(again, promised[0].model)


def test_where_nothing_is_shown_to_hold_the_largest_comes_back_and_that_is_said(given, monkeypatch):
    uncertain = Verdict(Drop(0.0, -9.0, 9.0), 1.0)
    monkeypatch.setattr(Apart, "judge", lambda *_: uncertain)
    recipe = {"widths": ["ternary", 2], "weights": {"rounding": "nearest"}}
    found = subbyte.best(given[0], given[1], given[2], recipe, max_drop=0.8, targets=given[3])
    record = found.trials
    assert record is not None and not any(one.holds for one in record.trials)
    assert record.chosen.bytes == max(one.bytes for one in record.trials)
    assert "NOT HELD" in record.told[1]


def test_of_a_stated_width_the_nearest_network_is_taken(given):
    found = subbyte.best(given[0], given[1], given[2], {"weights": {"bits": 2}})
    record = found.trials
    assert record is not None and record.figure == "agreement" and record.max_drop is None
    assert [one.size for one in record.trials] == ["2 bits", "2 bits", "3 bits"]
    first, second, larger = record.trials
    assert record.chosen.distance == min(first.distance, second.distance)
    assert larger.bytes > first.bytes == second.bytes and not larger.chosen


def judge(given) -> Apart:
    """By labels."""
    images, labels = given[2], given[3]
    split = subbyte.engine.apart.Split.labelled("apart", labels, lambda i: images[i])
    return Apart(given[0], split)


def tuned(given, recipe: Recipe, wish: Wish) -> Quantization:
    return search(prepare(given[0], given[1]), recipe, given[1], judge(given), wish)


MILD = {"mix": 0.0, "turn": 5.0, "zoom": 0.8, "colour": 0.1}
METHOD = Distill(steps=60, batch=32, latent=0.01, scale=0.003, precision="float32", **MILD)


def test_a_tuned_network_is_one_more_trial_and_taken_where_it_is_nearer(given):
    found = tuned(given, load_recipe(FAST), Wish(tune=METHOD))
    record = found.trials
    assert record is not None
    walked, larger, learned = record.trials
    assert (walked.steps, larger.steps, learned.steps) == (0, 0, 60)
    assert learned.distance < walked.distance and learned.chosen
    assert found.lessons and found.model.plan.tune == counted(METHOD)
    assert "60 steps brought 2 bits from" in record.told[-1]
    again = subbyte.quantize(given[0], given[1], found.model.plan)
    assert same(again, found.model)


def hurried(monkeypatch) -> None:
    """Let a second go by whenever a search looks at its clock."""
    now = count()
    monkeypatch.setattr(
        trials, "Deadline", lambda seconds: Deadline(seconds, lambda: float(next(now)))
    )


def test_what_there_is_no_time_for_is_left_out_and_said(given, monkeypatch):
    hurried(monkeypatch)
    record = tuned(given, load_recipe(FAST), Wish(tune=Distill(seconds=1.0))).trials
    assert record is not None and len(record.trials) == 1 and record.trials[0].chosen
    assert record.left_out == ["3 bits, nearest", "2 bits, nearest, tuned"]
    assert (
        record.told[-1] == "left out, as the time was over: 3 bits, nearest; 2 bits, nearest, tuned"
    )
    assert "give a longer --time" in record.told[-2]


@pytest.mark.parametrize("high", [1.0, 9.0])
def test_of_sizes_that_there_was_time_for_the_smallest_that_holds_is_taken(
    high, given, monkeypatch
):
    hurried(monkeypatch)
    monkeypatch.setattr(Apart, "judge", lambda *_: Verdict(Drop(0.0, -9.0, high), 1.0))
    recipe = load_recipe({"widths": ["ternary", 2], "weights": {"rounding": "nearest"}})
    record = tuned(given, recipe, Wish(2.5, Distill(seconds=1.0))).trials
    assert record is not None and len(record.trials) == 1
    assert record.trials[0].holds is (high < 2.5)
    assert ("NOT HELD: no network that there was time for" in record.told[1]) is (high > 2.5)
    assert len(record.left_out) == 2


@pytest.mark.slow
def test_time_may_make_the_next_smaller_network_hold(given):
    recipe = load_recipe(FAST | WIDTHS)
    record = tuned(given, recipe, Wish(2.5, METHOD)).trials
    assert record is not None and record.chosen.holds
    walked = [one for one in record.trials if not one.steps]
    learned = [one for one in record.trials if one.steps]
    failed = max(one.bytes for one in walked if not one.holds)
    assert learned[0].bytes == failed
    assert record.chosen is learned[0] if learned[0].holds else record.chosen.bytes > failed


def test_confidence_is_shared_among_all_decisions():
    assert Wish().tail == pytest.approx(0.025)
    assert Wish(0.5).tail == pytest.approx(0.05 / 5)
    assert Wish(0.5, METHOD, 90).tail == pytest.approx(0.1 / 7)


@pytest.mark.parametrize(
    ("recipe", "wish", "said"),
    [
        ({"tune": "distill"}, {}, "tunes already"),
        ({"budget": "9KB"}, {"max_drop": 1.0}, "give one of them"),
        ({}, {"max_drop": -1.0}, "above 0"),
        ({}, {"max_drop": float("nan")}, "above 0"),
        ({}, {"confidence": 100.0}, "below 100"),
    ],
)
def test_what_does_not_go_together_is_refused(given, recipe, wish, said):
    with pytest.raises(RecipeError, match=said):
        subbyte.best(given[0], given[1], given[2], recipe, **wish)


def test_a_promise_that_too_few_images_can_show_is_refused_at_once(given, monkeypatch):
    monkeypatch.setattr(trials, "_Search", lambda *_: pytest.fail("the long work began"))
    with pytest.raises(DataError, match=r"can't be shown at 95 % .* it takes 4,606"):
        subbyte.best(given[0], given[1], given[2], max_drop=0.1)
