"""A small vision transformer for CIFAR-10, trained and quantized by the command line.

    subbyte train --model examples/vit.py:vit --data cifar10:PATH --optimizer adamw --lr 0.002 \
        --weight-decay 0.05 --warmup 2 --epochs 14 --augment shift-flip --evaluate-every 2 \
        --out runs/vit
    subbyte quantize --model examples/vit.py:vit --weights runs/vit/model.safetensors \
        --data cifar10:PATH --calibration 500 --recipe w4a8 --out runs/vit-w4a8

Two strided convolutions make the 64 tokens: a stem that small data sets need (Xiao et al. 2021).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, DEPTH = 96, 4, 4


class Block(nn.Module):
    """Attention and two dense layers, each on normalised tokens and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, width] -> the same."""
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*heads.unbind(0))
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Class scores of images of 32 x 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH // 2),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 2, WIDTH, 3, stride=2, padding=1),
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, 64, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, 32, 32] -> [n, 10]."""
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def vit() -> nn.Module:
    """For --model."""
    return ViT()
