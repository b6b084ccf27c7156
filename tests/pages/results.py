"""Folders as `subbyte quantize` writes them, made by hand in no time; hardly a number comes
twice.
"""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from subbyte.analyses.sweeps import sweep
from subbyte.analyses.sweeps.space import Run
from subbyte.core import GridSpec, PerChannel, QTensor, Uniform
from subbyte.engine.evidence import Named, distribution, predictions
from subbyte.ranges import Mse, fit_grid
from subbyte.records import Evidence
from subbyte.records.outcome import Failed, Outcome
from subbyte.rounding import ROUNDINGS
from tests.analyses.sweeps.place import Fake, lay_out, metrics, space_of

CLASSES = ("cat", "dog & <i>", "cow")
LAYERS = ("stem", "block.<b>1</b>", "fc")


def measured(top1: float, top5: float | None = None, agreement: float | None = None) -> Any:
    """Figures of 200 images by classification, as they are written."""
    error = (top1 * (100 - top1) / 200) ** 0.5
    scores = [{"name": "top-1", "unit": "%", "value": top1, "error": error}]
    if top5 is not None:
        scores.append({"name": "top-5", "unit": "%", "value": top5})
    alike = [{"name": "agreement", "unit": "%", "value": agreement}]
    return {"scores": scores, "comparison": [] if agreement is None else alike}


def effect(name: str, bits: int, error: float | None, more: int = 0, feeds: Any = ()) -> Any:
    """What a layer, or a quantizer that feeds some, costs by itself."""
    kind = "activation" if feeds else "weight"
    found = {"name": name, "kind": kind, "feeds": list(feeds), "bits": str(bits), "width": bits}
    return found | {"error": error, "more_bytes": more, "images": 40}


RESULT: dict[str, Any] = {
    "version": 4,
    "model": "net",
    "data": "digits",
    "recipe": "w4a4",
    "task": "classification",
    "heads": ["output"],
    "seed": 3,
    "calibration": 40,
    "images": 200,
    "float": measured(91.73, 99.5),
    "quantized": measured(90.81, 99.25, 95.87),
    "exports": [
        {
            "name": "onnx-int8",
            "file": "model.onnx",
            "bytes": 318248,
            "holds": 300000,
            "opset": 21,
            "usage": "run it",
            **measured(90.79, None, 100.0),
            "parity": {
                "samples": 40,
                "rounding": 2.0**-20,
                "outputs": [
                    {
                        "name": "output",
                        "scale": 3.5,
                        "largest": 0.0123,
                        "steps": 1.0,
                        "mean": 0.00045,
                        "noise": 0.0012,
                        "rows": 40,
                        "ties": 3,
                        "ratio": 0.33,
                        "classes": 99.5,
                    }
                ],
            },
        }
    ],
    "bits_per_weight": 4.104,
    "zeros_percent": 12.34,
    "bytes": {"float": 1076136, "packed": 140794, "file": 144794},
    "options": [],
    "seconds": {"capture": 1.5, "walk": 12.25, "evaluate": 60.0},
    "fold_error": 1e-6,
    "effects": [
        effect(LAYERS[0], 4, 0.0025, 55),
        effect(LAYERS[1], 4, None, 77),
        effect(LAYERS[2], 8, 0.0005, 0),
        effect("stem:out", 4, 0.04, feeds=[LAYERS[1]]),
    ],
    "layers": [
        {
            "name": LAYERS[0],
            "asked": "4",
            "bits": "4",
            "reason": "",
            "bytes": 1234,
            "sqnr_db": 30.5,
            "zeros": 1.9,
            "exports": {"onnx-int8": "4 bits in INT8"},
        },
        {
            "name": LAYERS[1],
            "asked": "4",
            "bits": "4",
            "reason": "because <script>",
            "bytes": 2345,
            "sqnr_db": 18.25,
            "zeros": 14.4,
        },
        {
            "name": LAYERS[2],
            "asked": "4",
            "bits": "4",
            "reason": "",
            "bytes": 345,
            "sqnr_db": None,
            "zeros": 3.3,
        },
    ],
    "activations": [
        {
            "name": "input",
            "asked": "8",
            "bits": "8",
            "reason": "",
            "bytes": 5,
            "sqnr_db": 56.5,
            "zeros": None,
        },
        {
            "name": "stem:out",
            "asked": "4",
            "bits": "4",
            "reason": "",
            "bytes": 5,
            "sqnr_db": 17.75,
            "zeros": None,
        },
    ],
    "skipped": [{"name": "norm", "reason": "layer_norm: it stays float"}],
    "settings": {
        "name": "w4a4",
        "weights": {"bits": 4, "rounding": {"name": "gptq", "damping": 0.02}},
        "activations": {"bits": 4},
        "budget": None,
        "layers": {},
    },
    "about": {"weights": "net.th", "normalize": "", "fingerprint": "ab12cd"},
    "versions": {"subbyte": "0.1.0", "torch": "2.13", "machine": "x86_64"},
}
OPTIONS = [
    {
        "layer": name,
        "width": width,
        "bytes": 10 * size,
        "bops": 1.0,
        "divergence": cost,
        "chosen": chosen,
    }
    for name, size in zip(LAYERS, (1, 2, 3), strict=True)
    for width, cost, chosen in (("ternary", 0.0123, False), ("4", 0.00045, True), ("8", 0.0, False))
]


