"""Blocks of published networks in which batch-norms stand otherwise than behind a layer, written
here in a few lines each: name -> (factory, shape of one input, layers that remain, norms left).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.networks import Calls


def conv(inputs: int, outputs: int, size: int, groups: int = 1, **settings: int) -> nn.Sequential:
    """A convolution of "same" padding, and a batch-norm."""
    kernel = nn.Conv2d(
        inputs, outputs, size, padding=size // 2, groups=groups, bias=False, **settings
    )
    return nn.Sequential(kernel, nn.BatchNorm2d(outputs))


def parallel(*branches: nn.Module, **head: nn.Module) -> nn.Module:
    """The sum of branches, after an activation, so that none goes into a layer before; a head
    behind.
    """

    def run(m: Calls, x: Tensor) -> Tensor:
        x = F.gelu(x)
        return F.relu(sum(branch(x) for branch in m.branches))  # begins with the number 0

    return Calls(run, branches=nn.ModuleList(branches))


def fastvit() -> nn.Module:
    """Identity and layer scale around the difference of a mixer and a norm (RepMixer)."""

    def run(m: Calls, x: Tensor) -> Tensor:
        x = F.gelu(x)
        mixed = m.norm(x) + m.one(x) + m.three(x)
        return x + m.gamma * (mixed - m.other(x))

    return Calls(
        run,
        norm=nn.BatchNorm2d(6),
        one=conv(6, 6, 1, 6),
        three=conv(6, 6, 3, 6),
        other=nn.BatchNorm2d(6),
        gamma=nn.Parameter(torch.rand(6, 1, 1)),
    )


def levit() -> nn.Module:
    """Linear layers whose tokens are flattened for the batch-norm, and put apart again."""

    def run(m: Calls, x: Tensor) -> Tensor:
        x = m.stem(x).flatten(2).transpose(1, 2)
        qkv = m.norm(m.qkv(x).flatten(0, 1)).reshape(x.shape[0], x.shape[1], 3, 4)
        q, k, v = qkv.unbind(2)
        y = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        x = x + m.norm2(m.out(F.hardswish(y)).flatten(0, 1)).reshape_as(x)
        return m.head(m.norm3(x.mean(1)))

    return Calls(
        run,
        stem=conv(3, 8, 3),
        qkv=nn.Linear(8, 12, bias=False),
        norm=nn.BatchNorm1d(12),
        out=nn.Linear(4, 8, bias=False),
        norm2=nn.BatchNorm1d(8),
        norm3=nn.BatchNorm1d(8),
        head=nn.Linear(8, 5),
    )


def mixnet() -> nn.Module:
    """Convolutions of several kernels on parts of the channels, put together for one norm."""

    def run(m: Calls, x: Tensor) -> Tensor:
        a, b = m.stem(x).split([4, 4], 1)
        x = F.relu(m.norm(torch.cat([m.three(a), m.five(b)], 1)))
        a, b = x.chunk(2, 1)
        return m.norm2(torch.cat([m.left(a), m.right(b)], 1))

    return Calls(
        run,
        stem=conv(3, 8, 3),
        three=nn.Conv2d(4, 6, 3, padding=1, groups=2),
        five=nn.Conv2d(4, 6, 5, padding=2, bias=False),
        norm=nn.BatchNorm2d(12),
        left=nn.Conv2d(6, 3, 1),
        right=nn.Conv2d(6, 5, 1),
        norm2=nn.BatchNorm2d(8),
    )


def resnet_v2() -> nn.Module:
    """Norm and activation before each convolution; the norms that open blocks stay."""

    def run(m: Calls, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            x = x + block(x)
        return m.head(m.norm(x).mean((2, 3)))

    def block() -> nn.Module:
        first = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        return first.extend([nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)])

    parts = {"stem": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "head": nn.Linear(4, 5)}
    return Calls(run, blocks=nn.ModuleList([block(), block()]), **parts)


def densenet() -> nn.Module:
    """Each layer reads all before it; a transition whose norm meets no activation."""

    def run(m: Calls, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            x = torch.cat([x, block(x)], 1)
        return m.transition(F.avg_pool2d(m.norm(x), 2))

    def block(inputs: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 2, 1))

    parts = {"norm": nn.BatchNorm2d(8), "transition": nn.Conv2d(8, 3, 1)}
    return Calls(run, stem=conv(3, 4, 3), blocks=nn.ModuleList([block(4), block(6)]), **parts)


def ghost() -> nn.Module:
    """A batch-norm of a layer's output beside a depthwise layer that reads the same (RepGhost)."""
    return Calls(
        lambda m, x: F.relu(m.cheap(m.primary(x)) + m.fusion(m.primary(x))),
        primary=conv(3, 6, 1),
        cheap=conv(6, 6, 3, 6),
        fusion=nn.BatchNorm2d(6),
    )


def shared_trunk() -> nn.Module:
    """RepGhost as it is: the layer is called once."""

    def run(m: Calls, x: Tensor) -> Tensor:
        x = m.primary(x)
        return F.relu(m.cheap(x) + m.fusion(x))

    parts = {"cheap": conv(6, 6, 3, 6), "fusion": nn.BatchNorm2d(6)}
    return Calls(run, primary=conv(3, 6, 1), **parts)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str], int]] = {
    "repvgg": (
        lambda: parallel(nn.BatchNorm2d(4), conv(4, 4, 3), conv(4, 4, 1)),
        (4, 7, 6),
        ["branches.1.0"],
        0,
    ),
    "repvgg, groups, stride": (
        lambda: parallel(conv(4, 8, 1, 2, stride=2), conv(4, 8, 3, 2, stride=2)),
        (4, 7, 6),
        ["branches.1.0"],
        0,
    ),
    "mobileone": (
        lambda: parallel(*(conv(6, 6, k, 6) for k in (3, 1, 3, 5)), nn.BatchNorm2d(6)),
        (6, 7, 6),
        ["branches.3.0"],
        0,
    ),
    "asymmetric kernels": (
        lambda: parallel(
            nn.Conv2d(3, 5, (3, 1), padding=(1, 0)),
            nn.Conv2d(3, 5, (1, 3), padding=(0, 1)),
            nn.Conv2d(3, 5, 3, padding="same"),
        ),
        (3, 7, 6),
        ["branches.2"],
        0,
    ),
    "dilated": (
        lambda: parallel(
            nn.Conv2d(4, 4, 5, padding=2),
            nn.Conv2d(4, 4, 3, padding=2, dilation=2),
            nn.Conv2d(4, 4, 3, padding=1, groups=4),
        ),
        (4, 7, 6),
        ["branches.0"],
        0,
    ),
    "linear": (
        lambda: parallel(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False)),
        (4,),
        ["branches.0"],
        0,
    ),
    "transposed": (
        lambda: parallel(*(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2) for _ in range(2))),
        (4, 5, 4),
        ["branches.0"],
        0,
    ),
    "one axis": (
        lambda: parallel(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)),
        (4, 9),
        ["branches.0"],
        0,
    ),
    "unequal strides": (
        lambda: parallel(
            nn.Conv2d(4, 4, 1, stride=2), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 4, 1))
        ),
        (4, 6, 6),
        ["branches.0", "branches.1.1"],
        0,
    ),
    "depthwise and pointwise": (
        lambda: parallel(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)),
        (4, 6, 6),
        ["branches.0", "branches.1"],
        0,
    ),
    "shifted kernels": (
        lambda: parallel(
            nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        ),
        (4, 6, 6),
        ["branches.0", "branches.1"],
        0,
    ),
    "fastvit": (fastvit, (6, 7, 6), ["three.0"], 0),
    "levit": (levit, (3, 6, 6), ["stem.0", "qkv", "out", "head"], 0),
    "mixnet": (mixnet, (3, 7, 6), ["stem.0", "three", "five", "left", "right"], 0),
    "resnet v2": (
        resnet_v2,
        (3, 8, 8),
        ["stem", "blocks.0.2", "blocks.0.5", "blocks.1.2", "blocks.1.5", "head"],
        2,
    ),
    "densenet": (
        densenet,
        (3, 6, 6),
        ["stem.0", "blocks.0.2", "blocks.1.2", "transition"],
        2,
    ),
    "ghost, called twice": (ghost, (3, 6, 6), ["primary.0", "cheap.0", "primary.0#2"], 3),
    "ghost": (shared_trunk, (3, 6, 6), ["primary.0", "cheap.0"], 0),
}
