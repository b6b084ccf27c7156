"""Load time and resident memory of an ONNX file, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from subbyte.errors import ResourceError
from subbyte.exporters import resident
from subbyte.exporters.sessions import Feeds
from subbyte.io.texts import parse_json
from subbyte.io.workplaces import scratch
from subbyte.records.speed import Resident


def resident_memory(path: Path, feeds: Feeds, threads: int) -> Resident | None:
    """Load a file and run it once on `feeds` in a fresh process; None where the system does not
    tell a process's memory as Linux does.

    Raises ResourceError when the process ends badly.
    """
    if not resident.STATUS.exists():
        return None
    with scratch() as folder:
        inputs = folder / "inputs.npz"
        np.savez(inputs, **feeds)  # type: ignore[arg-type]
        command = [sys.executable, str(resident.__file__), str(path.resolve()), str(inputs)]
        done = subprocess.run(
            [*command, str(threads)], capture_output=True, encoding="utf-8", cwd=folder, check=False
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ResourceError(f"{path}: loading it in a process of its own failed: {last[:300]}")
    return Resident(**parse_json(done.stdout, path))
