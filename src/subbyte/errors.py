"""Errors that users see. Each message says what is wrong, where, and what to do.

SubbyteError                 base: anything a user can cause (also a ValueError)
├── DataError                a data folder, file or image that does not fit
├── ModelError               a network or its weights that do not fit
│   └── CaptureError         torch.export cannot turn the network into a graph
├── ContractError            a method, such as a class of a user's file, that breaks its contract
├── RecipeError              an unknown setting, a value out of range, a pattern that matches
                             nothing
├── NumericsError            NaN or Inf in weights or activations
├── ResourceError            the machine has too little memory for what was asked
├── FormatError              a file that is not what its reader expects
├── ParityError              an exported file that does not compute what the torch model computes
└── ProcessError             another process of the same work that has failed
"""


class SubbyteError(ValueError):
    """Base of all errors that subbyte raises on bad input."""


class DataError(SubbyteError):
    """A data folder, file or image that does not fit."""


class ModelError(SubbyteError):
    """A network or its weights that do not fit."""


class CaptureError(ModelError):
    """`torch.export` cannot turn the network into a graph."""


class ContractError(SubbyteError):
    """A method that does not do what its kind promises."""


class RecipeError(SubbyteError):
    """An unknown setting, a value out of range, or a pattern that matches nothing."""


class NumericsError(SubbyteError):
    """NaN or Inf in weights or activations."""


class ResourceError(SubbyteError):
    """The machine has too little memory for what was asked."""


class FormatError(SubbyteError):
    """A file that is damaged, of another version, or made for another network."""


class ParityError(SubbyteError):
    """An exported file that does not compute what the torch model computes."""


class ProcessError(SubbyteError):
    """Another process that does a share of the same work has failed."""
