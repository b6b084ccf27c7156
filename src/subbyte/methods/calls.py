"""Calls that hold methods to their contracts: they end in what the kind promises, or in one error
that names the method.

Errors of subbyte keep their type; whatever else a method raises, and results of another type, shape
or dtype, are a ContractError.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from subbyte.core import Grid, GridSpec, QTensor, Share
from subbyte.errors import ContractError, SubbyteError
from subbyte.io.memory import out_of_memory
from subbyte.io.user_file import raised
from subbyte.methods.blame import blaming, name_of
from subbyte.methods.judging import Outputs, Tally, Targets, Task
from subbyte.methods.quantizing import (
    Allocate,
    Correction,
    FitGrid,
    Forward,
    Loss,
    Precondition,
    Range,
    Rounding,
)
from subbyte.methods.tuning import TuneLayers
from subbyte.stats import LayerStats


def choose(
    method: Range, values: Tensor, importance: Tensor | None, spec: GridSpec
) -> tuple[Tensor, Tensor]:
    """See `Range.choose`."""
    with blaming(method, "choose"):
        chosen = method.choose(values, importance, spec)
    return _numbers(chosen, name_of(method, "choose"), values, len(values))


def choose_for_tensor(
    method: Range, values: Tensor, importance: Tensor | None, spec: GridSpec
) -> tuple[Tensor, Tensor]:
    """See `Range.choose_for_tensor`."""
    own = type(method).choose_for_tensor is not Range.choose_for_tensor
    verb = "choose_for_tensor" if own else "choose"
    with blaming(method, verb):
        chosen = method.choose_for_tensor(values, importance, spec)
    return _numbers(chosen, name_of(method, verb), values, 1)


def allocate(method: Allocate, distortion: Tensor, spread: Tensor, mean_bits: float) -> Tensor:
    """See `Allocate.bits`."""
    with blaming(method, "bits"):
        widths = method.bits(distortion, spread, mean_bits)
    where, most = name_of(method, "bits"), distortion.shape[1] - 1
    _require_tensor(widths, where, "widths", spread.shape, torch.int64, distortion.device)
    if bool(((widths < 0) | (widths > most)).any()):
        raise ContractError(f"{where} returned widths that are not all from 0 to {most}")
    return widths


def round_weight(method: Rounding, weight: Tensor, fit: FitGrid, stats: LayerStats) -> QTensor:
    """See `Rounding.round`."""
    with blaming(method, "round"):
        rounded = method.round(weight, fit, stats)
    return _require_codes(rounded, name_of(method, "round"), weight, fit.spec.share)


def prepare(method: Precondition, weight: Tensor, stats: LayerStats) -> Tensor:
    """See `Precondition.prepare`."""
    with blaming(method, "prepare"):
        prepared = method.prepare(weight, stats)
    return _require_like(prepared, name_of(method, "prepare"), "weights", weight)


def correct(
    method: Correction, weight: Tensor, bias: Tensor, rounded: QTensor, stats: LayerStats
) -> tuple[QTensor, Tensor]:
    """See `Correction.correct`."""
    with blaming(method, "correct"):
        corrected = method.correct(weight, bias, rounded, stats)
    where = name_of(method, "correct")
    codes, new = _pair(corrected, where, "the codes and the bias")
    return (
        _require_codes(codes, where, weight, rounded.grid.spec.share),
        _require_like(new, where, "the bias", bias),
    )


def after_layer(
    method: TuneLayers, forward: Forward, parameters: dict[str, Tensor], logits: list[Tensor]
) -> dict[str, Tensor]:
    """See `TuneLayers.after_layer`."""
    with blaming(method, "after_layer"):
        learned = method.after_layer(forward, parameters, logits)
    _require_parameters(learned, name_of(method, "after_layer"), parameters)
    return learned


def at_end(
    method: TuneLayers,
    forward: Forward,
    parameters: dict[str, Tensor],
    logits: list[Tensor],
    labels: list[Tensor] | None,
    loss: Loss = F.cross_entropy,
) -> dict[str, Tensor]:
    """See `TuneLayers.at_end`."""
    with blaming(method, "at_end"):
        learned = method.at_end(forward, parameters, logits, labels, loss)
    _require_parameters(learned, name_of(method, "at_end"), parameters)
    return learned


def score(task: Task, outputs: Outputs, targets: Targets) -> list[Tally]:
    """See `Task.score`."""
    with _judging(task, "score"):
        return _require_tallies(task.score(outputs, targets), name_of(task, "score"))


def compare(task: Task, outputs: Outputs, others: Outputs) -> list[Tally]:
    """See `Task.compare`."""
    with _judging(task, "compare"):
        return _require_tallies(task.compare(outputs, others), name_of(task, "compare"))


def loss(task: Task, outputs: Outputs, targets: Targets) -> Tensor:
    """See `Task.loss`; it has gradients where the outputs have any."""
    with _judging(task, "loss"):
        found = task.loss(outputs, targets)
    return _require_loss(found, name_of(task, "loss"), outputs)


def imitation(task: Task, outputs: Outputs, others: Outputs, temperature: float) -> Tensor:
    """See `Task.imitation`; it has gradients where the outputs have any."""
    with _judging(task, "imitation"):
        found = task.imitation(outputs, others, temperature)
    return _require_loss(found, name_of(task, "imitation"), outputs)


def _require_loss(found: object, where: str, outputs: Outputs) -> Tensor:
    if not isinstance(found, Tensor) or found.ndim or not found.is_floating_point():
        raise ContractError(f"{where} returned {_shown(found)}, not one float, the batch's mean")
    traced = torch.is_grad_enabled() and any(output.requires_grad for output in outputs)
    if traced and not found.requires_grad:
        raise ContractError(f"{where} returned a loss without gradients: nothing learns from it")
    return found


def counted(task: Task, targets: Targets) -> int:
    """See `Task.counted`."""
    with _judging(task, "counted"):
        found = task.counted(targets)
    if type(found) is not int or found < 0:
        raise ContractError(f"{name_of(task, 'counted')} returned {found!r}, not a count from 0 on")
    return found


def check(task: Task, outputs: Outputs, targets: Targets) -> None:
    """See `Task.check`."""
    with _judging(task, "check"):
        task.check(outputs, targets)


def figure(tally: Tally) -> float:
    """See `Tally.figure`: of all that was counted."""
    with _holding(_of_figure(tally, "figure"), Tally):
        return float(tally.figure(tally.counted))


def error(tally: Tally) -> float:
    """See `Tally.error`: of all that was counted."""
    with _holding(_of_figure(tally, "error"), Tally):
        return float(tally.error(tally.counted))


def add(tally: Tally, other: Tally) -> Tally:
    """See `Tally.add`."""
    where = _of_figure(tally, "join")
    with _holding(where, Tally):
        found = tally.add(other)
    if not isinstance(found.counted, Tensor):
        raise ContractError(f"{where} returned {_shown(found.counted)}, not a tensor")
    return found


@contextmanager
def _judging(task: Task, verb: str) -> Iterator[None]:
    """As `blaming`, but errors about data are no fault of the task."""
    with _holding(name_of(task, verb), type(task)):
        yield


@contextmanager
def _holding(where: str, cls: type) -> Iterator[None]:
    try:
        yield
    except SubbyteError:
        raise
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise ContractError(f"{where} {raised(cls, error)}") from error


def _of_figure(tally: Tally, verb: str) -> str:
    return f"Tally.{verb} of {tally.measure.name!r}"


def _require_tallies(found: Sequence[object], where: str) -> list[Tally]:
    for one in found:
        if not isinstance(one, Tally):
            raise ContractError(f"{where} returned {_shown(one)} among its figures, not a Tally")
    return [one for one in found if isinstance(one, Tally)]


def _pair(value: object, where: str, what: str) -> tuple[object, object]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ContractError(f"{where} returned {_shown(value)}, not two values: {what}")
    return value


def _numbers(chosen: object, where: str, values: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of so many blocks, if these are."""
    scale, zero_point = _pair(chosen, where, "scale and zero point")
    shape = torch.Size([blocks])
    return (
        _require_tensor(scale, where, "scales", shape, torch.float32, values.device),
        _require_tensor(zero_point, where, "zero points", shape, torch.int32, values.device),
    )


