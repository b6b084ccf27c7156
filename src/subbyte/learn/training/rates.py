"""How the learning rate goes over a run: a factor on `lr`, as a function of the share of the run
that is over.

    constant   1
    cosine     (1 + cos(pi p)) / 2                                              (Loshchilov, Hutter
                                                                                2017, eq. 5)
    restarts   0.1 + 0.9 (1 + cos(pi q)) / 2, q from 0 to 1 in cycles of 10, 20, 40, ... epochs
               (the same)
    step       1, 0.1 from half of the run, 0.01 from three quarters            (He et al. 2016,
                                                                                section 4.2)
    quarters   0.618^(0, 2, 4, 6) in the quarters of the run
    linear     1 - p
    exp        0.95^epoch
    cyclic     0.1 up to 1 and down again in every 4 epochs                      (Smith 2017,
                                                                                 triangular)

p: share of the run from 0 to 1, epoch: the same in epochs, both with fractions. A warm-up
multiplies this by a line from 0 to 1 over its epochs.
"""

from collections.abc import Callable
from math import cos, pi

_FLOOR = 0.1  # of the learning rate, where a cycle does not end at 0
_FIRST = 10.0  # epochs of the first cosine cycle; each is twice as long as the one before
_CYCLE = 4.0  # epochs of a triangle


def _restarts(epoch: float, _: float) -> float:
    length = _FIRST
    while epoch >= length:
        epoch, length = epoch - length, 2 * length
    return _FLOOR + (1 - _FLOOR) * (1 + cos(pi * epoch / length)) / 2


def _cyclic(epoch: float, _: float) -> float:
    place = (epoch % _CYCLE) / _CYCLE
    return _FLOOR + (1 - _FLOOR) * (1 - abs(2 * place - 1))


RATES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda epoch, epochs: 1.0,
    "cosine": lambda epoch, epochs: (1 + cos(pi * epoch / epochs)) / 2,
    "restarts": _restarts,
    "step": lambda epoch, epochs: (
        1.0 if 2 * epoch < epochs else 0.1 if 4 * epoch < 3 * epochs else 0.01
    ),
    "quarters": lambda epoch, epochs: 0.618 ** (2 * min(3, int(4 * epoch / epochs))),
    "linear": lambda epoch, epochs: 1 - epoch / epochs,
    "exp": lambda epoch, epochs: 0.95**epoch,
    "cyclic": _cyclic,
}


def factor(name: str, epoch: float, epochs: float, warmup: float) -> float:
    """The factor on the learning rate when `epoch` of `epochs` are over, after a warm-up of so many
    epochs.
    """
    return RATES[name](epoch, epochs) * (min(1.0, epoch / warmup) if warmup else 1.0)
