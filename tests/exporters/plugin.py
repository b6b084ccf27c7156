"""An exporter that is no part of the package: weights alone, as arrays of NumPy."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError
from subbyte.graph import Samples
from subbyte.io.files import written
from subbyte.methods import Contents, Exported, Exporter, Form, Refusal, Runner, Stored
from subbyte.recipe import Plan
from subbyte.records import OutputParity, Parity
from subbyte.records.parity import FLOAT32


@dataclass(frozen=True)
class Arrays(Exporter[QuantizedModel, Plan]):
    """Weights alone."""

    name, runtime, suffixes = "arrays", "NumPy", (".npy-zip",)
    refuses = (Refusal(lambda self, plan: bool(plan.taps), "arrays hold weights alone"),)

    def export(self, model: QuantizedModel, path: Path, inputs: Samples, form: Form) -> Exported:
        with written(path) as temporary, temporary.open("wb") as file:
            weights = {name: q.dequantize().numpy() for name, q in model.weights.items()}
            np.savez(file, recipe=np.array(model.plan.recipe), **weights)
        same = OutputParity(
            name="output", scale=1.0, largest=0.0, mean=0.0, noise=0.0, rows=1, ties=0, ratio=0.0
        )
        proof = Parity(samples=len(inputs), rounding=FLOAT32, outputs=(same,))
        return Exported(self.name, path, path.stat().st_size, proof)

    def runner(self, path: Path) -> Runner:
        return lambda x: torch.zeros(len(x), 4)

    def contents(self, path: Path) -> Contents:
        try:
            with np.load(path) as arrays:
                held = {name: arrays[name] for name in arrays.files if name != "recipe"}
                about = {"recipe": str(arrays["recipe"])}
        except (BadZipFile, ValueError, OSError, KeyError) as error:
            raise FormatError(f"{path}: no arrays ({error})") from error
        tensors = [Stored(n, str(a.dtype), a.shape, a.nbytes) for n, a in held.items()]
        return Contents("zip", tensors, about=about)
