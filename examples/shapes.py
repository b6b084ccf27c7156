"""A small U-Net, and a network with two heads, on pictures of shapes drawn by a generator: trained,
quantized and scored by the command line, by the tasks that fit their targets.

    python examples/shapes.py runs/shapes

writes 2,000 pictures to train on and 500 to test on, as arrays (maps.npz with the class of each
pixel; heads.npz with the shape and the place of each picture) and as a folder of pictures and
masks. The commands that train and quantize are in docs/tasks.md.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE = 32
CLASSES = 4  # background, disc, square, triangle


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of one shape each: images uint8 [n, 3, 32, 32], maps uint8 [n, 32, 32], the shape's
    class from 0 to 2 [n], and its centre and radius as shares of the picture, float32 [n, 3].
    """
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    maps = np.zeros((count, SIZE, SIZE), np.uint8)
    labels = random.randint(0, CLASSES - 1, count)
    places = np.empty((count, 3), np.float32)
    for k, label in enumerate(labels):
        radius = random.uniform(5, 10)
        down, right = random.uniform(radius, SIZE - radius, 2)
        dy, dx = y - down, x - right
        inside = (
            dy**2 + dx**2 < radius**2,
            np.maximum(abs(dy), abs(dx)) < 0.85 * radius,
            (dy < 0.7 * radius) & (abs(dx) < 0.6 * (dy + radius)),
        )[label]
        ground, colour = random.uniform(0, 255, (2, 3, 1, 1))
        colour = np.where(abs(colour - ground) < 60, (ground + 128) % 256, colour)
        pixels = np.where(inside, colour, ground) + random.normal(0, 20, (3, SIZE, SIZE))
        images[k] = pixels.clip(0, 255)
        maps[k][inside] = label + 1
        places[k] = down / SIZE, right / SIZE, radius / SIZE
    return images, maps, labels, places


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, batch-norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Class scores for each pixel: two steps down, two up, and the values of the way down beside
    those of the way up.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = block(3, width), block(width, 2 * width)
        self.third = block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.back2, self.back1 = block(4 * width, 2 * width), block(2 * width, width)
        self.down = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, h, w] -> [n, 4, h, w]."""
        first = self.first(images)
        second = self.second(self.down(first))
        third = self.third(self.down(second))
        second = self.back2(torch.cat([self.up2(third), second], 1))
        return self.head(self.back1(torch.cat([self.up1(second), first], 1)))


class TwoHeads(nn.Module):
    """Which shape, and where it is: two outputs of one trunk."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            block(3, width),
            nn.MaxPool2d(2),
            block(width, 2 * width),
            nn.MaxPool2d(2),
            block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * width, 64),
            nn.ReLU(),
        )
        self.shape, self.place = nn.Linear(64, CLASSES - 1), nn.Linear(64, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[n, 3, h, w] -> shape: class scores [n, 3]; place: centre and radius [n, 3]."""
        values = self.trunk(images)
        return {"shape": self.shape(values), "place": self.place(values)}


def unet() -> nn.Module:
    """For --model."""
    return UNet()


def two_heads() -> nn.Module:
    """For --model."""
    return TwoHeads()


def write_data(out: Path, train: int, test: int) -> None:
    """Write maps.npz, heads.npz and folder/."""
    drawn = {"train": draw(train, 0), "test": draw(test, 1)}
    arrays: dict[str, np.ndarray] = {}
    for kind, (images, maps, labels, places) in drawn.items():
        names = ("x", "maps", "y", "place")
        arrays |= {
            f"{name}_{kind}": values
            for name, values in zip(names, (images, maps, labels, places), strict=True)
        }
        for name, values in (("images", images.transpose(0, 2, 3, 1)), ("masks", maps)):
            folder = out / "folder" / {"train": "train", "test": "val"}[kind] / name
            folder.mkdir(parents=True, exist_ok=True)
            for k, pixels in enumerate(values):
                Image.fromarray(pixels).save(folder / f"{k:04}.png")
    np.savez(out / "maps.npz", **{k: v for k, v in arrays.items() if k[0] in "xm"})
    np.savez(out / "heads.npz", **{k: v for k, v in arrays.items() if k[0] in "xyp"})


if __name__ == "__main__":
    write_data(Path(sys.argv[1]), train=2000, test=500)
