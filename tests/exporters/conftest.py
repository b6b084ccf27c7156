import torch

from tests.networks import one_registry  # noqa: F401 - a fixture for all

torch.set_num_threads(1)