def _require_codes(value: object, where: str, weight: Tensor, share: Share) -> QTensor:
    """Codes of a weight on a grid with a share; its alphabet may be one of the method's own."""
    if not isinstance(value, QTensor) or not isinstance(value.grid, Grid):
        raise ContractError(f"{where} returned {_shown(value)}, not a QTensor on a Grid")
    grid, alphabet = value.grid, value.grid.spec.alphabet
    if grid.spec.share != share:
        raise ContractError(f"{where} returned scales of {grid.spec.share}, not of {share}")
    codes = _require_tensor(
        value.codes, where, "codes", weight.shape, alphabet.code_dtype, weight.device
    )
    low, high = int(codes.min()), int(codes.max())
    if low < alphabet.qmin or high > alphabet.qmax:
        raise ContractError(
            f"{where} returned codes from {low} to {high}, not from {alphabet.qmin} to "
            f"{alphabet.qmax}"
        )
    scales = share.sums(weight).shape
    _require_tensor(grid.scale, where, "scales", scales, torch.float32, weight.device)
    _require_tensor(grid.zero_point, where, "zero points", scales, torch.int32, weight.device)
    return value


def _require_parameters(value: object, where: str, given: Mapping[str, Tensor]) -> None:
    """New values of the parameters, by name."""
    if not isinstance(value, Mapping):
        raise ContractError(f"{where} returned {_shown(value)}, not parameters by name")
    if value.keys() != given.keys():
        raise ContractError(
            f"{where} returned parameters {', '.join(map(str, value)) or 'none'}, not "
            f"{', '.join(given)}"
        )
    for name, old in given.items():
        _require_like(value[name], where, f"for {name}", old)


def _require_like(value: object, where: str, what: str, given: Tensor) -> Tensor:
    return _require_tensor(value, where, what, given.shape, given.dtype, given.device)


def _require_tensor(
    value: object,
    where: str,
    what: str,
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    fits = isinstance(value, Tensor) and (value.shape, value.dtype) == (shape, dtype)
    if not isinstance(value, Tensor) or not fits or value.device != device:
        wanted = f"{str(dtype).removeprefix('torch.')} {list(shape)} on {device}"
        raise ContractError(f"{where} returned {what}: {_shown(value)}, not {wanted}")
    return value


def _shown(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)} on {value.device}"
