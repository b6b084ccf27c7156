"""Inputs and outputs have the names that users gave them."""

import pytest
import torch
from torch import nn

from subbyte.graph import Inputs, prepare

X = torch.zeros(2, 3, 8, 8)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)


class Word(Base):
    def forward(self, input):  # torch.export calls it input_1
        return self.conv(input)


class Taken(Base):
    def forward(self, output):
        return self.conv(output)


class Tree(Base):
    def forward(self, batch, *, type):
        return self.conv(batch["image"]) + batch["boxes"][1].mean() + type.mean()


class Any(Base):
    def forward(self, *parts, **named):
        return self.conv(parts[0]) + parts[1].mean() + named["pixel_values"].mean()


@pytest.mark.parametrize(
    ("model", "inputs", "names"),
    [
        (Word(), Inputs(X), ["input"]),
        (Taken(), Inputs(X), ["output_"]),
        (
            Tree(),
            Inputs({"image": X, "boxes": [X, X]}, type=X),
            ["batch_image", "batch_boxes_0", "batch_boxes_1", "type"],
        ),
        (Any(), Inputs(X, X, pixel_values=X), ["parts_0", "parts_1", "pixel_values"]),
    ],
)
def test_inputs_are_called_as_arguments_of_forward(model, inputs, names):
    network = prepare(model.eval(), inputs)
    assert [leaf.name for leaf in network.signature.leaves] == names
    assert network.output_names == ["output"]