def evidence() -> Evidence:
    """Three layers on 4 bits, a scale a channel; two activations; 200 images, some change."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(4, 60, generator=generator) for _ in LAYERS]
    spec = GridSpec(Uniform(4, symmetric=False), PerChannel())
    layers = {}
    for name, weight in zip(LAYERS, weights, strict=True):
        grid = fit_grid(Mse(), weight, spec)
        layers[name] = distribution(weight, grid, QTensor.nearest(weight, grid))
    values = torch.rand(1, 500, generator=generator) ** 3 - 0.2
    activations = {}
    for name, bits in (("input", 8), ("stem:out", 4)):
        activations[name] = distribution(
            values, fit_grid(Mse(), values, GridSpec(Uniform(bits, signed=False, symmetric=False)))
        )
    logits = torch.randn(200, 3, generator=generator)
    other = torch.where(torch.rand(200, 1, generator=generator) < 0.3, logits.flip(1), logits)
    pixels = torch.rand(200, 3, 8, 8, generator=generator)
    named = Named(logits, other, torch.arange(200) % 3, CLASSES, lambda k: pixels[k])
    return Evidence(
        images=40,
        layers=layers,
        activations=activations,
        predictions=predictions(named, pixels),
    )


EVIDENCE = evidence()


def make_result(folder: Path, *, figures: bool = True, plan: bool = True, **changes: Any) -> Path:
    """Write a result; changes: of keys of RESULT."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(copy.deepcopy(RESULT) | changes))
    if figures:
        (folder / "figures.json").write_text(EVIDENCE.model_dump_json(exclude_defaults=True))
    if plan:
        (folder / "plan.yaml").write_text(
            "recipe: w4a4\nlayers:\n- name: </pre><script>alert(1)</script>\n"
        )
    return folder


def make_scan(folder: Path) -> Path:
    """A clip search of 3 bits with the true loss."""
    folder.mkdir(parents=True)
    rows = [(0.1 * k, (k - 5) ** 2 + 0.5, (k - 6) ** 2, 0.2 * k, 50 + k) for k in range(1, 11)]
    text = "".join(
        f"3,{clip:.1f},{proxy},{loss},{kl},{top}\n" for clip, proxy, loss, kl, top in rows
    )
    (folder / "scan.csv").write_text("bits,clip,mse:2,loss,divergence,accuracy\n" + text)
    (folder / "choices.csv").write_text(
        "bits,granularity,metric,lower,upper,loss,divergence,accuracy,test\n"
        "3,network,minmax,1,1,4,1,60,61.25\n3,network,mse:2,0.5,0.5,1,0.5,70,72.5\n"
    )
    (folder / "settings.json").write_text(json.dumps({"model": "net", "bits": [3]}))
    return folder


def swept_top1(rounding: str, bits: float, seed: int) -> float:
    """Accuracy of a made-up run: bits 3 nearly as good as bits 8, seeds 0.1 apart, rounding
    'nearest' far below.
    """
    at = {1: 60.0, 2: 85.0, 3: 91.0}.get(int(bits), 91.4)
    return at - (20.0 / bits if rounding == "nearest" else 0.0) + 0.1 * (seed - 1)


def make_sweep(
    folder: Path,
    *,
    fails: Callable[[Run], bool] = lambda _: False,
    seeds: Sequence[int] = (0, 1, 2),
    top1: Callable[[Run], float] | None = None,
    **changes: Any,
) -> Path:
    """A sweep over rounding and bits, of runs that were never done; changes: of the space."""

    def outcome(run: Run) -> Outcome:
        if fails(run):
            return Failed(error="out of <luck>")
        weights = run.recipe.weights
        bits = 1.58 if weights.bits == "ternary" else float(weights.bits)  # type: ignore[arg-type]
        return metrics(
            top1(run) if top1 else swept_top1(ROUNDINGS.name(weights.rounding), bits, run.seed),
            original_top1_percent=91.5,
            packed_bytes=round(1000 * bits),
            images=2000,
            quantized_sparsity_percent=40 / bits,
        )

    grid = {"weights.rounding": ["gpfq", "nearest"], "weights.bits": [2, 3, 8]}
    inputs = lay_out(_made(folder.with_name(f".{folder.name}-inputs")))
    space = space_of(
        inputs, **({"name": folder.name, "grid": grid, "seeds": list(seeds)} | changes)
    )
    sweep(space, folder, Fake(outcome))
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
