"""Names of what a network takes and gives, as its user wrote them: arguments of `forward`, and
places in what it returns.
"""

import inspect
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from subbyte.graph.samples import Samples

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def input_names(model: nn.Module, samples: Samples, outputs: Sequence[str]) -> list[str]:
    """The name of each leaf of a call: the argument of `forward` that it is or lies in, and its
    place there (`batch_image`, `batch_boxes_0`). No two are alike, and none is one of `outputs`.
    """
    call = samples.call
    parameters = inspect.signature(model.forward).parameters.values()
    named = [one.name for one in parameters if one.kind in _POSITIONAL]
    rest = next((one.name for one in parameters if one.kind is Parameter.VAR_POSITIONAL), "args")
    more = len(call.args) - len(named)
    named += [f"{rest}_{k}" for k in range(more)]
    given = [*zip(named, call.args, strict=False), *call.kwargs.items()]
    names: list[str] = []
    for name, value in given:
        for path, _ in pytree.tree_flatten_with_path(value)[0]:
            wanted = "_".join([name, *map(_key, path)])
            while wanted in (*names, *outputs):
                wanted += "_"
            names.append(wanted)
    return names


def output_names(returned: Any) -> list[str]:
    """`output` for one tensor, else the paths of tensors in what the network returns."""
    leaves, _ = pytree.tree_flatten_with_path(returned)
    paths = [path for path, leaf in leaves if isinstance(leaf, Tensor)]
    if len(paths) == 1:
        return ["output"]
    return ["output" + "".join(f".{key}" for key in map(_key, path)) for path in paths]


def _key(entry: Any) -> str:
    return str(entry).strip("[]'.")
