"""`subbyte bench`: exported files against the float network, against what ONNX Runtime's own tool
makes of it, and against each other.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from subbyte.engine.stages import Stages
from subbyte.errors import FormatError, RecipeError
from subbyte.exporters import runner
from subbyte.exporters.kernels import read_kernels
from subbyte.exporters.sessions import (
    Feeds,
    Taken,
    call_of,
    fixed_batch,
    inputs_of,
    made_up,
    open_session,
    profile,
)
from subbyte.io.numbers import Bounded, Count, Positive
from subbyte.io.versions import installed
from subbyte.io.workplaces import scratch
from subbyte.records.speed import Bench, FileSpeed, NodeTime, Timing
from subbyte.speed.machine import processor
from subbyte.speed.memory import resident_memory
from subbyte.speed.pairs import Call, Turns, take_turns
from subbyte.speed.subjects import STATIC, Subject, Subjects, gather

ONNX = ".onnx"
PAIRS = 30
_PROFILED = 10  # runs of which a node's time is the median
_NODES = 20  # the slowest ones that are kept

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Settings(Bounded):
    """How files are measured.

    threads: of a run; batches: sizes; pairs: turns of each file; limit: seconds for all turns of
    one batch size; sizes: of axes that may differ, by name; static: whether ONNX Runtime's own tool
    is compared where the float network is known.
    Raises RecipeError when a number is out of range.
    """

    threads: Count = 1
    batches: tuple[Count, ...] = (1,)
    pairs: Count = PAIRS
    limit: Positive = 120.0
    sizes: Mapping[str, Count] = field(default_factory=dict)
    static: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.batches:
            raise RecipeError("batches: one size of a batch or more is needed")


def bench(
    *paths: str | Path,
    threads: int = 1,
    batches: Sequence[int] = (1,),
    pairs: int = PAIRS,
    limit: float = 120.0,
    sizes: Mapping[str, int] | None = None,
    static: bool = True,
    progress: Progress = lambda *_: None,
) -> Bench:
    """Measure exported files, in turns.

    paths: files, or folders of `subbyte quantize`. Where a folder's result names a file, the float
    network is built anew from its name, and its speed is the reference, else the first file's.
    threads: of a run; batches: sizes; pairs: turns of each file; limit: seconds for all turns of
    one batch size; sizes: of axes of the inputs that may differ, such as {"height": 224}; static:
    whether to compare ONNX Runtime's own tool for static quantization, too.
    Seconds are CPU time with one thread, else time on the wall.
    Raises FormatError for what is no exported file or result folder, RecipeError for numbers out of
    range and folders of different networks, DataError for sizes that are not known.
    """
    settings = Settings(threads, tuple(batches), pairs, limit, sizes or {}, static)
    with scratch() as place:
        with Stages(progress).stage("prepare"):
            subjects = gather(
                [Path(path) for path in paths],
                place,
                static=settings.static,
                sizes=settings.sizes,
            )
        return _measured(subjects, settings, progress)


def _measured(subjects: Subjects, settings: Settings, progress: Progress) -> Bench:
    takes = _inputs(subjects.files)
    timings: dict[str, list[Timing]] = {one.name: [] for one in subjects.files}
    total, done = len(settings.batches) + len(subjects.files), 0
    for batch in settings.batches:
        progress("measure", done, total, f"times at batch {batch}")
        for name, timing in _times(subjects, takes, batch, settings).items():
            timings[name].append(timing)
        done += 1
    files = []
    for subject in subjects.files:
        progress("measure", done, total, f"memory and nodes of {subject.name}")
        files.append(_file(subject, takes[subject.name], timings[subject.name], settings))
        done += 1
    progress("measure", total, total, "")
    return Bench(
        reference=subjects.reference,
        threads=settings.threads,
        batches=list(settings.batches),
        files=files,
        notes=subjects.notes,
        versions=_versions(),
    )


def _inputs(files: Sequence[Subject]) -> dict[str, list[Taken]]:
    """List the inputs that each file takes; files of other runtimes take those of the first ONNX
    file.
    """
    told = {
        one.name: inputs_of(open_session(one.path), one.path)
        for one in files
        if one.path.suffix == ONNX
    }
    if not told:
        raise FormatError(
            f"{files[0].path}: what it takes is not known; measure it beside an ONNX file of the "
            f"same network"
        )
    first = next(iter(told.values()))
    return {one.name: told.get(one.name, first) for one in files}


def _times(
    subjects: Subjects, takes: Mapping[str, list[Taken]], batch: int, settings: Settings
) -> dict[str, Timing]:
    """Times of all files that take batches of this size."""
    calls: dict[str, Call] = {}
    for one in subjects.files:
        fixed = fixed_batch(takes[one.name])
        if fixed is not None and fixed != batch:
            subjects.notes.append(f"{one.name} takes batches of {fixed} only, not of {batch}")
            continue
        feeds = made_up(takes[one.name], batch, settings.sizes)
        calls[one.name] = prepared(one.path, feeds, settings.threads)
    if not calls:
        return {}
    turns = take_turns(
        calls, settings.pairs, limit=settings.limit, clock=clock_for(settings.threads)
    )
    beside = [name for name in (subjects.reference, STATIC) if name in calls]
    return {name: timing_of(turns, name, batch, settings.threads, beside) for name in calls}


def prepared(path: Path, feeds: Feeds, threads: int) -> Call:
    """One run of a file, ready to be timed; in ONNX Runtime without anything around it."""
    if path.suffix == ONNX:
        return call_of(path, feeds, threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = runner(path)
    finally:
        torch.set_num_threads(before)
    tensors = [torch.from_numpy(array) for array in feeds.values()]
    return lambda: run(*tensors)


def clock_for(threads: int) -> Callable[[], float]:
    """CPU time where there is one thread; several share it, so that only the wall's tells."""
    return time.process_time if threads == 1 else time.perf_counter


