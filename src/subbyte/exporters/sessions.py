"""ONNX Runtime at work on a file: sessions, what a file takes, calls without anything around them,
and the time of each node.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from subbyte.errors import DataError, FormatError
from subbyte.io.texts import parse_json, read_text
from subbyte.io.workplaces import scratch

Feeds = Mapping[str, np.ndarray]
"""Inputs of a file by name."""

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
"""ONNX Runtime's names of types."""
_NODE, _TAIL = "Node", "_kernel_time"  # of events in a profile


def open_session(
    path: Path, threads: int = 1, change: Callable[[Any], None] = lambda options: None
) -> onnxruntime.InferenceSession:
    """A session on the CPU; change: what else to set in its options.

    Raises FormatError when ONNX Runtime can't load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    change(options)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types of its own for each kind of damage
        raise FormatError(f"{path}: ONNX Runtime can't load it: {str(error)[:300]}") from error


@dataclass(frozen=True)
class Taken:
    """An input of a file; sizes: a number, or the name of one that may differ from call to call."""

    name: str
    dtype: Any
    sizes: tuple[int | str, ...]


def inputs_of(session: onnxruntime.InferenceSession, path: Path) -> list[Taken]:
    """List the inputs that a file takes. Raises FormatError for types that have no name here."""
    found = []
    for one in session.get_inputs():
        if one.type not in _TYPES:
            raise FormatError(f"{path}: input {one.name} is a {one.type}, which can't be made up")
        sizes = tuple(size if isinstance(size, int) else str(size) for size in one.shape)
        found.append(Taken(one.name, _TYPES[one.type], sizes))
    return found


def made_up(takes: Sequence[Taken], batch: int, sizes: Mapping[str, int], seed: int = 0) -> Feeds:
    """Random inputs: floats from a normal distribution, uint8 as pixels, other integers 0 and 1.

    batch: the first size where it may differ; sizes: of other axes that may, by name.
    Raises DataError where a size is not known.
    """
    draw = np.random.default_rng(seed)
    feeds = {}
    for one in takes:
        shape = []
        for place, size in enumerate(one.sizes):
            known = size if isinstance(size, int) else batch if place == 0 else sizes.get(size)
            if known is None:
                shown = ", ".join(map(str, one.sizes))
                raise DataError(
                    f"input {one.name} [{shown}] has a free size {size!r}; say which to measure "
                    f"at: --size {size}=224"
                )
            shape.append(known)
        floats = np.issubdtype(one.dtype, np.floating)
        ends = 256 if one.dtype is np.uint8 else 2
        values = draw.standard_normal(shape) if floats else draw.integers(0, ends, shape)
        feeds[one.name] = values.astype(one.dtype)
    return feeds


def fixed_batch(takes: Sequence[Taken]) -> int | None:
    """The batch size that a file is made for; None where any will do."""
    found = {one.sizes[0] for one in takes if one.sizes}
    return min((size for size in found if isinstance(size, int)), default=None)


def call_of(path: Path, feeds: Feeds, threads: int) -> Callable[[], object]:
    """One run of a file, ready to be timed. Raises FormatError when it can't be loaded or run."""
    session = open_session(path, threads)

    def call() -> object:
        return session.run(None, feeds)

    try:
        call()
    except Exception as error:  # as when it loads
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path}: ONNX Runtime can't run it: {reason}") from error
    return call


@dataclass(frozen=True)
class Event:
    """One run of one node; outputs: type and shape of each."""

    node: str
    operation: str
    seconds: float
    outputs: tuple[tuple[str, tuple[int, ...]], ...]


def profile(
    path: Path,
    feeds: Feeds,
    runs: int = 1,
    threads: int = 1,
    change: Callable[[Any], None] = lambda options: None,
) -> list[list[Event]]:
    """The nodes of each of some runs, in the order in which they ran.

    Raises FormatError when the file can't be loaded or run.
    """
    with scratch() as folder:

        def observed(options: Any) -> None:
            change(options)
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")

        session = open_session(path, threads, observed)
        try:
            for _ in range(runs):
                session.run(None, feeds)
        except Exception as error:  # as when it loads
            reason = " ".join(str(error).split())[:300]
            raise FormatError(f"{path}: ONNX Runtime can't run it: {reason}") from error
        events = parse_json(read_text(told := Path(session.end_profiling())), told)
    found = [_event(one) for one in events if one.get("cat") == _NODE and _TAIL in one["name"]]
    each = len(found) // runs
    return [found[k * each : (k + 1) * each] for k in range(runs)]


def _event(record: Mapping[str, Any]) -> Event:
    about = record["args"]
    outputs = tuple(
        (kind, tuple(shape)) for one in about["output_type_shape"] for kind, shape in one.items()
    )
    name = record["name"].removesuffix(_TAIL)
    return Event(name, about["op_name"], record["dur"] / 1e6, outputs)


def output_sizes(path: Path) -> list[tuple[int | str, ...]]:
    """Sizes of a file's outputs. Raises FormatError when it can't be loaded."""
    found = open_session(path).get_outputs()
    return [tuple(s if isinstance(s, int) else str(s) for s in one.shape) for one in found]
