"""Speed as ratios, each pair measured in one run, interleaved.

    python benchmarks/speed.py

1. The walk does not re-run the network per layer: time on resnet56 over time on resnet20 (2.8 times
the layers).
2. The exported int8 file against the float file, in ONNX Runtime on one thread.
Random weights and images: times do not depend on their values.
"""

import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from _turns import interleaved

from subbyte import export, quantize
from subbyte.engine.walk import walk
from subbyte.graph import prepare
from subbyte.models import MODELS
from subbyte.recipe import load_recipe, make_plan

IMAGES = 100


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[name].build().eval()


def walks() -> None:
    images = torch.randn(IMAGES, 3, 32, 32)
    runs = {}
    for name in ("resnet20", "resnet56"):
        prepared = prepare(network(name), images[:2])
        plan = make_plan(prepared, load_recipe("w4"))
        runs[name] = lambda prepared=prepared, plan=plan: walk(prepared, plan, images)
    seconds = interleaved(runs, 2)
    ratio = seconds["resnet56"] / seconds["resnet20"]
    print(
        f"walk, W4, {IMAGES} images: resnet56 / resnet20 = {ratio:.2f} (55 / 19 convolutions = 2.9)"
    )
    print(f"  CPU seconds: {', '.join(f'{name} {value:.1f}' for name, value in seconds.items())}")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inference() -> None:
    model, images = network("resnet20"), torch.randn(64, 3, 32, 32)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = {
            "float": Path(folder) / "float.onnx",
            "w8a8": Path(folder) / "w8a8.onnx",
            "w4a8": Path(folder) / "w4a8.onnx",
        }
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(
            model, (images[:2],), files["float"], dynamo=True, dynamic_shapes=shapes, verbose=False
        )
        for recipe in ("w8a8", "w4a8"):
            export(quantize(model, images, recipe), files[recipe], images)
        for batch in (1, 64):
            feed = images[:batch].numpy()
            sessions = {name: session(path) for name, path in files.items()}
            loops = 400 // batch + 10
            runs = {
                name: lambda s=s, loops=loops, feed=feed: [
                    s.run(None, {s.get_inputs()[0].name: feed}) for _ in range(loops)
                ]
                for name, s in sessions.items()
            }
            seconds = interleaved(runs, 5)
            shown = ", ".join(
                f"{name} {seconds['float'] / value:.2f}x" for name, value in seconds.items()
            )
            print(f"ONNX Runtime, 1 thread, batch {batch}: speed against float: {shown}")


if __name__ == "__main__":
    walks()
    inference()
