"""What a user has: a network in a file, its weights, and images; small, but the network has learnt
them.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from subbyte.data import DataSet, load_data

NETWORK = """
import torch
from torch import nn


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4),
    )


class Branchy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 4)

    def forward(self, x):
        x = x.flatten(1)
        if x.sum() > 0:  # the line that can't be captured
            x = -x
        return self.fc(x)


def wider():
    return nn.Sequential(nn.Conv2d(3, 9, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4))
"""


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 3, 8, 8] with one bright quarter, and which one it is."""
    generator = np.random.default_rng(seed)
    images, labels = generator.integers(0, 90, (count, 3, 8, 8)), generator.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += generator.integers(40, 160)
    return images.astype(np.uint8), labels


@cache
def trained() -> dict[str, Tensor]:
    """Weights for `net`, learnt in a second."""
    scope: dict[str, object] = {}
    exec(NETWORK, scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = scope["net"]()  # type: ignore[operator]
        images, labels = (torch.from_numpy(array) for array in pictures(256, 0))
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for part in torch.randperm(256).repeat(12).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[part] / 255), labels[part]).backward()
            optimizer.step()
    return {key: value.detach() for key, value in model.state_dict().items()}


def lay_out(folder: Path) -> Path:
    """Write net.py, net.safetensors and data.npz into a folder."""
    (folder / "net.py").write_text(NETWORK)
    save_file(trained(), folder / "net.safetensors")
    (x_train, y_train), (x_test, y_test) = pictures(64, 1), pictures(60, 2)
    np.savez(folder / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return folder


def float_network(folder: Path) -> nn.Module:
    """The trained network of a laid-out folder."""
    from subbyte.models import load_model

    return load_model(f"{folder / 'net.py'}:net", folder / "net.safetensors")


def figures(part: Any) -> dict[str, Any]:
    """Figures of a network, a record or its JSON, by their names."""
    part = part if isinstance(part, dict) else part.model_dump()
    return {one["name"]: one["value"] for one in (*part["scores"], *part["comparison"])}


def evaluated(text: str) -> list[float]:
    """Top-1, top-5 and loss as `subbyte evaluate` prints them."""
    return [float(n) for n in re.findall(r"(?:top-1 %|top-5 %|loss nats) +│ +(\S+)", text)]


def complaint(code: int, out: str, err: str) -> str:
    """The one message by which a command refuses: a line that begins with error, and code 1, or a
    box about how the command is used, and code 2. Fails for anything else.
    """
    assert out == "" and "Traceback" not in err, out + err
    if code == 1:
        (line,) = [line for line in err.splitlines() if line.strip()]
        assert line.startswith("error: "), err
        return line
    assert code == 2 and err.count("─ Error ─") == 1, f"code {code}: {err}"
    box = err[err.index("─ Error ─") :].splitlines()[1:-1]
    return " ".join(line.strip("│ ") for line in box if line.startswith("│"))


def data_set(folder: Path) -> DataSet:
    """The images of a laid-out folder."""
    return load_data(f"npz:{folder / 'data.npz'}")


def names_in(folder: Path) -> set[str]:
    """Everything in a folder, hidden or not, however deep, but for Python's own caches."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }
