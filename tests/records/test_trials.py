"""A search in words."""

import pytest

from subbyte.pages.trials import trials_section, trials_table
from subbyte.records import Trial, Trials


def trial(size: int, drop: float, *, steps: int = 0, chosen: bool = False) -> Trial:
    """One that holds where its upper end, 0.3 above the drop, is at most 0.5."""
    return Trial(
        size=f"{size}B",
        rounding="corrected",
        steps=steps,
        bytes=size,
        drop=drop,
        low=drop - 0.3,
        high=drop + 0.3,
        distance=drop + 1,
        holds=drop <= 0.2,
        chosen=chosen,
    )


def search(*trials: Trial, max_drop: float | None = 0.5) -> Trials:
    return Trials(
        figure="top-1",
        unit="%",
        samples=900,
        choosing=100,
        confidence=95,
        max_drop=max_drop,
        trials=list(trials),
    )


def test_what_was_chosen_why_and_what_more_would_bring():
    found = search(trial(400, -0.1), trial(100, 0.9), trial(200, 0.1, chosen=True), trial(150, 0.4))
    assert found.told == [
        "chosen: 200B, corrected: 200 bytes; its top-1 is 0.10 points below float (drop from -0.20 "
        "to 0.40 points) on 900 samples held apart",
        "why: the smallest that is shown to lose at most 0.50 points at 95 % confidence; 150B, "
        "corrected, 150 bytes, may lose 0.70 points",
        "larger: 400B, corrected, 400 bytes (+100%), is 0.10 points above float, its outputs at "
        "0.9 in place of 1.1",
        "more time: nothing was tuned; give --time, such as 5min",
    ]


def test_what_tuning_brought_is_told():
    tuned = trial(150, 0.2, steps=300, chosen=True)
    found = search(trial(200, 0.1), trial(150, 0.4), tuned)
    assert found.told[0].startswith("chosen: 150B, corrected, tuned 300 steps: 150 bytes")
    assert found.told[1].endswith("150B, corrected, 150 bytes, may lose 0.70 points")
    assert found.told[-1] == (
        "more time: 300 steps brought 150B from 1.4 to 1.2, 0.40 points to 0.20 points"
    )


@pytest.mark.parametrize(("drop", "said"), [(0.2, "the smallest there is"), (0.3, "NOT HELD")])
def test_the_ends_of_the_sizes_are_told(drop, said):
    assert said in search(trial(100, drop, chosen=True)).told[1]


def test_of_a_stated_size_the_distances_are_told():
    found = search(trial(100, 0.4), trial(100, 0.2, chosen=True), max_drop=None)
    assert "nearest to float's, at 1.2" in found.told[1]
    assert "(100B, corrected: 1.4)" in found.told[1]


def test_a_drop_that_is_unknown_is_said_and_not_drawn():
    unknown = {"drop": None, "low": None, "high": None}
    found = search(trial(100, 0.2, chosen=True).model_copy(update=unknown))
    assert "unknown" in found.told[0]
    assert trials_table(found).rows[0][2:5] == ("", "", "")
    assert len(trials_section(found).parts) == 3
