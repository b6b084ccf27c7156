"""The user's module while it is captured: out of its wrappers, in evaluation mode, in float32, on
the CPU, and afterwards as it was.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.optim.swa_utils import AveragedModel
from torch.utils import _pytree as pytree

from subbyte.errors import ModelError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(model: object) -> nn.Module:
    """The network inside DataParallel, AveragedModel, torch.compile, or an exported program.

    Raises ModelError for what is no module.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module(check_guards=False)
    while True:
        if isinstance(model, OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, _WRAPPERS):
            model = model.module
        elif isinstance(model, nn.Module):
            return model
        else:
            raise ModelError(
                f"the network must be a torch.nn.Module or an exported program, got a "
                f"{type(model).__name__}"
            )


def _needs_change(tensor: Tensor) -> bool:
    """Whether a tensor lies elsewhere than in RAM, or has another floating-point type than
    float32.
    """
    return tensor.device.type != "cpu" or (
        tensor.is_floating_point() and tensor.dtype != torch.float32
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, the module is in evaluation mode and on the CPU, its floating-point tensors are
    float32, and what it does to its inputs in place does not reach the caller's.

    No copy is made: there are modules that can't be copied, and large ones.
    """
    modes = {module: module.training for module in model.modules()}
    tensors = [*model.parameters(), *model.buffers()]
    others = [tensor for tensor in tensors if _needs_change(tensor)]
    before = [tensor.data for tensor in others]
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    hook = None
    if not isinstance(model, torch.fx.GraphModule):  # those are functional already
        hook = model.register_forward_pre_hook(_copied, with_kwargs=True)
    try:
        for module in modes:
            module.training = False
        for tensor in others:
            here = tensor.data.cpu()
            tensor.data = here.float() if here.is_floating_point() else here
        yield
    finally:
        if hook is not None:
            hook.remove()
        for tensor, data in zip(others, before, strict=True):
            tensor.data = data
        for name, buffer in model.named_buffers():
            buffer.data.copy_(kept[name])  # a counter of calls, say
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def keywords_named(model: nn.Module, keywords: list[str]) -> Iterator[None]:
    """Within, a `forward` that takes any keywords says that it takes these: torch.export loses the
    sizes of arguments that are in no signature.
    """
    signature = inspect.signature(model.forward)
    told = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    if len(told) == len(signature.parameters):
        yield
        return
    new = [name for name in keywords if name not in signature.parameters]
    own, kept = model.forward, vars(model).get("forward")

    def forward(*args: Any, **kwargs: Any) -> Any:
        return own(*args, **kwargs)

    named = [*told, *(Parameter(name, Parameter.KEYWORD_ONLY) for name in new)]
    vars(forward)["__signature__"] = signature.replace(parameters=named)
    vars(model)["forward"] = forward
    try:
        yield
    finally:
        del vars(model)["forward"]
        if kept is not None:
            vars(model)["forward"] = kept


def _copied(module: nn.Module, args: Any, kwargs: Any) -> Any:
    def copy(leaf: Any) -> Any:
        return leaf.clone() if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(copy, (args, kwargs))
