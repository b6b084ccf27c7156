"""Two convolutions and a linear layer for MNIST, as tutorials have it.

    conv 3x3 (32) - relu - max pool 2 - conv 3x3 (64) - relu - max pool 2 - fc(classes)

Convolutions pad by 1, so that 28 x 28 pixels become 14 x 14 and then 7 x 7: 50,186 parameters with
10 classes. The linear layer starts from the uniform distribution of Glorot and Bengio 2010
("Understanding the difficulty of
training deep feedforward neural networks", equation 16), also called Xavier.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.errors import ModelError


class CNN(nn.Module):
    """The network for images [channels, size, size]. classes: number of logits. Raises ModelError
    when it is below 1, or images are below 4 pixels.
    """

    def __init__(self, classes: int = 10, *, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        if classes < 1 or size < 4:
            raise ModelError(
                f"CNN(classes={classes}, size={size}): classes must be at least 1, size 4 pixels"
            )
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc = nn.Linear(64 * (size // 4) ** 2, classes)
        nn.init.xavier_uniform_(self.fc.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, size, size] -> logits [b, classes]."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits
