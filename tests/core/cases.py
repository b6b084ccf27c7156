"""Every alphabet on every share, with numbers of many sizes."""

import torch
from torch import Tensor

from subbyte.core import (
    TERNARY,
    Codebook,
    Counts,
    Grid,
    GridSpec,
    Levels,
    PerChannel,
    PerGroup,
    PerTensor,
    Uniform,
    Widths,
)
from subbyte.core.alphabet import Alphabet
from subbyte.core.shares import Share

ROWS, COLUMNS = 7, 13
WIDTHS = (0, 1, 3, 8, 4, 0, 3)
ALPHABETS: dict[str, Alphabet] = {
    **{f"int{b}": Uniform(b) for b in (2, 4, 8)},
    **{f"uint{b}": Uniform(b, signed=False) for b in (1, 3, 8)},
    "asymmetric int4": Uniform(4, symmetric=False),
    "asymmetric uint2": Uniform(2, signed=False, symmetric=False),
    "narrow3": Uniform(3, narrow=True, symmetric=False),
    "ternary": TERNARY,
    **{f"wide{b}": Uniform(b, wide=True) for b in (1, 3, 8)},
    "levels2": Levels((-1, 1)),
    "levels7": Levels((-4, -2, -1, 0, 1, 2, 4)),
    "levels12": Levels(k * k / 7 - 3 for k in range(12)),
    "codebook2": Codebook(2),
    "codebook11": Codebook(11),
    "codebook259": Codebook(259),
    "widths": Widths(mean=2.7, symmetric=False),
    "unsigned widths": Widths(mean=2.7, signed=False),
    "counts": Counts((3, 2, 127, 5, 4, 3, 5)),
}
SHARES: dict[str, Share] = {
    "tensor": PerTensor(),
    "channel": PerChannel(),
    "groups of 5": PerGroup(5),  # the last has 3
    "groups of 1": PerGroup(1),
}
SPECS = {
    f"{name}, {share}": (alphabet, SHARES[share])
    for name, alphabet in ALPHABETS.items()
    for share in SHARES
    if not alphabet.refuses(SHARES[share])
}


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def own_numbers(alphabet: Alphabet, share: Share, rows: int, seed: int) -> Tensor | None:
    """What a grid's rows have of their own: levels at unequal distances, or widths."""
    match alphabet:
        case Codebook():
            steps = random((1 if share.one_scale else rows, alphabet.size), seed).abs() + 0.01
            return steps.cumsum(1) - alphabet.size / 4
        case Widths():
            return torch.tensor(WIDTHS[:rows])[:, None]
    return None


def grid_of(name: str, seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> Grid:
    """A grid for [rows, columns]; scales of many sizes, zero points anywhere in range."""
    alphabet, share = SPECS[name]
    scale = torch.exp(2 * share.sums(random((rows, columns), seed)))
    own = own_numbers(alphabet, share, rows, seed)
    low, high = map(torch.as_tensor, alphabet.zero_ends(alphabet.given if own is None else own))
    spread = torch.rand(scale.shape, generator=torch.Generator().manual_seed(seed + 1))
    zero_point = (low + spread * (high + 1 - low)).floor().clamp(low, high)
    return Grid.of(GridSpec(alphabet, share), scale, zero_point, own)
