"""Distillation of the whole network: the quantized one learns what the float one says of strongly
changed calibration images (Hinton, Vinyals, Dean 2015).

    min  T^2 KL(softmax(z / T) || softmax(z_q / T))

z, z_q: logits of the float and of the quantized network on the same views; T: the temperature.
Outputs that are no logits: the square of the difference, in units of the float output's variance.
Labels are not used. Latent weights, scales, ranges and biases learn by Adam at rates of their own,
which rise over the first steps and fall as a cosine does.
"""

from dataclasses import dataclass, replace
from math import cos, pi
from typing import Annotated, Literal

import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.io.numbers import Count, Natural, NotNegative, Positive, Real, Seed, Share, Whole
from subbyte.methods import Course, Estimator, Learned, TuneNetwork
from subbyte.tuning.estimators import ESTIMATORS
from subbyte.tuning.views import coloured, mixed, parts

_WARM_UP = 0.03  # of the course


@dataclass(frozen=True)
class Distill(TuneNetwork):
    """steps: updates; seconds: to reckon them from, where above 0; batch: views a step;
    temperature: T; latent, scale, range, bias, floats: Adam's largest step of each kind of
    parameter, 0: they stay; zoom, turn, colour, mix: how strongly images are changed (`views`);
    estimator: of weights on the way; precision: of the forward pass, auto: bfloat16 where the
    processor multiplies matrices in it (AMX) or there is a GPU that does; threads:
    to learn with, 0: as many as there are; held: share of the samples that are kept apart to judge
    by; seed: of all that is random.
    """

    steps: Count = 2000
    seconds: NotNegative = 0.0
    batch: Annotated[int, Whole(2)] = 128
    temperature: Positive = 4.0
    latent: NotNegative = 1e-3
    scale: NotNegative = 1e-3
    range: NotNegative = 1e-3
    bias: NotNegative = 3e-4
    floats: NotNegative = 0.0
    zoom: Annotated[float, Real(0, 1, above=True)] = 0.25
    turn: NotNegative = 20.0
    colour: NotNegative = 0.3
    mix: Share = 0.5
    estimator: Literal["straight", "annealed", "nested"] = "straight"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    held: Annotated[float, Real(0, 1, above=True, below=True)] = 0.1
    threads: Natural = 0
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any((self.latent, self.scale, self.range, self.bias, self.floats)):
            raise RecipeError(f"distill: a rate above 0 is needed, got {self}")

    @property
    def course(self) -> Course:
        """See `TuneNetwork`."""
        return Course(
            steps=self.steps,
            batch=self.batch,
            temperature=self.temperature,
            held=self.held,
            seed=self.seed,
            mixed=self.precision == "bfloat16" or (self.precision == "auto" and fast_bfloat16()),
            seconds=self.seconds,
        )

    @property
    def learns_with(self) -> int:
        """See `methods.Tune`."""
        return self.threads

    def with_threads(self, threads: int) -> "Distill":
        """See `methods.Tune`."""
        return replace(self, threads=threads)

    def with_steps(self, steps: int) -> "Distill":
        """See `TuneNetwork`."""
        return replace(self, steps=steps, seconds=0.0)

    @property
    def weights(self) -> Estimator:
        """See `TuneNetwork`."""
        return ESTIMATORS[self.estimator]()

    def rate(self, kind: Learned, progress: float) -> float:
        """See `TuneNetwork`."""
        highest = {
            Learned.LATENT: self.latent,
            Learned.SCALE: self.scale,
            Learned.RANGE: self.range,
            Learned.BIAS: self.bias,
            Learned.FLOAT: self.floats,
        }[kind]
        return highest * min(1.0, progress / _WARM_UP) * (1 + cos(pi * progress)) / 2

    def views(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """See `TuneNetwork`."""
        images = parts(images, self.zoom, self.turn, generator)
        return mixed(coloured(images, self.colour, generator), self.mix, generator)


def fast_bfloat16() -> bool:
    """Whether this machine multiplies matrices in bfloat16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
