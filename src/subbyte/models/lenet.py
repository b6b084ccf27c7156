"""LeNet for small grey images (after LeCun, Bottou, Bengio, Haffner 1998, figure 2).

    conv(6) - relu - max pool 2 - conv(16) - relu - max pool 2 - fc(120) - relu - fc(84) - relu -
    fc(classes)

As is usual today, and other than in 1998: ReLU for tanh, max pooling for trainable averaging, a
plain linear output. Images from 32 x 32 on, the paper's size, are not padded; with 28 x 28 the
first convolution pads by 2, which makes them so: 61,706 parameters. Images below 16 x 16 get 3 x 3
convolutions that keep the size, so that the maps do not vanish.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subbyte.errors import ModelError

LARGE = 32  # pixels, the paper's; smaller images are padded by the first convolution
SMALL = 16  # pixels; below it 5 x 5 convolutions leave nothing of the image
SMALLEST = 4  # pixels; two poolings by 2 leave one


class LeNet(nn.Module):
    """LeNet-5 in its present-day form.

    channels: of the images. size: their height and width in pixels, at least 4. classes: number of
        logits. relu: whether one follows the last layer, too, as in the QSGD program.
    Raises ModelError when `size` is below 4 or a count below 1.
    """

    def __init__(
        self, channels: int = 1, size: int = 28, classes: int = 10, *, relu: bool = False
    ) -> None:
        super().__init__()
        if size < SMALLEST or channels < 1 or classes < 1:
            raise ModelError(
                f"LeNet(channels={channels}, size={size}, classes={classes}): "
                f"size must be at least {SMALLEST} pixels, channels and classes at least 1"
            )
        if size < SMALL:
            self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
            self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
            left = size // 2 // 2
        else:
            padding = 0 if size >= LARGE else 2
            self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
            self.conv2 = nn.Conv2d(6, 16, 5)
            left = ((size + 2 * padding - 4) // 2 - 4) // 2
        self.fc1 = nn.Linear(16 * left * left, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.relu = relu

    def forward(self, images: Tensor) -> Tensor:
        """Images float [b, channels, size, size] -> logits [b, classes]."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return F.relu(logits) if self.relu else logits


def lenet(channels: int = 1, size: int = 28, classes: int = 10) -> LeNet:
    """Build a LeNet with random weights, by default for MNIST. Raises ModelError on bad sizes."""
    return LeNet(channels, size, classes)
