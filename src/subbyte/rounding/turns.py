"""Columns visited one after the other, where each visit changes what later ones see: the kernel of
greedy roundings.

    for t = 1..d:   m_t = visit(t);   a_k <- a_k - F_tk m_t   for all k > t

Halves at a time: the first half's moves reach the second one as one product, and within a half the
same again, so that all but the innermost few columns are matrix products. A column is one piece of
memory: values are [columns, groups, rows] here. Cost: rows d^2.
"""

from collections.abc import Callable

from torch import Tensor

_FEW = 16  # columns that reach each other one by one


def column_major(values: Tensor) -> Tensor:
    """[groups, rows, columns] as [columns, groups, rows], each column in one piece."""
    return values.permute(2, 0, 1).contiguous()


def row_major(values: Tensor) -> Tensor:
    """Inverse of `column_major`."""
    return values.permute(1, 2, 0).contiguous()


def subtract_product(values: Tensor, factor: Tensor, moved: Tensor) -> None:
    """values_k -= sum_t F_tk m_t, in place, for values [k, groups, rows], factor [groups, t, k] and
    moved [t, groups, rows].
    """
    values.transpose(0, 1).baddbmm_(factor.mT, moved.transpose(0, 1), alpha=-1)


def in_turn(
    visit: Callable[[int], None], ahead: Tensor, moves: list[tuple[Tensor, Tensor]]
) -> None:
    """Visit all columns of `ahead`, [columns, groups, rows], which is changed in place.

    visit: called with a column's number when all before it have reached it; writes what it moves to
        `moved[t]` of each pair in `moves`, which are (moved, factor): [columns, groups, rows] and
        [groups, columns, columns].
    """
    # for one column the others' factors, ready to spread over rows
    spread = [
        (moved, factor, moved.unbind(), factor.permute(1, 2, 0)[..., None].unbind())
        for moved, factor in moves
    ]

    def go(start: int, end: int) -> None:
        if end - start > _FEW:
            middle = (start + end) // 2
            go(start, middle)
            for moved, factor, *_ in spread:
                part = factor[:, start:middle, middle:end]
                subtract_product(ahead[middle:end], part, moved[start:middle])
            go(middle, end)
            return
        for t in range(start, end):
            visit(t)
            if t + 1 < end:
                rest = ahead[t + 1 : end]
                for _, _, each, factors in spread:
                    rest.addcmul_(factors[t][t + 1 : end], each[t], value=-1)

    go(0, len(ahead))
