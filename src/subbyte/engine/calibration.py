"""Calibration samples from whatever holds them: tensors, calls, data sets, loaders of batches."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from subbyte.data.preprocess import note_bytes
from subbyte.errors import DataError
from subbyte.graph import Inputs, Samples

Source = Tensor | np.ndarray | Inputs | Samples | Iterable[Any] | Dataset[Any]
ForwardFn = Callable[[Callable[..., Any], Any], Any]
_BATCH = 64


def collect(source: Source, model: nn.Module, forward_fn: ForwardFn | None = None) -> Samples:
    """All calibration samples, side by side.

    source: a tensor or array [n, ...]; `Inputs` of a call with n samples; a data set of samples; or
    batches (a DataLoader, any iterable). Of a batch that is a tuple or list the first entries are
    the arguments, as many as `model` has that are required, at least one; a mapping holds arguments
    by their names.
    forward_fn: called as forward_fn(model, batch) for each batch, where those rules do not fit; it
        calls the network as it should be called.
    Images that look like bytes never divided by 255 are noted in the log. Raises DataError when
    there are no samples or batches do not go together.
    """
    if isinstance(source, Samples):
        return source
    samples = _joined(source, model, forward_fn)
    for leaf in samples.leaves:
        note_bytes(leaf, "calibration images")
    return samples


def _joined(source: Source, model: nn.Module, forward_fn: ForwardFn | None) -> Samples:
    if isinstance(source, np.ndarray | Tensor | Inputs) and forward_fn is None:
        return Samples.of(source)
    if isinstance(source, Dataset) and not isinstance(source, Iterable):
        source = DataLoader(source, batch_size=_BATCH)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise DataError(
            f"calibration samples must be a tensor, Inputs, a data set or batches of them, got "
            f"{type(source).__name__}"
        )
    read = _Recorder(forward_fn) if forward_fn is not None else _Reader(model)
    parts = [Samples.of(read(batch)) for batch in source]
    if not parts:
        raise DataError(
            "no calibration images: the iterable is empty (a generator that was read before?)"
        )
    return Samples.join(parts)


class _Reader:
    """Finds the arguments of a call in a batch."""

    def __init__(self, model: nn.Module) -> None:
        self._names, self._required = _parameters(model)

    def __call__(self, batch: Any) -> Tensor | Inputs:
        if isinstance(batch, Inputs | Tensor):
            return batch
        if isinstance(batch, np.ndarray):
            return Inputs(batch)
        if isinstance(batch, Mapping):
            known = self._names or list(batch)
            return Inputs(**{str(name): batch[name] for name in batch if name in known})
        if isinstance(batch, tuple | list) and batch:
            return Inputs(*batch[: max(1, self._required)])
        raise DataError(
            f"a calibration batch is a {type(batch).__name__}; it must be a tensor, a tuple, a "
            f"mapping or Inputs, or give forward_fn"
        )


def _parameters(model: nn.Module) -> tuple[list[str], int]:
    """Names of the arguments that a network takes (none where it takes any), and how many it must
    be given by position.
    """
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return [], 1
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return [], 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return [p.name for p in parameters], len(required)


class _CalledError(Exception):
    """The network was called with these inputs: there is no need to go on."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs


class _Recorder:
    """Notes how a function of the user's calls the network with a batch."""

    def __init__(self, forward_fn: ForwardFn) -> None:
        self._forward_fn = forward_fn

    def __call__(self, batch: Any) -> Inputs:
        try:
            self._forward_fn(_note, batch)
        except _CalledError as call:
            return call.inputs
        raise DataError("forward_fn did not call the network that it was given")


def _note(*args: Any, **kwargs: Any) -> Any:
    raise _CalledError(Inputs(*args, **kwargs))
