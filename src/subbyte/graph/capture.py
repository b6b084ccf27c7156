"""Capture the user's nn.Module as a graph of ATen operations, with dynamic batch size.

`torch.export` does the work; the graph is made functional (no in-place operations) but
convolutions, linear layers and pools keep their own operations, and attention and einsum are
written as the products they are made of. Parameters stay `get_attr` nodes under the user's names;
what depends on parameters alone is computed (`graph.constants`). The graph is called as the network
is, and computes in float32 whatever the network does.
"""

import logging
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from subbyte.errors import CaptureError, NumericsError
from subbyte.graph.attention import DECOMPOSED
from subbyte.graph.constants import fold_constants
from subbyte.graph.float32 import Float32Mode, compute_in_float32
from subbyte.graph.products import as_layers, factors_last
from subbyte.graph.quiet import silence
from subbyte.graph.samples import Inputs, Samples, is_images
from subbyte.graph.tensors import own_tensors
from subbyte.graph.user_module import evaluating, keywords_named, unwrapped
from subbyte.io.memory import out_of_memory

aten = torch.ops.aten
_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
_USER_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_CHECKS = {
    aten._assert_tensor_metadata.default,
    aten._assert_scalar.default,
    aten._assert_async.msg,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
    aten.copy_.default,  # of a buffer that a call changes: each call starts with the same
}
"""Nodes that compute nothing of the output."""


def capture(model: nn.Module, example: Tensor | Inputs | Samples) -> fx.GraphModule:
    """Graph of `model` in evaluation mode, on the CPU wherever the model is; it is left as it is.

    example: one or more samples; only their shapes and types matter.
    Raises CaptureError with PyTorch's reason and the line of user code it names; NumericsError on
    NaN weights, and on infinite ones of layers.
    """
    model, samples = unwrapped(model), Samples.of(example)
    _check_numbers(model)
    twice = samples.twice()
    with explaining(model, samples), silence(), torch.no_grad(), evaluating(model):
        with Float32Mode():
            exported = exported_program(model, twice)
        graph_module = exported.run_decompositions(DECOMPOSED).module(check_guards=False)
        if not isinstance(graph_module, fx.GraphModule):
            raise CaptureError(f"torch.export returned {type(graph_module).__name__}, not a graph")
        own_tensors(graph_module)
    compute_in_float32(graph_module)
    _clean(graph_module)
    fold_constants(graph_module)
    as_layers(graph_module)
    factors_last(graph_module)
    logging.getLogger("subbyte").debug("captured %d operations", len(graph_module.graph.nodes))
    return graph_module


def exported_program(model: nn.Module, samples: Samples) -> torch.export.ExportedProgram:
    """Export a module with torch.export, for any number of samples, and any size along their
    dynamic axes. samples: two or more.

    Python wants a number of `len(x)`, `int(x.shape[0])` and the like; where that closes the number
    of samples, torch.export reads the code instead of running it, which keeps it open.
    """
    axes: Any = torch.export.ShapesCollection()
    for leaf, batched in zip(samples.leaves, samples.batched, strict=True):
        if batched:
            free = [leaf.ndim + axis.value for axis in samples.dynamic if is_images(leaf, batched)]
            axes[leaf] = dict.fromkeys([0, *free], torch.export.Dim.DYNAMIC)
    call = samples.call
    with keywords_named(model, list(call.kwargs)):
        export = partial(torch.export.export, model, call.args, call.kwargs, dynamic_shapes=axes)
        try:
            return export()
        except Exception:  # of many kinds
            with suppress(Exception):
                return export(strict=True)
            raise


def fixed_program(model: nn.Module, samples: Samples) -> torch.export.ExportedProgram:
    """Export a module with torch.export, for calls of just the sizes that `samples` have."""
    call = samples.call
    with keywords_named(model, list(call.kwargs)):
        return torch.export.export(model, call.args, call.kwargs)


def _check_numbers(model: nn.Module) -> None:
    """Raise NumericsError on weights that are no numbers; buffers may hold infinities (masks)."""
    for name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            _raise_numbers(name, tensor)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and bool(buffer.isnan().any()):
            _raise_numbers(name, buffer)


def _raise_numbers(name: str, tensor: Tensor) -> None:
    raise NumericsError(
        f"weights: {name!r} {tuple(tensor.shape)} holds NaN or Inf; load a sound checkpoint"
    )


def _clean(graph_module: fx.GraphModule) -> None:
    """Drop what does nothing in evaluation: copies left by dropout and slices of everything."""
    for node in list(graph_module.graph.nodes):
        whole = (
            node.target is aten.slice.Tensor
            and node.args[2:4] == (0, 2**63 - 1)
            and len(node.args) == 4
        )
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # the copies that made its input contiguous go
        if node.target is aten.clip.default:
            node.target = aten.clamp.default  # its other name
        if node.target in (aten.clone.default, aten.alias.default, aten.detach.default) or whole:
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
        elif node.target in _CHECKS:
            graph_module.graph.erase_node(node)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()


def _is_users(file: str) -> bool:
    """Whether a source file is the user's rather than Python's, torch's or ours."""
    standard = file.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in file
    return not (standard or file.startswith(("<", *_LIBRARIES)))


@contextmanager
def explaining(model: nn.Module, samples: Samples) -> Iterator[None]:
    """Within, whatever is raised becomes a CaptureError: the network and torch.export raise errors
    of many kinds, which all mean the same to the user; but for memory that runs out.
    """
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        raise CaptureError(_explain(model, samples, error)) from error


def reason_of(error: Exception) -> tuple[str, str]:
    """The line of the user's code that an error came through last (' at file:line', or nothing),
    and what it says.
    """
    chain: BaseException | None = error
    lines: list[str] = []
    frames: list[str] = []
    while chain is not None:
        text = str(chain)
        frames += [
            f"{m['file']}:{m['line']}" for m in _USER_FRAME.finditer(text) if _is_users(m["file"])
        ]
        lines = lines or [line.strip() for line in text.splitlines() if line.strip()]
        trace = chain.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if _is_users(file):
                frames.append(f"{file}:{trace.tb_lineno}")
            trace = trace.tb_next
        chain = chain.__cause__ or chain.__context__
    reason = " ".join(lines[:3]) or type(error).__name__
    return f" at {frames[-1]}" if frames else "", reason[:600]


def _fixes_a_size(error: Exception) -> bool:
    """Whether torch.export found that the code takes one size only along an axis that is free."""
    exc = torch._dynamo.exc  # loaded where torch.export has been called
    fixed = exc.UserErrorType.CONSTRAINT_VIOLATION
    return isinstance(error, exc.UserError) and error.error_type is fixed


def _explain(model: nn.Module, samples: Samples, error: Exception) -> str:
    where, reason = reason_of(error)
    whole = any(
        is_images(leaf, batched) and not leaf.is_floating_point()
        for leaf, batched in zip(samples.leaves, samples.batched, strict=True)
    )
    advice = "rewrite the part that depends on values, or fix the input shape"
    if whole:
        advice = "give images as floating point, scaled and normalized as for training"
    elif _fixes_a_size(error):
        advice = (
            "the code is for one number of samples only, as in a loop over them; write it for "
            "batches of any size"
        )
    return (
        f"{type(model).__name__} with input {samples.described} can't be captured{where}: "
        f"{reason} ({advice})"
    )
