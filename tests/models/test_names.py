"""Names of parameters: whatever tools put around them goes, and nothing else does."""

from pathlib import Path

import pytest
import torch

from subbyte.models.names import match, missing, unexpected
from subbyte.models.states import State

NAMES = ["conv.weight", "bn.weight", "bn.num_batches_tracked", "layer.0.weight", "fc.bias"]
TENSORS = {name: torch.full((2,), float(k)) for k, name in enumerate(NAMES)}


def matched(tensors, expected=NAMES, renames=()):
    return match(State(Path("w.pth"), dict(tensors)), list(expected), renames)


def put(prefix, names=NAMES):
    return {prefix + name: TENSORS[name] for name in names}


def infix(part, at="layer."):
    return {name.replace(at, f"{at}{part}."): tensor for name, tensor in TENSORS.items()}


PREFIXES = ["module.", "model.", "net.", "backbone.", "module.model.", "student.encoder."]
FITTING = {
    "as they are": (TENSORS, []),
    **{prefix: (put(prefix), [f"{prefix!r}"]) for prefix in PREFIXES},
    "compiled": (put("_orig_mod."), ["torch.compile"]),
    "compiled within": (infix("_orig_mod"), ["torch.compile"]),
    "compiled, parallel": (put("module._orig_mod."), ["torch.compile", "DataParallel"]),
    "parallel, compiled": (put("_orig_mod.module."), ["torch.compile", "DataParallel"]),
    "FSDP": (put("_fsdp_wrapped_module."), ["FSDP"]),
    "checkpointing": (infix("_checkpoint_wrapped_module"), ["activation checkpointing"]),
    "thop": (TENSORS | {"total_ops": TENSORS["fc.bias"], "layer.0.total_params": 1}, ["2 of thop"]),
    "averaged": (put("module.") | {"n_averaged": 3}, ["AveragedModel", "DataParallel"]),
    "others": (put("model.") | {"loss.weight": 1, "acc.total": 2}, ["2 without it are left out"]),
    "averages beside": (put("model.", NAMES) | put("model_ema.module."), ["'model_ema.module.'"]),
}


@pytest.mark.parametrize("case", FITTING)
def test_what_tools_put_there_is_taken_away_and_named(case):
    tensors, notes = FITTING[case]
    found = matched(tensors)
    assert found is not None and found.tensors.keys() == TENSORS.keys()
    assert all(found.tensors[name] is TENSORS[name] for name in NAMES)
    assert bool(found.notes) == bool(notes) and all(n in "; ".join(found.notes) for n in notes)


NOT = {
    "one is missing": {n: t for n, t in TENSORS.items() if n != "fc.bias"},
    "one is too many": TENSORS | {"head.weight": 1},
    "not all have it": put("model.", NAMES[:-1]) | {"fc.bias": 1},
    "two of a kind": put("student.") | put("teacher."),
    "no dot": put("my_"),
    "nothing": {},
}


@pytest.mark.parametrize("case", NOT)
def test_what_is_no_networks_state_is_refused(case):
    assert matched(NOT[case]) is None


def test_counters_may_be_missing_or_too_many():
    few = {name: t for name, t in TENSORS.items() if not name.endswith("tracked")}
    for prefix in ("", "module."):
        for own, expected in ((few, NAMES), (TENSORS, list(few))):
            assert matched({prefix + n: t for n, t in own.items()}, expected) is not None
    assert missing(few, NAMES) == [] and unexpected(TENSORS, few) == []


@pytest.mark.parametrize("part", ["module", "_orig_mod", "total_ops"])
def test_names_that_the_network_has_itself_stay(part):
    expected = [f"{part}.weight", "fc.bias"]
    own = dict.fromkeys(expected, TENSORS["fc.bias"])
    assert matched(own, expected).notes == ()
    assert (
        matched({f"module.{n}": t for n, t in own.items()}, expected).tensors.keys() == own.keys()
    )


def test_names_of_others_are_translated_and_it_is_said():
    renames = ((r"\blinear\.", "fc."), (r"\bshortcut\.", "layer."))
    theirs = {
        n.replace("fc.", "linear.").replace("layer.", "shortcut."): t for n, t in TENSORS.items()
    }
    for prefix in ("", "module."):
        found = matched({prefix + n: t for n, t in theirs.items()}, NAMES, renames)
        assert (
            found.tensors.keys() == TENSORS.keys()
            and "shortcut.0.weight' is read as '" in found.notes[0]
        )
    assert matched(TENSORS, NAMES, renames).notes == ()
    assert matched(theirs) is None
