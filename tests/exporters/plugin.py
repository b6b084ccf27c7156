"""An exporter that is no part of the package: weights alone, as arrays of NumPy."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from subbyte.engine.quantized import QuantizedModel
from subbyte.errors import FormatError
from subbyte.io.files import written
from subbyte.methods import Contents, Exported, Exporter, Parity, Refusal, Runner, Stored
from subbyte.recipe import Plan


@dataclass(frozen=True)
class Arrays(Exporter[QuantizedModel, Plan]):
    """Weights alone."""

    name, runtime, suffixes = "arrays", "NumPy", (".npy-zip",)
    refuses = (Refusal(lambda self, plan: bool(plan.taps), "arrays hold weights alone"),)

    def export(
        self, model: QuantizedModel, path: Path, inputs: Tensor, *, min_agreement: float
    ) -> Exported:
        with written(path) as temporary, temporary.open("wb") as file:
            weights = {name: q.dequantize().numpy() for name, q in model.weights.items()}
            np.savez(file, recipe=np.array(model.plan.recipe), **weights)
        return Exported(self.name, path, path.stat().st_size, Parity(0.0, 0.0, 100.0, len(inputs)))

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
