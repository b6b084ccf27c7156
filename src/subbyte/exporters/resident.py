"""A script that loads one ONNX file in ONNX Runtime, runs it once and prints what that took, as
JSON: seconds, and bytes of resident memory.

    python resident.py FILE INPUTS.npz THREADS

It is for a process of its own: a file that was loaded before leaves memory behind, and so it
imports nothing of this package, whose libraries would be in memory, too.
"""

import json
import sys
import time
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    """The script; see above."""
    sys.path.pop(0)  # this folder, whose modules have the names of libraries
    import numpy as np
    import onnxruntime

    file, inputs, threads = sys.argv[1:]
    feeds = dict(np.load(inputs))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 3
    before = _bytes("VmRSS")
    RESET.write_bytes(b"5")  # the peak counts from here on
    wall, own = time.perf_counter(), time.process_time()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    load, load_cpu = time.perf_counter() - wall, time.process_time() - own
    loaded = _bytes("VmRSS") - before
    session.run(None, feeds)
    found = {
        "load": load,
        "load_cpu": load_cpu,
        "loaded": loaded,
        "peak": _bytes("VmHWM") - before,
    }
    sys.stdout.write(json.dumps(found))


def _bytes(name: str) -> int:
    """An entry of Linux' table of a process, in bytes."""
    for line in STATUS.read_bytes().decode().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