def timing_of(turns: Turns, name: str, batch: int, threads: int, beside: Sequence[str]) -> Timing:
    """The record of one file's turns; beside: the files that it is compared with."""
    return Timing(
        batch=batch,
        threads=threads,
        seconds=turns.median(name),
        quartiles=turns.quartiles(name),
        against={other: turns.ratio(name, other) for other in beside if other != name},
    )


def _file(
    subject: Subject, takes: list[Taken], timings: list[Timing], settings: Settings
) -> FileSpeed:
    """Everything about one file that is not compared."""
    about = {"name": subject.name, "file": subject.path.name, "bytes": subject.bytes}
    if subject.path.suffix != ONNX:
        return FileSpeed(**about, timings=timings)  # type: ignore[arg-type]
    batch = fixed_batch(takes) or settings.batches[0]
    one = made_up(takes, fixed_batch(takes) or 1, settings.sizes)
    feeds = made_up(takes, batch, settings.sizes)
    return FileSpeed(
        **about,  # type: ignore[arg-type]
        timings=timings,
        resident=resident_memory(subject.path, feeds, settings.threads),
        kernels=read_kernels(subject.path, one),
        nodes=node_times(subject.path, feeds, settings.threads),
    )


def node_times(path: Path, feeds: Feeds, threads: int) -> list[NodeTime]:
    """The slowest nodes of a file, by the median of some runs after one for warming up."""
    runs = profile(path, feeds, _PROFILED + 1, threads)[1:]
    middle = [sorted(times)[len(times) // 2] for times in zip(*_seconds(runs), strict=True)]
    total = sum(middle) or 1.0
    found = [
        NodeTime(
            node=event.node,
            operation=event.operation,
            seconds=seconds,
            percent=100 * seconds / total,
        )
        for event, seconds in zip(runs[0], middle, strict=True)
    ]
    return sorted(found, key=lambda one: -one.seconds)[:_NODES]


def _seconds(runs: Sequence[Sequence[object]]) -> list[list[float]]:
    return [[event.seconds for event in run] for run in runs]  # type: ignore[attr-defined]


def _versions() -> dict[str, str]:
    """Versions of what speed depends on."""
    return {
        "subbyte": installed("subbyte"),
        "onnxruntime": installed("onnxruntime"),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": processor(),
    }
