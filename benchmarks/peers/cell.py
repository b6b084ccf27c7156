"""One cell, in a process of its own: a tool quantizes a network, and what comes of it is measured.

    python -m benchmarks.peers.cell TOOL MODEL WIDTH ENDS IMAGES SEED --limit SECONDS

Prints one JSON object: what was found, or the reason why there is nothing.
"""

import argparse
import contextlib
import copy
import importlib
import json
import re
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.cells import ENDS8
from benchmarks.peers.contract import UNQUANTIZED, WIDTHS, CannotError, Job, Made
from benchmarks.peers.work import Work, load_work
from subbyte.exporters.resident import RESET, STATUS
from subbyte.exporters.sessions import Feeds, inputs_of, open_session
from subbyte.speed.pairs import take_turns

_SILENT = 80  # dB: eight bits leave more noise
_PAIRS, _SECONDS = 30, 20.0
_KIB_PER_MIB = 1024
_LETTERS = 200


def main() -> None:
    """Measure one cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("tool", "model", "width", "ends"):
        parser.add_argument(name)
    parser.add_argument("images", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--limit", type=int, required=True)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CPU, (given.limit, given.limit + 5))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):  # tools talk
        found = _measured(given)
    print(json.dumps(found))


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    work = load_work(given.model, given.images, given.seed)
    width = WIDTHS.get(given.width, UNQUANTIZED)
    with tempfile.TemporaryDirectory() as folder:
        own = copy.deepcopy(work.model)  # some tools change it in place
        job = Job(own, work.inputs, width, given.ends == ENDS8, Path(folder))
        float_file = Path(folder) / "float.onnx"
        try:
            tool = importlib.import_module(f"benchmarks.peers.tools.{given.tool}")
            before, start = _memory_kb(reset=True), time.process_time()
            made: Made = tool.quantize(job)
            found: dict[str, Any] = {"quantize_cpu": f"{time.process_time() - start:.1f}"}
            found["memory_mb"] = f"{(_memory_kb() - before) / _KIB_PER_MIB:.0f}"
            found |= _scored(work, made)
        except CannotError as reason:
            return {"reason": str(reason)}
        except Exception as error:  # whatever a tool fails with is what its user sees
            return {"reason": said(error)}
        return found | _shipped(work, made, float_file)


def _scored(work: Work, made: Made) -> dict[str, Any]:
    with torch.no_grad():
        score = work.score(made.run)
    silent = work.metric == "SNR dB" and score > _SILENT
    return {
        "metric": work.metric,
        "score": f"{score:.4f}",
        "remark": "silently float" if silent else "",
    }


def _shipped(work: Work, made: Made, float_file: Path) -> dict[str, Any]:
    """The files that a tool writes: bytes, and where ONNX Runtime runs them, speed and score."""
    start = time.process_time()
    try:
        files = made.write()
        found: dict[str, Any] = {"write_cpu": f"{time.process_time() - start:.1f}"}
        found |= {"file_bytes": sum(file.stat().st_size for file in files)}
        found |= {"files": " + ".join(file.suffix for file in files)}
        if files[0].suffix == ".onnx":
            found |= _in_onnxruntime(work, files[0], float_file)
    except CannotError as reason:
        return {"file_reason": str(reason)}
    except Exception as error:  # whatever a tool or ONNX Runtime fails with
        return {"file_reason": said(error)}
    return found


def _in_onnxruntime(work: Work, file: Path, float_file: Path) -> dict[str, Any]:
    score = work.score(OnnxRun(file))
    write_float(work, float_file)
    runs = {"float": OnnxRun(float_file), "file": OnnxRun(file)}
    one = tuple(x[:1] for x in work.inputs)
    calls = {name: run.call(one) for name, run in runs.items()}
    # under a limit of CPU time, Linux counts a process's in ticks, and a thread's as ever
    turns = take_turns(calls, _PAIRS, limit=_SECONDS, clock=time.thread_time)
    faster = turns.ratio("float", "file")
    return {
        "score_file": f"{score:.4f}",
        "speed": f"{faster.median:.3f}",
        "speed_low": f"{faster.low:.3f}",
        "speed_high": f"{faster.high:.3f}",
    }


class OnnxRun:
    """An ONNX file that is called as the network; one that is made for a batch of 1 is called image
    by image.
    """

    def __init__(self, file: Path) -> None:
        self._session = open_session(file)
        self._inputs = inputs_of(self._session, file)
        self._one = any(each.sizes and each.sizes[0] == 1 for each in self._inputs)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        size = 1 if self._one else len(inputs[0])
        parts = [
            [torch.from_numpy(y) for y in self.call(batch)()]
            for batch in zip(*(x.split(size) for x in inputs), strict=True)
        ]
        outputs = [torch.cat(each) for each in zip(*parts, strict=True)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def call(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """One run on these inputs, without arguments."""
        pairs = zip(self._inputs, inputs, strict=True)
        feeds: Feeds = {own.name: x.numpy().astype(own.dtype) for own, x in pairs}
        return lambda: self._session.run(None, feeds)


def write_float(work: Work, file: Path) -> None:
    """The float network as torch writes it, for every size of batch."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        work.model,
        tuple(x[:2] for x in work.inputs),
        file,
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in work.inputs),
        external_data=False,
        verbose=False,
    )


def said(error: BaseException) -> str:
    """The first line of what an error says, with its kind and without folders."""
    lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
    line = re.sub(r"(/[\w.+-]+)+/", "", " ".join(lines[0].split()))
    return f"{type(error).__name__}: {line}"[:_LETTERS]


def _memory_kb(*, reset: bool = False) -> int:
    """The most memory that the process has held, in KiB, since it was reset, as Linux tells it."""
    if reset:
        RESET.write_text("5")
    told = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(told["VmHWM"].split()[0])


if __name__ == "__main__":
    main()
