"""subbyte with its presets."""

from pathlib import Path

import subbyte
from benchmarks.peers.contract import Job, Made

NOTE = "the preset of the width (`w4a8`, `ternary` ...), all else by default"


def quantize(job: Job) -> Made:
    """The walk of a preset, and the file that the exporter chooses."""
    inputs = subbyte.Inputs(*job.inputs)
    ends = ["first_last=8"] if job.ends8 else []
    # user code
    recipe = subbyte.load_recipe(job.width.name.lower(), ends)
    quantized = subbyte.quantize(job.model, inputs, recipe)
    # end of user code

    def write() -> list[Path]:
        file = job.folder / "network.onnx"
        # user code
        subbyte.export(quantized, file, inputs)
        # end of user code
        return [file]

    return Made(quantized, write)
