"""The C++ example of the deployment guide, compiled and run beside the Python one.

The headers of ONNX Runtime are looked for in $ONNXRUNTIME_INCLUDE and where systems have them; the
library is that of the Python package.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import subbyte
from subbyte.exporters import export

GUIDE = Path(__file__).parent.parent / "docs" / "deployment.md"
HEADER = "onnxruntime_cxx_api.h"
PLACES = [
    os.environ.get("ONNXRUNTIME_INCLUDE", ""),
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
    "/usr/local/include",
    "/usr/include",
]
INCLUDE = next((Path(one) for one in PLACES if one and (Path(one) / HEADER).is_file()), None)
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
LIBRARY = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)


def reason() -> str:
    """Why the example can't be compiled here; "" where it can."""
    if COMPILER is None:
        return "no C++ compiler is installed"
    if LIBRARY is None:
        return "the Python package of ONNX Runtime brings no library here"
    if INCLUDE is None:
        return f"{HEADER} is in none of $ONNXRUNTIME_INCLUDE, /usr/include, /usr/local/include"
    return ""


@pytest.mark.slow
@pytest.mark.skipif(bool(reason()), reason=reason())
def test_the_example_compiles_and_computes_what_python_computes(tmp_path: Path) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 10),
    ).eval()
    images = torch.randn(40, 3, 8, 8)
    q = subbyte.quantize(model, images, "w4a8")
    export(q, tmp_path / "net.onnx", images, to="onnx-int8")
    (source,) = re.findall(r"```cpp\n(.*?)```", GUIDE.read_text(), flags=re.S)
    (tmp_path / "main.cpp").write_text(source)
    assert COMPILER is not None and LIBRARY is not None
    own = tmp_path / "libonnxruntime.so.1"  # as programs that are linked with it ask for it
    own.symlink_to(LIBRARY)
    command = [COMPILER, "-std=c++17", f"-I{INCLUDE}", "main.cpp", str(own)]
    subprocess.run([*command, f"-Wl,-rpath,{tmp_path}", "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (wanted,) = session.run(None, {"input": np.zeros((1, 3, 8, 8), np.float32)})
    assert [f"{value:g}" for value in wanted[0].tolist()] == done.stdout.split()
