"""Second moments: all that a rounding method may know of a layer's inputs.

With X the patches in the float network and X_q those in the network quantized so far (m rows each),

    H = X_q' X_q / m      G = X_q' X / m      F = X' X / m      mean = 1'X / m      mean_q = 1'X_q /
                                                                m

and for a row w of the layer and its rounding q the mean square output error is  w'Fw - 2 q'Gw +
                                                                                 q'Hq.
Rows may have weights, other ones for each of k runs of output channels:  H_k = sum_p a_k,p x_p x_p'
/ sum_p a_k,p  and so on. With the squared output gradients as weights this is GuidedQuant's Hessian
(Kim et al. 2025, section 3.2).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from subbyte.errors import ContractError


@dataclass(frozen=True, eq=False)
class Judge:
    """Gives the error of each row for a rounding.

    power: the error of rounding everything to 0, which says how large errors are.
    """

    power: Tensor
    error: Callable[[Tensor], Tensor]

    def __call__(self, rounded: Tensor) -> Tensor:
        """The errors of each row of a rounding."""
        return self.error(rounded)


class SecondMoments(ABC):
    """Second moments of a layer's inputs: of all pairs of columns, or of each column alone."""

    H: Tensor
    G: Tensor
    F: Tensor

    @property
    @abstractmethod
    def finite(self) -> bool:
        """Whether they hold neither NaN nor Inf."""

    @abstractmethod
    def judge(self, w: Tensor) -> Judge:
        """The mean square output error of weights [groups, rows, columns] rounded to what it is
        called with, of that shape: [groups, rows].
        """

    @property
    @abstractmethod
    def power(self) -> Tensor:
        """Mean squares of the quantized network's columns: float64 [groups, columns]."""

    @abstractmethod
    def of_float(self) -> "SecondMoments":
        """The moments as if the quantized network's inputs were the float network's."""

    @abstractmethod
    def of_quantized(self) -> "SecondMoments":
        """The moments as if the float network's inputs were the quantized network's."""


@dataclass(frozen=True, eq=False)
class Products(SecondMoments):
    """H, G, F: float64 [groups, columns, columns]."""

    H: Tensor
    G: Tensor
    F: Tensor

    @property
    def finite(self) -> bool:
        """See `SecondMoments`."""
        return bool(torch.isfinite(self.H).all() & torch.isfinite(self.F).all())

    @property
    def power(self) -> Tensor:
        """See `SecondMoments`."""
        return self.H.diagonal(dim1=-2, dim2=-1)

    def judge(self, w: Tensor) -> Judge:
        """See `SecondMoments`: w'Fw - 2 q'Gw + q'Hq, of which w's products are taken once."""
        power, twice = ((w @ self.F) * w).sum(-1), 2 * (w @ self.G.mT)
        return Judge(power, lambda q: power + ((q @ self.H).sub_(twice) * q).sum(-1))

    def of_float(self) -> "Products":
        """See `SecondMoments`."""
        return Products(self.F, self.F, self.F)

    def of_quantized(self) -> "Products":
        """See `SecondMoments`."""
        return Products(self.H, self.H, self.H)


@dataclass(frozen=True, eq=False)
class Powers(SecondMoments):
    """Mean squares of the columns alone, for methods that read no more: the matrices of a layer
    with 25,000 inputs take 5 GB each.

    quantized, float: the two networks', float64 [groups, columns].
    """

    quantized: Tensor
    float: Tensor

    @property
    def finite(self) -> bool:
        """See `SecondMoments`."""
        return bool(torch.isfinite(self.quantized).all() & torch.isfinite(self.float).all())

    @property
    def power(self) -> Tensor:
        """See `SecondMoments`."""
        return self.quantized

    def judge(self, w: Tensor) -> Judge:
        """See `SecondMoments`: that of inputs that are the same in both networks, and
        independent.
        """
        power = self.quantized[:, None]
        return Judge((w.square() * power).sum(-1), lambda q: ((w - q).square() * power).sum(-1))

    def of_float(self) -> "Powers":
        """See `SecondMoments`."""
        return Powers(self.float, self.float)

    def of_quantized(self) -> "Powers":
        """See `SecondMoments`."""
        return Powers(self.quantized, self.quantized)

    @property
    def H(self) -> Tensor:  # type: ignore[override]
        """Nothing: raises ContractError, as G and F do."""
        raise ContractError(
            "second moments of pairs of inputs were not collected, because none of the layer's "
            "methods says that it reads them; declare an objective that does, or "
            "reads_products = True"
        )

    G = F = H


@dataclass(frozen=True, eq=False)
class LayerStats:
    """Means over all rows that a layer saw; float64, columns in the order of `Geometry.to_matrix`.

    Groups are those of the layer or, with weighted rows, parts of them; each has as many output
    channels, in order.
    moments: `Products` unless no method of the layer reads them; mean, mean_q: [groups, columns];
    rows: number of rows m; independent: of overlapping patches only as many as hold each input
    once.
    """

    moments: SecondMoments
    mean: Tensor
    mean_q: Tensor
    rows: int
    independent: int

    @classmethod
    def alike(cls, columns: int, device: str) -> "LayerStats":
        """Statistics by which every column counts alike: those of inputs with mean 0 and variance
        1.
        """
        ones = torch.ones(1, columns, dtype=torch.float64, device=device)
        mean = torch.zeros_like(ones)
        return cls(Powers(ones, ones), mean, mean, 1, 1)

    @property
    def H(self) -> Tensor:
        """Second moments of the quantized network: float64 [groups, columns, columns]."""
        return self.moments.H

    @property
    def G(self) -> Tensor:
        """Products of the two networks: float64 [groups, columns, columns]."""
        return self.moments.G

    @property
    def F(self) -> Tensor:
        """Second moments of the float network: float64 [groups, columns, columns]."""
        return self.moments.F

    @property
    def power(self) -> Tensor:
        """The diagonal of H, mean squares of columns: float64 [groups, columns]."""
        return self.moments.power

    def grouped(self, matrix: Tensor) -> Tensor:
        """View of [rows, columns] as [groups, rows / groups, columns], in float64."""
        return matrix.to(torch.float64).reshape(len(self.mean), -1, self.mean.shape[-1])

    def output_error(self, weight: Tensor, rounded: Tensor) -> Tensor:
        """Mean square error of each output channel: float64 [rows].

        weight, rounded: [rows, columns].
        """
        return self.judge(weight)(rounded)

    def judge(self, weight: Tensor) -> Judge:
        """`output_error` of one weight, for several roundings of it."""
        judge = self.moments.judge(self.grouped(weight))
        return Judge(
            judge.power.reshape(-1).clamp_min(0),
            lambda rounded: judge(self.grouped(rounded)).reshape(-1).clamp_min(0),
        )

    def of_float(self) -> "LayerStats":
        """The statistics as if the quantized network's inputs were the float network's."""
        return replace(self, moments=self.moments.of_float(), mean_q=self.mean)

    def of_quantized(self) -> "LayerStats":
        """The statistics as if the float network's inputs were the quantized network's."""
        return replace(self, moments=self.moments.of_quantized(), mean=self.mean_q)

    @property
    def dead(self) -> Tensor:
        """Columns that are 0 in the quantized network on every row: bool [groups, columns]."""
        return self.power <= 0
