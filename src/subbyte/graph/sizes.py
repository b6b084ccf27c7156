"""Whether a network takes images of other sizes, and under which conditions its graph holds for
them.

The network is called with images that are twice as large. Where it raises, its own words are the
reason; where it does not, torch.export says what else its code asks of sizes.
"""

import re

import torch
from torch import nn

from subbyte.errors import CaptureError
from subbyte.graph.axes import UNCONDITIONAL, Axis, Conditions
from subbyte.graph.capture import exported_program, reason_of
from subbyte.graph.float32 import Float32Mode
from subbyte.graph.quiet import silence
from subbyte.graph.samples import Samples
from subbyte.graph.user_module import evaluating

_FIXED = re.compile(r"size\(\)\[(\d)\][^\n]* constant \((\d+)\)")


def conditions_on_sizes(model: nn.Module, samples: Samples) -> Conditions:
    """The conditions on the sizes that may differ (`Samples.dynamic`).

    Raises CaptureError where the network does not allow them to: which axis is fixed, to which
    value, and by what.
    """
    if not samples.dynamic:
        return UNCONDITIONAL
    twice = samples.twice()
    _try(model, twice)
    try:
        with Float32Mode(), silence(), torch.no_grad(), evaluating(model):
            module = exported_program(model, twice).module()
    except Exception as error:
        raise _refusal(model, samples, error) from error
    return Conditions(module.get_submodule("_guards_fn"))


def of_other_sizes(samples: Samples, conditions: Conditions) -> Samples:
    """Samples whose images have other sizes along their dynamic axes, on which a graph can be
    compared with its network: twice as large, or cut from the bottom right of those by as little as
    the conditions ask for. Samples themselves where no such size meets the conditions.
    """
    twice = samples.doubled(*samples.dynamic)
    smallest = min(twice.size_along(axis) for axis in samples.dynamic)
    cuts = (twice.without(count) for count in range(smallest))
    fitting = (cut for cut in cuts if not conditions.unmet(cut.twice().leaves))
    return next((cut for cut in fitting if cut.size != samples.size), samples)


def _try(model: nn.Module, twice: Samples) -> None:
    """Call the network with larger images; where it raises, find the axis that it is about."""
    error = _raised(model, twice.doubled(*twice.dynamic))
    if error is None:
        return
    found = {axis: _raised(model, twice.doubled(axis)) for axis in twice.dynamic}
    alone = {axis: one for axis, one in found.items() if one is not None}
    axes, why = (list(alone), next(iter(alone.values()))) if alone else (list(found), error)
    where, reason = reason_of(why)
    raise CaptureError(
        _fixed(model, twice, axes) + f": at twice the size it raises{where}: {reason}"
    )


@torch.no_grad()
def _raised(model: nn.Module, samples: Samples) -> Exception | None:
    with Float32Mode(), evaluating(model):
        try:
            call = samples.call
            model(*call.args, **call.kwargs)
        except Exception as error:  # whatever the user's code raises
            return error
    return None


def _refusal(model: nn.Module, samples: Samples, error: Exception) -> CaptureError:
    """An error of torch.export in words."""
    text = str(error)
    numbers = {int(match[1]) for match in _FIXED.finditer(text)}
    axes = [axis for axis in samples.dynamic if 4 + axis.value in numbers]
    if not axes:
        where, reason = reason_of(error)
        names = ", ".join(axis.text for axis in samples.dynamic)
        return CaptureError(
            f"{type(model).__name__} can't be captured with dynamic {names}{where}: {reason}"
        )
    return CaptureError(
        _fixed(model, samples, axes) + ": its code compares that size with a number, or makes a "
        "number of it, so that torch.export knows but the one"
    )


def _fixed(model: nn.Module, samples: Samples, axes: list[Axis]) -> str:
    sizes = " and ".join(f"{axis.text} {samples.size_along(axis)}" for axis in axes)
    return f"dynamic: {type(model).__name__} is fixed to {sizes}"
