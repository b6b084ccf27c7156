"""Capture the user's nn.Module as a graph of ATen operations, with dynamic batch size.

`torch.export` does the work; the graph is made functional (no in-place operations) but
convolutions, linear layers and pools keep their own operations. Parameters stay `get_attr` nodes
under the user's names.
"""

import copy
import io
import logging
import re
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from subbyte.errors import CaptureError, NumericsError

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
_USER_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def capture(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Graph of `model` in evaluation mode; the model itself is left as it is.

    example: a batch of one or more inputs [batch, ...]; only its shape and type matter.
    Raises CaptureError with PyTorch's reason and the line of user code it names; NumericsError on
    NaN or Inf weights.
    """
    for name, parameter in model.state_dict().items():
        if (
            isinstance(parameter, Tensor)
            and parameter.is_floating_point()
            and not bool(torch.isfinite(parameter).all())
        ):
            raise NumericsError(
                f"weights: {name!r} {tuple(parameter.shape)} holds NaN or Inf; load a sound "
                f"checkpoint"
            )
    model = copy.deepcopy(model).eval()
    batch = example[:1].expand(2, *example.shape[1:])  # a batch of 1 would be taken for a constant
    try:
        with silence(), torch.no_grad():
            exported = torch.export.export(
                model, (batch,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
            graph_module = exported.run_decompositions({}).module(check_guards=False)
    # torch.export raises errors of many kinds; all mean the same to the user
    except Exception as error:
        raise CaptureError(_explain(model, example, error)) from error
    if not isinstance(graph_module, fx.GraphModule):
        raise CaptureError(f"torch.export returned {type(graph_module).__name__}, not a graph")
    _check_signature(graph_module, single=exported.call_spec.out_spec.is_leaf())
    _clean(graph_module)
    return graph_module


@contextmanager
def silence() -> Iterator[None]:
    """torch.export and torch.onnx print, log and warn about things that are no concern of the
    user's.
    """
    loggers = [
        logging.getLogger(name)
        for name in ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_signature(graph_module: fx.GraphModule, *, single: bool) -> None:
    inputs = graph_module.graph.find_nodes(op="placeholder")
    output = graph_module.graph.output_node().args[0]
    if len(inputs) != 1 or not isinstance(output, tuple | list) or len(output) != 1 or not single:
        raise CaptureError(
            f"the network must map one tensor to one tensor, it has {len(inputs)} inputs and "
            f"returns {output}; "
            "wrap it in a module that does"
        )


def _clean(graph_module: fx.GraphModule) -> None:
    """Drop what does nothing in evaluation: copies left by dropout and slices of everything."""
    aten = torch.ops.aten
    for node in list(graph_module.graph.nodes):
        whole = (
            node.target is aten.slice.Tensor
            and node.args[2:4] == (0, 2**63 - 1)
            and len(node.args) == 4
        )
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # the copies that made its input contiguous go
        if node.target in (aten.clone.default, aten.alias.default, aten.detach.default) or whole:
            node.replace_all_uses_with(node.args[0])
            graph_module.graph.erase_node(node)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    logging.getLogger("subbyte").debug("captured %d operations", len(graph_module.graph.nodes))


def _is_users(file: str) -> bool:
    """Whether a source file is the user's rather than Python's, torch's or ours."""
    standard = file.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in file
    return not (standard or file.startswith(("<", *_LIBRARIES)))


def _explain(model: nn.Module, example: Tensor, error: Exception) -> str:
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
    where = f" at {frames[-1]}" if frames else ""
    return (
        f"{type(model).__name__} with input {tuple(example.shape)} can't be captured{where}: "
        f"{reason[:600]} "
        "(rewrite the part that depends on values, or fix the input shape)"
    )
