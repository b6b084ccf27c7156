"""The optimizers that round updates to a lattice, as training names them."""

from dataclasses import asdict, dataclass, fields

from subbyte.io.numbers import Decay, NotNegative, Positive
from subbyte.learn.optimizers.grid import GridSettings
from subbyte.learn.optimizers.lattice import QSGD, Lattice, QtAdamW
from subbyte.methods import ADAM_RATE, Optimizer, Trained, Updates

_LATTICE = {field.name for field in fields(Lattice)}


def _built(cls: type[QSGD] | type[QtAdamW], settings: Lattice, trained: Trained) -> Updates:
    """The optimizer of a class from settings that are those of the lattice and of the direction."""
    said = asdict(settings.for_run(trained.steps))
    lattice = Lattice(**{name: value for name, value in said.items() if name in _LATTICE})
    own = {name: value for name, value in said.items() if name not in _LATTICE}
    return cls(trained.params, trained.lr, **own, lattice=lattice)


@dataclass(frozen=True)
class RoundedSgd(Lattice, Optimizer[GridSettings]):
    """SGD with updates rounded to a lattice that becomes finer."""

    momentum: NotNegative = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return _built(QSGD, self, trained)


@dataclass(frozen=True)
class RoundedAdamW(Lattice, Optimizer[GridSettings]):
    """AdamW with updates rounded to a lattice that becomes finer."""

    rate = ADAM_RATE

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.01

    def build(self, trained: Trained) -> Updates:
        """See `Optimizer`."""
        return _built(QtAdamW, self, trained)
