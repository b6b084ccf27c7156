"""The work that every tool is given: networks, images to calibrate on, how a result is scored."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.awkward import AWKWARD
from benchmarks.peers.cells import PREFIX
from subbyte.data import DataSet, draw_calibration, load_data
from subbyte.engine.evaluation import evaluate
from subbyte.models import load_model

DATA = Path(os.environ.get("SUBBYTE_DATA", Path.home() / ".cache/subbyte/data"))
TOP1, COSINE, SNR = "top-1 %", "mean cosine", "SNR dB"
_ROOT = Path(__file__).parents[2]
_LITE = _ROOT / "examples" / "efficientnet_lite0.py"
_LITE_PIXELS = "0.498039,0.498039,0.498039/0.501961,0.501961,0.501961"
_CIFAR_WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet44": "resnet44-014dd654.th"}
_HELD_OUT = 64  # samples that awkward networks are judged by
_BATCH = 100


@dataclass(frozen=True, eq=False)
class Work:
    """A float network in evaluation mode, the arguments to calibrate on, each [n, ...], the name
    of the score, and the score of anything that is called as the network.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    metric: str
    score: Callable[[Callable[..., Any]], float]


def load_work(name: str, count: int, seed: int) -> Work:
    """The work on a network, with `count` samples drawn by `seed` to calibrate on."""
    if name.startswith(PREFIX):
        return _awkward(name.removeprefix(PREFIX), count, seed)
    if name == "minilm":
        return _minilm(count, seed)
    model, data = _classifier(name)
    images, split = draw_calibration(data, count, seed)
    return Work(model, (images,), TOP1, lambda run: evaluate(run, split, _BATCH).top1)


def _classifier(name: str) -> tuple[nn.Module, DataSet]:
    if name in _CIFAR_WEIGHTS:
        data = load_data(f"cifar10:{DATA / 'cifar-10-batches-py'}", normalize="imagenet")
        return load_model(name, DATA / "weights" / _CIFAR_WEIGHTS[name]), data
    images = f"imagenet:{DATA / 'imagenet-val-1300'}"
    data = load_data(images, normalize=_LITE_PIXELS, resize=256, crop=224)
    return load_model(f"{_LITE}:efficientnet_lite0"), data


def _minilm(count: int, seed: int) -> Work:
    """Sentences made from a grammar; 200 others are embedded, and compared with the float ones."""
    from transformers import AutoTokenizer

    from benchmarks import minilm  # needs packages that the other networks do not

    tokenizer = AutoTokenizer.from_pretrained(minilm._FOLDER)
    sentences = minilm.made(count + 200, seed)
    parts = tokenizer(sentences, padding="max_length", max_length=24, return_tensors="pt")
    ids, mask = parts["input_ids"], parts["attention_mask"]
    model = minilm.Embedder().eval()
    expected = minilm.embedded(model, ids[count:], mask[count:])

    def score(run: Callable[..., Any]) -> float:
        own = minilm.embedded(run, ids[count:], mask[count:])
        return float((own * expected).sum(1).mean())

    return Work(model, (ids[:count], mask[:count]), COSINE, score)


def _awkward(name: str, count: int, seed: int) -> Work:
    torch.manual_seed(seed)
    model, inputs = AWKWARD[name](count + _HELD_OUT)
    own = tuple(x[:count] for x in inputs)
    held_out = tuple(x[count:] for x in inputs)
    return Work(model.eval(), own, SNR, partial(_snr, model, held_out))


@torch.no_grad()
def _snr(model: nn.Module, inputs: tuple[Tensor, ...], run: Callable[..., Any]) -> float:
    """Decibels between the float outputs and their difference from a tool's."""
    copies = [tuple(x.clone() for x in inputs) for _ in range(2)]  # some networks write into them
    expected, own = (flat(call(*x)) for call, x in zip((model, run), copies, strict=True))
    noise = (own - expected).square().sum()
    return float(10 * torch.log10(expected.square().sum() / noise))


def flat(outputs: Any) -> Tensor:
    """All outputs of a call as one vector of double precision."""
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return torch.cat([torch.as_tensor(leaf).detach().double().flatten() for leaf in leaves])
