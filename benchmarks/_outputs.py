"""Outputs of an ONNX file, image by image, with nothing imported that an emulator is slow at.

    python benchmarks/_outputs.py FILE.onnx IMAGES.npy OUTPUTS.npy [NAME=VALUE ...]

NAME=VALUE: entries of the session's configuration.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main(file: str, images: str, outputs: str, *settings: str) -> None:
    """Run the file on one thread; the outputs appear whole."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for setting in settings:
        options.add_session_config_entry(*setting.split("="))
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    given = np.load(images, mmap_mode="r")
    found = [session.run(None, {name: given[k : k + 1]})[0] for k in range(len(given))]
    partial = Path(outputs).with_suffix(".partial.npy")
    np.save(partial, np.concatenate(found))
    partial.replace(outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
